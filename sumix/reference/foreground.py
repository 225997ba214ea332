"""Foreground evidence by two means: where each image's object is, from two feature maps of a network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sumix.reference.masked_similarity import evidence_map, min_contrast_of
from sumix.reference.precision import real

GATE = (0.45, 0.65)  # the separations q at which the gate begins to open, and is open; from benchmarks.label_error


def _two_means(weight: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
    """(N, d) twice: the mean feature of the object, by weights (N, places) of 0 to 1, and that of the rest."""
    rest = 1 - weight
    own = (weight.unsqueeze(1) * fine).sum(dim=2) / weight.sum(dim=1, keepdim=True)
    return own, (rest.unsqueeze(1) * fine).sum(dim=2) / rest.sum(dim=1, keepdim=True)


@torch.no_grad()
def foreground(
    features: Tensor,
    fine: Tensor,
    *,
    rounds: int = 1,
    mean: Tensor | None = None,
    gate: tuple[float, float] = GATE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Twin of `sumix.ops.foreground` for maps (N, D, h, w) and (N, d, H, W)."""
    x, finer = real(features), real(fine)
    s = evidence_map(x.flatten(2), "feature", None, None, min_contrast_of(features.dtype))
    flat = (s == 0).all(dim=1)
    s = F.interpolate(s.view(-1, 1, *x.shape[2:]), finer.shape[2:], mode="bilinear").flatten(1)
    places = finer.flatten(2)
    means = places.mean(dim=2)
    centre = means.mean(dim=0) if mean is None else mean.to(places.dtype)
    low, high = gate
    opening = None
    for _ in range(rounds):
        own, rest = _two_means(s / s.amax(dim=1, keepdim=True), places)
        if opening is None:
            apart = (own - rest).square().sum(dim=1)
            spread = (own - centre).square().sum(dim=1) + (rest - centre).square().sum(dim=1)
            opening = ((apart / spread - low) / (high - low)).clamp(0, 1)
        middle = (own + rest) / 2
        s = ((places - middle.unsqueeze(2)) * (own - rest).unsqueeze(2)).sum(dim=1).clamp(min=0)
        s = s.masked_fill(flat.unsqueeze(1), 0)  # no object: both means are undefined
    return s.view(-1, *finer.shape[2:]), opening.masked_fill(flat, 0), means
