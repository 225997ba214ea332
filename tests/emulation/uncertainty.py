import torch

from . import Case
from .mix_resize import shifted

TOLERANCES = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-7},
    torch.float64: {"rtol": 1e-13, "atol": 1e-15},
    torch.float16: {"rtol": 1e-3, "atol": 1e-6},
    torch.bfloat16: {"rtol": 1e-2, "atol": 1e-5},
}
SHAPES = [(0, 4), (1, 1), (3, 2), (5, 257), (2, 1000), (17, 10)]


def rows(shape, dtype, scale=3.0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(shape[1])) * scale).to(dtype)


CASES = [
    Case(op, f"{dtype}-{shape}", make, TOLERANCES[dtype])
    for dtype in TOLERANCES
    for shape in SHAPES
    for op, make in (
        ("uncertainty", lambda shape=shape, dtype=dtype: (rows(shape, dtype),)),
        ("uncertainty_backward", lambda shape=shape, dtype=dtype: (rows(shape, dtype), rows(shape, dtype, 1.0))),
    )
]
CASES += [
    Case(op, f"displaced-{dtype}-{shape}-{place}", make, TOLERANCES[dtype])
    for dtype in TOLERANCES
    for shape in ((5, 8), (2, 200))
    for op, place, make in (
        ("uncertainty", 0, lambda shape=shape, dtype=dtype: (shifted(rows(shape, dtype)),)),
        ("uncertainty_backward", 0, lambda s=shape, dtype=dtype: (shifted(rows(s, dtype)), rows(s, dtype, 1.0))),
        ("uncertainty_backward", 1, lambda s=shape, dtype=dtype: (rows(s, dtype), shifted(rows(s, dtype, 1.0)))),
    )
] + [Case("uncertainty", "large", lambda: (rows((3, 30000), torch.float32, 100.0),), TOLERANCES[torch.float32], True)]
