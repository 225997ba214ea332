"""Masks cut from maps of evidence: where a map says an object is."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.mask_shapes import sides_of

_op = torch.ops.sumix.evidence_mask.default


def evidence_mask(
    evidence: Tensor,
    size: int | Sequence[int],
    *,
    threshold: float = 0.25,
    soft: float = 0.0,
    paste: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Masks through which the partner shows where its map of evidence, enlarged, exceeds a share of its maximum.

    With u the map enlarged to the images' size, as torch.nn.functional.interpolate(mode="bilinear") does, the own image
    has weight 0 where :math:`u > threshold \cdot \max(map)` and 1 elsewhere; or, with a soft edge,
    :math:`1 - \mathrm{clamp}((u - (threshold - soft / 2) \max) / (soft \max), 0, 1)`.

    Parameters
    ----------
    evidence : Tensor, shape (N, h, w), floating point, bool or integer
        The maps of the *partners*, in any resolution, not negative. For signals (N, l). Used in float32.
    size : (int, int) or int
        Height and width of the images in pixels, or the length of signals.
    threshold : float
        Share of the map's maximum, 0 to 1.
    soft : float
        Width of a soft edge, as a share of the maximum too, at most 2 min(threshold, 1 - threshold); 0: a hard edge.
    paste : Tensor, shape (N,), bool, optional
        Whether the partner of sample i shows at all; None: of all.

    Returns
    -------
    mask : Tensor, shape (N, H, W) or (N, L), bool, or float32 with a soft edge
        Weight of the own image: for `mix_mask`. 1 where nothing is pasted, and where a map is 0 everywhere or NaN.
    lam : Tensor, shape (N,), float32
        The exact mean of each mask.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If shapes or devices do not fit together or a number is out of range; on CPU, outside of torch.compile, also if
        a map has values below 0.

    Notes
    -----
    One launch. The bits are the same on every processor and device, and for any number of threads.
    """
    maps = checks.tensor(evidence, "evidence").detach()
    if maps.is_complex():
        raise TypeError(f"evidence must be floating point, bool or integer, got {maps.dtype}")
    sides = sides_of(size)
    if maps.ndim != 1 + len(sides) or 0 in maps.shape[1:]:
        expected = "(N, l) for signals" if len(sides) == 1 else "(N, h, w)"
        raise ValueError(f"evidence must be {expected}, as size has {len(sides)} numbers, got {checks.shape(maps)}")
    threshold = checks.number(threshold, "threshold", 0, 1)
    soft = checks.number(soft, "soft", 0, 1)
    hard = dispatch.is_surely(soft, 0)
    if not torch.compiler.is_compiling() and soft > 2 * min(threshold, 1 - threshold):
        raise ValueError(
            f"soft must be at most 2 min(threshold, 1 - threshold) = {2 * min(threshold, 1 - threshold):g}, got {soft}"
        )
    if paste is None:
        paste = torch.ones(maps.shape[0], dtype=torch.uint8, device=maps.device)
    else:
        if checks.tensor(paste, "paste").dtype is not torch.bool:
            raise TypeError(f"paste must be bool, got {paste.dtype}")
        if paste.shape != (maps.shape[0],):
            raise ValueError(f"paste must be (N,) = ({maps.shape[0]},), got {checks.shape(paste)}")
        checks.same_device(paste, "paste", maps, "evidence")
        paste = paste.contiguous().view(torch.uint8)
    height, width = (1, *sides)[-2:]
    maps = maps.to(torch.float32).reshape(-1, *(1, *maps.shape[1:])[-2:]).contiguous()
    arguments = (maps, paste, height, width, hard, threshold, soft)
    try:
        if dispatch.is_plain(maps, paste):
            with torch._C._AutoDispatchBelowAutograd():  # past autograd's Python layer
                mask, lam = _op(*arguments)
        else:
            mask, lam = dispatch.call(_op, *arguments)
    except RuntimeError as error:
        checks.reraise(error)
    mask = mask.view(torch.bool) if hard else mask
    return mask.view(-1, *sides) if len(sides) == 1 else mask, lam


@dispatch.fake("evidence_mask")
def _(
    evidence: Tensor, paste: Tensor, height: int, width: int, hard: bool, threshold: float, soft: float
) -> tuple[Tensor, Tensor]:
    n = evidence.shape[0]
    mask = evidence.new_empty((n, height, width), dtype=torch.uint8 if hard else torch.float32)
    return mask, evidence.new_empty((n,))


dispatch.fallback("evidence_mask", reference.evidence_mask)


def _none(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("sumix's masks have no gradient: detach the inputs, as sumix.ops does")


dispatch.register_autograd("sumix::evidence_mask", _none)
dispatch.with_numbers(_op, _none)
