"""Boxes of every kind, resized every way, from partners that repeat; vectors of 16 bytes and single elements, which a
batch that begins elsewhere than at a multiple of 16 bytes, or has samples of another size, is taken by."""

import torch
from mixing import BYTES, FLOATS, INTEGERS, SHAPES, TOLERANCE, images, some_boxes, some_resize

from . import Case

FLAT = [(0, 3, 4, 4), (1, 1, 1, 1), (5, 0, 2, 2), (9, 2, 4, 8), (7, 5, 12), (40, 1, 1, 4)]


def shifted(x):
    """The same at an address that is a multiple of its element's size alone."""
    storage = torch.empty(x.numel() + 1, dtype=x.dtype)[1:]
    return storage.as_strided(x.shape, x.stride()).copy_(x)


def one_pixel(box, width, height):
    """Every third box of one pixel."""
    if box.shape[0] and width and height:
        box[::3] = torch.tensor([width // 2, height // 2, width // 2 + 1, height // 2 + 1])
    return box


def how(shape, codes):
    n, height, width = shape[0], shape[-2], shape[-1]
    resize = some_resize(n)
    box, perm = one_pixel(some_boxes(n, height, width), width, height), torch.randint(0, max(n, 1), (n,))
    return box, torch.where(resize < codes, resize, 1), perm


def batch(shape, dtype, layout, codes, shift, seed):
    torch.manual_seed(seed)
    x = images(shape, dtype, layout)
    return (shifted(x) if shift else x, *how(shape, codes))


def often(arguments):
    """All samples but a few take image 2."""
    perm = torch.full_like(arguments[-1], 2)
    perm[5:8] = torch.tensor([1, 3, 1])
    return (*arguments[:-1], perm)


def close(dtype):
    """Of gradients, which are added up in another order."""
    return {"rtol": TOLERANCE[dtype], "atol": 4 * TOLERANCE[dtype]}


def case(op, shape, dtype, layout, codes, bound, shift=False, thorough=False):
    name = f"{dtype}-{shape}-{layout}{'-shifted' if shift else ''}{'' if codes == 4 else '-copies'}"
    return Case(op, name, lambda: batch(shape, dtype, layout, codes, shift, sum(shape)), bound, thorough)


def layouts(shape):
    return ["contiguous", "channels_last"] if len(shape) in (4, 5) and 0 not in shape else ["contiguous"]


CASES = [
    *(
        case("mix_resize", shape, dtype, layout, 4, None, thorough=index > 4)
        for dtype in FLOATS + INTEGERS
        for index, shape in enumerate(FLAT + SHAPES)
        for layout in layouts(shape)
    ),
    *(
        case("mix_resize", (6, 5, 7, 9), dtype, layout, 3, None, shift)
        for dtype in [*BYTES, *FLOATS, torch.complex128]
        for layout in layouts((6, 5, 7, 9))
        for shift in (False, True)
    ),
    *(
        case("mix_resize_backward", shape, dtype, layout, 4, close(dtype), shift, index > 4)
        for dtype in FLOATS
        for shift in (False, True)
        for index, shape in enumerate(FLAT + SHAPES)
        for layout in layouts(shape)
    ),
    # Larger images, and one that is taken more often than a warp has lanes.
    case("mix_resize", (3, 3, 40, 56), torch.float32, "contiguous", 4, None),
    case("mix_resize_backward", (3, 3, 40, 56), torch.float32, "contiguous", 4, close(torch.float32)),
    Case(
        "mix_resize_backward",
        "taken often",
        lambda: often(batch((100, 1, 4, 4), torch.float64, "contiguous", 4, False, 1)),
        {"rtol": 1e-13, "atol": 1e-13},
    ),
]
