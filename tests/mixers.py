"""What the tests of the transforms share: every mixer, and their twin, sample by sample in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sumix import CutMix, FMix, GridMix, MixTarget, MixUp, RandomMix, ResizeMix, SaliencyMix, SmoothMix

MODES = {1: "nearest", 2: "nearest-exact", 3: "bilinear"}

# By name: how to make it. Arguments may be added.
MIXERS = {
    "CutMix": CutMix,
    "CutMix minmax": lambda **options: CutMix(minmax=(0.2, 0.6), **options),
    "MixUp": MixUp,
    "SaliencyMix": SaliencyMix,
    "FMix": FMix,
    "FMix soft": lambda **options: FMix(max_soft=0.2, **options),
    "FMix published": lambda **options: FMix(spectrum="published", **options),
    "ResizeMix": ResizeMix,
    "ResizeMix nearest-exact": lambda **options: ResizeMix(mode="nearest-exact", **options),
    "ResizeMix bilinear": lambda **options: ResizeMix(mode="bilinear", alpha=None, **options),
    "GridMix": GridMix,
    "SmoothMix": SmoothMix,
    "RandomMix a batch": lambda **options: RandomMix([CutMix(), MixUp(), FMix()], **options),
    "RandomMix boxes": lambda **options: RandomMix([CutMix(), ResizeMix(), SaliencyMix()], **random_rows(options)),
    "RandomMix switch": lambda **options: RandomMix([CutMix(), MixUp(alpha=0.8)], [2, 1], **random_rows(options)),
    "RandomMix masks": lambda **options: RandomMix([FMix(), GridMix()], **random_rows(options)),
    "RandomMix nested": lambda **options: RandomMix(
        [
            RandomMix([CutMix(), MixUp()], per_sample=True),
            RandomMix([ResizeMix(), SmoothMix()], per_sample=True),
            RandomMix([SaliencyMix(), FMix()]),
        ],
        **random_rows(options),
    ),
    "RandomMix all": lambda **options: RandomMix(
        [CutMix(), MixUp(), SaliencyMix(), FMix(), ResizeMix(mode="bilinear"), GridMix(), SmoothMix()],
        **random_rows(options),
    ),
}


def random_rows(options: dict) -> dict:
    return {"per_sample": True, **options}


def naive_mix(x: Tensor, target: MixTarget) -> Tensor:
    """The mix that a target describes: what its images must equal, pixel for pixel."""
    out = x.clone()
    for i in range(x.shape[0]):
        own, partner = x[i], x[target.perm[i]]
        if target.box is None and target.mask is None:
            out[i] = blend(own, partner, target.lam[i])
        if target.mask is not None:
            out[i] = blend(own, partner, target.mask[i])
        if target.box is not None:
            bounds = target.box[i].tolist()
            box = (..., *(slice(low, high) for low, high in zip(*halves(bounds), strict=True)))
            code = 0 if target.resize is None else int(target.resize[i])
            if out[i][box].numel() > 0:
                out[i][box] = partner[box] if code == 0 else resized(partner, out[i][box].shape[-2:], MODES[code])
    return out


def halves(bounds: list[int]) -> tuple[list[int], list[int]]:
    """x1, y1, x2, y2 as (y1, x1), (y2, x2)."""
    middle = len(bounds) // 2
    return bounds[:middle][::-1], bounds[middle:][::-1]


def blend(own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    if weight.dtype == torch.bool:
        return torch.where(weight, own, partner)
    weight = weight.double()
    mixed = weight * own.double() + (1 - weight) * partner.double()
    return (mixed if own.is_floating_point() else mixed.round()).to(own.dtype)


def resized(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """(C, H, W), or (C, T, H, W) frame by frame."""
    frames = image.reshape(-1, 1, *image.shape[-2:])
    wide = frames if image.is_floating_point() else frames.float()
    options = {"align_corners": False} if mode == "bilinear" else {}
    out = F.interpolate(wide, size=tuple(size), mode=mode, **options)
    out = out if image.is_floating_point() else out.round()
    return out.to(image.dtype).reshape(*image.shape[:-2], *size)
