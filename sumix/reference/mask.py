"""Masks: how many pixels they keep, and the k largest by sorting."""

import torch
from torch import Tensor

from sumix.reference.sample import philox

TOP_K = 8  # the stream of csrc/random.h


def sample_top_k(seed: Tensor, lam: Tensor, size: int, max_soft: float) -> tuple[Tensor, Tensor, Tensor]:
    """k (N,), int64: lam size rounded up or down by a coin; soft (N,), int64: floor(min(max_soft, lam, 1 - lam) size).

    And the exact lam, k / size, float32.
    """
    wide = lam.to(torch.float32 if lam.device.type == "mps" else torch.float64)  # which has no float64
    up = philox(seed, torch.arange(lam.shape[0], device=seed.device), 0, TOP_K)[0] >> 31 == 1
    k = torch.where(up, (wide * size).ceil(), (wide * size).floor()).to(torch.int64)
    soft = (torch.minimum(wide, 1 - wide).clamp(max=max_soft) * size).to(torch.int64)
    return k, torch.minimum(soft, torch.minimum(k, size - k)), (k / size).to(torch.float32)


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
