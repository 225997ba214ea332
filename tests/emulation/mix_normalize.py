"""Every way to mix 8-bit images, layout and result; channels of more kinds than a block keeps the constants of."""

import torch
from mixing import some_mask

from . import Case
from .mix_resize import how, layouts, shifted

SHAPES = [(6, 3, 16, 16), (5, 3, 7, 9), (1, 1, 1, 1), (0, 3, 4, 4), (3, 5, 9, 1), (2, 300, 2, 6), (4, 3, 17, 57)]
ABSENT = torch.empty(0)
RESULTS = [torch.float32, torch.float16, torch.bfloat16]
# Whether there are: a box, a way to resize it, a mask.
WAYS = {
    "box": (1, 0, 0),
    "resize": (1, 1, 0),
    "mask": (0, 0, 1),
    "resize and mask": (1, 1, 1),
    "box and bool": (1, 0, 2),
    "ratio": (0, 0, 3),
}


def arguments(shape, layout, way, code, shift):
    torch.manual_seed(sum(shape))
    n, channels, height, width = shape
    x = torch.randint(256, shape, dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else x
    box, resize, perm = how(shape, 4)
    mask = some_mask(n, height, width)
    mask = [ABSENT, mask, mask > 0.5, torch.rand(n, 1, 1)][way[2]]
    mean, std = torch.rand(channels), torch.rand(channels) + 0.2
    x = shifted(x) if shift else x
    return x, box if way[0] else ABSENT, resize if way[1] else ABSENT, mask, perm, mean, std, code


CASES = [
    Case(
        "mix_normalize",
        f"{RESULTS[code]}-{shape}-{layout}-{name}{'-shifted' if shift else ''}",
        lambda how=(shape, layout, way, code, shift): arguments(*how),
        thorough=index > 5,
    )
    for code in range(3)
    for name, way in WAYS.items()
    for index, shape in enumerate(SHAPES)
    for layout in layouts(shape)
    for shift in (False, True)
    if not shift or index == 0
]
