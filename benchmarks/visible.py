"""How far is each ratio from what is visible? python -m benchmarks.visible

Round cut-outs of eleven photographs lie at random places on crops of seven others, all files of scikit-image's and
scikit-learn's wheels. A class is one object; where it lies is known to the pixel, so that the true mix ratio is known:
the visible share of the own object over the sum of both visible shares. A small network is trained to tell the objects
apart, without mixing, on images made as it goes. Then CutMix with Beta(1, 1), and every ratio against the truth: mean
absolute error, and the correlation of its correction, lam~ - lam, with the needed one.

The same before the training, when the map knows no classes yet. And on photographs that are object all over the truth
is the area itself, which every correction can only miss: the last table's network sees crops of whole photographs.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks import photographs
from benchmarks.nets import NarrowResNet
from sumix import CutMix, MixTarget, ops, show

SIZE, BATCH = 64, 60
BACKGROUNDS = ("grass", "gravel", "brick", "temple", "moon", "cell", "motorcycle")
RATIOS = {
    "area": {"ratio": "area"},
    "published, batch of 100": {"ratio": "published", "distance_scale": 100.0},
    "semantic, kappa 0.3": {"ratio": "semantic", "kappa": 0.3},
    "semantic, kappa 1": {"ratio": "semantic", "kappa": 1.0},
}


class Batch(NamedTuple):
    """Images, their classes, and the masks of what is in them."""

    images: Tensor  # (N, 3, SIZE, SIZE)
    labels: Tensor  # (N,)
    objects: Tensor  # (N, SIZE, SIZE) bool


def pictures() -> dict[str, Tensor]:
    """Every photograph, (3, H, W), its shorter side 1.5 SIZE, standardised."""
    found = {}
    for name, path in photographs.paths().items():
        image = show.read(path)
        scale = 1.5 * SIZE / min(image.size)
        small = image.resize([round(side * scale) for side in image.size], Image.Resampling.BOX)
        found[name] = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1) / 127.5 - 1
    return found


def crop(picture: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random square of a picture."""
    y, x = (int(torch.randint(side - size + 1, (), generator=generator)) for side in picture.shape[1:])
    return picture[:, y : y + size, x : x + size]


def scenes(generator: torch.Generator) -> tuple[Callable[[int], Batch], int]:
    """Makes batches of objects before backgrounds: a disc with the middle of an object's photograph, 16 to 32 pixels
    wide, 5 to 20 % of the image."""
    files = pictures()
    names = [name for name in files if name not in BACKGROUNDS]

    def batch(n: int) -> Batch:
        labels = torch.randint(len(names), (n,), generator=generator)
        backgrounds = torch.randint(len(BACKGROUNDS), (n,), generator=generator)
        images, objects = torch.empty(n, 3, SIZE, SIZE), torch.zeros(n, SIZE, SIZE, dtype=torch.bool)
        for i in range(n):
            images[i] = crop(files[BACKGROUNDS[backgrounds[i]]], SIZE, generator)
            side = int(torch.randint(16, 33, (), generator=generator))
            y, x = torch.randint(SIZE - side + 1, (2,), generator=generator).tolist()
            picture = files[names[labels[i]]]
            top, left = ((whole - SIZE) // 2 for whole in picture.shape[1:])
            middle = picture[:, top : top + SIZE, left : left + SIZE].unsqueeze(0)
            at = torch.arange(side) + 0.5 - side / 2
            disc = at.square() + at.square().unsqueeze(1) < side * side / 4
            place = images[i, :, y : y + side, x : x + side]
            place[:, disc] = F.interpolate(middle, side, mode="bilinear", antialias=True)[0][:, disc]
            objects[i, y : y + side, x : x + side] = disc
        return Batch(images, labels, objects)

    return batch, len(names)


def textures(generator: torch.Generator) -> tuple[Callable[[int], Batch], int]:
    """Makes batches of crops of whole photographs: all of the image is the object."""
    files = list(pictures().values())

    def batch(n: int) -> Batch:
        labels = torch.randint(len(files), (n,), generator=generator)
        images = torch.stack([crop(files[label], SIZE, generator) for label in labels.tolist()])
        return Batch(images, labels, torch.ones(n, SIZE, SIZE, dtype=torch.bool))

    return batch, len(files)


def train(model: NarrowResNet, batch: Callable[[int], Batch], steps: int) -> None:
    """Cross entropy alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        images, labels, _ = batch(BATCH)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def ratios(model: NarrowResNet, batch: Batch) -> tuple[MixTarget, dict[str, Tensor]]:
    """A mix, and what each way of finding its ratio says; "object" is the truth."""
    mixed, target = CutMix()(batch.images, batch.labels)
    features = model.stages(model.stem(batch.images))
    mixed_logits, raw_logits = model(mixed), model.fc(features.mean((2, 3)))
    found = {}
    for name, options in RATIOS.items():
        labels = (target.y_a, target.y_b, target.perm, target.lam)
        found[name] = ops.sumix_loss(mixed_logits, raw_logits, None, None, *labels, **options)[1].lam
    how = {"perm": target.perm, "lam": target.lam, "box": target.box, "size": (SIZE, SIZE)}
    found["feature"] = ops.masked_similarity(features, **how).lam
    classes = {"labels": batch.labels, "class_weight": model.fc.weight}
    found["cam"] = ops.masked_similarity(features, **how, **classes, evidence="cam").lam
    found["object"] = ops.masked_similarity(batch.objects, **how, evidence="object").lam
    return target, found


def report(title: str, model: NarrowResNet, batch: Callable[[int], Batch], count: int) -> None:
    """A table over `count` mixes."""
    test = batch(count)
    model.eval()
    target, found = ratios(model, test)
    with torch.no_grad():
        right = (model(test.images).argmax(dim=1) == test.labels).double().mean().item()
    model.train()
    print(f"\n{title}: {100 * right:.0f} % of the images recognised, {test.objects.double().mean():.0%} of them object")
    print(f"{'ratio':<25}{'mean abs error':>16}{'correlation':>13}")
    truth = found.pop("object")
    needed = truth - target.lam
    for name, ratio in found.items():
        error, moved = (ratio - truth).abs().mean().item(), ratio - target.lam
        together = torch.corrcoef(torch.stack([moved, needed]))[0, 1].item() if moved.std() * needed.std() > 0 else None
        print(f"{name:<25}{error:>16.3f}" + (f"{'-':>13}" if together is None else f"{together:>+13.2f}"), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="of training, 60 images each (default: %(default)s)")
    parser.add_argument("--count", type=int, default=500, help="mixes to measure on (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    for title, kind in (("objects before backgrounds", scenes), ("whole photographs", textures)):
        torch.manual_seed(0)
        batch, classes = kind(torch.Generator().manual_seed(0))
        model = NarrowResNet(classes)
        if kind is scenes:
            report(f"{title}, before training", model, batch, options.count)
        train(model, batch, options.steps)
        report(title, model, batch, options.count)
    print(f"\n{time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    main()
