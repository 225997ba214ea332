"""The forward pass of the mixed and of the raw images, in one call of the network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree

from sumix.evidence.evidence import Evidence
from sumix.features import in_eval_mode
from sumix.head import SUMixOutput, unwrapped
from sumix.ops import checks
from sumix.target import MixTarget
from sumix.transforms import Mixer


def forward_pair(
    model: Callable[[Tensor], Any],
    mixed: Tensor,
    images: Tensor,
    *,
    in_turn: bool = False,
    raw_gradient: bool = True,
) -> tuple[Any, Any]:
    """The model's outputs for the mixed and for the raw images of one batch, by one forward pass over both.

    They are what `SUMixLoss` takes: `criterion(*forward_pair(model, mixed, images), target)`. Calling the model twice
    fails under DistributedDataParallel with BatchNorm: buffers are broadcast before each call, and with torch 2.10 and
    2.11 the second broadcast overwrites what BatchNorm needs for the backward pass of the first.

    Parameters
    ----------
    model : nn.Module, or another callable
        Called with one batch; it may be wrapped for data parallelism (DistributedDataParallel, FSDP) or compiled.
    mixed, images : Tensor, shape (N, ...)
        Of the same shape, dtype and device.
    in_turn : bool
        False: one pass over all 2 N images. True: two passes, first of the mixed images, as in the authors' code. Under
        DistributedDataParallel buffers are then broadcast before the first one only.
    raw_gradient : bool
        False: two passes, that of the raw images in eval mode and without gradient, which leaves BatchNorm's running
        averages alone. A step then costs 4/3 of one without the raw images, not twice as much. It is for
        `SUMixLoss(gamma=0.0)`, whose ratio has no gradient; the regulariser needs one.

    Returns
    -------
    mixed_output, raw_output : of the type that the model returns
        A Tensor, a SUMixOutput, or tuples, lists, dicts and whatever else torch's pytrees know, such as Hugging Face's
        ModelOutput. Each tensor with 2 N rows is cut in two; everything else appears in both.

    Raises
    ------
    TypeError
        If mixed or images is not a dense tensor, or their dtypes differ, or the model cannot be called.
    ValueError
        If their shapes or devices differ, or both are one tensor, or the model returns no tensor of 2 N rows.

    Notes
    -----
    **BatchNorm.** One pass normalises mixed and raw images by the statistics of both together, and moves the running
    averages once; two passes normalise each batch by its own, and move the averages twice. `in_turn=True` is therefore
    what the paper's experiments did. Without BatchNorm both give the same results, up to rounding and the random
    numbers of dropout.

    **Cost.** Both hold the activations of 2 N images until the backward pass. One pass copies the images once, launches
    half as many kernels, each on twice the rows, and has FSDP gather the parameters once. On a CPU, two
    passes can be faster, because half the rows fit the cache better.

    **Tensors that have 2 N rows by chance**, such as a table of 2 N classes in a dict, are cut too, because only a
    SUMixOutput says which of its tensors have one row per image. `in_turn=True` cuts nothing.

    Examples
    --------
    >>> mixed, target = mix(images, labels)
    >>> loss = criterion(*forward_pair(model, mixed, images), target)
    """
    if not callable(model):
        raise TypeError(f"model must be an nn.Module, or callable, got {type(model).__name__}")
    checks.flag(in_turn, "in_turn")
    checks.flag(raw_gradient, "raw_gradient")
    checks.batch(mixed, "mixed")
    if checks.batch(images, "images").shape != mixed.shape:
        raise ValueError(f"images must have the shape of mixed, {checks.shape(mixed)}, got {checks.shape(images)}")
    if images.dtype != mixed.dtype:
        advice = "; mix.unmixed(images) are normalised as mixed is" if not images.is_floating_point() else ""
        raise TypeError(f"images must have the dtype of mixed, {mixed.dtype}, got {images.dtype}{advice}")
    checks.same_device(images, "images", mixed, "mixed")
    if images is mixed:
        raise ValueError("images must be the unmixed ones, got mixed itself: a mixer with inplace leaves no others")
    if not raw_gradient:
        return _without_gradient(model, mixed, images)
    if in_turn:
        return _in_turn(model, mixed, images)
    n = mixed.shape[0]
    output = model(torch.cat([mixed, images]))
    return _rows(output, slice(0, n), 2 * n), _rows(output, slice(n, 2 * n), 2 * n)


class PairedMix:
    """A mixer for loops that know one batch, one output and one target, as timm's and torchvision's scripts do.

    `images, target = mix(images, labels)` returns the mixed images followed by the unmixed ones: 2 N images.
    `SUMixLoss` takes the network's output for them as it is: `criterion(output, target)`.

    Parameters
    ----------
    mix : Mixer
        Without `num_classes` and `inplace`. timm's switch, `mixup_enabled`, is passed on to it.

    Raises
    ------
    TypeError
        If `mix` is not a mixer of sumix.
    ValueError
        If `mix` has `num_classes`, or works in place.

    Examples
    --------
    >>> mix, criterion = PairedMix(CutMix()), SUMixLoss(gamma=0.0)
    >>> images, target = mix(images, labels)
    >>> loss = criterion(model(images), target)
    """

    __slots__ = ("mix",)  # nobody would read another attribute: the options belong to `mix`

    def __init__(self, mix: Mixer) -> None:
        self.mix = check_mixer(mix)

    @property
    def mixup_enabled(self) -> bool:
        """Whether it mixes; timm's --mixup-off-epoch sets it to False."""
        return self.mix.mixup_enabled

    @mixup_enabled.setter
    def mixup_enabled(self, value: bool) -> None:
        self.mix.mixup_enabled = value

    def __call__(
        self, images: Tensor, labels: Tensor, evidence: Evidence | Tensor | None = None
    ) -> tuple[Tensor, MixTarget]:
        """Images (2 N, ...), the mixed ones first, and the target of the N mixed ones.

        `evidence` of the unmixed images, for a mixer that takes it; `SUMixLoss(ratio="area")` goes by its weights.
        """
        mixed, target = check_mixer(self.mix)(images, labels, evidence=evidence)
        return torch.cat([mixed, self.mix.unmixed(images)]), target


def check_mixer(mix: Any) -> Mixer:
    """Fail unless `mix` makes what SUMixLoss takes: a MixTarget, with the unmixed images left beside it."""
    if not isinstance(mix, Mixer):
        raise TypeError(f"mix must be one of sumix's transforms, got {type(mix).__name__}")
    if mix.num_classes is not None:
        raise ValueError("mix must have no num_classes: SUMixLoss takes a MixTarget, not soft labels")
    if getattr(mix, "inplace", False):
        raise ValueError("mix must not work in place: SUMixLoss takes the outputs for the unmixed images, too")
    return mix


def _rows(output: Any, rows: slice, whole: int) -> Any:
    """The given rows of every tensor that has one row for each of the `whole` images."""
    cut = 0

    def part(leaf: Any) -> Any:
        nonlocal cut
        first = leaf.logits if isinstance(leaf, SUMixOutput) else leaf
        if not isinstance(first, Tensor) or first.ndim == 0 or first.shape[0] != whole:
            return leaf
        cut += 1
        return leaf[rows]

    # SUMixOutput slices itself, because class_weight, which may have as many rows, must stay whole.
    result = _pytree.tree_map(part, output, is_leaf=lambda node: isinstance(node, SUMixOutput))
    if cut == 0:
        raise ValueError(
            f"model must return a row for each of the {whole} images, mixed and raw together, got "
            f"{_described(output)}; with in_turn=True it runs on each batch separately"
        )
    return result


def _described(output: Any) -> str:
    return f"a Tensor {checks.shape(output)}" if isinstance(output, Tensor) else type(output).__name__


def _without_gradient(model: Callable[[Tensor], Any], mixed: Tensor, images: Tensor) -> tuple[Any, Any]:
    """The raw pass first, so that nothing comes between the mixed one and its backward pass."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module with raw_gradient=False, got {type(model).__name__}")
    inner = unwrapped(model) if isinstance(model, DistributedDataParallel) else model
    with torch.no_grad(), in_eval_mode(inner):
        raw = inner(images)
    return model(mixed), raw


def _in_turn(model: Callable[[Tensor], Any], mixed: Tensor, images: Tensor) -> tuple[Any, Any]:
    """Two passes; DistributedDataParallel must not overwrite between them what the first one's backward pass needs."""
    first = model(mixed)
    parts = model.modules() if isinstance(model, nn.Module) else ()
    wrappers = [part for part in parts if isinstance(part, DistributedDataParallel)]
    broadcasting = [wrapper for wrapper in wrappers if wrapper.broadcast_buffers]
    for wrapper in broadcasting:
        wrapper.broadcast_buffers = False
    try:
        return first, model(images)
    finally:
        for wrapper in broadcasting:
            wrapper.broadcast_buffers = True
