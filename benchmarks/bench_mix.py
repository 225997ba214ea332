"""Mixing a batch: ops beside clone(), transforms beside other packages': python -m benchmarks.bench_mix"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peers
from benchmarks.common import Contestant, Group, Report, distance, main, parser
from sumix import CutMix, MixTarget, MixUp, ops, reference

EPILOG = """\
ops, with boxes and ratios given, against the least that writing a mixed batch can cost:
  clone()      reads and writes the batch once, into memory of its own; beyond what malloc keeps for the next call
               (32 MiB on Linux) the system must first find and clear it, page by page
  copy_()      the same into memory that is there already
  ops.mix_box, ops.mix_linear, ops.mix_mask, ops.mix_resize
               masks with large areas of 0 and of 1, as FMix has them; bilinear resizing
  ops.mix_box_, ops.mix_resize_
               the same, written to the batch itself
  eager twin   sumix.reference.mix_box and so on: the same in plain PyTorch, with a gather of the partners
mix_normalize, from a mixed 8-bit batch to what a network takes, against clone() of the float32 batch that it writes:
  ops, box, ops, lam     ops.mix_normalize by a box or by a ratio
  ops, step by step      ops.mix_box, then .float() / 255 - mean, / std
  eager twin             the same as the first in plain PyTorch
transforms, from a batch and its labels to a mixed batch and soft labels, sampling included (alpha 1):
  sumix                one box or ratio a sample, soft labels (N, K)
  sumix, one a batch   the same with per_sample=False
  sumix, MixTarget     the same as the first, but the labels left as y_a, y_b, lam, perm
  torchvision          v2.CutMix, v2.MixUp: one box or ratio a batch
  timm, batch          timm.data.Mixup, one a batch, in place: it allocates no images
  timm, elem           timm.data.Mixup, one a sample, in place
  kornia               RandomCutMixV2, RandomMixUpV2: one a sample; labels left as y_a, y_b and the ratio
  mixup                CutMix, VanillaMixUp: one a batch; with F.one_hot before, as its labels must be soft already
A package that is not installed is left out, and so is one that refuses uint8 images or returns labels that do not fit
them: all but torchvision's and timm's batch CutMix.

Before it is timed, each transform must show that its labels say what its images hold, on images of one colour a sample.
GB/s counts one read and one write of the batch for all.
"""

SIZES = {(100, 3, 32, 32): 100, (128, 3, 64, 64): 200, (64, 3, 224, 224): 1000}  # and the number of classes
TOLERANCE = {torch.float32: 1e-5, torch.uint8: 1 / 255}
DRAWS = 4
KINDS = ("CutMix", "MixUp")


@dataclass(frozen=True)
class Batch:
    """Images, labels, partners, boxes and ratios of one size and dtype."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    classes: int

    @cached_property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(sum(self.shape))

    @cached_property
    def images(self) -> Tensor:
        if self.dtype is torch.uint8:
            return torch.randint(256, self.shape, dtype=torch.uint8, generator=self.generator)
        return torch.randn(self.shape, generator=self.generator)

    @cached_property
    def codes(self) -> Tensor:
        """(N, C), a colour a sample; no two are alike, nor on a line."""
        n, channels = self.shape[:2]
        i = torch.arange(n).unsqueeze(1)
        return ((i + 1) ** torch.arange(1, channels + 1) % 251).to(self.dtype)

    @property
    def coded_images(self) -> Tensor:
        """Images (N, C, H, W) of one colour each: what is left of whom can be read from them."""
        return self.codes[:, :, None, None].expand(self.shape).contiguous()

    @cached_property
    def labels(self) -> Tensor:
        return torch.arange(self.shape[0])

    @cached_property
    def perm(self) -> Tensor:
        return torch.randperm(self.shape[0], generator=self.generator)

    @cached_property
    def lam(self) -> Tensor:
        return torch.rand(self.shape[0], generator=self.generator)

    @cached_property
    def box(self) -> Tensor:
        """(N, 4): boxes of CutMix for `lam`, clipped to the image."""
        _, _, height, width = self.shape
        side = (1 - self.lam).sqrt()

        def ends(length: int) -> tuple[Tensor, Tensor]:
            half = (side * length).long() // 2
            centre = torch.randint(length, self.lam.shape, generator=self.generator)
            return (centre - half).clamp(min=0), (centre + half).clamp(max=length)

        (x1, x2), (y1, y2) = ends(width), ends(height)
        return torch.stack([x1, y1, x2, y2], dim=1)

    @cached_property
    def mask(self) -> Tensor:
        """(N, H, W): large areas of 0 and of 1 with an edge between them."""
        n, _, height, width = self.shape
        coarse = torch.randn(n, 1, 4, 4, generator=self.generator)
        smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[:, 0]
        return (0.5 + 4 * smooth).clamp(0, 1)

    @property
    def params(self) -> dict[str, Any]:
        size = ", ".join(map(str, self.shape))
        return {"size": f"({size})", "dtype": str(self.dtype).removeprefix("torch.")}

    def group(self, name: str, contestants: list[Contestant], reference: str) -> Group:
        return Group(
            name=name,
            params=self.params,
            contestants=contestants,
            tolerance=TOLERANCE[self.dtype],
            references=[reference],
            nbytes=2 * self.images.numel() * self.images.element_size(),
        )


def op_groups(batch: Batch) -> Iterator[Group]:
    """Every mixing op beside clone()."""
    x, perm, box = batch.images, batch.perm, batch.box
    bilinear = torch.full_like(perm, 3)
    jobs = {
        "mix_box": (partial(ops.mix_box, x, box, perm), lambda x: reference.mix_box(x, box, perm)),
        "mix_linear": (partial(ops.mix_linear, x, batch.lam, perm), lambda x: reference.mix_linear(x, batch.lam, perm)),
        "mix_mask": (partial(ops.mix_mask, x, batch.mask, perm), lambda x: reference.mix_mask(x, batch.mask, perm)),
        "mix_resize": (partial(ops.mix_resize, x, box, perm), lambda x: reference.mix_resize(x, box, bilinear, perm)),
    }
    in_place = {"mix_box": ops.mix_box_, "mix_resize": ops.mix_resize_}
    for name, (op, twin) in jobs.items():
        # The weights of a bilinear float32 image are of float32.
        truth = twin(x.float() if name == "mix_resize" else x.double())
        contestants = [*limits(x), Contestant(f"ops.{name}", op, partial(_distance, op, truth))]
        if write := in_place.get(name):
            once = partial(lambda write: write(x.clone(), box, perm), write)
            contestants.append(
                Contestant(f"ops.{name}_", partial(write, x.clone(), box, perm), partial(_distance, once, truth))
            )
        contestants.append(Contestant("eager twin", partial(twin, x), partial(_distance, partial(twin, x), truth)))
        yield batch.group(name, contestants, "clone()")
    if x.dtype is torch.uint8:
        yield normalize_group(batch)


def limits(x: Tensor) -> list[Contestant]:
    """The least that writing a batch can cost."""
    ways = {"clone()": x.clone, "copy_()": partial(torch.empty_like(x).copy_, x)}
    return [Contestant(way, call, partial(_distance, call, x)) for way, call in ways.items()]


def normalize_group(batch: Batch) -> Group:
    """mix_normalize beside clone() of its result, and the same step by step."""
    x, perm, box, lam, absent = batch.images, batch.perm, batch.box, batch.lam, None
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def step_by_step() -> Tensor:
        return (ops.mix_box(x, box, perm).float() / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    def twin(mean: Tensor, std: Tensor, box: Tensor | None = box, mask: Tensor | None = None) -> Tensor:
        return reference.mix_normalize(x, box, absent, mask, perm, mean, std, mean.dtype)

    by_box, by_lam = twin(mean.double(), std.double()), twin(mean.double(), std.double(), None, lam.view(-1, 1, 1))
    ways = {
        "ops, box": (partial(ops.mix_normalize, x, perm, box=box, mean=mean, std=std), by_box),
        "ops, lam": (partial(ops.mix_normalize, x, perm, lam=lam, mean=mean, std=std), by_lam),
        "ops, step by step": (step_by_step, by_box),
        "eager twin": (partial(twin, mean, std), by_box),
    }
    contestants = [Contestant(way, call, partial(_distance, call, truth)) for way, (call, truth) in ways.items()]
    return replace(batch.group("mix_normalize", [*limits(x.float()), *contestants], "clone()"), tolerance=1e-5)


def _distance(call: Callable[[], Tensor], truth: Tensor) -> float:
    return distance((call(),), (truth,))


def transform_group(batch: Batch, kind: str) -> Group:
    """CutMix or MixUp from every package at hand."""
    contestants = []
    for name, mix in {**sumix_transforms(kind, batch.classes), **peer_transforms(kind, batch)}.items():
        own = batch.images.clone()  # timm writes to it
        call = partial(mix, own, batch.labels)
        contestants.append(Contestant(name, call, partial(_label_error, mix, batch)))
    return batch.group(kind, contestants, "sumix")


def sumix_transforms(kind: str, classes: int) -> dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Any]]]:
    """Ours."""
    transform = {"CutMix": CutMix, "MixUp": MixUp}[kind]
    return {
        "sumix": transform(num_classes=classes),
        "sumix, one a batch": transform(num_classes=classes, per_sample=False),
        "sumix, MixTarget": transform(),
    }


def peer_transforms(kind: str, batch: Batch) -> dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Any]]]:
    """Theirs, as far as they are installed and can mix such images."""
    cut, whole, classes = kind == "CutMix", batch.dtype is not torch.uint8, batch.classes
    transforms = {}
    if (torchvision := peers.load("torchvision")) and (whole or cut):
        transforms["torchvision"] = getattr(torchvision.transforms.v2, kind)(num_classes=classes)
    if timm := peers.load("timm"):
        for mode in ("batch", "elem"):
            if whole or (cut and mode == "batch"):
                transforms[f"timm, {mode}"] = timm.data.Mixup(
                    mixup_alpha=float(not cut),
                    cutmix_alpha=float(cut),
                    mode=mode,
                    label_smoothing=0.0,
                    num_classes=classes,
                )
    if (kornia := peers.load("kornia")) and whole:
        keys = {"p": 1.0, "data_keys": ["input", "class"]}
        augmentation = kornia.augmentation
        transforms["kornia"] = (
            augmentation.RandomCutMixV2(use_correct_lambda=True, **keys) if cut else augmentation.RandomMixUpV2(**keys)
        )
    if (mixup := peers.load("mixup")) and whole:
        mix = mixup.CutMix() if cut else mixup.VanillaMixUp()
        transforms["mixup"] = lambda x, y: mix(x, F.one_hot(y, classes).float())
    return transforms


def _label_error(mix: Callable[[Tensor, Tensor], tuple[Tensor, Any]], batch: Batch) -> float:
    """How far the colours of mixed images are from the mean of the colours that their labels name; 1 is black to white.

    inf if a row of labels does not name one or two classes, or if nothing was mixed in any of a few draws.
    """
    codes = F.pad(batch.codes.double(), (0, 0, 0, batch.classes - batch.codes.shape[0]))
    worst, mixed = 0.0, False
    for _ in range(DRAWS):
        images, target = mix(batch.coded_images, batch.labels)
        soft = _soft(target, batch).double()
        if soft.shape != (batch.shape[0], batch.classes) or ((soft != 0).sum(dim=1) > 2).any():
            return float("inf")
        mixed |= bool((soft.max(dim=1).values < 1).any())
        colours = images.double().mean(dim=(2, 3))
        worst = max(worst, distance((colours, soft.sum(dim=1)), (soft @ codes, torch.ones(soft.shape[0]))))
    return worst if mixed else float("inf")


def _soft(target: Any, batch: Batch) -> Tensor:
    """Soft labels (N, K) of whatever a transform returned."""
    if isinstance(target, MixTarget):
        return target.soft(batch.classes)
    if target.shape[-1] == 3:  # kornia: y_a, y_b, and a ratio that is the own image's in CutMix, the partner's in MixUp
        y_a, y_b, ratio = target.reshape(-1, 3).unbind(1)
        lam = (ratio if target.ndim == 3 else 1 - ratio).unsqueeze(1)
        a, b = (F.one_hot(y.long(), batch.classes) for y in (y_a, y_b))
        return lam * a + (1 - lam) * b
    return target


def bench(options: argparse.Namespace) -> None:
    report = Report("mix", options)
    for shape, classes in list(SIZES.items())[: 1 if options.quick else None]:
        for dtype in options.dtype:
            batch = Batch(shape, getattr(torch, dtype), classes)
            for group in op_groups(batch):
                report.run(group)
            for kind in KINDS:
                report.run(transform_group(batch, kind))


if __name__ == "__main__":
    arguments = parser(__doc__, EPILOG)
    arguments.add_argument(
        "--dtype", choices=["float32", "uint8"], nargs="+", default=["float32", "uint8"], help="images (default: both)"
    )
    main(arguments, bench)
