"""What the tests of the mixing operators share: images of every dtype and layout, boxes, ratios, masks."""

import torch
from torch import Tensor

BYTES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64, torch.complex64]
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
SHAPES = [(5, 3, 16, 16), (1, 3, 17, 257), (4, 1, 7, 5), (3, 2, 3, 9, 11), (6, 8, 13), (2, 3, 5, 2100), (7, 2, 2, 2)]
# Error of one rounding of a sum of a few terms of size 1.
TOLERANCE = {torch.float32: 4e-7, torch.float64: 1e-15, torch.float16: 1.2e-3, torch.bfloat16: 9e-3}


def some_boxes(n: int, height: int, width: int) -> Tensor:
    """Boxes of every kind: any, empty in one direction or both, full, and full rows."""
    x = torch.randint(0, width + 1, (n, 2)).sort(1).values
    y = torch.randint(0, height + 1, (n, 2)).sort(1).values
    box = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)
    kinds = [
        None,
        (0, 0, width, height),
        (0, height // 2, width, height),
        (width, height, width, height),
        (0, 0, 0, height),
    ]
    for i in range(n):
        if kinds[i % 5] is not None:
            box[i] = torch.tensor(kinds[i % 5])
    return box[torch.randperm(n)]


def images(shape: tuple[int, ...], dtype: torch.dtype, layout: str = "contiguous") -> Tensor:
    x = torch.randn(shape, dtype=torch.float64)
    if not (dtype.is_floating_point or dtype.is_complex):
        x = (x * 40).clamp(-127, 127) if dtype.is_signed else (x * 40).abs()
    x = x.to(dtype)
    if layout == "channels_last" and len(shape) in (4, 5):
        return x.contiguous(memory_format=torch.channels_last if len(shape) == 4 else torch.channels_last_3d)
    if layout == "strided":
        return torch.stack([x, x], -1)[..., 0]
    if layout == "expanded" and len(shape) > 1:
        return x[:, :1].expand(shape)
    return x


def some_lam(n: int) -> Tensor:
    lam = torch.rand(n)
    lam[::4] = 1
    lam[2::4] = 0
    return lam[torch.randperm(n)]


def some_mask(n: int, height: int, width: int) -> Tensor:
    """Masks of every kind: any weights, 1 or 0 all over, and large areas of both with weights between."""
    mask = torch.rand(n, height, width)
    mask[1::4] = 1
    mask[2::4] = 0
    mask[3::4] = (2 * mask[3::4] - 0.5).clamp(0, 1)
    return mask[torch.randperm(n)]


def some_resize(n: int) -> Tensor:
    """Ways to resize: every code in turn."""
    return torch.arange(n)[torch.randperm(n)] % 4


def is_integer(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool)
