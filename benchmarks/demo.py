"""Trains a narrow ResNet on real photographs without mixing, with CutMix and with CutMix + SUMix: minutes on a CPU.

    python -m benchmarks.demo             # from the repository's root; or, from anywhere, python benchmarks/demo.py
    python -m benchmarks.demo --quick     # half a minute

Prints a table and writes results.json, curves.png and pairs.png. Ctrl-C keeps the rows that are finished. A smoke test
with real pixels, no benchmark of accuracy: photographs.py says what the images are.
"""

import argparse
import copy
import json
import platform
import statistics
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

# Run as a file, not with -m, it finds its neighbours, and a sumix that is built in place, only with this.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    from tqdm import tqdm

    from benchmarks import figures
    from benchmarks.photographs import Photographs, load
except ModuleNotFoundError as error:
    sys.exit(f"demo: {error}: pip install '.[demo]' installs what the demo needs")

from benchmarks.calibration import expected_calibration_error
from benchmarks.nets import NarrowResNet
from sumix import CutMix, SUMixHead, SUMixLoss, capture_features

BATCH = 60
MAX_LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
TIMED_STEPS = 10
INTERRUPTED = 130  # the exit status that shells give to Ctrl-C
FILES = ("results.json", "curves.png", "pairs.png")
PART = "results.json.part"

IMAGES = (
    "{classes} photographs that scikit-image and scikit-learn ship; a class is one photograph. {train} training crops "
    "come from the left 60 % of each, {test} test crops from the right 40 %: no pixel is in both. This is instance "
    "recognition on a small set, a smoke test with real pixels, and no claim of accuracy: a row run again with another "
    "seed or number of threads moved by 2 to 4 points of top-1, so a gap of a few points between rows means nothing."
)
COLUMNS = (
    "top-1 and ECE (15 bins): on the test crops after the last epoch. seconds: all training steps, without evaluation; "
    "SUMix runs the network a second time, on the unmixed images. sumix share: what mixing and the SUMix loss, forward "
    f"and backward, take of a step's wall-clock time (median of {TIMED_STEPS} steps timed after training)."
)


@dataclass(frozen=True)
class Row:
    """One way to train: with CutMix or without, with the arguments of a SUMixLoss or with cross entropy."""

    name: str
    mixes: bool = False
    sumix: dict[str, str] | None = None


ROWS = (
    Row("no mixing"),
    Row("CutMix", mixes=True),
    Row("CutMix + SUMix (published)", mixes=True, sumix={"ratio": "published", "weighting": "batch"}),
    Row("CutMix + SUMix (semantic)", mixes=True, sumix={"ratio": "semantic", "weighting": "sample"}),
    Row("CutMix + SUMix (feature)", mixes=True, sumix={"ratio": "feature", "weighting": "sample"}),
)


@dataclass(frozen=True)
class Epoch:
    """Training loss (each row's own objective, mean over the epoch), and cross entropy and top-1 on the test crops."""

    loss: float
    test_cross_entropy: float
    test_top1: float  # %


@dataclass(frozen=True)
class Result:
    """A finished row of the table."""

    name: str
    top1: float  # %
    ece: float  # %
    seconds: float
    sumix_share: float  # %
    epochs: list[Epoch]


class Method(NamedTuple):
    """What a row trains with: `mix` is None without mixing; `criterion` is cross entropy or a SUMixLoss."""

    model: nn.Module
    mix: Callable | None
    criterion: Callable
    two_passes: bool  # whether the criterion wants the network's output for the raw images too

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of one batch."""
        if self.mix is None:
            return self.criterion(self.model(images), labels)
        mixed, target = self.mix(images, labels)
        if self.two_passes:
            return self.criterion(self.model(mixed), self.model(images), target)
        return self.criterion(self.model(mixed), target)


def build(row: Row, num_classes: int, width: int, seed: int) -> Method:
    """The row's method; every row's network starts from the same weights."""
    torch.manual_seed(seed)
    model = NarrowResNet(num_classes, width)
    generator = torch.Generator().manual_seed(seed)
    if row.sumix is not None:
        head = SUMixHead(model.fc.in_features, num_classes)
        head.classifier.load_state_dict(model.fc.state_dict())
        model.fc = head
        if row.sumix["ratio"] == "feature":
            capture_features(model)  # of stages: 4x4 places of a 32x32 image
        return Method(model, CutMix(alpha=1.0, generator=generator), SUMixLoss(gamma=0.5, **row.sumix), True)
    mix = CutMix(alpha=1.0, num_classes=num_classes, generator=generator) if row.mixes else None
    return Method(model, mix, F.cross_entropy, False)


@torch.no_grad()
def evaluate(model: nn.Module, data: Photographs) -> tuple[float, float, float]:
    """Top-1 (%), ECE (%) and cross entropy on the test crops."""
    model.eval()
    logits = model(data.test_images)
    model.train()
    top1 = (logits.argmax(dim=1) == data.test_labels).double().mean().item()
    ece = expected_calibration_error(logits.softmax(dim=1), data.test_labels)
    return 100 * top1, 100 * ece, F.cross_entropy(logits, data.test_labels).item()


def sumix_share(method: Method, data: Photographs, order: Tensor) -> float:
    """Percentage of a training step that mixing and the SUMix loss take, forward and backward; trains a copy.

    The loss's backward is told apart from the network's by cutting the graph at the network's outputs.
    """
    if method.mix is None:
        return 0.0
    model = copy.deepcopy(method.model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=MOMENTUM)
    shares = []
    for rows in order.split(BATCH)[:TIMED_STEPS]:
        images, labels = data.train_images[rows], data.train_labels[rows]
        start = time.perf_counter()
        mixed, target = method.mix(images, labels)
        ours = time.perf_counter() - start
        optimizer.zero_grad()
        if method.two_passes:
            both = [model(mixed), model(images)]
            outputs = [tensor for output in both for tensor in (output.logits, output.uncertainty)]
            cut = [tensor.detach().requires_grad_() for tensor in outputs]
            both = [
                replace(output, logits=z, uncertainty=u) for output, z, u in zip(both, cut[::2], cut[1::2], strict=True)
            ]
            begin = time.perf_counter()
            method.criterion(*both, target).backward()
            ours += time.perf_counter() - begin
            reached = [(tensor, leaf.grad) for tensor, leaf in zip(outputs, cut, strict=True) if leaf.grad is not None]
            torch.autograd.backward(*zip(*reached, strict=True))
        else:
            method.criterion(model(mixed), target).backward()
        optimizer.step()
        shares.append(ours / (time.perf_counter() - start))
    return 100 * statistics.median(shares)


def train(row: Row, data: Photographs, options: argparse.Namespace) -> tuple[Result, Method]:
    """Trains one row and measures it; batches come in the same order for every row."""
    method = build(row, len(data.classes), options.width, options.seed)
    optimizer = torch.optim.SGD(
        method.model.parameters(), MAX_LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    shuffle = torch.Generator().manual_seed(options.seed)
    count = len(data.train_labels)
    steps = options.epochs * -(-count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=steps)
    seconds, epochs = 0.0, []
    bar = tqdm(total=steps, desc=f"{row.name:26}", unit="step", disable=not options.progress)
    with bar:
        for _ in range(options.epochs):
            order = torch.randperm(count, generator=shuffle)
            start, losses = time.perf_counter(), []
            for rows in order.split(BATCH):
                loss = method.loss(data.train_images[rows], data.train_labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
            seconds += time.perf_counter() - start
            top1, ece, cross_entropy = evaluate(method.model, data)
            epochs.append(Epoch(sum(losses) / len(losses), cross_entropy, top1))
            bar.set_postfix_str(f"loss {epochs[-1].loss:.2f}, test top-1 {top1:.1f} %")
    return Result(row.name, top1, ece, seconds, sumix_share(method, data, order), epochs), method


@torch.no_grad()
def mixed_pairs(trained: list[tuple[Row, Method]], data: Photographs, seed: int, count: int = 6) -> figures.Pairs:
    """The first `count` CutMix pairs of a batch of test crops, and the ratio that each SUMix row's network gives them.

    Taken are pairs of two photographs not shown yet; neither crop is nearly flat (sky) or covers more than 85 % of the
    mix. A whole batch is mixed, because the published ratio depends on its size.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.test_labels), generator=generator)[:BATCH]
    images, labels = data.test_images[rows], data.test_labels[rows]
    mixed, target = CutMix(alpha=1.0, generator=generator)(images, labels)
    learned = {}
    for row, method in trained:
        method.model.eval()
        features = method.model.stages(method.model.stem(images))
        criterion = SUMixLoss(**{**row.sumix, "gamma": 0.0}, return_parts=True)
        _, parts = criterion(method.model(mixed), method.model(images), target, features=features)
        learned[f"SUMix ({row.sumix['ratio']})"] = parts.lam
    textured = images.std((2, 3)).mean(1) > 0.3
    shown = textured & textured[target.perm] & (target.y_a != target.y_b) & (target.lam > 0.15) & (target.lam < 0.85)
    chosen, seen = [], set()
    for i in shown.nonzero().squeeze(1).tolist():
        photographs = {int(target.y_a[i]), int(target.y_b[i])}
        if len(chosen) < count and not seen & photographs:
            chosen.append(i)
            seen |= photographs

    def pixels(batch: Tensor) -> Tensor:
        return (batch[chosen] * data.std + data.mean).clamp(0, 1).permute(0, 2, 3, 1)

    return figures.Pairs(
        own=pixels(images),
        partner=pixels(images[target.perm]),
        mixed=pixels(mixed),
        own_names=[data.classes[y] for y in target.y_a[chosen].tolist()],
        partner_names=[data.classes[y] for y in target.y_b[chosen].tolist()],
        ratios={"by area": target.lam[chosen].tolist()} | {name: lam[chosen].tolist() for name, lam in learned.items()},
    )


def table(results: list[Result]) -> str:
    """The finished rows as text."""
    lines = [f"{'':28}{'top-1 %':>9}{'ECE %':>8}{'seconds':>9}{'sumix share %':>15}"]
    for r in results:
        lines.append(f"{r.name:28}{r.top1:9.1f}{r.ece:8.1f}{r.seconds:9.1f}{r.sumix_share:15.1f}")
    return "\n".join(lines)


def write_results(results: list[Result], data: Photographs, options: argparse.Namespace, about: str) -> None:
    """Writes results.json in one step: a reader, or Ctrl-C, never meets half a file."""
    try:
        sumix_version = version("sumix")
    except PackageNotFoundError:  # run from a checkout that is built in place
        sumix_version = "not installed"
    record = {
        "about": about,
        "columns": COLUMNS,
        "complete": len(results) == len(ROWS),
        "rows": [asdict(result) for result in results],
        "classes": data.classes,
        "train_crops": len(data.train_labels),
        "test_crops": len(data.test_labels),
        "epochs": options.epochs,
        "width": options.width,
        "seed": options.seed,
        "threads": options.threads,
        "batch": BATCH,
        "versions": {"sumix": sumix_version, "torch": torch.__version__, "python": platform.python_version()},
    }
    (options.out / PART).write_text(json.dumps(record, indent=1) + "\n")
    (options.out / PART).replace(options.out / FILES[0])


def whole_number(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, got {text!r}")
        return value

    return convert


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, checked, with defaults filled in and the output folder made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 epochs instead of 40: half a minute, learns little")
    parser.add_argument("--epochs", type=whole_number(1), help="passes over the training crops (default: 40)")
    parser.add_argument(
        "--width", type=whole_number(1, 256), default=16, help="channels of the first stage (default: 16)"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of weights, batches and mixes (default: 0)")
    parser.add_argument(
        "--threads",
        type=whole_number(1, 1024),
        default=1,  # threads that wait for each other in so small a network lose more than they win on a busy machine
        help="threads of torch; more than one pays on an idle machine only (default: 1)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder; an earlier run's files are replaced"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bars (there are none off a terminal)")
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (3 if options.quick else 40)
    options.progress = not options.no_progress and sys.stderr.isatty()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / PART).touch()
    except OSError as error:
        parser.error(f"argument --out: cannot write to {options.out}: {error.strerror}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Runs the demo; returns 0, or 130 after Ctrl-C."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    try:
        data = load()
    except FileNotFoundError as error:
        sys.exit(f"demo: {error}")
    about = IMAGES.format(classes=len(data.classes), train=len(data.train_labels), test=len(data.test_labels))
    print(textwrap.fill(about, 100), flush=True)
    print(f"\nepochs {options.epochs}, batch {BATCH}, seed {options.seed}, threads {options.threads}\n", flush=True)
    for name in FILES:
        (options.out / name).unlink(missing_ok=True)
    results: list[Result] = []
    trained: list[tuple[Row, Method]] = []
    try:
        for row in ROWS:
            result, method = train(row, data, options)
            results.append(result)
            if method.two_passes:
                trained.append((row, method))
            write_results(results, data, options, about)
            if not options.progress:
                print(f"{row.name}: {result.seconds:.0f} s, test top-1 {result.top1:.1f} %", flush=True)
    except KeyboardInterrupt:
        print(f"\nInterrupted: {len(results)} of {len(ROWS)} rows are finished.")
    write_results(results, data, options, about)
    if results:
        print(f"\n{table(results)}\n\n{textwrap.fill(COLUMNS, 100)}\n")
        figures.curves(results, options.out / "curves.png")
    if trained:
        figures.pairs(mixed_pairs(trained, data, options.seed), options.out / "pairs.png")
    print("Wrote " + ", ".join(str(options.out / name) for name in FILES if (options.out / name).exists()))
    return 0 if len(results) == len(ROWS) else INTERRUPTED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # once more, while the figures are made
        sys.exit(INTERRUPTED)
