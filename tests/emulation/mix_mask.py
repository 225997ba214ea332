"""Masks of every kind, of floats and bool, a weight a pixel and a weight a sample; vectors of 16 bytes and single
elements as in mix_resize.py."""

import torch
from mixing import BYTES, FLOATS, INTEGERS, SHAPES, images, some_mask

from . import Case
from .mix_resize import FLAT, layouts, often, shifted


def masks(shape, kind):
    n, height, width = shape[0], shape[-2], shape[-1]
    mask = some_mask(n, *((1, 1) if kind.endswith("uniform") else (height, width)))
    return mask > 0.5 if kind.startswith("bool") else mask


def batch(shape, dtype, layout, kind, shift, nan=False):
    torch.manual_seed(sum(shape))
    x, mask = images(shape, dtype, layout), masks(shape, kind)
    if nan:
        x.flatten()[::3] = float("nan")
        x.flatten()[::5] = float("inf")
    if shift:
        x, mask = shifted(x), shifted(mask)
    return x, mask, torch.randint(0, max(shape[0], 1), shape[:1])


def case(op, shape, dtype, layout, kind, shift=False, thorough=False, nan=False):
    name = f"{dtype}-{shape}-{layout}-{kind}{'-shifted' if shift else ''}{'-nan' if nan else ''}"
    return Case(op, name, lambda: batch(shape, dtype, layout, kind, shift, nan), thorough=thorough)


def cases(op, dtypes, kinds):
    return [
        case(op, shape, dtype, layout, kind, shift, index > (2 if kind.endswith("uniform") else 4))
        for dtype in dtypes
        for kind in kinds
        for index, shape in enumerate(FLAT + SHAPES)
        for layout in layouts(shape)
        for shift in (False, True)
        if not shift or index == 3
    ]


CASES = [
    *cases("mix_mask", FLOATS + INTEGERS, ["any", "any uniform"]),
    *cases("mix_mask", [*BYTES, *FLOATS, torch.complex128], ["bool", "bool uniform"]),
    *cases("mix_mask_backward", FLOATS, ["any", "any uniform", "bool"]),
    *(case("mix_mask", (4, 3, 16, 16), dtype, "contiguous", "any", nan=True) for dtype in FLOATS),
    *(case("mix_mask_backward", (4, 3, 16, 16), dtype, "contiguous", "any", nan=True) for dtype in FLOATS),
    Case(
        "mix_mask_backward",
        "taken often",
        lambda: often(batch((100, 1, 4, 4), torch.float64, "contiguous", "any", False)),
    ),
]
