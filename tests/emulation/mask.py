import math

import torch

from sumix.ops import fmix

from . import Case
from .mix_resize import shifted

ABSENT = torch.empty(0)
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-39, 3.4e38, -3.4e38, 1.0]
SMALL = [(1,), (2,), (3,), (17,), (1023,), (32, 32), (33, 17)]


def uniform(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(shape[-1]))


def smooth(n, *size):
    """What FMix cuts its masks from."""
    height, width = (1, *size)[-2:]
    scale = fmix.amplitudes(height, width, 3.0, False, len(size) == 1, torch.device("cpu"))
    normals = torch.randn(n, scale.shape[0], generator=torch.Generator().manual_seed(n))
    return fmix.low_frequency_image(normals, scale, height, width, False).reshape(n, *size)


KINDS = {
    "smooth": smooth,
    "uniform": uniform,
    "constant": lambda *shape: torch.full(shape, -2.5),
    "few": lambda *shape: (4 * uniform(*shape)).floor() - 2,
    "special": lambda *shape: torch.tensor(SPECIAL)[(len(SPECIAL) * uniform(*shape)).long()],
    "bits": lambda *shape: (uniform(*shape).double() * 2**32 - 2**31).to(torch.int32).view(torch.float32),
}


def cut(kind, size, edge=None, n=5):
    """Images that keep none, all, one and some of their pixels, with this share of the widest soft edge possible."""
    pixels = math.prod(size)
    k = (uniform(n) * (pixels + 1)).long()
    k[:3] = torch.tensor([pixels // 2, pixels - 1, min(1, pixels)])[:n]
    if n > 4:
        k[3:5] = torch.tensor([0, pixels])
    most = torch.minimum(k, pixels - k)
    return KINDS[kind](n, *size), k, ABSENT if edge is None else (most * edge).ceil().long()


def displaced(edge, pixels):
    """Rows that no vector of 16 bytes fits: from an odd address, and perhaps of an odd number of pixels."""
    grey, k, soft = cut("smooth", (pixels,), edge, 2)
    return shifted(grey), k, soft


CASES = [
    Case("mask_top_k", f"{kind}-{size}-{edge}", lambda kind=kind, size=size, edge=edge: cut(kind, size, edge))
    for kind in KINDS
    for size in SMALL
    for edge in (None, 0.3, 1.0)
]
CASES += [
    Case(
        "mask_top_k",
        f"{kind}-{size}-{edge}",
        lambda kind=kind, size=size, edge=edge: cut(kind, size, edge, 2),
        None,
        long,
    )
    for kind, size, edge, long in [
        ("smooth", (64, 64), None, False),
        ("few", (64, 64), 1.0, False),
        ("smooth", (65, 64), None, False),
        ("smooth", (65, 64), 0.1, False),
        ("constant", (65, 64), 1.0, False),
        *((kind, (224, 224), edge, True) for kind in KINDS for edge in (None, 0.01, 1.0)),
    ]
]
CASES += [
    Case("mask_top_k", "no-images", lambda: cut("smooth", (8, 8), 1.0, 0)),
    Case("mask_top_k", "no-pixels", lambda: (torch.empty(3, 0), torch.zeros(3, dtype=torch.int64), ABSENT)),
    *(
        Case("mask_top_k", f"displaced-{pixels}-{edge}", lambda pixels=pixels, edge=edge: displaced(edge, pixels))
        for pixels in (1000, 6000, 6001)
        for edge in (None, 0.2)
    ),
    Case("mask_top_k", "more-images-than-blocks", lambda: cut("smooth", (4100,), 0.01, 330), None, True),
]
CASES += [
    Case(
        "sample_top_k",
        f"{n}-{size}-{max_soft}",
        lambda n=n, size=size, max_soft=max_soft: (
            torch.tensor(-(2**62) + n),
            torch.cat([uniform(n), torch.tensor([0.0, 1.0, 0.5, 1e-8])])[: max(n, 0)],
            size,
            max_soft,
        ),
    )
    for n, size, max_soft in [(0, 9, 0.1), (1, 1, 0.5), (7, 2, 0.5), (300, 1024, 0.1), (1000, 224 * 224, 0.5)]
] + [
    Case(
        "sample_top_k", "ends", lambda: (torch.tensor(7), torch.tensor([0.0, 1.0, 0.5, 1e-8, 1 - 6e-8]), 2**31 - 1, 0.3)
    )
]
