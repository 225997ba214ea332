import math

import torch

from . import Case
from .mix_resize import shifted

NONE = torch.empty(0)
# Shares, in which the errors of many float32 products meet.
TOLERANCES = {
    torch.float32: {"rtol": 0, "atol": 5e-5},
    torch.float64: {"rtol": 0, "atol": 1e-11},
    torch.float16: {"rtol": 0, "atol": 5e-5},
    torch.bfloat16: {"rtol": 0, "atol": 5e-5},
}
FEATURE, CAM, OBJECT = 0, 1, 2
# n, d, frames, h, w: few places, some, many; and more than shared memory holds the sums of.
SHAPES = [(1, 1, 1, 1, 1), (3, 37, 1, 7, 7), (2, 70, 2, 3, 5), (2, 33, 1, 14, 14), (2, 40, 1, 17, 18), (0, 4, 1, 2, 2)]
KINDS = ["box", "mask", "bytes", "both", "constant", "resize", "lam"]
RULES = range(4)


def make(kind, evidence, dtype, tokens, shape, size, rule=0):
    n, d, frames, h, w = shape
    height, width = size
    g = torch.Generator().manual_seed(n * d + h)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    places = frames * h * w
    features = torch.rand((n, places + 2, d) if tokens else (n, d, places), generator=g, dtype=torch.float64) - 0.2
    features = features.clamp(min=0) if evidence == OBJECT else features
    classes = NONE, NONE
    if evidence == CAM:
        classes = torch.randn(4, d, generator=g).to(real), torch.randint(-1, 4, (n,), generator=g)
    x = torch.randint(width + 1, (n, 2), generator=g).sort(dim=1).values
    y = torch.randint(height + 1, (n, 2), generator=g).sort(dim=1).values
    box = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
    mask = torch.rand(n, height, width, generator=g)
    masks = {"mask": mask, "both": mask, "bytes": (mask < 0.6).byte(), "constant": mask[:, :1, :1].contiguous()}
    return (
        features.to(dtype),
        *classes,
        torch.randint(max(n, 1), (n,), generator=g),
        torch.rand(n, generator=g).to(real),
        box if kind in ("box", "both", "constant", "resize") else NONE,
        masks.get(kind, NONE),
        torch.randint(4, (n,), generator=g) if kind == "resize" else NONE,
        torch.rand(n, generator=g).round(decimals=1).to(real) if rule > 0 else NONE,
        *(frames, h, w, height, width, tokens, evidence, 1e-6, rule, 0.2 * rule),
    )


def displaced(dtype):
    """Channels of whole vectors, from an address that is no multiple of theirs."""
    features, *rest = make("box", FEATURE, dtype, True, (2, 16, 1, 3, 5), (23, 31))
    return shifted(features), *rest


def undecided(rule):
    """Gates of maps that are not finite."""
    arguments = list(make("box", OBJECT, torch.float32, False, (3, 1, 1, 5, 6), (23, 31), rule))
    arguments[8] = torch.tensor([1.0, math.nan, 0.5])
    return arguments


def case(kind, evidence, dtype, tokens, shape, size, rule=0, thorough=False):
    parts = (kind, ("feature", "cam", "object")[evidence], dtype, tokens, shape, size, rule)
    name = "-".join(map(str, parts))
    return Case(
        "masked_similarity",
        name,
        lambda: make(kind, evidence, dtype, tokens, shape, size, rule),
        TOLERANCES[dtype],
        thorough,
    )


CASES = [
    *(
        case(KINDS[(i + j + tokens) % 7], (i + j) % 2, dtype, tokens, shape, (23, 31), (i + j // 2) % 4)
        for i, dtype in enumerate(TOLERANCES)
        for j, shape in enumerate(SHAPES)
        for tokens in (False, True)
    ),
    *(case(kind, OBJECT, torch.float32, False, (3, 1, 1, 5, 6), (23, 31), rule) for kind in KINDS for rule in RULES),
    *(
        case("lam", evidence, torch.float64, True, (3, 8, 1, 3, 4), (23, 31), rule)
        for evidence in (FEATURE, CAM)
        for rule in RULES
    ),
    case("both", OBJECT, torch.float16, False, (2, 1, 1, 40, 33), (40, 33)),  # a mask for each pixel
    case("mask", FEATURE, torch.float32, False, (2, 8, 1, 2, 3), (90, 200)),
    case("bytes", FEATURE, torch.float32, True, (2, 8, 1, 9, 7), (4, 3)),  # cells smaller than pixels
    case("box", FEATURE, torch.float32, True, (2, 512, 1, 7, 7), (224, 224), thorough=True),
    case("mask", FEATURE, torch.float16, False, (2, 5, 1, 70, 64), (224, 224), thorough=True),
    case("both", CAM, torch.float64, True, (1, 6, 1, 70, 64), (224, 224), thorough=True),
    *(
        Case("masked_similarity", f"undecided-{rule}", lambda rule=rule: undecided(rule), TOLERANCES[torch.float32])
        for rule in RULES
    ),
    *(
        Case("masked_similarity", f"displaced-{dtype}", lambda dtype=dtype: displaced(dtype), tolerance)
        for dtype, tolerance in TOLERANCES.items()
    ),
]
