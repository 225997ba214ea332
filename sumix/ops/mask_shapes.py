"""The masks of GridMix, holes on a grid, and of SmoothMix, a Gaussian bump: both products of a row and a column."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sumix.ops import checks
from sumix.ops.sample import sample_uniform
from sumix.ops.sample_box import as_size, share_of


def sides_of(size: int | Sequence[int]) -> tuple[int, ...]:
    """(height, width), or (length,) for signals; each at least 1."""
    if isinstance(size, Sequence) and len(size) == 1:
        size = size[0]
    sides = as_size(size)[1:] if isinstance(size, int) else as_size(size)
    for side in sides:
        checks.count(side, "size")
    return sides


def sample_grid(
    n: int,
    size: int | Sequence[int],
    *,
    area: tuple[float, float] = (0.5, 1.0),
    aspect: tuple[float, float] = (0.5, 2.0),
    cells: tuple[int, int] = (2, 6),
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draw what GridMix's masks are made from, for `grid_mask`: a rectangle, and how many cells it has in a row.

    A rectangle of area ratio a and aspect ratio r has the sides :math:`w = \lfloor \sqrt{a H W / r} \rfloor` and
    :math:`h = \lfloor r w \rfloor`, at least 1 and at most the image's, and lies anywhere in the image. Of signals it
    is :math:`\lfloor a L \rfloor` samples.

    Parameters
    ----------
    n : int
        How many.
    size : (int, int) or int
        Height and width of the images in pixels, or the length of signals.
    area : (float, float)
        Least and greatest share of the image that the rectangle covers, within 0 to 1; uniform between them.
    aspect : (float, float)
        Least and greatest height over width, above 0; uniform between them.
    cells : (int, int)
        Fewest and most cells in a row, at least 1; uniform among them.
    seed, generator, device
        See `sample_lam`. The numbers are `sample_uniform`'s.

    Returns
    -------
    box : Tensor, shape (n, 4), int64
        x1, y1, x2, y2 in pixels, ends exclusive. For signals (n, 2): x1, x2.
    cells : Tensor, shape (n,), int64

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    References
    ----------
    Baek et al., "GridMix: Strong regularization through local context mapping", Pattern Recognition 109, 2021.
    """
    sides = sides_of(size)
    least, most = _range(area, "area", 0, 1)
    low, high = _range(aspect, "aspect", 1e-3, 1e3)
    fewest, highest = (checks.count(value, "cells") for value in _pair(cells, "cells"))
    if fewest > highest:
        raise ValueError(f"cells must not fall, got {cells}")
    u = sample_uniform(n, 5, seed=seed, generator=generator, device=device)
    share, ratio, column, row, which = u.unbind(1)
    covered = math.prod(sides) * (least + (most - least) * share)
    ratio = low + (high - low) * ratio
    number = fewest + (which * (highest - fewest + 1)).to(torch.int64)
    width = covered if len(sides) == 1 else (covered / ratio).sqrt()
    width = width.floor().clamp(1, sides[-1])
    x = (column * (sides[-1] + 1 - width)).floor()
    if len(sides) == 1:
        return torch.stack([x, x + width], dim=1).to(torch.int64), number
    # The height from the width as it would be if the image were not in the way.
    height = ((covered / ratio).sqrt().floor() * ratio).floor().clamp(1, sides[0])
    y = (row * (sides[0] + 1 - height)).floor()
    return torch.stack([x, y, x + width, y + height], dim=1).to(torch.int64), number


def grid_mask(box: Tensor, cells: Tensor, lam: Tensor, size: int | Sequence[int]) -> tuple[Tensor, Tensor]:
    r"""GridMix's masks: square holes in the corners of a grid's cells, within a rectangle, through which the partner
    shows.

    A cell is a square of :math:`c = \lceil w / cells \rceil` pixels a side, for a rectangle w pixels wide; its hole
    begins at its upper left corner and has sides :math:`\lfloor c \sqrt{1 - \lambda} \rfloor`, but at least 1 and at
    most c - 1. (Of signals, :math:`\lfloor c (1 - \lambda) \rfloor`.) Cells that reach beyond the rectangle end there.

    Parameters
    ----------
    box : Tensor, shape (N, 4), any integer dtype
        The rectangles: x1, y1, x2, y2 in pixels, ends exclusive. For signals (N, 2): x1, x2.
    cells : Tensor, shape (N,), any integer dtype
        Cells in a row, at least 1 (less counts as 1).
    lam : Tensor, shape (N,), floating point
        Weight that the own image is to have within the cells, 0 to 1. With 1 there are no holes.
    size : (int, int) or int
        Height and width of the images in pixels, or the length of signals.

    Returns
    -------
    mask : Tensor, shape (N, H, W) or (N, L), bool
        Where the own image shows.
    lam : Tensor, shape (N,), float32
        The exact weight, the mean of each mask.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit. What values the tensors hold is not checked.

    References
    ----------
    Baek et al., "GridMix: Strong regularization through local context mapping", Pattern Recognition 109, 2021.
    """
    sides = sides_of(size)
    if checks.tensor(box, "box").dtype not in checks.INTEGERS:
        raise TypeError(f"box must be an integer tensor, got {box.dtype}")
    if box.ndim != 2 or box.shape[1] != 2 * len(sides):
        raise ValueError(f"box must be (N, {2 * len(sides)}) for this size, got {checks.shape(box)}")
    cells = checks.indices(cells, "cells", box, "box")
    lam = checks.ratios(lam, "lam", box, "box", torch.float32)
    x1, y1, x2, y2 = box.to(torch.int64).unbind(1) if len(sides) == 2 else (box[:, 0], None, box[:, 1], None)
    cells = cells.clamp(min=1)
    cell = ((x2 - x1 + cells - 1) // cells).clamp(min=1)
    share = (1 - lam) if len(sides) == 1 else (1 - lam).sqrt()
    hole = torch.minimum((cell * share).to(torch.int64).clamp(min=1), cell - 1).where(lam < 1, 0)

    def holes(start: Tensor, end: Tensor, side: int) -> Tensor:
        at = torch.arange(side, device=box.device)
        from_start = at - start.unsqueeze(1)
        return (from_start >= 0) & (at < end.unsqueeze(1)) & (from_start % cell.unsqueeze(1) < hole.unsqueeze(1))

    columns = holes(x1, x2, sides[-1])
    shown = columns.sum(dim=1)
    if len(sides) == 1:
        return ~columns, 1 - share_of(shown, sides[0])
    rows = holes(y1, y2, sides[0])
    mask = ~rows.unsqueeze(2) | ~columns.unsqueeze(1)  # one pass over what is large
    return mask, 1 - share_of(shown * rows.sum(dim=1), sides[0] * sides[1])


def sample_smooth(
    n: int,
    size: int | Sequence[int],
    *,
    spread: tuple[float, float] = (0.25, 0.5),
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | int | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw what SmoothMix's masks are made from, for `smooth_mask`: centres, anywhere in the image, and widths.

    Parameters
    ----------
    n : int
        How many.
    size : (int, int) or int
        Height and width of the images in pixels, or the length of signals.
    spread : (float, float)
        Least and greatest standard deviation, as shares of the height (of a signal, its length); uniform between them.
    seed, generator, device
        See `sample_lam`. The numbers are `sample_uniform`'s.

    Returns
    -------
    centre : Tensor, shape (n, 2), float32
        x and y; the pixel at row i and column j has its middle at x = j + 0.5, y = i + 0.5. For signals (n, 1).
    sigma : Tensor, shape (n,), float32
        In pixels.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    References
    ----------
    Lee et al., "SmoothMix: A Simple Yet Effective Data Augmentation to Train Robust Classifiers", CVPR Workshops 2020.
    """
    sides = sides_of(size)
    low, high = _range(spread, "spread", 0, 1e3)
    u = sample_uniform(n, 3, seed=seed, generator=generator, device=device)
    x, y, width = u.unbind(1)
    centre = [x * sides[-1], y * sides[0]][: len(sides)]
    return torch.stack(centre, dim=1), sides[0] * (low + (high - low) * width)


def smooth_mask(centre: Tensor, sigma: Tensor, size: int | Sequence[int]) -> tuple[Tensor, Tensor]:
    r"""SmoothMix's masks: the partner shows with weight :math:`w = \exp(-d^2 / (2 \sigma^2))` at distance d of a pixel.

    Parameters
    ----------
    centre : Tensor, shape (N, 2), floating point
        x and y; the pixel at row i and column j has its middle at x = j + 0.5, y = i + 0.5. For signals (N, 1).
    sigma : Tensor, shape (N,), floating point
        Standard deviation in pixels, at least 0; with 0 the partner does not show.
    size : (int, int) or int
        Height and width of the images in pixels, or the length of signals.

    Returns
    -------
    mask : Tensor, shape (N, H, W) or (N, L), float32
        1 - w, the weight of the own image at each pixel.
    lam : Tensor, shape (N,), float32
        1 - mean(w), the mean of each mask up to rounding.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit. What values the tensors hold is not checked.

    References
    ----------
    Lee et al., "SmoothMix: A Simple Yet Effective Data Augmentation to Train Robust Classifiers", CVPR Workshops 2020.
    """
    sides = sides_of(size)
    if checks.floating(centre, "centre").ndim != 2 or centre.shape[1] != len(sides):
        raise ValueError(f"centre must be (N, {len(sides)}) for this size, got {checks.shape(centre)}")
    sigma = checks.ratios(sigma, "sigma", centre, "centre", torch.float32)
    centre = centre.detach().to(torch.float32)
    # 1 / (sqrt(2) sigma); where sigma is 0 it is infinite, and a pixel on the very centre would be 0 / 0.
    scale = (math.sqrt(0.5) / sigma).unsqueeze(1)

    def bump(middle: Tensor, side: int) -> Tensor:
        at = torch.arange(side, dtype=torch.float32, device=centre.device) + 0.5
        return ((at - middle.unsqueeze(1)) * scale).square().neg().exp().where(scale < math.inf, 0)

    columns = bump(centre[:, 0], sides[-1])
    if len(sides) == 1:
        return 1 - columns, 1 - columns.mean(dim=1)
    rows = bump(centre[:, 1], sides[0])
    mask = torch.addcmul(sigma.new_ones(()), rows.unsqueeze(2), columns.unsqueeze(1), value=-1)
    return mask, 1 - rows.mean(dim=1) * columns.mean(dim=1)


def _pair(value: Sequence, name: str) -> Sequence:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} must be (least, greatest), got {type(value).__name__}")
    if len(value) != 2:
        raise ValueError(f"{name} must be (least, greatest), got {value}")
    return value


def _range(value: Sequence[float], name: str, low: float, high: float) -> tuple[float, float]:
    least, greatest = (checks.number(end, name, low, high) for end in _pair(value, name))
    if least > greatest:
        raise ValueError(f"{name} must not fall, got {value}")
    return least, greatest
