"""The demo's figures, in colours that stay apart for colour-blind readers (Okabe & Ito's palette)."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("agg")  # draws into files; no display is needed

import matplotlib.pyplot as plt
import torch.nn.functional as F
from matplotlib.patches import Patch
from torch import Tensor

OWN, PARTNER = "#56B4E9", "#E69F00"  # both light enough for black text
KNOWN, NEW = "#0072B2", "#999999"
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 150}


class Pairs(NamedTuple):
    """Mixed pairs: images (P, H, W, 3) in [0, 1], both classes' names, and by the mixer's name its mixes and the weight
    of the own label by every way of labelling them."""

    own: Tensor
    partner: Tensor
    own_names: list[str]
    partner_names: list[str]
    mixes: dict[str, tuple[Tensor, dict[str, list[float]]]]


class Sheet(NamedTuple):
    """Images (P, H, W, 3) in [0, 1], their maps (P, h, w), and how far each map is to be believed."""

    images: Tensor
    maps: Tensor
    gates: list[float]


def accuracy(rows: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
    """Top-1 of every row with known and with new backgrounds: means, standard errors, and each seed as a dot."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 0.7 * len(rows) + 1.2), layout="constrained")
        for y, runs in enumerate(rows.values()):
            for shift, field, colour in ((-0.2, "top1", KNOWN), (0.2, "top1_unseen", NEW)):
                values = [run[field] for run in runs]
                if not values:
                    continue
                spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0
                mean = statistics.mean(values)
                axis.barh(y + shift, mean, xerr=spread, color=colour, height=0.36, error_kw={"ecolor": "black"})
                axis.plot(values, [y + shift] * len(values), "o", color="black", markersize=2.5)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xlabel("top-1 (%)")
        axis.set_xlim(left=0)
        axis.invert_yaxis()
        patches = [Patch(color=KNOWN, label="known backgrounds"), Patch(color=NEW, label="new backgrounds")]
        figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(folder / "accuracy.png")
        plt.close(figure)


def pairs(data: Pairs, path: Path) -> None:
    """Each pair's own image, partner and mixes, and under each mix both labels' weights by every way of labelling."""
    count, kinds = len(data.own_names), list(data.mixes.values())
    heights = [1.0, 1.0]
    for _, ways in kinds:
        heights += [1.0, 0.2 * len(ways)]
    with plt.rc_context(STYLE):
        size = (1.6 * count + 1.9, 1.6 * sum(heights) + 0.6)
        figure, axes = plt.subplots(
            len(heights), count, figsize=size, layout="constrained", squeeze=False, height_ratios=heights
        )
        for column in range(count):
            picture(axes[0, column], data.own[column], data.own_names[column], OWN)
            picture(axes[1, column], data.partner[column], data.partner_names[column], PARTNER)
            for at, (mixed, ways) in enumerate(kinds):
                picture(axes[2 + 2 * at, column], mixed[column])
                bars(axes[3 + 2 * at, column], [ways[way][column] for way in ways])
        titles = ["image", "partner", *data.mixes]
        for axis, title in zip(axes[[0, 1, *range(2, len(heights), 2)], 0], titles, strict=True):
            axis.set_ylabel(title, rotation=0, ha="right", va="center", labelpad=8)
        for at, (_, ways) in enumerate(kinds):
            axes[3 + 2 * at, 0].set_yticks(range(len(ways)), ways)
        labels = ("weight of the image's own label (%)", "weight of the pasted partner's label (%)")
        patches = [Patch(color=colour, label=label) for colour, label in zip((OWN, PARTNER), labels, strict=True)]
        figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path)
        plt.close(figure)


def evidence(sheets: Mapping[str, Sheet], path: Path) -> None:
    """Images, and below each its map of evidence, enlarged as ForegroundMix does, and its gate."""
    count = max(len(sheet.images) for sheet in sheets.values())
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2 * len(sheets), count, figsize=(1.2 * count + 0.8, 2.7 * len(sheets)), layout="constrained", squeeze=False
        )
        for at, (title, sheet) in enumerate(sheets.items()):
            size = tuple(sheet.images.shape[1:3])
            wide = F.interpolate(sheet.maps.unsqueeze(1), size, mode="bilinear").squeeze(1)
            for column, (image, found, gate) in enumerate(zip(sheet.images, wide, sheet.gates, strict=True)):
                picture(axes[2 * at, column], image)
                axis = axes[2 * at + 1, column]
                axis.imshow(image.mean(2).numpy(), cmap="gray", vmin=0, vmax=1)
                axis.imshow((found / found.max().clamp(min=1e-12)).numpy(), cmap="inferno", alpha=0.65, vmin=0, vmax=1)
                axis.set(xticks=[], yticks=[], xlabel=f"gate {gate:.2f}")
            axes[2 * at, 0].set_ylabel(title.replace(" ", "\n"))
        figure.savefig(path)
        plt.close(figure)


def picture(axis: plt.Axes, image: Tensor, name: str = "", colour: str | None = None) -> None:
    """An image, in a frame if it has a colour."""
    axis.imshow(image.numpy(), interpolation="nearest")
    axis.set_title(name, fontsize=10, pad=4)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=colour is not None, color=colour, linewidth=3)


def bars(axis: plt.Axes, shares: list[float]) -> None:
    """One bar for each way of labelling, split into the own label's weight and the partner's, both in per cent."""
    for y, share in enumerate(shares):
        axis.barh(y, share, color=OWN, height=0.8)
        axis.barh(y, 1 - share, left=share, color=PARTNER, height=0.8)
        axis.text(0.03, y, f"{100 * share:.0f}", va="center", ha="left", fontsize=9)
        axis.text(0.97, y, f"{100 * (1 - share):.0f}", va="center", ha="right", fontsize=9)
    axis.set(xlim=(0, 1), xticks=[], yticks=[])
    axis.tick_params(length=0)
    axis.invert_yaxis()
    for spine in axis.spines.values():
        spine.set_visible(False)
