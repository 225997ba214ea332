"""Mixing in a DataLoader's workers."""

from collections.abc import Callable
from typing import Any

from torch.utils.data import default_collate

from sumix.ops import checks
from sumix.transforms.base import Mixer


class SUMixCollate:
    """A collate_fn that mixes each batch, and keeps the unmixed images, which SUMix needs.

    Parameters
    ----------
    mix : Mixer
        `CutMix(alpha=0.2)`, say, without cross_rank: workers are no ranks. Leave its generator None: every worker then
        draws numbers of its own.
    raw : bool
        True (the default): batches are `(images, mixed, target, ...)`, as `forward_pair` and SUMixLoss need them; the
        images are normalised if `mix` normalises. False: `(mixed, target, ...)`, for losses that take soft labels.
    collate_fn : callable
        Makes `(images, labels, ...)`, a tuple or list of tensors, of a list of samples; torch's default_collate if not
        given. What follows the labels is mixed alike, see `Mixer.forward`.

    Examples
    --------
    >>> loader = DataLoader(dataset, batch_size=100, num_workers=4, collate_fn=SUMixCollate(CutMix(alpha=0.2)))
    >>> for images, mixed, target in loader:
    ...     loss = criterion(*forward_pair(model, mixed, images), target)
    """

    def __init__(
        self, mix: Mixer, *, raw: bool = True, collate_fn: Callable[[list[Any]], Any] = default_collate
    ) -> None:
        if not isinstance(mix, Mixer):
            raise TypeError(f"mix must be one of sumix's transforms, got {type(mix).__name__}")
        if not callable(collate_fn):
            raise TypeError(f"collate_fn must be callable, got {type(collate_fn).__name__}")
        if mix.cross_rank is not False:
            raise ValueError(
                "mix must not have cross_rank in a collate_fn, which workers run: mix in the training loop"
            )
        self.mix, self.raw, self.collate_fn = mix, checks.flag(raw, "raw"), collate_fn
        if raw and getattr(mix, "inplace", False):
            raise ValueError("raw must be False where mix works in place: it leaves no unmixed images")

    def __call__(self, samples: list[Any]) -> tuple[Any, ...]:
        """Collate the samples and mix the batch."""
        batch = self.collate_fn(samples)
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise TypeError(f"collate_fn must make (images, labels, ...), got {type(batch).__name__}")
        raw = self.mix.unmixed(batch[0]) if self.raw else None
        mixed = self.mix(*batch)
        return (raw, *mixed) if self.raw else mixed
