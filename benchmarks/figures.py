"""The demo's two figures, in colours that stay apart for colour-blind readers (Okabe & Ito's palette)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")  # draws into files; no display is needed

import matplotlib.pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor

STYLES = (
    ("#555555", ":"),
    ("#0072B2", "--"),
    ("#D55E00", "-."),
    ("#009E73", "-"),
    ("#CC79A7", (0, (6, 1, 1, 1, 1, 1))),
)
OWN, PARTNER = "#56B4E9", "#E69F00"  # both light enough for black text
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "savefig.dpi": 150,
}


class Pairs(NamedTuple):
    """Mixed pairs: images (P, H, W, 3) in [0, 1], names of both photographs, and weights of the own label by method."""

    own: Tensor
    partner: Tensor
    mixed: Tensor
    own_names: list[str]
    partner_names: list[str]
    ratios: dict[str, list[float]]


def curves(results: Sequence, path: Path) -> None:
    """Training loss, test cross entropy and test top-1 by epoch, one line a row."""
    panels = (
        ("loss", "training loss", "Training loss\n(each row's own objective)"),
        ("test_cross_entropy", "cross entropy (nats)", "Cross entropy, test crops"),
        ("test_top1", "top-1 (%)", "Top-1, test crops"),
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(12, 4.1), layout="constrained")
        for axis, (field, label, title) in zip(axes, panels, strict=True):
            for result, (colour, dash) in zip(results, STYLES, strict=False):
                values = [getattr(epoch, field) for epoch in result.epochs]
                marker = "o" if len(values) == 1 else None
                numbers = range(1, len(values) + 1)
                axis.plot(
                    numbers, values, color=colour, linestyle=dash, linewidth=1.8, marker=marker, label=result.name
                )
            axis.set(title=title, xlabel="epoch", ylabel=label)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[1].set_yscale("log")
        axes[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[1].yaxis.set_major_formatter("{x:g}")
        axes[1].yaxis.set_minor_locator(NullLocator())
        axes[2].set_ylim(0, 100)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path)
        plt.close(figure)


def pairs(data: Pairs, path: Path) -> None:
    """Each pair's own image, partner and mix, and under them both labels' weights by area and as learned."""
    count, methods = len(data.own_names), list(data.ratios)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(
            4,
            count,
            figsize=(1.6 * count + 1.5, 5.6 + 0.3 * len(methods)),
            layout="constrained",
            squeeze=False,
            height_ratios=[1, 1, 1, 0.2 * len(methods)],
        )
        for column in range(count):
            names = ((data.own_names[column], OWN), (data.partner_names[column], PARTNER), ("", None))
            images = (data.own[column], data.partner[column], data.mixed[column])
            for axis, (name, colour), image in zip(axes[:3, column], names, images, strict=True):
                axis.imshow(image.numpy(), interpolation="nearest")
                axis.set_title(name, fontsize=10, pad=4)
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(visible=colour is not None, color=colour, linewidth=3)
            bars(axes[3, column], [data.ratios[method][column] for method in methods])
        for axis, label in zip(axes[:3, 0], ("image", "partner", "mix"), strict=True):
            axis.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        axes[3, 0].set_yticks(range(len(methods)), methods)
        labels = ("weight of the image's own label (%)", "weight of the pasted partner's label (%)")
        patches = [Patch(color=colour, label=label) for colour, label in zip((OWN, PARTNER), labels, strict=True)]
        figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path)
        plt.close(figure)


def bars(axis: plt.Axes, shares: list[float]) -> None:
    """One bar a method, split into the own label's weight and the partner's, with both in per cent."""
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
