"""Mixing a batch by resized partners."""

from typing import NamedTuple

import torch
from torch import Tensor

from sumix.reference.mix import mix_dtype, rounded

SAME_BOX, NEAREST, NEAREST_EXACT, BILINEAR = range(4)  # the codes in `resize`


class _Axis(NamedTuple):
    """For each position along an axis, each (N, size): is it in the box, and between which of the partner's is it."""

    inside: Tensor
    first: Tensor
    second: Tensor
    weight: Tensor  # of the second


def _axis(start: Tensor, stop: Tensor, size: int, resize: Tensor, dtype: torch.dtype) -> _Axis:
    """As torch.nn.functional.interpolate shrinks `size` pixels to the stop - start of each sample's box."""
    start, stop, resize = start.unsqueeze(1), stop.unsqueeze(1), resize.unsqueeze(1)
    at = torch.arange(size, device=start.device)
    inside = (at >= start) & (at < stop)
    length, j = (stop - start).clamp(min=1), at - start
    sizes = torch.full_like(length, size)  # number / tensor would multiply by the reciprocal
    scale = sizes.float() / length.float()
    nearest = (j * scale).floor()
    exact = ((j + 0.5) * scale).floor()
    scale = scale.double() if dtype == torch.float32 else sizes.double() / length.double()
    bilinear = ((j + 0.5).double() * scale - 0.5).to(dtype).clamp(min=0)
    first = torch.where(resize == NEAREST, nearest, torch.where(resize == NEAREST_EXACT, exact, bilinear.floor()))
    first = torch.where(resize == SAME_BOX, at, torch.where(length == size, j, first.long())).clamp(0, size - 1)
    between = (resize == BILINEAR) & (length != size)
    weight = torch.where(between, (bilinear - first).clamp(0, 1), 0)
    second = torch.where(between, (first + 1).clamp(max=size - 1), first)
    return _Axis(inside, first, second, weight)


def _axes(x: Tensor, box: Tensor, resize: Tensor) -> tuple[Tensor, _Axis, _Axis]:
    """x as (N, planes, H, W), and where its rows and columns come from, to broadcast along the other dimensions."""
    ends = list(box.unbind(1))
    if box.shape[1] == 2:  # signals are images of one row
        x, ends = x.unsqueeze(-2), [ends[0], torch.zeros_like(ends[0]), ends[1], torch.ones_like(ends[1])]
    planes = x.reshape(x.shape[0], -1, *x.shape[-2:]) if x.numel() else x.new_empty(x.shape[0], 0, *x.shape[-2:])
    dtype = mix_dtype(x.dtype)
    rows = _axis(ends[1], ends[3], x.shape[-2], resize, dtype)
    columns = _axis(ends[0], ends[2], x.shape[-1], resize, dtype)
    return planes, _Axis(*(t[:, None, :, None] for t in rows)), _Axis(*(t[:, None, None, :] for t in columns))


def mix_resize(x: Tensor, box: Tensor, resize: Tensor, perm: Tensor) -> Tensor:
    """x with box filled from the whole of x[perm], resized by code; box (x1, y1, x2, y2), of signals (x1, x2)."""
    planes, rows, columns = _axes(x, box, resize)
    partner = planes[perm]

    def at(row: Tensor, column: Tensor) -> Tensor:
        row, column = row.expand(-1, *planes.shape[1:]), column.expand(-1, *planes.shape[1:])
        return partner.gather(2, row).gather(3, column)

    pasted = at(rows.first, columns.first)
    if x.is_floating_point() or not (x.is_complex() or x.dtype == torch.bool):
        a, b, c, d = (
            at(row, column).to(columns.weight.dtype)
            for row in (rows.first, rows.second)
            for column in (columns.first, columns.second)
        )
        top = (1 - columns.weight) * a + columns.weight * b
        bottom = (1 - columns.weight) * c + columns.weight * d
        mean = (1 - rows.weight) * top + rows.weight * bottom
        pasted = torch.where(resize.view(-1, 1, 1, 1) == BILINEAR, rounded(mean, x.dtype), pasted)
    return torch.where(rows.inside & columns.inside, pasted, planes).view(x.shape)


def mix_resize_backward(grad_out: Tensor, box: Tensor, resize: Tensor, perm: Tensor) -> Tensor:
    """The gradient of mix_resize to x: each image's own outside its box, plus what the boxes filled from it pass on."""
    planes, rows, columns = _axes(grad_out, box, resize)
    grad = planes.to(columns.weight.dtype)
    inside = rows.inside & columns.inside
    pasted = grad.masked_fill(~inside, 0)
    for dim, axis in (3, columns), (2, rows):
        spread = torch.zeros_like(pasted)
        for place, share in (axis.first, 1 - axis.weight), (axis.second, axis.weight):
            spread = spread.scatter_add(dim, place.expand_as(pasted), share * pasted)
        pasted = spread
    return grad.masked_fill(inside, 0).index_add(0, perm, pasted).to(grad_out.dtype).view(grad_out.shape)
