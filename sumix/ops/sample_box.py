"""Sampling the boxes that are filled from partners."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.sample import Device, as_seed, draw, lam_of, sample_uniform

KINDS = ("cut", "span", "minmax", "resize")

_sample_box = torch.ops.sumix.sample_box.default
_cut_box = torch.ops.sumix.cut_box.default


def sample_box(
    n: int,
    size: int | Sequence[int],
    *,
    kind: str = "cut",
    alpha: float = 1.0,
    p: float = 1.0,
    low: float = 0.1,
    high: float = 0.8,
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: Device = None,
) -> tuple[Tensor, Tensor]:
    r"""Draw n boxes to be filled from a partner, and the exact share of the image that each leaves.

    Parameters
    ----------
    n : int
        How many.
    size : (int, int) or int
        Height and width of the images in pixels; the length of signals, which count as images of one row; or (int, int,
        int), the depth, height and width of volumes, for "cut" and "minmax".
    kind : str
        - "cut", CutMix's: sides :math:`\lfloor size \sqrt{1 - \lambda} \rfloor` with :math:`\lambda` from
          Beta(alpha, alpha), about a centre uniform over the pixels; half sides are rounded down, and the box is
          clipped to the image. `sample_lam` with the same alpha, p and seed gives that lambda, unclipped. Of volumes,
          sides :math:`\lfloor size (1 - \lambda)^{1/3} \rfloor`.
        - "span", the same for signals: all rows of :math:`\lfloor W (1 - \lambda) \rfloor` columns.
        - "minmax", timm's cutmix_minmax: sides uniform from floor(size low) to below floor(size high) (that number
          itself if both are equal), anywhere where the whole box lies in the image. Without alpha.
        - "resize", ResizeMix's: sides :math:`2 \lfloor \lfloor \tau size \rfloor / 2 \rfloor` about a centre uniform
          over the pixels, clipped, with tau from Beta(alpha, alpha), but drawn again from Uniform(low, high) where it
          is outside of that; from Uniform(low, high) alone if alpha is 0.
    alpha : float
        Of the Beta distribution, above 0 (for "resize" also 0).
    p : float
        Probability of a box, 0 to 1; otherwise it is (0, 0, 0, 0) and its lam 1.
    low, high : float
        Shares of a side, 0 <= low <= high <= 1, for "minmax" and "resize".
    seed, generator, device
        See `sample_lam`.

    Returns
    -------
    box : Tensor, shape (n, 4), int64
        x1, y1, x2, y2 in pixels, ends exclusive; (n, 6) x1, y1, z1, x2, y2, z2 of volumes. A box without pixels may be
        anywhere.
    lam : Tensor, shape (n,), float32
        1 - area / (H W), or 1 - volume / (D H W).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, as in `sample_lam`.

    References
    ----------
    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", 2020.
    """
    n = checks.integer(n, "n", 0)
    which = checks.choice(kind, "kind", KINDS)
    if kind == "resize":
        alpha = checks.number(alpha, "alpha", 0)
    elif kind != "minmax":
        alpha = checks.positive(alpha, "alpha")
    p, low, high = checks.number(p, "p", 0, 1), checks.number(low, "low", 0, 1), checks.number(high, "high", 0, 1)
    if low > high:
        raise ValueError(f"low must be at most high, got {low:g} and {high:g}")
    volume = isinstance(size, (tuple, list)) and len(size) == 3
    size = as_volume(size) if volume else as_size(size)
    if volume and kind not in ("cut", "minmax"):
        raise ValueError(f'kind must be "cut" or "minmax" for volumes, got {kind!r}')
    seed = as_seed(seed, generator, device)
    if volume:
        return _volume_box(seed, n, size, kind, float(alpha), p, low, high)
    return draw(_sample_box, seed, n, *size, which, float(alpha), p, low, high)


def cut_box(lam: Tensor, centre: Tensor, size: int | Sequence[int]) -> tuple[Tensor, Tensor]:
    r"""CutMix's boxes about given pixels, as SaliencyMix has them, and the exact share of the image that each leaves.

    Sides are :math:`\lfloor size \sqrt{1 - \lambda} \rfloor`, half sides are rounded down, and the box is clipped to
    the image. Without gradient.

    Parameters
    ----------
    lam : Tensor, shape (N,), floating point
        Weight that the own image is to have, 0 to 1. Used in float32. With 1 the box is empty.
    centre : Tensor, shape (N, 2), any integer dtype
        x and y in pixels, within the image.
    size : (int, int) or int
        Height and width of the images in pixels; the length of signals, which count as images of one row.

    Returns
    -------
    box : Tensor, shape (N, 4), int64
        x1, y1, x2, y2 in pixels, ends exclusive.
    lam : Tensor, shape (N,), float32
        1 - area / (H W).

    Raises
    ------
    TypeError
        If an argument is not of the right kind.
    ValueError
        If shapes or devices do not fit together; on CPU, outside of torch.compile, also if a weight is NaN or not
        within 0 to 1, or a centre leaves the image.

    References
    ----------
    Uddin et al., "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization", ICLR 2021.
    """
    if dispatch.is_plain(lam, centre) and lam.dtype is torch.float32 and centre.dtype is torch.int64:
        try:  # the op checks its arguments itself, in less time than the checks here take
            with torch._C._AutoDispatchBelowAutograd():  # past autograd's Python layer
                return _cut_box(lam, centre, *as_size(size))
        except RuntimeError:
            pass  # the checks say more
    if checks.floating(lam, "lam").ndim != 1:
        raise ValueError(f"lam must be (N,), got {checks.shape(lam)}")
    if checks.tensor(centre, "centre").dtype not in checks.INTEGERS:
        raise TypeError(f"centre must be an integer tensor, got {centre.dtype}")
    if centre.shape != (lam.shape[0], 2):
        raise ValueError(f"centre must be (N, 2) = ({lam.shape[0]}, 2), got {checks.shape(centre)}")
    checks.same_device(centre, "centre", lam, "lam")
    height, width = as_size(size)
    lam, centre = lam.detach().to(torch.float32).contiguous(), centre.to(torch.int64).contiguous()
    return draw(_cut_box, lam, centre, height, width)


def box_of(
    seed: Tensor, n: int, size: tuple[int, ...], kind: str, alpha: float, p: float, low: float = 0, high: float = 0
) -> tuple[Tensor, Tensor]:
    """`sample_box` for the transforms, whose options are checked; also of signals, whose boxes are (n, 2)."""
    if len(size) == 3:
        return _volume_box(seed, n, size, kind, alpha, p, low, high)
    options = KINDS.index(kind), alpha, p, low, high
    if len(size) == 2:
        return draw(_sample_box, seed, n, *size, *options)
    length = size[0]
    # Only "span" knows images of one row; of such a side the other kinds take a share too, which is no whole pixel.
    box, lam = draw(_sample_box, seed, n, 1 if kind == "span" else length, length, *options)
    box = box[:, ::2].contiguous()
    if kind != "span":
        lam = share_of(length - (box[:, 1] - box[:, 0]), length)
    return box, lam


def _volume_box(
    seed: Tensor, n: int, size: tuple[int, ...], kind: str, alpha: float, p: float, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """`box_of` of kind "cut" or "minmax" for a size (D, H, W): boxes (n, 6) and what they leave, (n,)."""
    sides = size[::-1]  # as boxes have them: x, y, z
    share = 1 - lam_of(seed, n, alpha if kind == "cut" else 1.0, p).to(torch.float64)  # of the partner; 0: no box
    uniform = sample_uniform(n, 6, seed=seed).to(torch.float64).unbind(1)
    bounds = []
    for axis, length in enumerate(sides):
        if kind == "cut":
            half = _root(share, length).to(torch.int64) // 2
            centre = (uniform[axis] * length).to(torch.int64)
            bounds.append(((centre - half).clamp(min=0), (centre + half).clamp(max=length)))
        else:
            least, most = int(length * low), int(length * high)
            side = least + (uniform[axis] * (most - least)).to(torch.int64)
            first = (uniform[3 + axis] * (length - side + 1)).to(torch.int64)
            bounds.append((first, first + side))
    box = torch.stack([pair[0] for pair in bounds] + [pair[1] for pair in bounds], dim=1)
    if p != 1 and kind != "cut":
        box = box.where((share > 0).unsqueeze(1), 0)
    first, last = box.tensor_split(2, dim=1)
    voxels = size[0] * size[1] * size[2]
    return box, share_of(voxels - (last - first).prod(dim=1), max(voxels, 1))


def _root(share: Tensor, length: int) -> Tensor:
    """floor(length share^(1/3)), the same on every device, whose roots may differ in the last place."""
    cube = share * float(length**3)
    root = cube.pow(1 / 3).floor()
    above = root + 1
    root = torch.where(above * above * above <= cube, above, root)
    return torch.where(root * root * root > cube, root - 1, root)


def share_of(part: Tensor, whole: int) -> Tensor:
    """part / whole, float32, the same on every device and when compiled, and 1 of all.

    In float32 it would not be: on a GPU torch divides by a number as times its reciprocal, which makes 41 of 41 less
    than 1, and compiled code divides in ways of its own.
    """
    return (part.to(torch.float64) / whole).to(torch.float32)


def as_size(size: Any) -> tuple[int, int]:
    """Height and width."""
    if isinstance(size, int):
        size = (1, size)
    elif not isinstance(size, (tuple, list)):
        raise TypeError(f"size must be (height, width) or a length, got {type(size).__name__}")
    if len(size) != 2:
        raise ValueError(f"size must be (height, width) or a length, got {size}")
    return _side(size[0]), _side(size[1])


def as_volume(size: Sequence[Any]) -> tuple[int, int, int]:
    """Depth, height and width."""
    depth, height, width = size
    return _side(depth), _side(height), _side(width)


def _side(value: Any) -> int:
    if checks.integer(value, "size", 0) >= 2**31:
        raise ValueError(f"size must be below 2^31, got {value}")
    return value


for _name in ("sample_box", "cut_box"):
    dispatch.fallback(_name, getattr(reference, _name))


@dispatch.fake("sample_box")
def _(
    seed: Tensor, n: int, height: int, width: int, kind: int, alpha: float, p: float, low: float, high: float
) -> tuple[Tensor, Tensor]:
    return seed.new_empty((n, 4)), seed.new_empty((n,), dtype=torch.float32)


@dispatch.fake("cut_box")
def _(lam: Tensor, centre: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    return centre.new_empty((lam.shape[0], 4)), lam.new_empty(lam.shape)


def _none(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("sumix::cut_box has no gradient: detach lam, as sumix.ops.cut_box does")


dispatch.register_autograd("sumix::cut_box", _none)
dispatch.with_numbers(_sample_box)
