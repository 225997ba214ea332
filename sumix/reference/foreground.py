"""Foreground evidence by two means: where each image's object is, from two feature maps of a network."""

from collections.abc import Sequence

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


def _as_maps(x: Tensor, grid: Sequence[int] | None) -> Tensor:
    """Tokens (N, L, D), whose last are the places of the grid, as maps; maps as they are."""
    if grid is None:
        return x
    places = torch.Size(grid).numel()
    return x[:, x.shape[1] - places :].transpose(1, 2).unflatten(2, tuple(grid))


@torch.no_grad()
def foreground(
    features: Tensor,
    fine: Tensor,
    *,
    rounds: int = 1,
    mean: Tensor | None = None,
    gate: tuple[float, float] = GATE,
    grid: Sequence[int] | None = None,
    fine_grid: Sequence[int] | None = None,
    min_contrast: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Twin of `sumix.ops.foreground` for maps (N, D, h, w), signals (N, D, l) and tokens with their grids."""
    contrast = min_contrast_of(features.dtype) if min_contrast is None else min_contrast
    wide = torch.promote_types(real(features).dtype, real(fine).dtype)
    x, finer = _as_maps(features.to(wide), grid), _as_maps(fine.to(wide), fine_grid)
    s = evidence_map(x.flatten(2), "feature", None, None, contrast)
    none = (s == 0).all(dim=1, keepdim=True)  # no object: both means are undefined
    mode = "bilinear" if x.ndim == 4 else "linear"
    s = F.interpolate(s.unflatten(1, (1, *x.shape[2:])), finer.shape[2:], mode=mode).flatten(1)
    places = finer.flatten(2)
    means = places.mean(dim=2)
    centre = means.mean(dim=0) if mean is None else mean.to(wide)
    low, high = gate
    opening = None
    for _ in range(rounds):
        none = none | (s == 0).all(dim=1, keepdim=True)
        own, rest = _two_means(s / s.amax(dim=1, keepdim=True), places)
        if opening is None:
            apart = (own - rest).square().sum(dim=1)
            spread = (own - centre).square().sum(dim=1) + (rest - centre).square().sum(dim=1)
            opening = ((apart / spread - low) / (high - low)).clamp(0, 1).masked_fill(apart == 0, 0)
            opening = opening.masked_fill(none.squeeze(1), 0)
        middle = (own + rest) / 2
        s = ((places - middle.unsqueeze(2)) * (own - rest).unsqueeze(2)).sum(dim=1).clamp(min=0)
    return s.masked_fill(none, 0).unflatten(1, finer.shape[2:]), opening, means


def foreground_explicit(
    features: Tensor,
    fine: Tensor,
    mean: Tensor,
    h: int,
    w: int,
    fine_h: int,
    fine_w: int,
    tokens: bool,
    fine_tokens: bool,
    rounds: int,
    low: float,
    high: float,
    min_contrast: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same under the op's own schema, for devices without kernels. An absent mean has shape (0,)."""
    return foreground(
        features if tokens else features.unflatten(2, (h, w)),
        fine if fine_tokens else fine.unflatten(2, (fine_h, fine_w)),
        rounds=rounds,
        mean=None if mean.shape == (0,) else mean,
        gate=(low, high),
        grid=(h, w) if tokens else None,
        fine_grid=(fine_h, fine_w) if fine_tokens else None,
        min_contrast=min_contrast,
    )
