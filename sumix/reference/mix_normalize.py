"""Mixing 8-bit images and normalising the result."""

import torch
from torch import Tensor

from sumix.reference.mix_mask import mix_mask
from sumix.reference.mix_resize import mix_resize


def mix_normalize(
    x: Tensor,
    box: Tensor | None,
    resize: Tensor | None,
    mask: Tensor | None,
    perm: Tensor,
    mean: Tensor,
    std: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """(mixed / 255 - mean) / std: box pasted, resized by code, then the mask's weighted mean with x[perm].

    In float32, or float64 where mean is.
    """
    wide = x.to(mean.dtype)
    mixed = wide
    if box is not None:
        mixed = mix_resize(wide, box, torch.zeros_like(perm) if resize is None else resize, perm)
    if mask is not None:
        mixed = mix_mask(torch.cat([mixed, wide]), torch.cat([mask, mask]), torch.cat([perm + len(x), perm]))[: len(x)]
    return ((mixed / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)).to(dtype)
