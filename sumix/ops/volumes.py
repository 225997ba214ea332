"""Boxes in volumes (N, C, D, H, W), by the ops for images: a volume is a stack of slices, some of which have a box."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sumix.ops import dispatch


def as_slices(x: Tensor, box: Tensor, perm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dense volumes (N, ..., D, H, W) as images, a view, with boxes (., 4) and partners of their own.

    The boxes of slices outside of the volume's are empty. In channels_last memory an image is a slice with all its
    channels, (N D, C, H, W), else one of a channel, (N C D, H, W).
    """
    if dispatch.is_at_hand(box) and dispatch.is_at_hand(perm):
        check_boxes(box, x.shape[-3:])
        _check_partners(perm, x.shape[0])
    n, depth, height, width = x.shape[0], *x.shape[-3:]
    each = x.shape[1:-2].numel() if x.is_contiguous() else depth  # images per volume
    slices = x.reshape(n * each, height, width) if x.is_contiguous() else x.transpose(1, 2).flatten(0, 1)
    x1, y1, z1, x2, y2, z2 = box.unsqueeze(2).unbind(1)
    z = torch.arange(depth, device=x.device)
    inside = ((z >= z1) & (z < z2)).unsqueeze(2)
    boxes = torch.where(inside, torch.stack([x1, y1, x2, y2], dim=2), 0)
    # Where values cannot be checked here (a GPU, a graph), a wrong depth gets the box -1, which the kernel refuses.
    fits = (z1 >= 0) & (z1 <= z2) & (z2 <= depth)
    boxes = boxes.where(fits.unsqueeze(2), -1)
    boxes = boxes.unsqueeze(1).expand(n, each // depth if depth > 0 else 1, depth, 4).reshape(-1, 4)
    at = torch.arange(each, device=x.device)
    return slices, boxes, (perm.unsqueeze(1) * each + at).flatten()


def as_volumes(slices: Tensor, x: Tensor) -> Tensor:
    """What `as_slices` made of x, in the shape and the memory format of x."""
    if x.is_contiguous():
        return slices.reshape(x.shape)
    return slices.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def check_boxes(box: Tensor, size: Sequence[int]) -> None:
    """Fail unless boxes (N, 6) whose values are at hand lie in volumes of this size, (D, H, W)."""
    depth, height, width = size
    low, high = box.tensor_split(2, dim=1)
    bad = (low < 0) | (low > high) | (high > box.new_tensor([width, height, depth]))
    if bad.any():
        i = int(bad.any(dim=1).nonzero()[0])
        raise ValueError(
            f"box[{i}] is {tuple(box[i].tolist())}, expected 0 <= x1 <= x2 <= {width}, 0 <= y1 <= y2 <= {height} and "
            f"0 <= z1 <= z2 <= {depth}"
        )


def _check_partners(perm: Tensor, n: int) -> None:
    lost = (perm < 0) | (perm >= n)
    if lost.any():
        i = int(lost.nonzero()[0])
        raise ValueError(f"perm[{i}] is {int(perm[i])}, expected 0 to {n - 1}")
