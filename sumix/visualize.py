"""Pictures of mixes: what each mixer does to your images, and what each ratio makes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sumix.evidence.evidence import Evidence, as_evidence
from sumix.features import capture_features, captures_of, in_eval_mode
from sumix.head import SUMixOutput, unwrapped
from sumix.loss import SUMixLoss
from sumix.ops import checks
from sumix.ops.foreground import foreground
from sumix.ops.saliency import saliency
from sumix.target import MixTarget
from sumix.transforms import CutMix, FMix, ForegroundMix, GridMix, Mixer, MixUp, ResizeMix, SaliencyMix, SmoothMix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIXERS = {
    kind.__name__: kind for kind in (CutMix, SaliencyMix, ResizeMix, FMix, GridMix, SmoothMix, MixUp, ForegroundMix)
}
RATIOS = ("semantic", "published", "foreground", "feature", "cam")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The strength of "published" is the batch size, which of a few images for a picture would show next to nothing.
PUBLISHED_BATCH = 100.0

# Of the figure, in inches.
CELL, GAP, MARGIN, TITLE, LINE, LEADING = 1.2, 0.05, 0.06, 0.24, 0.2, 0.112


def make_mixers(names: Iterable[str] = tuple(MIXERS), *, alpha: float = 1.0) -> dict[str, Mixer]:
    """Mixers by name, of `MIXERS`, all with the same alpha (but for SmoothMix and ForegroundMix, which have none)."""
    made: dict[str, Mixer] = {}
    for name in names:
        checks.choice(name, "names", tuple(MIXERS))
        if name == "ForegroundMix":
            made[name] = ForegroundMix(p=1.0, min_gate=0.0)
        else:
            made[name] = MIXERS[name]() if name == "SmoothMix" else MIXERS[name](alpha=alpha)
    return made


def ratios(
    model: nn.Module,
    images: Tensor,
    mixed: Tensor,
    target: MixTarget,
    *,
    names: Sequence[str] | None = None,
    layer: str | nn.Module | None = None,
    grid: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """What each ratio makes of a mix: the weight of the own label, by the name that `SUMixLoss(ratio=...)` has for it.

    The model is used in evaluation mode, so with BatchNorm's running statistics, and without gradient; it is left as it
    was found: every module's mode, hooks, parameters, buffers.

    Parameters
    ----------
    model : Module
        A classifier that returns logits, or SUMixOutput. One that was given to `capture_features` already keeps its
        layer.
    images, mixed : Tensor, shape (N, ...)
        Before and after the mix, as the model takes them: on its device, normalised.
    target : MixTarget
        What the mixer returned with `mixed`, with one class a sample.
    names : sequence of str, optional
        Of "semantic", "published" (as in a batch of 100, the authors' for CIFAR-100: its strength is the batch size),
        "foreground", "feature" and "cam". If None, all that the model allows: "foreground" and "feature" take a map
        with more than one place, "cam" a linear classifier of the map's mean too.
    layer, grid : optional
        Where the map is, if it is not found by itself, as for `capture_features`.

    Returns
    -------
    dict of str to Tensor, shape (N,), float32
        First "area", which is `target.lam`.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the model does not allow what is named.
    """
    names = _names(names)
    for value, name in ((images, "images"), (mixed, "mixed")):
        if not checks.batch(value, name).isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    if mixed.shape != images.shape:
        raise ValueError(f"mixed must have the shape of images, {checks.shape(images)}, got {checks.shape(mixed)}")
    if mixed.dtype != images.dtype:
        raise TypeError(f"mixed must have the dtype of images, {images.dtype}, got {mixed.dtype}")
    with _watch(model, names, layer, grid) as look:
        return _ratios(look(mixed), look(images), target, names)


def mix_grid(
    images: Tensor,
    mixers: Mapping[str, Mixer] | None = None,
    *,
    labels: Tensor | None = None,
    evidence: Evidence | Tensor | None = None,
    seed: int = 0,
    model: nn.Module | None = None,
    names: Sequence[str] | None = None,
    layer: str | nn.Module | None = None,
    mean: float | Sequence[float] | Tensor = IMAGENET[0],
    std: float | Sequence[float] | Tensor = IMAGENET[1],
) -> Figure:
    """Every mixer on every image: one row per image, one column per mixer, `lam` below each mix.

    Parameters
    ----------
    images : Tensor, shape (N, 3, H, W) or (N, 1, H, W), uint8, or floating point from 0 to 1
        At least two: all mixers mix an image with the same other one.
    mixers : mapping of str to Mixer, optional
        The columns and their titles; one of each kind if None. Copies are used, with other partners than the image
        itself, and without what is not of the pixels: `num_classes`, `normalize`, `cross_rank`, `generator`.
    labels : Tensor, shape (N,), integer, optional
        Classes, for the ratios; what the model sees in the unmixed images if None.
    evidence : Evidence, or Tensor, shape (N, h, w), optional
        Where each image's object is, for mixers with a `rule`. If None, the foreground that the model sees, and without
        a model, or one that has no map, what is salient.
    seed : int
        Equal seeds give equal pictures.
    model : Module, optional
        A classifier of images that are normalised by `mean` and `std`: below `lam` stands what each ratio makes of it,
        by `ratios`, which says how the model is treated, and what `names` and `layer` are.
    mean, std : float, or sequence of float
        One value per channel, from 0 to 1 since they describe pixels from 0 to 1; ImageNet's unless given.

    Returns
    -------
    matplotlib.figure.Figure
        (N, 1 + mixers) axes, row by row, a caption the axes' x label. `figure.savefig("grid.png", dpi=150)` writes it.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> mix_grid(images, {"CutMix": CutMix(), "FMix, soft": FMix(max_soft=0.3)}, model=model).savefig("grid.png")
    """
    _check_images(images)
    mixers = _copies(make_mixers() if mixers is None else mixers)
    names = _names(names)
    if model is None:
        classes = torch.arange(images.shape[0], device=images.device) if labels is None else labels
        given = _given(evidence, mixers, lambda: Evidence(saliency(images)))
        columns = [(mixed, _shares(target)) for mixed, target in _mixes(mixers, images, classes, given, seed)]
    else:
        prepare = _preparation(model, images, mean, std)
        columns = []
        with _watch(model, names, layer, None) as look:
            raw = look(prepare(images))
            classes = raw.logits.argmax(dim=1).to(images.device) if labels is None else labels
            given = _given(evidence, mixers, lambda: _seen(raw, images))
            for mixed, target in _mixes(mixers, images, classes, given, seed):
                there = target.to(raw.logits.device)
                columns.append((mixed, _ratios(look(prepare(mixed)), raw, there, names)))
    return _draw(images, dict(zip(mixers, columns, strict=True)))


def _wants_evidence(mixer: Mixer) -> bool:
    return mixer.takes_evidence or mixer.rule is not None


def _given(evidence: Any, mixers: dict[str, Mixer], make: Callable[[], Evidence]) -> Evidence | None:
    """The user's evidence, or what `make` makes if a mixer wants any."""
    if evidence is not None:
        return as_evidence(evidence)
    return make() if any(map(_wants_evidence, mixers.values())) else None


def _mixes(
    mixers: dict[str, Mixer], images: Tensor, classes: Tensor, evidence: Evidence | None, seed: int
) -> Iterator[tuple[Tensor, MixTarget]]:
    """What each mixer makes of the images."""
    for mixer in mixers.values():
        yield mixer(images, classes, seed=seed, evidence=evidence if _wants_evidence(mixer) else None)


def _shares(target: MixTarget) -> dict[str, Tensor]:
    """The own image's share of the area, and the weight of its label where evidence set it."""
    return {"area": target.lam} if target.weights is None else {"area": target.lam, "label": target.label_lam}


def _seen(raw: SUMixOutput, images: Tensor) -> Evidence:
    """The foreground in the model's maps, or what is salient."""
    if raw.features is None or raw.features.ndim != 4:
        return Evidence(saliency(images))
    found = foreground(raw.features, raw.features if raw.fine is None else raw.fine)
    return Evidence(found.map.to(images.device), found.gate.to(images.device))


# What the ratios take ---------------------------------------------------------------------------------------------


def _names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence of strings, got {names!r}")
    for name in names:
        checks.choice(name, "names", RATIOS)
    return tuple(names)


@contextmanager
def _watch(
    model: nn.Module, names: tuple[str, ...] | None, layer: Any, grid: Any
) -> Iterator[Callable[[Tensor], SUMixOutput]]:
    """A function that shows the model images in evaluation mode, without gradient, and returns its map too.

    `capture_features` hands the map over in training mode only, in which BatchNorm would take (and keep) statistics of
    these few images and dropout would drop. So it is told to hand it over in evaluation mode as well.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    model = unwrapped(model, ("_orig_mod",))
    capture = None

    @torch.no_grad()
    def look(images: Tensor) -> SUMixOutput:
        output = model(images)
        output = SUMixOutput(output) if isinstance(output, Tensor) else output
        if not isinstance(output, SUMixOutput) or output.logits.ndim != 2:
            raise ValueError(f"model must return logits (N, K), got {_described(output)}")
        return output

    try:
        captured = layer is None and bool(captures_of(model))
        if not captured and (names is None or {"foreground", "feature", "cam"} & set(names)):
            try:
                capture = capture_features(model, layer, grid=grid)
            except ValueError:
                if names is not None or layer is not None:
                    raise  # else there is no map, and the other ratios must do
        with in_eval_mode(model):
            yield look
    finally:
        if capture is not None:
            capture.remove()


def _described(output: Any) -> str:
    if isinstance(output, SUMixOutput):
        output = output.logits
    return checks.shape(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _ratios(
    mixed: SUMixOutput, raw: SUMixOutput, target: MixTarget, names: tuple[str, ...] | None
) -> dict[str, Tensor]:
    if names is None:
        has = dict.fromkeys(("foreground", "feature"), raw.features is not None)
        has["cam"] = None not in (raw.features, raw.class_weight)
        names = tuple(name for name in RATIOS if has.get(name, True))
    if not isinstance(target, MixTarget):
        raise TypeError(f"target must be the MixTarget of a transform without num_classes, got {type(target).__name__}")
    target = replace(target, weights=None)  # each ratio finds its own
    found = {"area": target.lam}
    mixed, raw = (replace(output, uncertainty=None) for output in (mixed, raw))  # which no ratio depends on
    for name in names:
        criterion = SUMixLoss(gamma=0.0, ratio=name, distance_scale=PUBLISHED_BATCH, return_parts=True)
        found[name] = criterion(mixed, raw, target)[1].lam.float()
    return found


def _preparation(model: nn.Module, images: Tensor, mean: Any, std: Any) -> Callable[[Tensor], Tensor]:
    """From pixels to what the model takes: normalised, in its dtype, on its device."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    like = next((p for p in model.parameters() if p.is_floating_point()), images.new_empty(0, dtype=torch.float32))
    scales = []
    for name, value in (("mean", mean), ("std", std)):
        value = checks.per_channel(value, name)
        if value.numel() not in (1, images.shape[1]):
            raise ValueError(
                f"{name} must be a number, or one for each of the {images.shape[1]} channels, got {value.numel()}"
            )
        scales.append(value.view(-1, 1, 1).to(like.device))
    if not ((scales[0] >= 0) & (scales[0] <= 1)).all():
        raise ValueError(f"mean must be from 0 to 1, as pixels are, got {scales[0].flatten().tolist()}")
    if not ((scales[1] > 0) & (scales[1] <= 1)).all():
        raise ValueError(f"std must be above 0 and at most 1, as of pixels, got {scales[1].flatten().tolist()}")

    def prepare(x: Tensor) -> Tensor:
        x = x.to(like.device, torch.float32) / (255 if x.dtype is torch.uint8 else 1)
        return ((x - scales[0]) / scales[1]).to(like.dtype)

    return prepare


# The picture ------------------------------------------------------------------------------------------------------


def _check_images(images: Any) -> None:
    if checks.tensor(images, "images").dtype not in (torch.uint8, *checks.FLOATS):
        raise TypeError(f"images must be uint8, or floating point from 0 to 1, got {images.dtype}")
    if images.ndim != 4 or images.shape[0] < 2 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise ValueError(f"images must be (N, 3, H, W) or (N, 1, H, W) with N > 1, got {checks.shape(images)}")
    if images.is_floating_point() and not ((images >= 0) & (images <= 1)).all():
        low, high = images.min().item(), images.max().item()
        raise ValueError(f"images must be uint8, or floating point from 0 to 1, got {low:.9g} to {high:.9g}")


def _copies(mixers: Any) -> dict[str, Mixer]:
    """Of the user's mixers, with options that fit a picture."""
    if not isinstance(mixers, Mapping) or not mixers:
        raise TypeError(f"mixers must map titles to sumix's transforms, got {mixers!r}")
    copies = {}
    for title, mixer in mixers.items():
        if not isinstance(mixer, Mixer):
            raise TypeError(f"mixers[{title!r}] must be one of sumix's transforms, got {type(mixer).__name__}")
        twin = copy.copy(mixer)  # what cannot be copied goes, then the rest is copied
        twin.generator, twin.cross_rank, twin.labels_getter = None, False, "default"
        twin.num_classes, twin.label_smoothing, twin.multi_label = None, 0.0, False
        twin.normalize, twin.dtype = None, torch.float32
        twin = copy.deepcopy(twin)
        twin.partners = "no_fixed_points"
        if hasattr(twin, "inplace"):
            twin.inplace = False
        copies[str(title)] = twin
    return copies


def _draw(images: Tensor, columns: dict[str, tuple[Tensor, dict[str, Tensor]]]) -> Figure:
    """The figure, laid out by hand: every cell a square of the same size, nothing between them but the captions."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install sumix[show]") from error

    n, height, width = images.shape[0], *images.shape[2:]
    lines = max(len(found) for _, found in columns.values())
    cell_w, cell_h = (CELL * side / max(height, width) for side in (width, height))
    cell_w = max(cell_w, CELL / 2)  # titles and captions need some room
    row = cell_h + LINE + LEADING * (lines - 1) + (0.0 if lines == 1 else 2 * GAP)
    size_w = 2 * MARGIN + (cell_w + GAP) * (1 + len(columns)) + GAP
    size_h = MARGIN + TITLE + row * n
    figure = Figure(figsize=(size_w, size_h), dpi=150, facecolor="white")

    for i in range(n):
        for j, title in enumerate(["image", *columns]):
            left = MARGIN + (cell_w + GAP) * j + (2 * GAP if j > 0 else 0.0)  # originals stand apart
            bottom = size_h - TITLE - cell_h - row * i
            at = figure.add_axes((left / size_w, bottom / size_h, cell_w / size_w, cell_h / size_h))
            picture, found = (images, {}) if j == 0 else columns[title]
            _show(at, picture[i])
            if i == 0:
                at.set_title(title, fontsize=8.5, pad=4, weight="bold" if j > 0 else "normal")
            if found:
                at.set_xlabel(_caption({name: ratio[i].item() for name, ratio in found.items()}), labelpad=2.5)
                at.xaxis.label.set(fontsize=7, color="#333333", linespacing=1.15)
                at.xaxis.label.set_fontfamily("monospace" if len(found) > 1 else "sans-serif")
    return figure


def _show(at: Axes, picture: Tensor) -> None:
    pixels = picture.detach().cpu()
    pixels = pixels if pixels.dtype is torch.uint8 else pixels.float().clamp(0, 1)
    pixels = pixels.movedim(0, -1)
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255 if pixels.dtype is torch.uint8 else 1}
    at.imshow(pixels.squeeze(-1).numpy(), aspect="auto" if min(picture.shape[1:]) == 1 else "equal", **grey)
    at.set(xticks=[], yticks=[])
    at.spines[:].set_visible(False)


def _caption(found: dict[str, float]) -> str:
    """A line a ratio; names and numbers each in a column of their own if there are several."""
    width = max(map(len, found)) if len(found) > 1 else 0
    return "\n".join(f"{'lam' if name == 'area' else name:<{width}} {value:.2f}" for name, value in found.items())
