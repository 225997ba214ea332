"""Masks: the k largest pixels, by sorting."""

import torch
from torch import Tensor


def mask_top_k(grey: Tensor, k: Tensor, soft: Tensor | None = None) -> Tensor:
    """1 for the k largest pixels of each image (N, ...), else 0, float32; equal pixels by index, NaN above infinity.

    With soft = s the ranks k - s .. k + s - 1 ramp from 1 to 0, both ends included.
    """
    pixels = grey.flatten(1) if grey.ndim > 1 else grey.unsqueeze(1)
    order = pixels.sort(dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=k.device).expand_as(order))
    s = torch.zeros_like(k) if soft is None else soft
    step, last = rank - (k - s).unsqueeze(1), (2 * s - 1).unsqueeze(1)
    # Of integers, so that the division is rounded once; rows without a soft edge never get to it.
    ramp = (last - step).to(torch.float32) / last.clamp(min=1)
    return torch.where(step < 0, 1.0, torch.where(step > last, 0.0, ramp)).view(grey.shape)
