"""Saliency: where in each image a viewer would look first, and which pixel most of all."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.mix import dense

_saliency = torch.ops.sumix.saliency.default
_saliency_peak = torch.ops.sumix.saliency_peak.default

ORDERS = ("rgb", "bgr")
PerChannel = float | Sequence[float] | Tensor


def saliency(x: Tensor, *, order: str = "rgb", mean: PerChannel | None = None, std: PerChannel | None = None) -> Tensor:
    r"""Fine-grained static saliency: how far each pixel is from its surroundings, at six sizes of them.

    On images of 8 bits and in whole numbers, identical to OpenCV's `StaticSaliencyFineGrained` (times 255) up to
    181 x 181 pixels; on larger images OpenCV's own rounding can differ by one level. OpenCV takes the first channel
    as blue: that is `order="bgr"`. No gradient flows through it.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W) with C = 1 or 3, or (N, H, W); uint8 or floating point
        Images. uint8 is taken as it is. Floating point is brought back to 8 bits first, as `mean` and `std` say.
        Contiguous or channels_last memory is read as it is, any other is copied first.
    order : {"rgb", "bgr"}
        Whether the first of three channels is red or blue.
    mean, std : float, sequence of C floats or Tensor with 1 or C elements, optional
        What the images were normalised with, in units where white is 1: the levels are
        :math:`255\,(\mathrm{std}\,x + \mathrm{mean})`, rounded to nearest and limited to 0 to 255. That gives back
        every level of 8-bit images that were normalised with CIFAR's or ImageNet's constants in float32 or float16
        (in bfloat16, which keeps 8 bits in all, to within one level). 0 and 1 are for images from 0 to 1. Both or
        none; not used for uint8. Without them each image's levels go from its own minimum to its own maximum over
        all channels: near the original, but not equal. A float32 Tensor of shape (C,) on the device of `x` is used
        as it is; numbers are copied there first.

    Returns
    -------
    Tensor, shape (N, H, W), uint8, contiguous
        Each image's saliency, 0 to 255. 0 everywhere if the image is constant.

    Raises
    ------
    TypeError
        If `x` is not a dense tensor of uint8 or floating point, or another argument not of the kind above.
    ValueError
        If shapes or devices do not fit together, `order` is neither of the two, only one of `mean` and `std` is given,
        or one of them is not finite or a `std` not above 0 (Tensors: on CPU, outside of torch.compile).

    Notes
    -----
    NaN counts as black. Infinities count as black and white, and are not part of the range that stands in for `mean`
    and `std`. float64 images are brought to 8 bits in float64, all others in float32.

    References
    ----------
    Montabone and Soto, "Human detection using a mobile platform and novel features derived from a visual saliency
    mechanism", Image and Vision Computing 28(3), 2010.
    """
    return _call(_saliency, x, order, mean, std)


def saliency_peak(
    x: Tensor, *, order: str = "rgb", mean: PerChannel | None = None, std: PerChannel | None = None
) -> Tensor:
    """The most salient pixel of each image: what SaliencyMix puts its box about. The map is not stored.

    Parameters
    ----------
    x, order, mean, std
        As in `saliency`; H and W at least 1.

    Returns
    -------
    Tensor, shape (N, 2), int64
        x (column) and y (row) of the map's first maximum in row-major order. (0, 0) if the image is constant.

    Raises
    ------
    TypeError, ValueError
        As `saliency`; also if the images have no pixels.

    References
    ----------
    Uddin et al., "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization", ICLR 2021,
    arXiv 2006.01791.
    """
    return _call(_saliency_peak, x, order, mean, std)


def _as_given(op: Callable[..., Tensor], x: Tensor, order: str, mean: Any, std: Any) -> Tensor | None:
    """What the op makes of the arguments as they are; None where they must be checked or converted in Python.

    The op checks everything itself, in a tenth of the time that the checks here take.
    """
    scaled = mean is not None or std is not None
    if not dispatch.is_plain(x) or order not in ORDERS or (x.dtype is torch.uint8 and scaled):
        return None
    if not scaled:
        mean = std = x.new_empty(0, dtype=torch.float32)
    elif not dispatch.is_plain(mean, std):
        return None
    try:
        with torch._C._AutoDispatchBelowAutograd():
            return op(x, mean, std, order == "bgr")
    except RuntimeError:
        return None


def _call(op: Callable[..., Tensor], x: Tensor, order: str, mean: PerChannel | None, std: PerChannel | None) -> Tensor:
    out = _as_given(op, x, order, mean, std)
    if out is not None:
        return out
    if checks.tensor(x, "x").dtype is not torch.uint8 and not x.is_floating_point():
        raise TypeError(f"x must be uint8 or floating point, got {x.dtype}")
    if x.dtype is not torch.uint8:
        checks.floating(x, "x")
    if x.ndim not in (3, 4):
        raise ValueError(f"x must be (N, C, H, W) or (N, H, W), got {checks.shape(x)}")
    channels = x.shape[1] if x.ndim == 4 else 1
    if channels not in (1, 3):
        raise ValueError(
            f"x must have 1 or 3 channels, got {channels} ({checks.shape(x)}): choose some, or pass one image (N, H, W)"
        )
    channels = 3 if channels == 3 else 1  # a plain number where torch.compile has a symbol
    if op is _saliency_peak and x.shape[0] > 0 and 0 in x.shape[-2:]:
        raise ValueError(f"x has no pixels: {checks.shape(x)}")
    bgr = checks.choice(order, "order", ORDERS) == 1
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std belong together, got only {'std' if mean is None else 'mean'}")
    if mean is None or std is None or x.dtype is torch.uint8:
        mean = std = x.new_empty(0, dtype=torch.float32)
    else:
        mean = checks.channels(mean, "mean", x, "x", channels)
        std = checks.channels(std, "std", x, "x", channels, above=0)
    try:
        return op(dense(x.detach()), mean, std, bgr)
    except RuntimeError as error:
        checks.reraise(error)


@dispatch.fake("saliency")
def _(x: Tensor, mean: Tensor, std: Tensor, bgr: bool) -> Tensor:
    return x.new_empty((x.shape[0], *x.shape[-2:]), dtype=torch.uint8)


@dispatch.fake("saliency_peak")
def _(x: Tensor, mean: Tensor, std: Tensor, bgr: bool) -> Tensor:
    return x.new_empty((x.shape[0], 2), dtype=torch.int64)


# Devices without kernels. No autograd formula: results of integers have no gradient.
dispatch.fallback("saliency", reference.saliency)
dispatch.fallback("saliency_peak", reference.saliency_peak)
