"""Which labels and which pastes help? Trains every row of `benchmarks.step` on several data sets, paired by seed.

    python -m benchmarks.composites --fetch DIR
    python -m benchmarks.study --data DIR --run composites25 --rows none none-ls cutmix fgmix-ls --seeds 11 12 13
    python -m benchmarks.study --run wheels --rows none-ls fgmix-ls --seeds 11      # no download
    python -m benchmarks.study                                                      # prints what has been measured

One seed means the same images, first weights, batches, partners and boxes for every row. Each finished run is a line of
JSON with its whole setting; runs that are in the file with the same setting are not repeated, so that Ctrl-C costs one
run at most. Tables: mean over seeds, +- its standard error; differences are taken seed by seed.
"""

import argparse
import functools
import json
import platform
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks import composites, nets
from benchmarks.calibration import expected_calibration_error
from benchmarks.step import ROWS, Row, Step, with_head
from sumix.reference.foreground import GATE

VARIATIONS = {"mild": composites.MILD, "wide": composites.WIDE}
BASELINES = ("none", "none-ls", "cutmix")  # what rows are compared with
RESULTS = Path(__file__).parent / "results" / "study.jsonl"
WIDTH = 14  # of the narrow network: 0.14 M parameters
MEAN = 0.5  # of images in [0, 1], for standardising them
SHIFT = 4  # pixels that augmentation moves images by, at most


@dataclass(frozen=True)
class Setting:
    """A data set and how long networks train on it."""

    data: str  # "debian" and "wheels": composites; "cifar"
    images: int  # to train on
    image_steps: int  # images seen in training, counted each time
    share: float | None = None  # nominal share of the frame that an object covers
    classes: int = 20
    tests: int = 1000
    augment: bool = False  # random flips and shifts
    batch: int = 50
    network: str = "narrow"  # or "lite0", pretrained
    size: int = 48  # pixels of composites
    std: float = 0.25  # what images are divided by
    max_lr: float = 3e-3  # chosen on no mixing
    variation: str = "mild"  # or "wide": how much composites of a class differ


SETTINGS = {
    "composites10": Setting("debian", 800, 30_000, 0.10),
    "composites25": Setting("debian", 400, 30_000, 0.25),
    "composites25-200": Setting("debian", 200, 30_000, 0.25),
    "composites60": Setting("debian", 200, 30_000, 0.60),
    "composites25-augmented": Setting("debian", 400, 30_000, 0.25, augment=True),
    "cifar1000": Setting("cifar", 1000, 60_000, classes=10, tests=10_000, augment=True),
    "cifar5000": Setting("cifar", 5000, 150_000, classes=10, tests=10_000, augment=True),
    "lite0": Setting(
        "debian",
        120,
        1_800,
        0.25,
        classes=60,
        tests=600,
        batch=20,
        network="lite0",
        size=128,
        std=0.5,
        max_lr=1e-3,
        variation="wide",
    ),
    "wheels": Setting("wheels", 110, 15_000, 0.25, classes=11, tests=550, variation="wide"),
}


class Split(NamedTuple):
    """Images, standardised, and what is in them."""

    images: Tensor  # (N, 3, H, W) float32
    labels: Tensor  # (N,) int64
    masks: Tensor | None  # (N, H, W) float32, where they are known


class Data(NamedTuple):
    """What a seed trains on and is tested on; `unseen` has backgrounds that no training image has."""

    train: Split
    seen: Split
    unseen: Split | None
    classes: list[str]


@functools.lru_cache
def sources(kind: str, folder: Path | None) -> composites.Sources:
    """What composites are made of."""
    if kind == "wheels":
        return composites.wheels()
    if folder is None:
        raise FileNotFoundError("--data must be given: the folder of python -m benchmarks.composites --fetch")
    return composites.debian(folder)


def load_composites(setting: Setting, seed: int, folder: Path | None) -> Data:
    """New composites of objects that the seed chooses."""
    found = sources(setting.data, folder)
    random = np.random.default_rng(seed)
    names = sorted(found.objects)
    chosen = [names[i] for i in random.choice(len(names), setting.classes, replace=False)]
    objects = [found.objects[name] for name in chosen]

    def split(count: int, backgrounds: list[Image.Image]) -> Split:
        labels = [i % setting.classes for i in range(count)]
        made = composites.make(
            objects, backgrounds, labels, setting.share, random, setting.size, VARIATIONS[setting.variation]
        )
        return Split((made.images - MEAN) / setting.std, made.labels, made.masks)

    train, seen = (split(count, found.seen) for count in (setting.images, setting.tests))
    return Data(train, seen, split(setting.tests, found.unseen), chosen)


def load_cifar(setting: Setting, seed: int, folder: Path | None) -> Data:
    """As many training images of each class as the seed chooses, and the first test images of each class.

    The folder has train/CLASS/*.jpg and test/CLASS/*.jpg.
    """
    if folder is None or not (folder / "train").is_dir():
        raise FileNotFoundError(f"--data must be a folder with train/CLASS and test/CLASS, got {folder}")
    random = np.random.default_rng(seed)
    splits = []
    for part, count in (("train", setting.images), ("test", setting.tests)):
        pixels, labels = [], []
        for label, of_class in enumerate(sorted((folder / part).iterdir())):
            files = sorted(of_class.iterdir())
            each = count // setting.classes
            chosen = random.choice(len(files), each, replace=False) if part == "train" else range(each)
            pixels += [np.asarray(Image.open(files[i]).convert("RGB")) for i in chosen]
            labels += each * [label]
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous() / 255
        splits.append(Split((images - MEAN) / setting.std, torch.tensor(labels), None))
    return Data(splits[0], splits[1], None, [of_class.name for of_class in sorted((folder / "train").iterdir())])


@functools.lru_cache(maxsize=1)
def load(setting: Setting, seed: int, folder: Path | None) -> Data:
    """The data of one seed; the last is kept for the next row."""
    return (load_cifar if setting.data == "cifar" else load_composites)(setting, seed, folder)


def augmented(images: Tensor, masks: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Each image flipped with probability 1/2 and shifted by up to SHIFT pixels, zeros moving in; masks alike."""
    n, _, height, width = images.shape
    stack = images if masks is None else torch.cat([images, masks.unsqueeze(1)], dim=1)
    padded = F.pad(stack, [SHIFT] * 4)
    top, left = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator)
    columns = torch.arange(width).expand(n, -1)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flip, width - 1 - columns, columns) + left
    rows = torch.arange(height) + top
    moved = padded[torch.arange(n).view(-1, 1, 1), :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
    moved = moved.contiguous()
    return (moved, None) if masks is None else (moved[:, :3].contiguous(), moved[:, 3])


@torch.no_grad()
def measure(model: nn.Module, split: Split) -> dict[str, float]:
    """Top-1 and ECE in percent, and cross entropy."""
    model.eval()
    logits = torch.cat([model(part) for part in split.images.split(500)])
    model.train()
    right = (logits.argmax(dim=1) == split.labels).double().mean().item()
    error = expected_calibration_error(logits.softmax(dim=1), split.labels)
    return {"top1": 100 * right, "ece": 100 * error, "nll": F.cross_entropy(logits, split.labels).item()}


def network(row: Row, setting: Setting) -> nn.Module:
    """A fresh network; each row's starts from the same weights if torch's generator is in the same state."""
    narrow = setting.network == "narrow"
    model = nets.NarrowResNet(setting.classes, WIDTH) if narrow else nets.lite0(setting.classes, setting.size)
    if row.kind == "published":
        with_head(model, "fc" if narrow else "_fc")
    return model.to(memory_format=torch.channels_last)


def train(row: Row, setting: Setting, seed: int, data: Data) -> tuple[nn.Module, dict[str, float]]:
    """Trains one row; returns the network and what was measured."""
    torch.manual_seed(seed)
    model = network(row, setting)
    step = Step(row, model, setting.classes, {"mean": MEAN, "std": setting.std})
    steps = int(row.longer * setting.image_steps) // setting.batch
    optimizer = torch.optim.AdamW(model.parameters(), setting.max_lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, setting.max_lr, total_steps=steps)
    shuffle, moves = (torch.Generator().manual_seed(2 * seed + k) for k in range(2))
    order: list[Tensor] = []
    start = time.perf_counter()
    for number in range(steps):
        if not order:
            order = list(torch.randperm(setting.images, generator=shuffle).split(setting.batch))
        rows = order.pop()
        images, labels, masks = (None if part is None else part[rows] for part in data.train)
        if setting.augment:
            images, masks = augmented(images, masks, moves)
        loss = step(images, labels, masks, seed=1_000_000 * seed + number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    found = {"seconds": round(seconds, 1), **measure(model, data.seen)}
    if data.unseen is not None:
        found |= {f"{name}_unseen": value for name, value in measure(model, data.unseen).items()}
    return model, found


def setting_of(row: Row, setting: Setting) -> dict[str, Any]:
    """What decides a run beside its seed."""
    gate = list(GATE) if row.evidence == "network" else None
    return {**asdict(setting), **{name: value for name, value in asdict(row).items() if name != "about"}, "gate": gate}


def read(file: Path) -> list[dict[str, Any]]:
    """The finished runs."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def is_done(runs: Iterable[dict[str, Any]], name: str, key: str, seed: int, wanted: dict[str, Any]) -> bool:
    """Whether this run is among the finished ones."""
    return any((r["set"], r["row"], r["seed"], r["setting"]) == (name, key, seed, wanted) for r in runs)


def line(name: str, key: str, seed: int, found: dict[str, float], setting: Setting) -> dict[str, Any]:
    """A finished run as it is written down."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    rounded = {k: round(v, 4) for k, v in found.items()}
    return {
        "set": name,
        "row": key,
        "seed": seed,
        **rounded,
        "setting": setting_of(ROWS[key], setting),
        "versions": versions,
    }


def run(name: str, setting: Setting, keys: list[str], seeds: list[int], folder: Path | None, file: Path) -> None:
    """Trains what is missing, seed by seed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for key in keys:
            wanted = setting_of(ROWS[key], setting)
            if is_done(read(file), name, key, seed, wanted):
                continue
            _, found = train(ROWS[key], setting, seed, load(setting, seed, folder))
            with file.open("a") as lines:
                lines.write(json.dumps(line(name, key, seed, found, setting)) + "\n")
            print(f"{name} {key} seed {seed}: top-1 {found['top1']:.1f} %, {found['seconds']:.0f} s", flush=True)


def mean_and_error(values: list[float]) -> str:
    """Mean +- standard error."""
    mean = statistics.mean(values)
    return f"{mean:.1f} +- {statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else f"{mean:.1f}"


def table(runs: list[dict[str, Any]], name: str) -> str:
    """The rows of one set: means, and differences from the baselines."""
    of_row: dict[str, dict[int, dict[str, Any]]] = {}
    for r in runs:
        if r["set"] == name:
            of_row.setdefault(r["row"], {})[r["seed"]] = r
    header = ["", "seeds", "top-1 %", "new backgrounds", "ECE %", "NLL", *(f"minus {key}" for key in BASELINES), "s"]
    lines = [header]
    for key in sorted(of_row, key=list(ROWS).index):
        found = of_row[key]

        def column(value: str, found: dict[int, dict[str, Any]] = found) -> str:
            values = [r[value] for r in found.values() if value in r]
            return mean_and_error(values) if values else ""

        def minus(other: str, found: dict[int, dict[str, Any]] = found) -> str:
            both = [found[s]["top1"] - r["top1"] for s, r in of_row.get(other, {}).items() if s in found]
            return mean_and_error(both) if both else ""

        nll = f"{statistics.mean(r['nll'] for r in found.values()):.2f}"
        seconds = f"{statistics.mean(r['seconds'] for r in found.values()):.0f}"
        cells = [column("top1"), column("top1_unseen"), column("ece"), nll, *map(minus, BASELINES), seconds]
        lines.append([ROWS[key].about, str(len(found)), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", choices=SETTINGS, metavar="SET", help=f"train on one of {', '.join(SETTINGS)}")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["none-ls"], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[11], metavar="N")
    parser.add_argument("--data", type=Path, help="folder of the composites' parts, or of CIFAR-10 as images")
    parser.add_argument("--image-steps", type=int, help="instead of the set's own, to try things out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.run:
        setting = SETTINGS[options.run]
        if options.image_steps:
            setting = replace(setting, image_steps=options.image_steps)
        try:
            run(options.run, setting, options.rows, options.seeds, options.data, options.results)
        except (FileNotFoundError, ModuleNotFoundError) as error:
            sys.exit(f"study: {error}")
    runs = read(options.results)
    for name in [options.run] if options.run else SETTINGS:
        if any(r["set"] == name for r in runs):
            print(f"\n{name}\n{table(runs, name)}")


if __name__ == "__main__":
    main()
