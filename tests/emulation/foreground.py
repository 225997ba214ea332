import torch

from . import Case
from .mix_resize import shifted

NONE = torch.empty(0)
REAL = {torch.float32: torch.float32, torch.float64: torch.float64}
# n, coarse d, h and w, fine d, H and W: a channel in a warp's registers; more places than that; more coarse ones too.
SHAPES = [
    (1, 1, 1, 1, 1, 3, 1),
    (3, 37, 7, 7, 41, 14, 14),
    (2, 33, 3, 5, 16, 17, 17),
    (2, 8, 9, 8, 35, 9, 8),
    (0, 4, 2, 2, 3, 3, 3),
]


def make(dtype, tokens, fine_tokens, rounds, given, shape):
    n, coarse, h, w, d, fine_h, fine_w = shape
    g = torch.Generator().manual_seed(n * d + h)

    def maps(channels, places, last):
        size = (n, places + 2, channels) if last else (n, channels, places)
        return (torch.rand(size, generator=g, dtype=torch.float64) - 0.2).to(dtype)

    real = REAL.get(dtype, torch.float32)
    return (
        maps(coarse, h * w, tokens),
        maps(d, fine_h * fine_w, fine_tokens),
        torch.rand(d, generator=g).to(real) if given else torch.empty(0, dtype=real),
        *(h, w, fine_h, fine_w, tokens, fine_tokens, rounds, 0.01, 0.5, 1e-6),
    )


def special(dtype, tokens):
    """A flat image, one whose coarse map has NaN, one whose finer map has, and one of a single colour."""
    features, fine, *rest = make(dtype, tokens, tokens, 2, True, (5, 16, 2, 3, 16, 4, 5))
    features[0], features[1, 3], fine[2, 3], fine[3] = 0.75, torch.nan, torch.nan, 0.3
    return features, fine, *rest


def displaced(dtype, which):
    """Channels of whole vectors, from an address that is no multiple of theirs."""
    arguments = list(make(dtype, True, True, 1, False, (2, 16, 3, 5, 32, 6, 7)))
    arguments[which] = shifted(arguments[which])
    return tuple(arguments)


def case(dtype, tokens, fine_tokens, rounds, given, shape, thorough=False):
    parts = (dtype, tokens, fine_tokens, rounds, given, shape)
    return Case("foreground", "-".join(map(str, parts)), lambda: make(*parts), TOLERANCES[dtype], thorough)


# A map's values come from many float32 products.
NARROW = {"rtol": 1e-4, "atol": 2e-5}
TOLERANCES = {
    torch.float32: NARROW,
    torch.float64: {"rtol": 1e-11, "atol": 1e-11},
    torch.float16: NARROW,
    torch.bfloat16: NARROW,
}
CASES = [
    *(
        case(dtype, layout % 2 == 1, layout >= 2, 1 + (i + j + layout) % 2, (j + layout) % 3 > 0, shape)
        for i, dtype in enumerate(TOLERANCES)
        for j, shape in enumerate(SHAPES)
        for layout in range(4)
    ),
    *(
        Case("foreground", f"special-{dtype}-{tokens}", lambda d=dtype, t=tokens: special(d, t), tolerance)
        for dtype, tolerance in TOLERANCES.items()
        for tokens in (False, True)
    ),
    *(
        Case("foreground", f"displaced-{dtype}-{which}", lambda d=dtype, w=which: displaced(d, w), tolerance)
        for dtype, tolerance in TOLERANCES.items()
        for which in (0, 1)
    ),
    case(torch.float32, False, False, 2, False, (1, 4, 14, 14, 3, 64, 63), thorough=True),  # weights in device memory
    case(torch.float16, True, True, 1, True, (1, 8, 14, 14, 8, 64, 63), thorough=True),
    case(torch.float64, False, True, 1, False, (1, 2, 65, 63, 3, 65, 63), thorough=True),
    case(torch.float32, True, False, 1, False, (35, 4, 2, 2, 300, 2, 2), thorough=True),  # several blocks of gates
]
