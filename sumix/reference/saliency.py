"""Fine-grained static saliency in whole numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sumix.reference.precision import real

RADII = (12, 24, 28, 48, 56, 112)
GREY = (9798, 19235, 3735)  # of red, green, blue, in 32768ths


def to_8_bits(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Levels (N, C, H, W) from 0 to 255, int64: uint8 as it is; else 255 (std x + mean), or from the image's own range.

    NaN is 0. The range is that of the finite values. `mean` and `std` are (C,), or (0,) for none.
    """
    if not x.is_floating_point():
        return x.long()
    x = real(x)
    if mean.numel() > 0:
        mean, std = (value.to(x.dtype).view(-1, 1, 1) for value in (mean, std))
        shift, scale = mean / std, 255 * std
    else:
        dims = (1, 2, 3)
        low = x.where(x.isfinite(), torch.inf).amin(dims, keepdim=True)
        high = x.where(x.isfinite(), -torch.inf).amax(dims, keepdim=True)
        shift, scale = -low, torch.full_like(low, 255) / (high - low)  # 255 / tensor multiplies by a reciprocal
    return ((x + shift) * scale).nan_to_num(0, posinf=255, neginf=0).clamp(0, 255).round().long()


def grey_levels(levels: Tensor, bgr: bool) -> Tensor:
    """Grey (N, H, W) from levels (N, C, H, W), 1 or 3 channels."""
    if levels.shape[1] == 1:
        return levels[:, 0]
    first, second, third = levels.unbind(1)
    a, b, c = reversed(GREY) if bgr else GREY
    return (a * first + b * second + c * third + 16384) >> 15


def smooth(grey: Tensor) -> Tensor:
    """The 3 x 3 kernel [1 2 1] x [1 2 1], (sum + 8) / 16, mirrored at the borders without repeating them."""
    for dim in (1, 2):
        size = grey.shape[dim]
        at = torch.arange(-1, size + 1, device=grey.device).abs()
        at = torch.where(at == size, size - 2, at).clamp(min=0, max=size - 1)
        padded = grey.index_select(dim, at)
        grey = padded.narrow(dim, 0, size) + 2 * padded.narrow(dim, 1, size) + padded.narrow(dim, 2, size)
    return (grey + 8) >> 4


def saliency(x: Tensor, mean: Tensor, std: Tensor, bgr: bool) -> Tensor:
    """The map (N, H, W), uint8, of images (N, C, H, W) or (N, H, W).

    How far each pixel is above and below the mean of its neighbours, in windows of six sizes, added up.
    """
    grey = smooth(smooth(grey_levels(to_8_bits(x.unsqueeze(1) if x.ndim == 3 else x, mean, std), bgr)))
    _, height, width = grey.shape
    if grey.numel() == 0:
        return grey.to(torch.uint8)
    integral = F.pad(grey.cumsum(1).cumsum(2), (1, 0, 1, 0))
    on, off = torch.zeros_like(grey), torch.zeros_like(grey)
    rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
    for r in RADII:
        top, bottom = (rows - r + 1).clamp(min=0), (rows + r + 1).clamp(max=height)
        left, right = (columns - r + 1).clamp(min=0), (columns + r + 1).clamp(max=width)
        bands = integral[:, bottom] - integral[:, top]
        sums = bands[:, :, right] - bands[:, :, left]
        count = (bottom - top).unsqueeze(1) * (right - left)
        difference = count * grey - sums
        others = (count - 1).clamp(min=1)  # 0 for an image of one pixel, where the difference is 0
        on += difference.clamp(min=0) // others
        off += (-difference).clamp(min=0) // others
    scaled = [255 * part // part.amax((1, 2), keepdim=True).clamp(min=1) for part in (on, off)]
    return ((scaled[0] + scaled[1]) & 255).to(torch.uint8)


def saliency_peak(x: Tensor, mean: Tensor, std: Tensor, bgr: bool) -> Tensor:
    """The place (N, 2), x and y, int64, of the first maximum of each map in row-major order."""
    salient = saliency(x, mean, std, bgr)
    n, _, width = salient.shape
    flat = salient.reshape(n, -1).long()
    size = flat.shape[1]
    # argmax does not say which of several maxima it finds
    at = (flat * size + torch.arange(size - 1, -1, -1, device=flat.device)).argmax(1)
    return torch.stack([at % width, at // width], dim=1)
