"""The masks of GridMix and SmoothMix, pixel by pixel."""

import torch
from torch import Tensor


def grid_mask(box: Tensor, cells: Tensor, lam: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Masks (N, H, W) or (N, L), bool, that are false in the holes of a grid within a box; and their means, float32."""
    cell = torch.ceil((box[:, len(size)] - box[:, 0]) / cells).clamp(min=1).to(torch.int64)
    side = cell * (1 - lam) if len(size) == 1 else cell * (1 - lam).sqrt()
    side = torch.where(lam == 1, 0, torch.minimum(side.floor().clamp(min=1), cell - 1))
    masks = torch.ones(box.shape[0], *size, dtype=torch.bool, device=box.device)
    pixels = torch.cartesian_prod(*(torch.arange(length, device=box.device) for length in size)).view(-1, len(size))
    for i in range(box.shape[0]):
        start, end = box[i, : len(size)].flip(0), box[i, len(size) :].flip(0)  # from x, y to rows, columns
        for pixel in pixels:
            inside = bool(((pixel >= start) & (pixel < end)).all())
            masks[i][tuple(pixel)] = not (inside and bool(((pixel - start) % cell[i] < side[i]).all()))
    return masks, masks.flatten(1).to(torch.float64).mean(dim=1).to(torch.float32)


def smooth_mask(centre: Tensor, sigma: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Masks (N, H, W) or (N, L), 1 - exp(-d^2 / (2 sigma^2)) at distance d from the centre; and their means."""
    axes = torch.meshgrid(*(torch.arange(length, device=centre.device) + 0.5 for length in size), indexing="ij")
    middle = torch.stack(axes[::-1], dim=-1).to(centre.dtype)  # x, y
    square = (middle - centre.view(-1, *[1] * len(size), len(size))).square().sum(dim=-1)
    width = sigma.view(-1, *[1] * len(size))
    mask = torch.where(width > 0, 1 - torch.exp(-square / (2 * width**2)), 1)
    return mask, mask.flatten(1).mean(dim=1)
