"""Pictures of mixes: what each mixer does to your images, and what each ratio makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sumix.loss import learned_ratios
from sumix.ops import checks
from sumix.target import MixTarget
from sumix.transforms import CutMix, FMix, GridMix, Mixer, MixUp, ResizeMix, SaliencyMix, SmoothMix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIXERS = {kind.__name__: kind for kind in (CutMix, MixUp, SaliencyMix, FMix, ResizeMix, GridMix, SmoothMix)}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATIOS = ("semantic", "published", "feature", "cam")


def make_mixers(names: Iterable[str] = tuple(MIXERS), *, alpha: float = 1.0) -> dict[str, Mixer]:
    """Mixers by name, from `MIXERS`, all with the same alpha."""
    return {name: MIXERS[name]() if name == "SmoothMix" else MIXERS[name](alpha=alpha) for name in names}


def mix_grid(
    images: Tensor,
    mixers: Mapping[str, Mixer] | None = None,
    *,
    labels: Tensor | None = None,
    seed: int = 0,
    model: nn.Module | None = None,
    mean: Any = IMAGENET[0],
    std: Any = IMAGENET[1],
) -> Figure:
    """Every mixer on every image: a row an image, a column a mixer, `lam` below each mix.

    Parameters
    ----------
    images : Tensor, shape (N, 3, H, W), uint8
        At least two.
    mixers : mapping of str to Mixer, optional
        The columns and their titles; one of each kind if None. With one seed all mix the same partners.
    labels : Tensor, shape (N,), integer, optional
        Classes; what the model sees in the images if None.
    seed : int
        Of the mixes.
    model : Module, optional
        A classifier of images normalised by `mean` and `std`: adds what each ratio makes of `lam`. Used in evaluation
        mode, without gradient.
    mean, std : sequence of float
        ImageNet's, unless given.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If an argument does not fit.
    """
    from matplotlib.figure import Figure

    if checks.tensor(images, "images").dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[0] < 2 or images.shape[1] != 3:
        raise ValueError(f"images must be (N, 3, H, W) with N at least 2, got {checks.shape(images)}")
    mixers = make_mixers() if mixers is None else mixers
    n = images.shape[0]
    captions = [[""] * len(mixers) for _ in range(n)]
    columns = []
    for column, mixer in enumerate(mixers.values()):
        mixer.partners = "no_fixed_points"
        mixed, target = mixer(images, torch.arange(n) if labels is None else labels, seed=seed)
        columns.append(mixed)
        ratios = {} if model is None else ratios_of(model, images, mixed, target, labels, mean, std)
        for row in range(n):
            captions[row][column] = "\\n".join(
                [f"lam {target.lam[row]:.2f}", *(f"{name} {value[row]:.2f}" for name, value in ratios.items())]
            )

    figure = Figure(figsize=(1.7 * (len(mixers) + 1), (2.0 if model is None else 2.6) * n), layout="constrained")
    axes = figure.subplots(n, len(mixers) + 1, squeeze=False)
    for row in range(n):
        for column, picture in enumerate([images, *columns]):
            at = axes[row][column]
            at.imshow(picture[row].permute(1, 2, 0).numpy())
            at.set(xticks=[], yticks=[])
            at.spines[:].set_visible(False)
            if column > 0:
                at.set_xlabel(captions[row][column - 1], fontsize=8)
    for at, title in zip(axes[0], ["image", *mixers], strict=True):
        at.set_title(title, fontsize=9)
    return figure
