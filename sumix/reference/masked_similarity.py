"""Mask-aware feature similarity: how much of each image's evidence a mix leaves visible."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sumix.reference.precision import real

EVIDENCES = ("feature", "cam", "object")
RULES = ("relative", "visible", "absolute", "uncertain")


def min_contrast_of(dtype: torch.dtype) -> float:
    """What rounding alone may leave of contrast in a flat map of this dtype."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return max(torch.finfo(dtype).eps, 8 * torch.finfo(wide).eps)


def overlaps(cells: int, pixels: int, like: Tensor) -> Tensor:
    """(cells, pixels): which share of each cell each pixel covers where both divide the same length evenly.

    In units in which all edges are integers: a cell is `pixels` long, a pixel `cells`.
    """
    cell = torch.arange(cells, device=like.device).unsqueeze(1) * pixels
    pixel = torch.arange(pixels, device=like.device) * cells
    shared = torch.minimum(cell + pixels, pixel + cells) - torch.maximum(cell, pixel)
    return shared.clamp(min=0).to(like.dtype) / pixels


def _inside(box: Tensor, height: int, width: int) -> Tensor:
    """(N, height, width): which pixels lie in the box (N, 4)."""
    x1, y1, x2, y2 = box.view(-1, 4, 1, 1).unbind(1)
    x = torch.arange(width, device=box.device)
    y = torch.arange(height, device=box.device).unsqueeze(1)
    return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


def kept_share(
    lam: Tensor, box: Tensor | None, mask: Tensor | None, size: Sequence[int], grid: Sequence[int]
) -> Tensor:
    """M (N, h, w): which share of each cell of the grid a mix keeps of the own image; the mask's exact area average.

    Box (N, 4), mask (N, H, W) or (N, 1, 1); without either lam (N,) everywhere.
    """
    (height, width), (h, w) = size, grid
    pixels = lam.view(-1, 1, 1) if box is None and mask is None else lam.new_ones(lam.shape[0], 1, 1)
    if mask is not None:
        pixels = pixels * mask.to(lam.dtype)
    if box is None and pixels.shape[1:] == (1, 1):
        return pixels.expand(-1, h, w)
    if box is not None:
        pixels = torch.where(_inside(box, height, width), 0, pixels)
    rows, columns = overlaps(h, height, lam), overlaps(w, width, lam)
    return (rows @ pixels @ columns.t()).clamp(max=1)


def evidence_map(
    maps: Tensor, evidence: str, class_weight: Tensor | None, labels: Tensor | None, min_contrast: float
) -> Tensor:
    """s (N, places) of feature maps (N, D, places), or of object masks (N, 1, places)."""
    if evidence == "object":
        return maps.squeeze(1)
    if evidence == "cam":
        rows = class_weight[labels.clamp(min=0)]
        activation = torch.einsum("nd,ndp->np", rows, maps)
        return torch.where(labels.unsqueeze(1) < 0, 0, activation.clamp(min=0))
    g = maps.mean(dim=2, keepdim=True)
    contrast = (g * (maps - g)).sum(dim=1)
    s = (contrast - contrast.mean(dim=1, keepdim=True)).clamp(min=0)
    flat = (s <= min_contrast * g.square().sum(dim=1)).all(dim=1, keepdim=True) & s.isfinite().all(dim=1, keepdim=True)
    return torch.where(flat, 0, s)


def _ratio(own: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    return torch.where(own + partner == 0, lam, own / (own + partner))


def weigh_labels(
    own: Tensor,
    partner: Tensor,
    area: Tensor,
    lam: Tensor,
    own_mass: Tensor,
    partner_mass: Tensor,
    rule: str,
    area_weight: float,
) -> tuple[Tensor, Tensor]:
    """The mix ratio (N,) and the weights of the labels (N, 3): own, partner's, and all classes evenly.

    Of the visible shares (N,), the kept area, and the sums of both images' evidence, which "absolute" weighs by.
    """
    if rule == "absolute":  # nothing visible weighs nothing, whatever the sum
        own = torch.where(own == 0, 0, own * own_mass)
        partner = torch.where(partner == 0, 0, partner * partner_mass)
    ratio = _ratio(own, partner, lam)
    if rule in ("visible", "uncertain"):
        total = own + partner
        most = total.clamp(min=1) if rule == "uncertain" else torch.ones_like(total)
        rest = 1 - total / most if rule == "uncertain" else torch.zeros_like(total)
        weights = torch.stack([own / most, partner / most, rest], dim=1)
    else:
        weights = torch.stack([ratio, 1 - ratio, torch.zeros_like(ratio)], dim=1)
    if area_weight == 0:
        return ratio, weights
    by_area = torch.stack([area, 1 - area, torch.zeros_like(area)], dim=1)
    weights = (1 - area_weight) * weights + area_weight * by_area
    return _ratio(weights[:, 0], weights[:, 1], lam), weights


def _visible(m: Tensor, s: Tensor) -> Tensor:
    total = s.sum(dim=1)
    share = torch.where(total == 0, m.mean(dim=1), (m * s).sum(dim=1) / total)
    uniform = m.amin(dim=1) == m.amax(dim=1)
    return torch.where(uniform, m[:, 0], share)


@torch.no_grad()
def masked_similarity(
    features: Tensor,
    perm: Tensor,
    lam: Tensor,
    *,
    box: Tensor | None = None,
    mask: Tensor | None = None,
    resize: Tensor | None = None,
    size: Sequence[int] | None = None,
    grid: Sequence[int] | None = None,
    class_weight: Tensor | None = None,
    labels: Tensor | None = None,
    evidence: str = "feature",
    min_contrast: float | None = None,
    gate: Tensor | None = None,
    rule: str = "relative",
    area_weight: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Twin of `sumix.ops.masked_similarity` for maps (N, D, h, w), tokens (N, L, D) with their grid, and objects."""
    contrast = min_contrast_of(features.dtype) if min_contrast is None else min_contrast
    x = real(features)
    if evidence == "object" and x.ndim == 3:
        x = x.unsqueeze(1)
    if grid is not None:
        h, w = grid
        maps = x[:, x.shape[1] - h * w :].transpose(1, 2)
    else:
        h, w = x.shape[-2:]
        maps = x.flatten(2)  # of videos, frame after frame
    lam = lam.to(x.dtype)
    s = evidence_map(maps, evidence, class_weight, labels, contrast).unflatten(1, (-1, h * w)).sum(dim=1)
    if size is None:
        size = (1, 1) if mask is None else mask.shape[1:]
    m = kept_share(lam, box, mask, size, (h, w)).flatten(1)
    own, partner, area = _visible(m, s), _visible(1 - m, s[perm]), m.mean(dim=1)
    if gate is not None:
        gate, uniform = gate.to(x.dtype), m.amin(dim=1) == m.amax(dim=1)
        own = own.where(uniform, gate * own + (1 - gate) * area)
        partner = partner.where(uniform, gate[perm] * partner + (1 - gate[perm]) * (1 - area))
    if resize is not None:
        pasted = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
        partner = torch.where((resize != 0) & pasted, 1, partner)
    masses = s.sum(dim=1)
    return own, partner, *weigh_labels(own, partner, area, lam, masses, masses[perm], rule, area_weight)


def masked_similarity_explicit(
    features: Tensor,
    class_weight: Tensor,
    labels: Tensor,
    perm: Tensor,
    lam: Tensor,
    box: Tensor,
    mask: Tensor,
    resize: Tensor,
    gate: Tensor,
    frames: int,
    h: int,
    w: int,
    height: int,
    width: int,
    tokens: bool,
    evidence: int,
    min_contrast: float,
    rule: int,
    area_weight: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same under the op's own schema, for devices without kernels. Absent tensors have shape (0,)."""

    def present(tensor: Tensor) -> Tensor | None:
        return None if tensor.shape == (0,) else tensor

    if tokens:
        features = features[:, features.shape[1] - frames * h * w :].transpose(1, 2)
    return masked_similarity(
        features.unflatten(2, (frames, h, w)),
        perm,
        lam,
        box=present(box),
        mask=present(mask),
        resize=present(resize),
        size=(height, width),
        class_weight=class_weight,
        labels=labels,
        evidence=EVIDENCES[evidence],
        min_contrast=min_contrast,
        gate=present(gate),
        rule=RULES[rule],
        area_weight=area_weight,
    )
