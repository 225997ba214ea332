"""Masks of every kind, of floats and bool, a weight a pixel and a weight a sample; vectors of 16 bytes and single
elements as in mix_resize.py."""

import torch
from mixing import BYTES, FLOATS, INTEGERS, SHAPES, TOLERANCE, images, is_integer, some_mask

from . import Case
from .mix_resize import FLAT, layouts, often, shifted


def masks(shape, kind):
    n, height, width = shape[0], shape[-2], shape[-1]
    mask = some_mask(n, *((1, 1) if kind.endswith("uniform") else (height, width)))
    if kind.startswith("exact"):  # weights whose products with 8 bits are exact: no last bit decides a rounding
        mask = (mask * 64).round() / 64
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


def tolerance(dtype, kind):
    if kind.startswith("bool") or (is_integer(dtype) and kind.startswith("exact")):
        return None
    if is_integer(dtype):
        return {"rtol": 0, "atol": 1}
    return {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}


def case(op, shape, dtype, layout, kind, shift=False, thorough=False, nan=False):
    name = f"{dtype}-{shape}-{layout}-{kind}{'-shifted' if shift else ''}{'-nan' if nan else ''}"
    bound = tolerance(dtype, "" if op.endswith("backward") else kind)
    return Case(op, name, lambda: batch(shape, dtype, layout, kind, shift, nan), bound, thorough)


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
    *cases("mix_mask", FLOATS + INTEGERS, ["exact", "any", "any uniform"]),
    *cases("mix_mask", [*BYTES, *FLOATS, torch.complex128], ["bool", "bool uniform"]),
    *cases("mix_mask_backward", FLOATS, ["any", "any uniform", "bool"]),
    *(case("mix_mask", (4, 3, 16, 16), dtype, "contiguous", "any", nan=True) for dtype in FLOATS),
    *(case("mix_mask_backward", (4, 3, 16, 16), dtype, "contiguous", "any", nan=True) for dtype in FLOATS),
    Case(
        "mix_mask_backward",
        "taken often",
        lambda: often(batch((100, 1, 4, 4), torch.float64, "contiguous", "any", False)),
        {"rtol": 1e-13, "atol": 1e-13},
    ),
]
