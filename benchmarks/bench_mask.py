"""Masks for mixing: the k largest pixels, and FMix, GridMix and SmoothMix masks: python -m benchmarks.bench_mask"""

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peers
from benchmarks.common import CPU, Contestant, Group, Report, distance, main, parser
from sumix import ops, reference
from sumix.ops import fmix

EPILOG = """\
mask_top_k, of low-frequency images such as FMix has, with one k for all so that torch can do it too:
  ops.mask_top_k   selects by counting
  topk, kthvalue   torch's, then what makes a mask of their result; kthvalue's is wrong where pixels tie
  sort             sumix.reference.mask_top_k, which is what the published code does, an image at a time
  soft edge        the same with a soft edge of a tenth of the image to either side
FMix, from ratios to masks, and what they take apart:
  ops.fmix_mask          a mask a sample
  published spectrum     the same with spectrum="published"
  eager twin             the same in plain PyTorch: randn, irfft2, sort
  ... and a mix          ops.fmix_mask, and images mixed by it with torch.lerp
  mixup, one a batch     the mixup package's FMix from images and soft labels to mixed ones: one mask for the batch
  normals, image, k, top k   ops.fmix_mask's parts: ops.sample_normal, scaling and inverse FFT, ops.sample_top_k and
                             ops.mask_top_k
GridMix and SmoothMix, parameters and masks: beside clone() of the images they are for.
"""

SIZES = ((100, 3, 32, 32), (128, 3, 64, 64), (16, 3, 224, 224))


def top_k_groups(n: int, height: int, width: int, device: torch.device = CPU) -> Iterator[Group]:
    """The hard mask and the soft one."""
    pixels = height * width
    k, soft = (torch.full((n,), count, device=device) for count in (int(0.4 * pixels), pixels // 10))
    grey = _grey(n, height, width, device)
    for name, edge in (("mask_top_k", None), ("mask_top_k, soft edge", soft)):
        ways = {"ops.mask_top_k": partial(ops.mask_top_k, grey, k, edge)}
        if edge is None:
            ways |= {"topk": partial(_by_topk, grey, int(k[0])), "kthvalue": partial(_by_kthvalue, grey, int(k[0]))}
        ways["sort"] = partial(reference.mask_top_k, grey, k, edge)
        truth = reference.mask_top_k(grey.double(), k, edge)
        contestants = [Contestant(way, call, partial(_distance, call, truth)) for way, call in ways.items()]
        size = f"({n}, {height}, {width})"
        yield Group(
            name,
            {"size": size, "dtype": "float32", "k": int(k[0])},
            contestants,
            1e-6,
            ["ops.mask_top_k"],
            8 * grey.numel(),
        )


def _grey(n: int, height: int, width: int, device: torch.device) -> Tensor:
    scale = fmix.amplitudes(height, width, 3.0, False, False, device)
    normals = ops.sample_normal(n, scale.shape[0], seed=1, device=device)
    return fmix.low_frequency_image(normals, scale, height, width, False)


def _by_topk(grey: Tensor, k: int) -> Tensor:
    pixels = grey.flatten(1)
    return torch.zeros_like(pixels).scatter_(1, pixels.topk(k, dim=1, sorted=False).indices, 1).view(grey.shape)


def _by_kthvalue(grey: Tensor, k: int) -> Tensor:
    pixels = grey.flatten(1)
    least = pixels.kthvalue(pixels.shape[1] - k + 1, dim=1, keepdim=True).values
    return (pixels >= least).float().view(grey.shape)


def _distance(call: Callable[[], Tensor], truth: Tensor) -> float:
    return distance((call(),), (truth,))


def fmix_group(images: Tensor) -> Group:
    """From ratios to masks."""
    n, _, height, width = images.shape
    size, device = (height, width), images.device
    lam, seed = ops.sample_lam(n, 1.0, seed=2, device=device), torch.tensor(3, device=device)
    perm = ops.sample_perm(n, seed=4, device=device)
    scale = fmix.amplitudes(height, width, 3.0, False, False, lam.device)
    normals = ops.sample_normal(n, scale.shape[0], seed=seed)
    grey, (k, soft, _) = _grey(n, height, width, device), ops.sample_top_k(lam, height * width, seed=seed)

    def and_mix(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mask, exact = ops.fmix_mask(lam, size, seed=seed)
        return x[perm].lerp_(x, mask.unsqueeze(1)), labels[perm].lerp_(labels, exact.unsqueeze(1))

    masks = {
        "ops.fmix_mask": partial(ops.fmix_mask, lam, size, seed=seed),
        "published spectrum": partial(ops.fmix_mask, lam, size, spectrum="published", seed=seed),
        "eager twin": partial(_fmix_twin, lam, size),
    }
    contestants = [Contestant(name, call, partial(_mask_error, call, lam)) for name, call in masks.items()]
    mixers = {"... and a mix": and_mix}
    if mixup := peers.load("mixup"):
        mixers["mixup, one a batch"] = mixup.FMix()
    labels = F.one_hot(torch.arange(n, device=device), n).float()
    for name, mix in mixers.items():
        contestants.append(Contestant(name, partial(mix, images, labels), partial(_label_error, mix, images)))
    parts = {
        "normals": partial(ops.sample_normal, n, scale.shape[0], seed=seed),
        "image": partial(fmix.low_frequency_image, normals, scale, height, width, False),
        "k": partial(ops.sample_top_k, lam, height * width, seed=seed),
        "top k": partial(ops.mask_top_k, grey, k, soft),
    }
    contestants += [Contestant(name, call, lambda: 0.0) for name, call in parts.items()]  # checked with the whole
    params = {"size": str(tuple(images.shape)), "dtype": "float32"}
    return Group("FMix", params, contestants, 1 / (height * width) + 1e-6, ["ops.fmix_mask"])


def _fmix_twin(lam: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """FMix's masks without an op of sumix."""
    normals = torch.randn(lam.shape[0], size[0], size[1] // 2 + 1, 2, device=lam.device)
    k = (lam * math.prod(size)).floor().long()
    grey = reference.low_frequency_image(normals, size, 3.0, "paper")
    return reference.mask_top_k(grey, k), k / math.prod(size)


def _mask_error(call: Callable[[], tuple[Tensor, Tensor]], lam: Tensor) -> float:
    """How far the means of the masks are from the ratios wanted."""
    mask, exact = call()
    return max((exact - lam).abs().max().item(), (mask.double().mean(dim=(1, 2)) - exact).abs().max().item())


def _label_error(mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], like: Tensor) -> float:
    """How far images of one grey each are, in the mean, from what their labels name."""
    n = like.shape[0]
    codes = torch.arange(n, device=like.device) / n
    mixed, labels = mix(codes.view(-1, 1, 1, 1).expand(like.shape).contiguous(), torch.eye(n, device=like.device))
    return (mixed.mean(dim=(1, 2, 3)) - labels @ codes).abs().max().item()


def shapes_group(images: Tensor) -> Group:
    """GridMix's and SmoothMix's masks."""
    n, _, height, width = images.shape
    size, seed = (height, width), torch.tensor(3, device=images.device)
    lam = ops.sample_lam(n, 1.0, seed=2, device=images.device)

    def grid() -> tuple[Tensor, Tensor]:
        return ops.grid_mask(*ops.sample_grid(n, size, seed=seed), lam, size)

    def smooth() -> tuple[Tensor, Tensor]:
        return ops.smooth_mask(*ops.sample_smooth(n, size, seed=seed), size)

    def error(call: Callable[[], tuple[Tensor, Tensor]]) -> float:
        mask, exact = call()
        return (mask.double().mean(dim=(1, 2)) - exact).abs().max().item()

    contestants = [Contestant("clone()", images.clone, lambda: 0.0)]
    contestants += [Contestant(call.__name__, call, partial(error, call)) for call in (grid, smooth)]
    params = {"size": str(tuple(images.shape)), "dtype": "float32"}
    return Group("GridMix, SmoothMix", params, contestants, 1e-6, ["clone()"])


def bench(options: argparse.Namespace) -> None:
    report = Report("mask", options)
    for n, channels, height, width in SIZES[: 1 if options.quick else None]:
        images = torch.randn(n, channels, height, width)
        for group in top_k_groups(n, height, width):
            report.run(group)
        report.run(fmix_group(images))
        report.run(shapes_group(images))


if __name__ == "__main__":
    main(parser(__doc__, EPILOG), bench)
