"""Semantic distance."""

import torch
from torch import Tensor

from sumix.reference.precision import real


def semantic_distance(
    logits: Tensor, raw_logits: Tensor, masked: Tensor, scale: float, published: bool = False
) -> Tensor:
    """alpha = scale d / ||d||_2 with d = softmax(p - m), m = softmax(z), p = softmax(r), p[masked] = 0 (-1: none).

    The published code has d = softmax(m - p).
    """
    m, p = real(logits).softmax(dim=1), real(raw_logits).softmax(dim=1)
    classes = torch.arange(p.shape[1], device=p.device)
    p = p.masked_fill(classes == masked.unsqueeze(1), 0)
    d = ((m - p) if published else (p - m)).softmax(dim=1)
    return (scale * d / d.norm(dim=1, keepdim=True)).to(logits.dtype)
