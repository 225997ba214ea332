"""What the layers of a network return, as feature maps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sumix.head import unwrapped
from sumix.ops import checks
from sumix.ops.maps import MOST_PREFIX_TOKENS


def parts(output: Any) -> list[Any]:
    """The parts of what a layer or a model returned."""
    if isinstance(output, Mapping):
        return list(output.values())
    return list(output) if isinstance(output, (tuple, list)) else [output]


def part_of(output: Any, name: str) -> Any:
    """The part of this name, or None."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def tensor_in(output: Any) -> Tensor | None:
    """A layer's map: the output itself, its `last_hidden_state` (transformers), or the first part that may be a map."""
    last = None if isinstance(output, Tensor) else part_of(output, "last_hidden_state")
    found = [part for part in [last, *parts(output)] if isinstance(part, Tensor)]
    return next((part for part in found if part.ndim > 2), found[0] if found else None)


def map_in(output: Any) -> Tensor | str:
    """A layer's map without gradient, or the type of what it gave instead."""
    found = tensor_in(output)
    return type(output).__name__ if found is None else found.detach()


def arranged(
    model: nn.Module,
    layer: str,
    x: Tensor,
    inputs: Sequence[Any],
    *,
    width: int | None = None,
    grid: tuple[int, ...] | None = None,
    channels_first: bool = False,
) -> Tensor | str:
    """What the layer gave as (N, D, h, w), (N, D, t, h, w) for videos, or (N, D, l) for signals; or why it cannot be.

    `inputs` are the model's, `width` the features that its classifier takes, if they are this layer's.
    """
    owners = _owners(model, layer)
    if layer.endswith("features") and any(
        kind.__module__ == "torchvision.models.densenet" for kind in type(owners[-1]).__mro__
    ):
        x = F.relu(x)  # its last ReLU is no module
    given = [part for one in inputs for part in parts(one)]
    images = next((part for part in given if isinstance(part, Tensor) and part.ndim > 2), None)
    if x.ndim in (4, 5) and grid is None:
        return x.movedim(-1, 1) if _is_channels_last(x, images, width) else x
    if x.ndim != 3:
        takes = "" if grid is None else " that grid could arrange"
        return f"layer {layer!r} gave {checks.shape(x)}, which is no map (N, D, h, w) and no tokens (N, L, D){takes}"
    if images is not None and images.ndim == 3 and grid is None and not x.shape[2] == width != x.shape[1]:
        return x
    channels_first = channels_first or x.shape[1] == width != x.shape[2]
    tokens = x if channels_first else x.transpose(1, 2)
    length = tokens.shape[2]
    grid = grid or _grid(owners, images, length)
    if grid is None:
        return f"{length} tokens of layer {layer!r} do not fit images cut into squares: give their grid=(h, w)"
    places = math.prod(grid)
    if places > length:
        return f"grid must fit the {length} tokens of layer {layer!r}, got {grid}"
    return tokens[:, :, length - places :].unflatten(2, grid)


def _is_channels_last(x: Tensor, images: Tensor | None, width: int | None) -> bool:
    """Decided by the classifier's input features, else by which layout has the images' proportions."""
    if width in (x.shape[1], x.shape[-1]):
        return x.shape[1] != width
    if images is None or images.ndim != x.ndim:
        return False

    def skew(h: int, w: int) -> float:
        ratio = h * images.shape[-1] / (w * images.shape[-2])
        return max(ratio, 1 / ratio)

    return skew(*x.shape[-3:-1]) < skew(*x.shape[-2:])


def _owners(model: nn.Module, layer: str) -> list[nn.Module]:
    """The modules that the layer is a part of, the model first."""
    names = layer.split(".")
    return [unwrapped(model.get_submodule(".".join(names[:depth]))) for depth in range(len(names))]


def _grid(owners: Sequence[nn.Module], images: Tensor | None, length: int) -> tuple[int, int] | None:
    """(h, w) of that many tokens: what a timm model says, if it fits, else that of images cut into square patches."""
    for model in owners:
        prefix = getattr(model, "num_prefix_tokens", None)
        known = getattr(getattr(model, "patch_embed", None), "grid_size", None)
        if prefix is not None and known is not None and math.prod(known) + prefix == length:
            return tuple(known)
    if images is not None and images.ndim == 4:
        height, width = images.shape[2:]
        for places in range(length, max(length - MOST_PREFIX_TOKENS, 1) - 1, -1):
            patch = math.isqrt(height * width // places)
            h, w = height // max(patch, 1), width // max(patch, 1)
            if h * w == places and (h * patch, w * patch) == (height, width):
                return h, w
    return None
