"""Sampling on the device, without waiting for it: ratios, partners and noise, from one seed; boxes: `sample_box`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch

PARTNERS = ("any", "no_fixed_points", "cross_class")

_sample_lam = torch.ops.sumix.sample_lam.default
_sample_perm = torch.ops.sumix.sample_perm.default
_sample_uniform = torch.ops.sumix.sample_uniform.default
_sample_normal = torch.ops.sumix.sample_normal.default
_sample_seed = torch.ops.sumix.sample_seed.default

Device = torch.device | str | int | None


def draw_seed(device: Device = None, generator: torch.Generator | None = None) -> Tensor:
    """Draw a seed, any of 2^64 - 1 values, from torch's default generator or the one given, without waiting for it.

    Under torch.compile any of 2^62.

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
    if generator is None:
        if torch.compiler.is_compiling():
            return _draw_in_halves(device)
        return torch.randint(-(2**63), 2**63 - 1, (), device=device)  # to name None would fix sizes in a compiled graph
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if torch.compiler.is_compiling():
        raise ValueError("generator must be None where it is compiled: give a seed, or sample outside of torch.compile")
    device = generator.device if device is None else torch.device(device)
    if generator.device.type != device.type:
        raise ValueError(f"generator must be on {device}, got one on {generator.device}")
    return torch.randint(-(2**63), 2**63 - 1, (), device=device, generator=generator)


def _draw_in_halves(device: Device) -> Tensor:
    """One of 2^62 seeds: what torch.compile makes of randint for a GPU has bounds of 32 bits."""
    high, low = torch.randint(2**31 - 1, (2,), device=device).unbind()
    return high << 33 | low


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
    return draw(_sample_lam, as_seed(seed, generator, device), n, alpha, p)


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
    if n >= 2**31:
        raise ValueError(f"n must be below 2^31, got {n}")
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
    return draw(_sample_perm, source, labels, n, which)


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
    return draw(_sample_uniform, as_seed(seed, generator, device), n, size)


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
    return draw(_sample_normal, as_seed(seed, generator, device), n, size)


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
    return draw(_sample_seed, as_seed(seed, generator, device), checks.integer(n, "n", 0))


# What the transforms call: their options were checked when they were made, and the kernels check again.


def lam_of(seed: Tensor, n: int, alpha: float, p: float) -> Tensor:
    """`sample_lam`."""
    return draw(_sample_lam, seed, n, alpha, p)


def perm_of(seed: Tensor, n: int, partners: str, labels: Tensor | None = None) -> Tensor:
    """`sample_perm`, with int64 labels."""
    labels = seed.new_empty(0) if labels is None else labels
    if partners not in PARTNERS:  # an attribute that was changed
        checks.choice(partners, "partners", PARTNERS)
    return draw(_sample_perm, seed, labels, n, PARTNERS.index(partners))


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


def draw(op: Callable[..., Any], *arguments: Any) -> Any:
    """The op, whose complaints become ValueErrors."""
    try:
        return dispatch.call(op, *arguments)
    except RuntimeError as error:
        checks.reraise(error)


for _name in ("sample_lam", "sample_perm", "sample_uniform", "sample_normal", "sample_seed"):
    dispatch.fallback(_name, getattr(reference, _name))


@dispatch.fake("sample_lam")
def _(seed: Tensor, n: int, alpha: float, p: float) -> Tensor:
    return seed.new_empty((n,), dtype=torch.float32)


@dispatch.fake("sample_perm")
def _(seed: Tensor, labels: Tensor, n: int, partners: int) -> Tensor:
    return seed.new_empty((n,))


@dispatch.fake("sample_uniform")
def _(seed: Tensor, n: int, size: int) -> Tensor:
    return seed.new_empty((n, size), dtype=torch.float32)


@dispatch.fake("sample_normal")
def _(seed: Tensor, n: int, size: int) -> Tensor:
    return seed.new_empty((n, size), dtype=torch.float32)


@dispatch.fake("sample_seed")
def _(seed: Tensor, n: int) -> Tensor:
    return seed.new_empty((n,))


dispatch.with_numbers(_sample_lam)
