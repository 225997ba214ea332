"""Boxes and ratios of every kind, partners that repeat; vectors of 16 bytes and of fewer, for batches whose samples or
addresses are no multiples of 16."""

import torch
from mixing import BYTES, FLOATS, INTEGERS, SHAPES, images, some_boxes, some_lam

from . import Case

FLAT = [(0, 3, 4, 4), (1, 1, 1, 1), (5, 0, 2, 2), (9, 2, 4, 8), (7, 5, 12), (40, 1, 1, 4), (6, 3, 5, 34)]

SIZES = [torch.bool, torch.int16, torch.float32, torch.complex64]


def shifted(x):
    """The same at an address that is a multiple of its element's size alone."""
    storage = torch.empty(x.numel() + 1, dtype=x.dtype)[1:]
    return storage.as_strided(x.shape, x.stride()).copy_(x)


def partners(n):
    return torch.randint(0, max(n, 1), (n,))


def batch(shape, dtype, layout, shift, seed=None):
    torch.manual_seed(sum(shape) if seed is None else seed)
    x = images(shape, dtype, layout)
    return shifted(x) if shift else x


def boxed(shape, dtype, layout, shift):
    x, n = batch(shape, dtype, layout, shift), shape[0]
    return x, some_boxes(n, *shape[-2:]), partners(n)


def weighted(shape, dtype, layout, shift):
    x, n = batch(shape, dtype, layout, shift), shape[0]
    return x, some_lam(n), partners(n)


def labels(n, k, smoothing):
    torch.manual_seed(n + k)
    y_a, y_b = torch.randint(0, k, (2, n)).unbind()
    y_b[::3] = y_a[::3]
    return y_a, y_b, some_lam(n), k, smoothing


def case(op, make, shape, dtype, layout, shift, thorough):
    name = f"{dtype}-{shape}-{layout}{'-shifted' if shift else ''}"
    return Case(op, name, lambda: make(shape, dtype, layout, shift), thorough=thorough)


def grid(shapes, dtypes, few=(torch.float32, torch.float16, torch.uint8)):
    """Every layout, aligned and not: (shape, dtype, layout, shift), and whether it is for the thorough only: what is
    large, and of most dtypes what is not contiguous or not aligned."""
    return [
        ((shape, dtype, layout, shift), sum(shape) > 100 or (dtype not in few and (shift or layout != "contiguous")))
        for shape in shapes
        for dtype in dtypes
        for layout in ("contiguous", "channels_last")
        for shift in (False, True)
        if layout == "contiguous" or len(shape) in (4, 5)
    ]


CASES = [
    *(
        case("mix_box", boxed, *at, long)
        for at, long in grid(FLAT + SHAPES, [*BYTES, *FLOATS, torch.complex128], SIZES)
    ),
    *(
        case("mix_box_backward", boxed, *at, long)
        for at, long in grid([shape for shape in FLAT + SHAPES if len(shape) > 3], FLOATS)
    ),
    *(
        case("mix_linear", weighted, *at, long)
        for at, long in grid([(3, 5), (9,), (4, 96), (5, 3, 16, 16), *SHAPES], FLOATS + INTEGERS)
    ),
    *(case("mix_linear_backward", weighted, *at, long) for at, long in grid([(3, 5), (9,), (4, 96), *SHAPES], FLOATS)),
    *(
        Case("soft_labels", f"{n}-{k}-{s}", lambda n=n, k=k, s=s: labels(n, k, s))
        for n, k, s in [(0, 4, 0.1), (1, 1, 0.0), (50, 10, 0.1), (7, 100, 1.0), (3, 1000, 0.0), (300, 4, 0.1)]
    ),
]
