"""Masks from grey images: how many pixels they keep, and the k largest of each."""

from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.sample import as_seed

_sample_top_k = torch.ops.sumix.sample_top_k.default
_mask_top_k = torch.ops.sumix.mask_top_k.default


def sample_top_k(
    lam: Tensor,
    size: int,
    *,
    max_soft: float = 0.0,
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""How many pixels each mask is to keep, as FMix draws it, and how wide its soft edge is: for `mask_top_k`.

    :math:`\lambda \cdot size` is rounded up or down with equal probability, whatever its fraction.

    Parameters
    ----------
    lam : Tensor, shape (N,), floating point
        Weight that the own image is to have, 0 to 1. Used in float32.
    size : int
        Pixels of an image, 1 to :math:`2^{31} - 1`.
    max_soft : float
        Half width of the soft edge as a share of the image, 0 to 0.5.
    seed, generator
        See `sample_lam`; on the device of `lam`.

    Returns
    -------
    k : Tensor, shape (N,), int64
        Pixels to keep.
    soft : Tensor, shape (N,), int64
        :math:`\lfloor \min(max\_soft, \lambda, 1 - \lambda) \cdot size \rfloor`, and at most k and what k leaves.
    lam : Tensor, shape (N,), float32
        The exact weight, k / size: the mean of the mask.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a number is out of range or devices do not fit together; on CPU, outside of torch.compile, also if a weight
        is NaN or not within 0 to 1.

    References
    ----------
    Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", arXiv 2002.12047.
    """
    if checks.floating(lam, "lam").ndim != 1:
        raise ValueError(f"lam must be (N,), got {checks.shape(lam)}")
    if checks.count(size, "size") >= 2**31:
        raise ValueError(f"size must be below 2^31, got {size}")
    max_soft = checks.number(max_soft, "max_soft", 0, 0.5)
    source = as_seed(seed, generator, None if isinstance(seed, Tensor) else lam.device)
    checks.same_device(source, "seed", lam, "lam")
    lam = lam.detach().to(torch.float32).contiguous()
    try:
        if not dispatch.is_plain(source, lam):
            return dispatch.call(_sample_top_k, source, lam, size, max_soft)
        with torch._C._AutoDispatchBelowAutograd():  # past autograd's Python layer
            return _sample_top_k(source, lam, size, max_soft)
    except RuntimeError as error:
        checks.reraise(error)


def mask_top_k(grey: Tensor, k: Tensor, soft: Tensor | None = None) -> Tensor:
    r"""1 for the k largest pixels of each image and 0 for the others, with a soft edge between them if wanted.

    How FMix cuts a mask of exactly k pixels from a grey image. Pixels are selected, not sorted. The order is total: by
    value, equal pixels by their index, the lower first. -0 equals 0, and NaN ranks above infinity, as in `torch.topk`.

    With :math:`s` the image's `soft` and ranks counted from 0, the largest, the ranks :math:`k - s` to
    :math:`k + s - 1` fall linearly from 1 to 0, both ends included: rank :math:`q` becomes
    :math:`1 - (q - k + s) / (2 s - 1)`. The mean of the mask is :math:`k` over the number of pixels either way.

    Parameters
    ----------
    grey : Tensor, shape (N, ...), floating point
        Images (N, H, W), signals (N, L), or anything with a batch dimension. Compared in float32: pixels of a float64
        image are equal if they round to the same float32.
    k : Tensor, shape (N,), any integer dtype
        How many pixels are 1, 0 to as many as there are.
    soft : Tensor, shape (N,), any integer dtype, optional
        Half width s of the soft edge in ranks, 0 to the smaller of k and what k leaves. None: 0 for all.

    Returns
    -------
    Tensor, float32, of the shape of `grey`, contiguous
        No gradient flows through it.

    Raises
    ------
    TypeError
        If `grey` is not a dense floating point tensor, or `k` or `soft` not an integer one.
    ValueError
        If shapes or devices do not fit together; on CPU, outside of torch.compile, also if a `k` or `soft` is out of
        its range.

    References
    ----------
    Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", arXiv 2002.12047.
    """
    given = (grey, k) if soft is None else (grey, k, soft)
    if dispatch.is_plain(*given):  # the op checks everything itself, in less time than the checks here take
        try:
            with torch._C._AutoDispatchBelowAutograd():  # past autograd's Python layer
                return _mask_top_k(grey, k, k.new_empty(0) if soft is None else soft)
        except RuntimeError:
            pass
    grey = checks.floating(checks.batch(grey, "grey"), "grey").detach().to(torch.float32).contiguous()
    k = checks.indices(k, "k", grey, "grey")
    soft = k.new_empty(0) if soft is None else checks.indices(soft, "soft", grey, "grey")
    try:
        return _mask_top_k(grey, k, soft)
    except RuntimeError as error:
        checks.reraise(error)


@dispatch.fake("sample_top_k")
def _(seed: Tensor, lam: Tensor, size: int, max_soft: float) -> tuple[Tensor, Tensor, Tensor]:
    return seed.new_empty(lam.shape), seed.new_empty(lam.shape), lam.new_empty(lam.shape)


dispatch.fallback("sample_top_k", reference.sample_top_k)


@dispatch.fake("mask_top_k")
def _(grey: Tensor, k: Tensor, soft: Tensor) -> Tensor:
    return grey.new_empty(grey.shape)


def _explicit(grey: Tensor, k: Tensor, soft: Tensor) -> Tensor:
    return reference.mask_top_k(grey, k, None if soft.shape == (0,) else soft)


dispatch.fallback("mask_top_k", _explicit)


def _none(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("sumix's masks have no gradient: detach the inputs, as sumix.ops does")


dispatch.register_autograd("sumix::sample_top_k", _none)
dispatch.register_autograd("sumix::mask_top_k", _none)
dispatch.with_numbers(_sample_top_k, _none)
