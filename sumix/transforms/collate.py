"""Mixing in a DataLoader's workers."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import default_collate

from sumix.ops import checks
from sumix.transforms import options
from sumix.transforms.base import Mixer
from sumix.transforms.inputs import Inputs

ALIKE = ("num_classes", "multi_label", "normalize", "dtype", "labels_getter")  # in all that may mix a batch


class SUMixCollate:
    """A collate_fn that mixes each batch, and keeps the unmixed images, which SUMix needs.

    Parameters
    ----------
    mix : Mixer, or torchvision's v2.RandomChoice of mixers
        For example `CutMix(alpha=0.2)`, without cross_rank, because workers are not ranks. Every worker draws its own
        numbers in every epoch.
    raw : bool
        True (the default): batches are `(images, mixed, target, ...)`, as `forward_pair` and SUMixLoss need them; the
        images are normalised if `mix` normalises. False: `(mixed, target, ...)`, for losses that take soft labels.
    collate_fn : callable
        Makes a batch of a list of samples: a tuple or list `(images, labels, ...)`, or a dictionary that holds both, as
        mixers take them. torch's default_collate if not given. Other parts of the batch are mixed alike if they are
        pixels or maps, and left as they are if they hold one number or text per sample.

    Notes
    -----
    A dictionary stays one: the mixed images replace the images, the target replaces the labels, and the unmixed images
    are added under the images' key with "raw_" before it. `{"pixel_values": ..., "labels": ...}` becomes
    `{"pixel_values": mixed, "labels": target, "raw_pixel_values": images}`.

    Examples
    --------
    >>> loader = DataLoader(dataset, batch_size=100, num_workers=4, collate_fn=SUMixCollate(CutMix(alpha=0.2)))
    >>> for images, mixed, target in loader:
    ...     loss = criterion(*forward_pair(model, mixed, images), target)
    """

    __slots__ = ("collate_fn", "mix", "raw")  # what else is set would be read by nobody

    def __init__(self, mix: Any, *, raw: bool = True, collate_fn: Callable[[list[Any]], Any] = default_collate) -> None:
        self.mix, self.raw, self.collate_fn = mix, raw, collate_fn
        self._mixers()

    def _mixers(self) -> list[Mixer]:
        """Those that may mix a batch, if all is as it must be."""
        mixers = _mixers(self.mix)
        if not callable(self.collate_fn):
            raise TypeError(f"collate_fn must be callable, got {type(self.collate_fn).__name__}")
        if any(mixer.cross_rank is not False for mixer in mixers):
            raise ValueError(
                "mix must not have cross_rank in a collate_fn, which workers run: mix in the training loop"
            )
        if checks.flag(self.raw, "raw") and any(getattr(mixer, "inplace", False) for mixer in mixers):
            raise ValueError("raw must be False where mix works in place: it leaves no unmixed images")
        for mixer in mixers:
            mixer.use_options()
        for name in ALIKE:
            values = [getattr(mixer, name) for mixer in mixers]
            if not all(options.alike(value, values[0]) for value in values):
                raise ValueError(f"mix must be a choice of mixers with the same {name}, got {values}")
        return mixers

    def __call__(self, samples: list[Any]) -> Any:
        """Collate the samples and mix the batch."""
        mixer = self._mixers()[0]
        batch = self.collate_fn(samples)
        if not isinstance(batch, (tuple, list, Mapping)) or len(batch) < 2:
            raise TypeError(f"collate_fn must make (images, labels, ...) or a dictionary, got {type(batch).__name__}")
        if not self.raw:
            return self.mix(batch)
        inputs = Inputs(batch, mixer.labels_getter)
        raw = mixer.unmixed(inputs.images)
        mixed = self.mix(batch)
        if not isinstance(mixed, Mapping):
            return [raw, *mixed] if isinstance(mixed, list) else (raw, *mixed)
        name = f"raw_{inputs.images_at[0]}"
        if name in mixed:
            raise ValueError(f"collate_fn must leave {name!r} free for the unmixed images, got {list(batch)}")
        mixed[name] = raw
        return mixed


def _mixers(mix: Any) -> list[Mixer]:
    """The mixers that may mix a batch: one, or those of torchvision's v2.RandomChoice."""
    if isinstance(mix, Mixer):
        return [mix]
    choice = getattr(sys.modules.get("torchvision.transforms.v2"), "RandomChoice", None)
    if choice is None or not isinstance(mix, choice):
        raise TypeError(
            f"mix must be one of sumix's transforms, got {type(mix).__name__}; or v2.RandomChoice of several"
        )
    return [mixer for transform in mix.transforms for mixer in _mixers(transform)]
