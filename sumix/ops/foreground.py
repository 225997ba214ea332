"""Foreground evidence by two means: where each image's object is, and whether one stands out at all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.maps import places

MOST_ROUNDS = 100  # the op's own bound: more would take long, and change nothing

_op = torch.ops.sumix.foreground.default


class Foreground(NamedTuple):
    """Where the object of each image is: float32, or float64 for float64 maps. None of it has a gradient."""

    map: Tensor
    """(N, H, W), (N, L) for signals: the evidence s, at least 0, with the sides of `fine`."""
    gate: Tensor
    """(N,): 0 where no object stands out from the rest, 1 where one does, and what lies between."""
    means: Tensor
    """(N, d): each image's mean of `fine` over its places, of which a running mean can be kept."""


def foreground(
    features: Tensor,
    fine: Tensor,
    *,
    rounds: int = 1,
    mean: Tensor | None = None,
    gate: tuple[float, float] = reference.GATE,
    grid: Sequence[int] | None = None,
    fine_grid: Sequence[int] | None = None,
) -> Foreground:
    r"""Evidence by two means: where each image's object is, from two maps of a network, and whether there is one.

    The last feature map f of an unmixed image tells object from background, but has coarse cells. The map F of the
    stage before, usually of twice the sides, shows outlines without knowing what the object is. Evidence by two means
    lets the first say where the object roughly is, and the second where it ends. With g the mean of f over its places,

    .. math::
        s_p = \max(0, f_p \cdot g - \mathrm{mean}_q f_q \cdot g)

    upsampled bilinearly to the sides of F, and then `rounds` times, with :math:`w = s / \max s`,

    .. math::
        a &= \sum_p w_p F_p / \sum_p w_p, \quad b = \sum_p (1 - w_p) F_p / \sum_p (1 - w_p) \\
        s_p &= \max(0, F_p \cdot (a - b) - (\|a\|^2 - \|b\|^2) / 2)

    which is above 0 where the image is nearer to the mean feature a of its object than to the mean b of the rest. It
    takes no labels, no weights and no parameters.

    Something stands out in every image, an object or not. The gate tells: with the means of the first round and
    :math:`\mu` the mean of F over all images,

    .. math::
        q = \|a - b\|^2 / (\|a - \mu\|^2 + \|b - \mu\|^2), \quad
        \mathrm{gate} = (q - \mathrm{low}) / (\mathrm{high} - \mathrm{low}), \text{ from 0 to 1}

    q is 0 where both means are the same, and at most 2. Where the gate is 0, a mix's area is the better label.

    This method is sumix's own. Its truth is the share of real object masks that a mix leaves visible; what it has to
    beat there are the mix's area, class activation, and the evidence "feature" of `masked_similarity`, which is the
    first of these formulas alone.

    **What it costs.** One read of `features` from memory, and one of `fine` in each round. Where the channels of `fine`
    are innermost, or its places many, each round reads it once more, from the cache. On CUDA that is one launch, and a
    small second one if `mean` is None. Nothing here has a gradient. On CPU the result does not depend on the number of
    threads.

    Parameters
    ----------
    features : Tensor, floating point
        The unmixed images' last maps: (N, D, h, w), (N, D, l) for signals, or tokens (N, L, D) with `grid`. Contiguous,
        channels_last, and slices that leave each sample as it is are read in place. Half precision is computed in
        float32. Maps whose evidence is nowhere above what rounding may leave are flat (`min_contrast` of
        `masked_similarity`).
    fine : Tensor, floating point
        Finer maps of the same images: (N, d, H, W) with H >= h and W >= w, (N, d, L), or tokens with `fine_grid`. Its
        layout need not be that of `features`, and it may be the same tensor, as for vision transformers, whose map is
        fine already. If their dtypes differ, the map of lower precision is converted first, which copies it.
    rounds : int
        How often the two means are formed, 1 to 100; one or two are enough. Each round reads `fine`.
    mean : Tensor, shape (d,), floating point, optional
        :math:`\mu`, a running mean of the `means` of many batches for instance. None: the mean over this batch, which
        should then not be small.
    gate : (float, float)
        (low, high), 0 <= low < high: the q up to which the gate is 0 and from which on it is 1.
    grid : (int, int), optional
        (h, w) of the tokens of `features`, or (l,) for signals: their last h * w tokens in row-major order are the
        places; those before (class, registers) are left out.
    fine_grid : (int, int), optional
        The same for `fine`. It is `grid` if `fine` is the very tensor `features`.

    Returns
    -------
    Foreground
        map (N, H, W), gate (N,) and means (N, d). Map and gate are 0 where `features` are flat; the gate is 0 too where
        a and b coincide. NaN or inf in the maps of an image, or values whose products overflow, make its map and gate
        NaN; NaN or inf in `fine` is in its means too, and without `mean` in the gate of every image.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If shapes or devices do not fit together, or a number is out of its range.

    See Also
    --------
    masked_similarity : visible shares from such maps as objects (`evidence="object"`).

    Examples
    --------
    >>> evidence = ops.foreground(features, fine)
    >>> shares = ops.masked_similarity(
    ...     evidence.map, target.perm, target.lam, box=target.box, size=target.image_size, evidence="object"
    ... )
    """
    coarse, _, h, w, tokens = places(features, grid)
    if fine is features and fine_grid is None:
        fine_grid = grid
    finer, _, fine_h, fine_w, fine_tokens = places(fine, fine_grid, "fine", "fine_grid")
    dimensions = features.ndim - 2 if grid is None else len(grid)
    fine_dimensions = fine.ndim - 2 if fine_grid is None else len(fine_grid)
    if dimensions == 3:
        raise ValueError(f"features must be maps of images or signals, got {checks.shape(features)} of videos")
    if fine_dimensions != dimensions:
        raise ValueError(
            f"fine must have as many spatial dimensions as features, {dimensions}, got {checks.shape(fine)}, which has "
            f"{fine_dimensions}"
        )
    if fine.shape[0] != features.shape[0]:
        raise ValueError(f"fine must be of as many images as features, {features.shape[0]}, got {checks.shape(fine)}")
    if fine_h < h or fine_w < w:
        raise ValueError(f"fine must have at least the sides of features, {(h, w)}, got {(fine_h, fine_w)}")
    checks.same_device(fine, "fine", features, "features")
    rounds, (low, high) = check_rounds(rounds), check_gate(gate)
    contrast = reference.min_contrast_of(coarse.dtype)
    if coarse.dtype is not finer.dtype:
        common = torch.promote_types(coarse.dtype, finer.dtype)
        coarse, finer = coarse.to(common), finer.to(common)
    real = torch.float64 if finer.dtype is torch.float64 else torch.float32
    channels = finer.shape[2 if fine_tokens else 1]
    centre = finer.new_empty(0, dtype=real) if mean is None else _mean(mean, finer, channels, real)
    sides = (h, w, fine_h, fine_w, tokens, fine_tokens)
    arguments = (coarse, finer, centre, *sides, rounds, low, high, contrast)
    try:
        if dispatch.is_plain(*arguments[:3]):
            with torch._C._AutoDispatchBelowAutograd():
                found = Foreground(*_op(*arguments))
        else:
            found = Foreground(*dispatch.call(_op, *arguments))
    except RuntimeError as error:
        checks.reraise(error)
    return found if dimensions == 2 else found._replace(map=found.map.flatten(1))


def check_rounds(rounds: Any) -> int:
    """Fail unless so many rounds can be made."""
    if not 1 <= checks.integer(rounds, "rounds") <= MOST_ROUNDS:
        raise ValueError(f"rounds must be from 1 to {MOST_ROUNDS}, got {rounds}")
    return int(rounds)


def check_gate(gate: Any) -> tuple[float, float]:
    """Fail unless these are two separations, at which a gate begins to open and is open."""
    low, high = checks.interval(gate, "gate", 0, checks.LARGEST)
    if low >= high:
        raise ValueError(f"gate must be (low, high) with low < high, got {gate}")
    return low, high


def _mean(mean: Any, fine: Tensor, channels: int, real: torch.dtype) -> Tensor:
    if checks.floating(mean, "mean").shape != (channels,):
        raise ValueError(f"mean must be (d,) = ({channels},) as fine has {channels} channels, got {checks.shape(mean)}")
    checks.same_device(mean, "mean", fine, "fine")
    return mean.detach().to(real).contiguous()


@dispatch.fake("foreground")
def _(features, fine, mean, h, w, fine_h, fine_w, tokens, fine_tokens, rounds, low, high, min_contrast):
    real = torch.float64 if fine.dtype is torch.float64 else torch.float32
    n, channels = fine.shape[0], fine.shape[2 if fine_tokens else 1]
    return tuple(fine.new_empty(shape, dtype=real) for shape in ((n, fine_h, fine_w), (n,), (n, channels)))


dispatch.fallback("foreground", reference.foreground_explicit)


def _none(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("sumix::foreground has no gradient: detach its inputs, as sumix.ops.foreground does")


dispatch.register_autograd("sumix::foreground", _none)
dispatch.with_numbers(_op, _none)
