"""Mixing a batch by a mask."""

import torch
from torch import Tensor

from sumix.reference.mix import mix_dtype, rounded


def _weights(mask: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """mask and 1 - mask, to be multiplied with x: (N, ..., H, W) for (N, H, W), (N, ..., L) for (N, L)."""
    own = mask.to(mix_dtype(x.dtype)).view(mask.shape[0], *[1] * (x.ndim - mask.ndim), *mask.shape[1:])
    return own, 1 - own


def mix_mask(x: Tensor, mask: Tensor, perm: Tensor) -> Tensor:
    """mask x + (1 - mask) x[perm], integers rounded to nearest even. A weight of 0 takes nothing, not even NaN."""
    own, rest = _weights(mask, x)
    if mask.dtype == torch.bool:
        return torch.where(own == 1, x, x[perm])
    wide = x.to(own.dtype)
    mixed = own * wide + rest * wide[perm]
    return torch.where(rest == 0, x, torch.where(own == 0, x[perm], rounded(mixed, x.dtype)))


def mix_mask_backward(grad_out: Tensor, mask: Tensor, perm: Tensor) -> Tensor:
    """The gradient of mix_mask to x: mask times each image's own, plus 1 - mask of each mix it was the partner in."""
    own, rest = _weights(mask, grad_out)
    grad = grad_out.to(own.dtype)
    shared = torch.where(rest == 0, 0, rest * grad)
    return torch.where(own == 0, 0, own * grad).index_add(0, perm, shared).to(grad_out.dtype)
