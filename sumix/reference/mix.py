"""Mixing a batch."""

import torch
from torch import Tensor


def _inside(box: Tensor, x: Tensor) -> Tensor:
    """Which elements of x lie in the box, a mask that broadcasts: (N, 2 k) for the last k dimensions, x first."""
    low, high = box.view(-1, *[1] * (x.ndim - 1), box.shape[1]).tensor_split(2, dim=-1)
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for side in range(box.shape[1] // 2):
        at = torch.arange(x.shape[-1 - side], device=x.device).view(-1, *[1] * side)
        inside = inside & (at >= low[..., side]) & (at < high[..., side])
    return inside


def mix_box(x: Tensor, box: Tensor, perm: Tensor) -> Tensor:
    """x with box (x1, y1, x2, y2), ends exclusive, filled from x[perm]; (x1, x2) for signals, 6 for volumes."""
    return torch.where(_inside(box, x), x[perm], x)


def mix_box_backward(grad_out: Tensor, box: Tensor, perm: Tensor) -> Tensor:
    """The gradient of mix_box to x: each image's own outside its box, plus the boxes that were filled from it."""
    inside, grad = _inside(box, grad_out), grad_out.to(mix_dtype(grad_out.dtype))
    own, pasted = grad.masked_fill(inside, 0), grad.masked_fill(~inside, 0)
    return own.index_add(0, perm, pasted).to(grad_out.dtype)


def mix_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a mix of this dtype is computed in."""
    return torch.float64 if dtype in (torch.float64, torch.int32, torch.int64) else torch.float32


def rounded(mixed: Tensor, dtype: torch.dtype) -> Tensor:
    """What was computed in float32 or float64, in the dtype of the images: integers to nearest, ties to even."""
    if dtype.is_floating_point:
        return mixed.to(dtype)
    mixed = mixed.round()
    if dtype == torch.int64:  # whose largest values float64 rounds up to 2^63, which is none
        return torch.where(mixed < 2.0**63, mixed, 0).to(dtype) + torch.where(mixed < 2.0**63, 0, 2**63 - 1)
    return mixed.to(dtype)


def _weights(lam: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """lam and 1 - lam, to be multiplied with x."""
    own = lam.to(mix_dtype(x.dtype)).view(-1, *[1] * (x.ndim - 1))
    return own, 1 - own


def mix_linear(x: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """lam x + (1 - lam) x[perm], integers rounded to nearest even. A weight of 0 takes nothing, not even NaN."""
    own, rest = _weights(lam, x)
    wide = x.to(own.dtype)
    mixed = own * wide + rest * wide[perm]
    return torch.where(rest == 0, x, torch.where(own == 0, x[perm], rounded(mixed, x.dtype)))


def mix_linear_backward(grad_out: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """The gradient of mix_linear to x: lam of each image's own, plus 1 - lam of each mix that it was the partner in."""
    own, rest = _weights(lam, grad_out)
    grad = grad_out.to(own.dtype)
    shared = torch.where(rest == 0, 0, rest * grad)
    return torch.where(own == 0, 0, own * grad).index_add(0, perm, shared).to(grad_out.dtype)


def soft_labels(y_a: Tensor, y_b: Tensor, lam: Tensor, num_classes: int, label_smoothing: float = 0.0) -> Tensor:
    """Targets (N, num_classes): lam at y_a, 1 - lam at y_b, and of these the share label_smoothing spread evenly."""
    shares = torch.stack([lam, 1 - lam], dim=1) * (1 - label_smoothing)
    soft = torch.full((lam.shape[0], num_classes), label_smoothing / num_classes, dtype=lam.dtype, device=lam.device)
    return soft.scatter_add(1, torch.stack([y_a, y_b], dim=1), shares)
