"""Mixing transforms, labels included, beside other packages': python -m benchmarks.bench_transforms"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import sumix
from benchmarks import peers
from benchmarks.batches import DTYPES, MEAN, STD, Batch, batches, clone
from benchmarks.common import Contestant, Group, Report, distance, main, parser
from sumix import MixTarget

EPILOG = """\
From a batch and its labels to a mixed batch and soft labels (N, K), sampling included; alpha is 1 everywhere:
  clone()              of the batch: one read and one write of it
  sumix                one recipe a sample; of RandomMix one mixer a sample, CutMix or MixUp
  sumix, bilinear      the same with mode="bilinear", which is how the mixup package resizes
  sumix, one a batch   the same as sumix with per_sample=False
  sumix, MixTarget     the same as sumix, but the labels left as y_a, y_b, lam, perm
  torchvision          v2.CutMix, v2.MixUp, and RandomChoice of both: one recipe a batch
  timm, batch          timm.data.Mixup, one a batch, in place: it allocates no images
  timm, elem           timm.data.Mixup, one a sample, in place
  kornia               RandomCutMixV2, RandomMixUpV2: one a sample; labels left as y_a, y_b and the ratio
  mixup                one a batch; with F.one_hot before, as its labels must be soft already. Its SaliencyMix has one
                       ratio a batch, but a box a sample, about the peak of a contrast map of its own that favours the
                       middle; given labels (N, 1, 1, K), because of (N, K) it makes (N, 1, N, K)
GridMix and SmoothMix are in none of these packages. A package that is not installed is left out, and so is one that
refuses uint8 images or returns labels that do not fit them: all but torchvision's and timm's batch CutMix.

CutMix, normalised: from 8-bit images to what a network takes, against clone() of the float32 batch that comes out.
  sumix                CutMix(normalize=(mean, std)): mixes, scales and normalises at once
  sumix, step by step  CutMix, then .float() / 255 - mean, / std
  torchvision          v2.CutMix, v2.ToDtype(float32, scale=True), v2.Normalize; one box a batch

Before it is timed, each transform must show that its labels say what its images hold, on images whose first two
channels are of one colour a sample. GB/s counts one read and one write of the batch for all.
"""

DRAWS = 4
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Any]]


def random_mix(**options: Any) -> sumix.RandomMix:
    """CutMix or MixUp, each half of the time; one a sample unless told otherwise."""
    return sumix.RandomMix([sumix.CutMix(), sumix.MixUp()], **{"per_sample": True, **options})


OURS = {
    "CutMix": sumix.CutMix,
    "MixUp": sumix.MixUp,
    "SaliencyMix": sumix.SaliencyMix,
    "FMix": sumix.FMix,
    "ResizeMix": sumix.ResizeMix,
    "GridMix": sumix.GridMix,
    "SmoothMix": sumix.SmoothMix,
    "RandomMix": random_mix,
}


def transform_group(batch: Batch, kind: str) -> Group:
    """One mixer, from every package at hand."""
    contestants = [clone(batch.images)]
    for name, mix in {**our_transforms(kind, batch.classes), **peer_transforms(kind, batch)}.items():
        own = batch.images.clone()  # timm writes to it
        contestants.append(Contestant(name, partial(mix, own, batch.labels), partial(_label_error, mix, batch)))
    return batch.group(kind, contestants, "clone()", "sumix")


def our_transforms(kind: str, classes: int) -> dict[str, Mix]:
    """Ours."""
    transform = OURS[kind]
    ways = {"sumix": transform(num_classes=classes)}
    if kind == "ResizeMix":
        ways["sumix, bilinear"] = transform(num_classes=classes, mode="bilinear")
    ways["sumix, one a batch"] = transform(num_classes=classes, per_sample=False)
    if kind in ("CutMix", "MixUp"):
        ways["sumix, MixTarget"] = transform()
    return ways


def peer_transforms(kind: str, batch: Batch) -> dict[str, Mix]:
    """Theirs, as far as they are installed, have such a mixer, and can mix such images."""
    cut, whole, classes = kind == "CutMix", batch.dtype is not torch.uint8, batch.classes
    switches = kind in ("CutMix", "MixUp", "RandomMix")
    ways: dict[str, Mix] = {}
    if (torchvision := peers.load("torchvision")) and switches and (whole or cut):
        v2 = torchvision.transforms.v2
        of_kind = {name: partial(getattr(v2, name), num_classes=classes) for name in ("CutMix", "MixUp")}
        of_kind["RandomMix"] = lambda: v2.RandomChoice([of_kind["CutMix"](), of_kind["MixUp"]()])
        ways["torchvision"] = of_kind[kind]()
    if (timm := peers.load("timm")) and switches:
        alphas = {"mixup_alpha": float(kind != "CutMix"), "cutmix_alpha": float(kind != "MixUp")}
        for mode in ("batch", "elem"):
            if whole or (cut and mode == "batch"):
                ways[f"timm, {mode}"] = timm.data.Mixup(**alphas, mode=mode, label_smoothing=0.0, num_classes=classes)
    if (kornia := peers.load("kornia")) and kind in ("CutMix", "MixUp") and whole:
        keys = {"p": 1.0, "data_keys": ["input", "class"]}
        augmentation = kornia.augmentation
        ways["kornia"] = (
            augmentation.RandomCutMixV2(use_correct_lambda=True, **keys) if cut else augmentation.RandomMixUpV2(**keys)
        )
    if (mixup := peers.load("mixup")) and whole and kind not in ("GridMix", "SmoothMix"):
        ways["mixup"] = partial(_with_soft_labels, _of_mixup(mixup, kind), classes, kind == "SaliencyMix")
    return ways


def _of_mixup(mixup: ModuleType, kind: str) -> Mix:
    """The mixup package's mixer of this kind."""
    if kind == "RandomMix":
        return mixup.MixupPipeline([mixup.CutMix(), mixup.VanillaMixUp()])
    return getattr(mixup, "VanillaMixUp" if kind == "MixUp" else kind)()


def _with_soft_labels(mix: Mix, classes: int, spread: bool, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mix with labels (N, K), which are passed as (N, 1, 1, K) if `spread`."""
    soft = F.one_hot(labels, classes).float()
    mixed, target = mix(images, soft[:, None, None] if spread else soft)
    return mixed, target.view(soft.shape)


def normalized_group(batch: Batch) -> Group:
    """CutMix on 8-bit images and all that comes between it and the network."""
    mean, std = (torch.tensor(values, device=batch.device).view(-1, 1, 1) for values in (MEAN, STD))
    cut = sumix.CutMix(num_classes=batch.classes)

    def step_by_step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mixed, target = cut(images, labels)
        return (mixed.float() / 255 - mean) / std, target

    ways = {
        "sumix": sumix.CutMix(num_classes=batch.classes, normalize=(MEAN, STD)),
        "sumix, step by step": step_by_step,
    }
    if torchvision := peers.load("torchvision"):
        v2 = torchvision.transforms.v2
        steps = [v2.CutMix(num_classes=batch.classes), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        ways["torchvision"] = v2.Compose(steps)

    def pixels(mix: Mix, images: Tensor, labels: Tensor) -> tuple[Tensor, Any]:
        mixed, target = mix(images, labels)
        return (mixed * std + mean) * 255, target

    contestants = [clone(batch.images.float())]
    for name, mix in ways.items():
        error = partial(_label_error, partial(pixels, mix), batch)
        contestants.append(Contestant(name, partial(mix, batch.images, batch.labels), error))
    group = batch.group("CutMix, normalised", contestants, "clone()", "sumix")
    return replace(group, nbytes=4 * group.nbytes)


def _label_error(mix: Mix, batch: Batch) -> float:
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
        colours = images[:, : codes.shape[1]].double().mean(dim=(2, 3))
        worst = max(worst, distance((colours, soft.sum(dim=1)), (soft @ codes, torch.ones_like(soft[:, 0]))))
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


def groups(batch: Batch, kinds: list[str]) -> Iterator[Group]:
    """What is asked for, of one batch."""
    for kind in kinds:
        yield transform_group(batch, kind)
        if kind == "CutMix" and batch.dtype is torch.uint8:
            yield normalized_group(batch)


def bench(options: argparse.Namespace) -> None:
    report = Report("transforms", options)
    for batch in batches(options.dtype, options.quick):
        for group in groups(batch, options.mixer):
            report.run(group)


if __name__ == "__main__":
    arguments = parser(__doc__, EPILOG)
    arguments.add_argument("--dtype", choices=DTYPES, nargs="+", default=DTYPES, help="images (default: both)")
    arguments.add_argument("--mixer", choices=OURS, nargs="+", default=list(OURS), help="which (default: all)")
    main(arguments, bench)
