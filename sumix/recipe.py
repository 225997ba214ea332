"""What a mix is made of, and how it is applied: to images, and to what goes with them."""

from typing import NamedTuple

import torch
from torch import Tensor

from sumix.ops import checks
from sumix.ops.mix import mix_box, mix_linear
from sumix.ops.mix_mask import mix_mask
from sumix.ops.mix_resize import mix_resize

NEAREST_EXACT = 2  # of the codes in Recipe.resize; those above it interpolate


class Recipe(NamedTuple):
    """The parameters of a mix but for the partners; the fields are those of `MixTarget`."""

    lam: Tensor
    box: Tensor | None = None
    mask: Tensor | None = None
    resize: Tensor | None = None

    def rows(self, pick: slice) -> "Recipe":
        """The recipe of some of the samples."""
        return Recipe(*(None if part is None else part[pick].contiguous() for part in self))

    def expand(self, n: int) -> "Recipe":
        """One sample's recipe for n of them."""
        return Recipe(*(None if part is None else part.expand(n, *part.shape[1:]).contiguous() for part in self))

    @property
    def blends(self) -> bool:
        """Whether a pixel may show both images at once."""
        return self.box is None if self.mask is None else self.mask.dtype != torch.bool


def mix_pixels(x: Tensor, recipe: Recipe, perm: Tensor) -> Tensor:
    """Mix images, differentiably."""
    if recipe.box is None:
        return mix_linear(x, recipe.lam, perm) if recipe.mask is None else _mix_mask(x, recipe.mask, perm)
    if recipe.resize is None and recipe.mask is not None:
        return _mix_mask(x, _with_holes(recipe.mask, recipe.box, x), perm)  # in one pass
    pasted = mix_box(x, recipe.box, perm) if recipe.resize is None else mix_resize(x, recipe.box, perm, recipe.resize)
    if recipe.mask is None:
        return pasted
    return pasted.where(_is_pasted(recipe.box, x), _mix_mask(x, recipe.mask, perm))


def mix_labels(x: Tensor, recipe: Recipe, perm: Tensor, ignore_index: int) -> Tensor:
    """Mix maps of integer labels: nearest where the images are interpolated, `ignore_index` where two labels meet."""
    resize = None if recipe.resize is None else recipe.resize.clamp(max=NEAREST_EXACT)  # as centred as bilinear is
    if not recipe.blends:
        return mix_pixels(x, recipe._replace(resize=resize), perm)
    weight = recipe.lam if recipe.mask is None else recipe.mask
    weight = weight.view(weight.shape[0], *[1] * (x.ndim - weight.ndim), *weight.shape[1:])
    partner = x[perm]
    ignored = x.new_full((), ignore_index)  # a plain number would make integers of bools
    blended = x.where((weight == 1) | (x == partner), partner.where(weight == 0, ignored))
    if recipe.box is None:
        return blended
    pasted = mix_pixels(x, recipe._replace(mask=None, resize=resize), perm)
    return pasted.where(_is_pasted(recipe.box, x), blended)


def _mix_mask(x: Tensor, mask: Tensor, perm: Tensor) -> Tensor:
    """`mix_mask`, also of volumes (N, ..., D, H, W) by masks (N, D, H, W), whose slices stand one below the other."""
    if mask.ndim == 4:
        return mix_mask(x.flatten(-3, -2), mask.flatten(1, 2), perm).unflatten(-2, x.shape[-3:-1])
    return mix_mask(x, mask, perm)


def _with_holes(mask: Tensor, box: Tensor, x: Tensor) -> Tensor:
    """The mask (N, H, W), (N, L) or (N, D, H, W), 0 in the boxes."""
    low, high = box.tensor_split(2, dim=1)
    holes = torch.ones((), dtype=torch.float32, device=x.device)
    for side in range(low.shape[1]):  # x, y, z
        at = torch.arange(x.shape[-1 - side], device=x.device)
        inside = ((at >= low[:, side, None]) & (at < high[:, side, None])).to(torch.float32)
        holes = holes * inside.view(-1, *[1] * (low.shape[1] - 1 - side), x.shape[-1 - side], *[1] * side)
    if mask.dtype == torch.bool:
        return mask & (holes == 0)
    return mask - mask * holes  # whole numbers: exact, and faster than a choice


def _is_pasted(box: Tensor, x: Tensor) -> Tensor:
    """Which samples show a box, to be broadcast over x."""
    low, high = box.tensor_split(2, dim=1)
    return (high > low).all(dim=1).view(-1, *[1] * (x.ndim - 1))


def check_label_map(x: Tensor, name: str, ignore_index: int) -> None:
    """Fail unless `x` holds integers that `ignore_index` is one of."""
    if x.dtype != torch.bool and x.dtype not in checks.INTEGERS:
        raise TypeError(f"{name} must be an integer tensor where ignore_index is given, got {x.dtype}")
    checks.integer(ignore_index, "ignore_index")
    low, high = (0, 1) if x.dtype == torch.bool else (torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max)
    if not low <= ignore_index <= high:
        raise ValueError(f"ignore_index must fit in {name}'s {x.dtype}, {low} to {high}, got {ignore_index}")
