import torch

from . import Case
from .mix_resize import shifted

# As for uncertainty.py; the norm of many classes adds up in another order.
TOLERANCES = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-7},
    torch.float64: {"rtol": 1e-13, "atol": 1e-15},
    torch.float16: {"rtol": 1e-3, "atol": 1e-6},
    torch.bfloat16: {"rtol": 1e-2, "atol": 1e-5},
}
SHAPES = [(0, 4), (1, 1), (7, 3), (37, 10), (5, 17), (9, 100), (3, 257), (2, 1000), (2, 5000)]


def arguments(shape, dtype, published, spread=3.0):
    n, k = shape
    generator = torch.Generator().manual_seed(n + k)
    z, r = ((torch.randn(shape, generator=generator) * spread).to(dtype) for _ in range(2))
    return z, r, torch.randint(-1, k, (n,), generator=generator), 2.5, published


def odd(value):
    """One sample's logits with a value that spreads, another's too large for exp."""
    z, r, *rest = arguments((4, 6), torch.float32, False, 1e4)
    z[1, 2] = r[2, 3] = value
    return z, r, *rest


def displaced(dtype, place):
    """Rows of whole vectors, but one of the tensors from an address that is no multiple of theirs."""
    values = list(arguments((5, 8), dtype, False))
    values[place] = shifted(values[place])
    return tuple(values)


def case(name, make, dtype=torch.float32, **options):
    return Case("semantic_distance", name, make, TOLERANCES[dtype], **options)


CASES = [
    case(
        f"{dtype}-{shape}-{'published' if published else 'semantic'}",
        lambda shape=shape, dtype=dtype, published=published: arguments(shape, dtype, published),
        dtype,
    )
    for number, shape in enumerate(SHAPES)
    for dtype in TOLERANCES
    for published in ((False, True) if dtype is torch.float32 else (number % 2 == 0,))
]
CASES += [case(f"odd-{value}", lambda value=value: odd(value)) for value in (float("nan"), float("inf"), -float("inf"))]
CASES += [
    case(f"displaced-{dtype}-{place}", lambda dtype=dtype, place=place: displaced(dtype, place), dtype)
    for dtype in TOLERANCES
    for place in (0, 1)
]
CASES.append(case("large", lambda: arguments((3, 20000), torch.float32, False), thorough=True))
