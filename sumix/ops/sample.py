"""Sampling on the device, without waiting for it: ratios, partners, boxes and noise, from one seed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch

PARTNERS = ("any", "no_fixed_points", "cross_class")
KINDS = ("cut", "span", "minmax", "resize")

_sample_lam = torch.ops.sumix.sample_lam.default
_sample_perm = torch.ops.sumix.sample_perm.default
_sample_box = torch.ops.sumix.sample_box.default
_cut_box = torch.ops.sumix.cut_box.default
_sample_uniform = torch.ops.sumix.sample_uniform.default
_sample_normal = torch.ops.sumix.sample_normal.default
_sample_seed = torch.ops.sumix.sample_seed.default

Device = torch.device | str | int | None


def draw_seed(device: Device = None, generator: torch.Generator | None = None) -> Tensor:
    """Draw a seed, any of 2^64 - 1 values, from torch's default generator or the one given, without waiting for it.

    Parameters
    ----------
    device : torch.device, optional
        Where the seed is to be: by default where the generator is, or else torch's default device.
    generator : torch.Generator, optional
        Of that device. Not under torch.compile, which cannot trace one.

    Returns
    -------
    Tensor, shape (), int64
    """
    if generator is None:  # to name None would fix sizes in a compiled graph
        return torch.randint(-(2**63), 2**63 - 1, (), device=device)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if torch.compiler.is_compiling():
        raise ValueError("generator must be None where it is compiled: give a seed, or sample outside of torch.compile")
    device = generator.device if device is None else torch.device(device)
    if generator.device.type != device.type:
        raise ValueError(f"generator must be on {device}, got one on {generator.device}")
    return torch.randint(-(2**63), 2**63 - 1, (), device=device, generator=generator)


def sample_lam(
    n: int,
    alpha: float = 1.0,
    *,
    p: float = 1.0,
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: Device = None,
) -> Tensor:
    r"""Draw n mixing ratios from Beta(alpha, alpha), or 1 with probability 1 - p.

    By Bailey's polar method: exact for every alpha, without rejection. Small ratios keep their relative precision; one
    that lies nearer to 1 than float32 can say is 1.

    Like everything that is sampled here, the result depends on nothing but the seed, bit by bit: not on the device, the
    number of threads, the processor or the compiler. (Devices without kernels compute logarithms as torch does there:
    uniform numbers, seeds and partners are the same, other ratios and normal deviates up to rounding.)

    lam[i] does not depend on n, nor, where it is mixed, on p.

    Parameters
    ----------
    n : int
        How many.
    alpha : float
        Of the Beta distribution, above 0. The smaller, the nearer to 0 or 1; 1 is uniform.
    p : float
        Probability that a ratio is drawn at all, 0 to 1.
    seed : Tensor of one element, any integer dtype, or int, optional
        What to draw from; a tensor is not waited for. The ops draw from streams of their own, so one seed can serve
        each of them once.
    generator : torch.Generator, optional
        What to draw a seed from, if none is given; by default torch's default generator. Not under torch.compile.
    device : torch.device, optional
        Where the result is to be: by default where the seed or the generator is, or else torch's default device.

    Returns
    -------
    Tensor, shape (n,), float32

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a number is out of range, a device does not fit, or both a seed and a generator are given.

    References
    ----------
    Bailey, "Polar generation of random variates with the t-distribution", Mathematics of Computation 62, 1994.
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    n, alpha, p = checks.integer(n, "n", 0), checks.positive(alpha, "alpha"), checks.number(p, "p", 0, 1)
    return _call(_sample_lam, as_seed(seed, generator, device), n, alpha, p)


def sample_perm(
    n: int,
    *,
    partners: str = "any",
    labels: Tensor | None = None,
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: Device = None,
) -> Tensor:
    r"""Draw a partner for each of n samples: a permutation.

    Parameters
    ----------
    n : int
        How many.
    partners : str
        - "any": a uniformly random permutation, in which one sample in the mean is its own partner.
        - "no_fixed_points": a uniformly random one of those that are a single cycle, so that for n > 1 nobody is its
          own partner and each other sample is the partner with the same probability. Two samples are never each
          other's partners, unless n = 2.
        - "cross_class": partners of another class, wherever that is possible: if a class has m > n / 2 of the samples,
          2 m - n of its own cannot but meet their class (though not themselves). The classes are laid out side by side
          on a ring, in random order, samples in random order within, and each sample's partner lies s places on. s is
          uniform among those, m to n - m, that lead everyone to another class, and else m. If all classes are of one
          size, each sample of another class is the partner with the same probability; if not, members of large classes
          are partners more often than others, as they must be in a permutation in which nobody meets its class. Within
          the partner's class all members are equally probable. The partners of classmates depend on each other: they
          are neighbours on the ring.
    labels : Tensor, shape (n,), any integer dtype
        The classes, any numbers; for "cross_class" alone.
    seed, generator, device
        See `sample_lam`; the device is by default that of the labels.

    Returns
    -------
    Tensor, shape (n,), int64
        Each number from 0 to n - 1 once.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, as in `sample_lam`.
    """
    n, which = checks.integer(n, "n", 0), checks.choice(partners, "partners", PARTNERS)
    if which == 2:
        if labels is None:
            raise ValueError('labels must be given for partners="cross_class"')
        if checks.tensor(labels, "labels").dtype not in checks.INTEGERS:
            raise TypeError(f"labels must be an integer tensor, got {labels.dtype}")
        if labels.ndim != 1 or labels.shape[0] != n:
            raise ValueError(f"labels must be (n,) = ({n},), got {checks.shape(labels)}")
        source = as_seed(seed, generator, labels.device if device is None else device)
        checks.same_device(labels, "labels", source, "the seed")
        labels = labels.to(torch.int64).contiguous()
    else:
        if labels is not None:
            raise ValueError(f'labels must be None unless partners is "cross_class", got partners={partners!r}')
        source = as_seed(seed, generator, device)
        labels = source.new_empty(0)
    return _call(_sample_perm, source, labels, n, which)


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
        Height and width of the images in pixels; the length of signals, which count as images of one row.
    kind : str
        - "cut", CutMix's: sides :math:`\lfloor size \sqrt{1 - \lambda} \rfloor` with :math:`\lambda` from
          Beta(alpha, alpha), about a centre uniform over the pixels; half sides are rounded down, and the box is
          clipped to the image. `sample_lam` with the same alpha, p and seed gives that lambda, unclipped.
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
        x1, y1, x2, y2 in pixels, ends exclusive. A box without pixels may be anywhere.
    lam : Tensor, shape (n,), float32
        1 - area / (H W).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, as in `sample_lam`.

    References
    ----------
    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", 2020.
    """
    n, (height, width) = checks.integer(n, "n", 0), as_size(size)
    which = checks.choice(kind, "kind", KINDS)
    if kind == "resize":
        alpha = checks.number(alpha, "alpha", 0)
    elif kind != "minmax":
        alpha = checks.positive(alpha, "alpha")
    p, low, high = checks.number(p, "p", 0, 1), checks.number(low, "low", 0, 1), checks.number(high, "high", 0, 1)
    if low > high:
        raise ValueError(f"low must be at most high, got {low:g} and {high:g}")
    return _call(_sample_box, as_seed(seed, generator, device), n, height, width, which, float(alpha), p, low, high)


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
    return _call(_cut_box, lam, centre, height, width)


def sample_uniform(
    n: int,
    size: int,
    *,
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: Device = None,
) -> Tensor:
    """Draw (n, size) numbers uniform in [0, 1), multiples of 2^-24, float32. A row does not depend on n.

    Parameters
    ----------
    n, size : int
        Rows and columns.
    seed, generator, device
        See `sample_lam`, also for what is raised.
    """
    n, size = checks.integer(n, "n", 0), checks.integer(size, "size", 0)
    return _call(_sample_uniform, as_seed(seed, generator, device), n, size)


def sample_normal(
    n: int,
    size: int,
    *,
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: Device = None,
) -> Tensor:
    """Draw (n, size) standard normal deviates, float32, of at most 6.8. A row does not depend on n.

    Parameters
    ----------
    n, size : int
        Rows and columns.
    seed, generator, device
        See `sample_lam`, also for what is raised.

    References
    ----------
    Box and Muller, "A note on the generation of random normal deviates", 1958.
    """
    n, size = checks.integer(n, "n", 0), checks.integer(size, "size", 0)
    return _call(_sample_normal, as_seed(seed, generator, device), n, size)


def sample_seed(
    n: int,
    *,
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    device: Device = None,
) -> Tensor:
    """Draw n seeds, (n,) int64, for what must not share one: an op that is called n times, the members of a mixture.

    Parameters
    ----------
    n : int
        How many.
    seed, generator, device
        See `sample_lam`, also for what is raised.
    """
    return _call(_sample_seed, as_seed(seed, generator, device), checks.integer(n, "n", 0))


# What the transforms call: their options were checked when they were made, and the kernels check again.


def lam_of(seed: Tensor, n: int, alpha: float, p: float) -> Tensor:
    """`sample_lam`."""
    return _call(_sample_lam, seed, n, alpha, p)


def perm_of(seed: Tensor, n: int, partners: str, labels: Tensor | None = None) -> Tensor:
    """`sample_perm`, with int64 labels."""
    labels = seed.new_empty(0) if labels is None else labels
    return _call(_sample_perm, seed, labels, n, checks.choice(partners, "partners", PARTNERS))


def box_of(
    seed: Tensor, n: int, size: tuple[int, ...], kind: str, alpha: float, p: float, low: float = 0, high: float = 0
) -> tuple[Tensor, Tensor]:
    """`sample_box`, with the sizes of signals too, whose boxes are (n, 2)."""
    signals = len(size) == 1
    box, lam = _call(_sample_box, seed, n, 1 if signals else size[0], size[-1], KINDS.index(kind), alpha, p, low, high)
    return (box[:, ::2].contiguous() if signals else box), lam


def as_seed(seed: Any, generator: torch.Generator | None, device: Device) -> Tensor:
    """The seed to draw from, (), int64, on the device."""
    if seed is None:
        return draw_seed(device, generator)
    if generator is not None:
        raise ValueError("generator must be None where a seed is given")
    if not isinstance(seed, Tensor):
        return torch.full((), checks.integer(seed, "seed"), dtype=torch.int64, device=device)
    if checks.tensor(seed, "seed").dtype not in checks.INTEGERS:
        raise TypeError(f"seed must be an integer tensor, got {seed.dtype}")
    if seed.numel() != 1:
        raise ValueError(f"seed must have one element, got {checks.shape(seed)}")
    if device is not None and torch.empty(0, device=device).device != seed.device:
        raise ValueError(f"seed must be on {device}, got {seed.device}")
    return seed if seed.dtype is torch.int64 else seed.to(torch.int64)


def as_size(size: Any) -> tuple[int, int]:
    """Height and width."""
    if isinstance(size, int):
        size = (1, size)
    elif not isinstance(size, (tuple, list)):
        raise TypeError(f"size must be (height, width) or a length, got {type(size).__name__}")
    if len(size) != 2:
        raise ValueError(f"size must be (height, width) or a length, got {size}")
    for side in size:
        if checks.integer(side, "size", 0) >= 2**31:
            raise ValueError(f"size must be below 2^31, got {side}")
    return size[0], size[1]


def _call(op: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return op(*arguments)
    except RuntimeError as error:
        checks.reraise(error)


for _name in (
    "sample_lam", "sample_perm", "sample_box", "cut_box", "sample_uniform", "sample_normal", "sample_seed"
):  # fmt: skip
    torch.library.impl(f"sumix::{_name}", "default", getattr(reference, _name))


@torch.library.register_fake("sumix::sample_lam")
def _(seed: Tensor, n: int, alpha: float, p: float) -> Tensor:
    return seed.new_empty((n,), dtype=torch.float32)


@torch.library.register_fake("sumix::sample_perm")
def _(seed: Tensor, labels: Tensor, n: int, partners: int) -> Tensor:
    dispatch.one_device(seed, labels)
    return seed.new_empty((n,))


@torch.library.register_fake("sumix::sample_box")
def _(
    seed: Tensor, n: int, height: int, width: int, kind: int, alpha: float, p: float, low: float, high: float
) -> tuple[Tensor, Tensor]:
    return seed.new_empty((n, 4)), seed.new_empty((n,), dtype=torch.float32)


@torch.library.register_fake("sumix::cut_box")
def _(lam: Tensor, centre: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    dispatch.one_device(lam, centre)
    return centre.new_empty((lam.shape[0], 4)), lam.new_empty(lam.shape)


@torch.library.register_fake("sumix::sample_uniform")
def _(seed: Tensor, n: int, size: int) -> Tensor:
    return seed.new_empty((n, size), dtype=torch.float32)


@torch.library.register_fake("sumix::sample_normal")
def _(seed: Tensor, n: int, size: int) -> Tensor:
    return seed.new_empty((n, size), dtype=torch.float32)


@torch.library.register_fake("sumix::sample_seed")
def _(seed: Tensor, n: int) -> Tensor:
    return seed.new_empty((n,))


def _none(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("sumix::cut_box has no gradient: detach lam, as sumix.ops.cut_box does")


torch.library.register_autograd("sumix::cut_box", _none)
