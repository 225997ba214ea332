"""What mix.py and mix_resize.py have, in place: chains, cycles and repeats of partners."""

import torch
from mixing import BYTES, FLOATS, INTEGERS, images, some_boxes, some_resize

from . import Case
from .mix import FLAT, SIZES, batch, grid, partners

SHAPES = [*FLAT, (5, 3, 16, 16), (3, 2, 3, 9, 11), (6, 8, 13)]


def how(shape, kind):
    n = shape[0]
    perm = {"any": partners(n), "cycle": torch.arange(n).roll(1), "one": torch.zeros(n, dtype=torch.int64)}[kind]
    return some_boxes(n, *shape[-2:]), perm


def boxes(shape, dtype, layout, shift, kind):
    return (batch(shape, dtype, layout, shift), *how(shape, kind))


def resized(shape, dtype, layout, shift, kind, codes):
    x, (box, perm) = batch(shape, dtype, layout, shift), how(shape, kind)
    return x, box, some_resize(shape[0]) % codes, perm


def rounds():
    """More than fits in the scratch at once."""
    torch.manual_seed(1)
    x = images((9, 2, 1024, 1024), torch.int16)
    return x, some_boxes(9, 1024, 1024), partners(9)


def name(shape, dtype, layout, shift, kind):
    return f"{dtype}-{shape}-{layout}{'-shifted' if shift else ''}-{kind}"


CASES = [
    *(
        Case("mix_box_", name(*at, kind), lambda at=at, kind=kind: boxes(*at, kind), thorough=long)
        for (at, long), kind in zip(grid(SHAPES, BYTES + FLOATS, SIZES), ["any", "cycle", "one"] * 1000, strict=False)
    ),
    *(
        Case("mix_resize_", name(*at, kind), lambda at=at, kind=kind: resized(*at, kind, 4), thorough=long)
        for (at, long), kind in zip(grid(SHAPES, FLOATS + INTEGERS), ["any", "cycle", "one"] * 1000, strict=False)
    ),
    *(
        Case("mix_resize_", name(*at, "copies"), lambda at=at: resized(*at, "any", 3))
        for at, _ in grid([(6, 5, 7, 9)], [torch.bool, torch.uint16, torch.complex64, torch.complex128])
    ),
    Case("mix_box_", "rounds", rounds, thorough=True),
    Case("mix_resize_", "rounds", lambda: (*(r := rounds())[:2], some_resize(9), r[2]), thorough=True),
]
