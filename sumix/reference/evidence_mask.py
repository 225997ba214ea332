"""Masks cut from maps of evidence, as ForegroundMix pastes."""

import torch
from torch import Tensor

_UNIT = 2.0**24  # sums of masks count in its inverse, so that their order does not matter


def _between(cells: int, pixels: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Between which of the cells each pixel lies, and the weight of the second, each (pixels,), in float32.

    As torch.nn.functional.interpolate has it with align_corners=False.
    """
    j = torch.arange(pixels, device=device)
    if cells == pixels:
        return j, j, torch.zeros(pixels, device=device)
    scale = (torch.full((), cells, device=device).float() / torch.full((), pixels, device=device).float()).double()
    at = ((j + 0.5).double() * scale - 0.5).float().clamp(min=0)
    first = at.long().clamp(max=cells - 1)
    return first, (first + 1).clamp(max=cells - 1), (at - first).clamp(max=1)


def _mean(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    return first * (1 - weight) + second * weight


@torch.no_grad()
def evidence_mask(
    evidence: Tensor, paste: Tensor, height: int, width: int, hard: bool, threshold: float, soft: float
) -> tuple[Tensor, Tensor]:
    """Twin of `sumix.ops.evidence_mask` under the op's own schema: masks of uint8 if `hard`, else float32, and lam."""
    rows, columns = (
        _between(*axis, evidence.device) for axis in ((evidence.shape[1], height), (evidence.shape[2], width))
    )
    wide = _mean(evidence[:, :, columns[0]], evidence[:, :, columns[1]], columns[2])
    u = _mean(wide[:, rows[0]], wide[:, rows[1]], rows[2].unsqueeze(1))
    share, edge = (torch.full((), value, device=evidence.device) for value in (threshold, soft))  # rounded to float32
    most = torch.where(evidence.isnan(), 0, evidence).amax((1, 2)).view(-1, 1, 1)
    if hard:
        partner = (u > share * most).float()
    else:
        ramp = (u - (share - edge / 2) * most) / (edge * most)
        partner = torch.where(ramp > 0, ramp.clamp(max=1), 0)
    own = 1 - partner * (paste != 0).float().view(-1, 1, 1)
    total = (own * _UNIT).long().sum((1, 2))
    lam = (total.double() / (torch.full_like(total, height * width).double() * _UNIT)).float()
    return own.to(torch.uint8) if hard else own, lam
