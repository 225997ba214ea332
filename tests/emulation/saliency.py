import torch

from . import Case

NONE = torch.empty(0)
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
# A block's shared memory holds the first ones whole; the others are several strips, tiles and runs.
SIZES = [(1, 1), (1, 2), (3, 2), (32, 32), (13, 70), (64, 64), (2, 1600), (330, 21), (70, 139)]


def images(shape, dtype, *, last=False, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    x = x if dtype == torch.uint8 else (x.double() / 100 - 1).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def statistics(channels):
    return torch.tensor([0.4, 0.5, 0.6])[:channels], torch.tensor([0.3, 0.2, 0.25])[:channels]


def case(op, shape, dtype, *, last=False, scaled=False, bgr=False, thorough=False):
    def make():
        return images(shape, dtype, last=last), *(statistics(shape[1]) if scaled else (NONE, NONE)), bgr

    name = f"{dtype}-{shape}" + "-last" * last + "-scaled" * scaled + "-bgr" * bgr
    return Case(op, name, make, thorough=thorough)


def not_finite(dtype):
    x = images((3, 3, 9, 11), dtype)
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0], dtype=dtype)
    x.view(3, -1)[:, :40] = odd.repeat(8)
    x[2] = odd[:3].repeat(99).view(3, 9, 11)
    return x, NONE, NONE, False


CASES = [
    *(case("saliency", (2, 3, *size), torch.uint8, bgr=i % 2 == 1) for i, size in enumerate(SIZES)),
    *(case("saliency_peak", (2, 1, *size), torch.uint8) for size in SIZES),
    *(
        case(op, (2, 3, *size), dtype, last=i % 2 == 0, scaled=(i + j) % 2 == 0)
        for i, dtype in enumerate(FLOATS)
        for j, size in enumerate([(17, 21), (40, 163)])
        for op in ("saliency", "saliency_peak")
    ),
    *(Case("saliency", f"not-finite-{dtype}", lambda dtype=dtype: not_finite(dtype)) for dtype in FLOATS),
    Case("saliency", "no-images", lambda: (images((0, 3, 5, 6), torch.uint8), NONE, NONE, False)),
    Case("saliency", "no-pixels", lambda: (images((2, 1, 5, 0), torch.float32), NONE, NONE, False)),
    Case("saliency", "constant", lambda: (torch.full((2, 90, 91), 7, dtype=torch.uint8), NONE, NONE, False)),
    case("saliency", (70, 1, 224, 224), torch.float32, thorough=True),  # more than one group of images
    case("saliency_peak", (70, 3, 224, 224), torch.uint8, thorough=True),
    case("saliency", (1, 3, 700, 1100), torch.uint8, last=True, thorough=True),
]
