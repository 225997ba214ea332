import math

import torch

from . import Case

SIZES = [
    ((1, 1), (1, 1)),
    ((7, 7), (32, 32)),
    ((14, 14), (33, 17)),
    ((1, 5), (1, 257)),
    ((9, 8), (5, 3)),
    ((4, 4), (4, 4)),
]


def maps(n, h, w):
    generator = torch.Generator().manual_seed(h * w)
    values = torch.rand(n, h, w, generator=generator) ** 3
    values[1::4] = 0
    values[2::4, :, ::2] = math.nan
    values[3::4, ::2] = math.inf
    return values, (torch.rand(n, generator=generator) < 0.8).to(torch.uint8)


CASES = [
    Case(
        "evidence_mask",
        f"{cells}-{size}-{threshold}-{soft}",
        lambda n=n, cells=cells, size=size, threshold=threshold, soft=soft: (
            *maps(n, *cells),
            *size,
            soft == 0,
            threshold,
            soft,
        ),
    )
    for cells, size in SIZES
    for n, threshold, soft in [(9, 0.25, 0.0), (5, 0.3, 0.2), (4, 0.0, 0.0), (4, 1.0, 0.0)]
] + [
    Case("evidence_mask", "no-images", lambda: (*maps(0, 3, 3), 8, 8, True, 0.25, 0.0)),
    Case("evidence_mask", "large", lambda: (*maps(5, 14, 14), 224, 224, False, 0.25, 0.5), None, True),
]
