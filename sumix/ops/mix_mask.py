"""Mixing each image of a batch with a partner from the same batch by a mask."""

import torch
from torch import Tensor

from sumix.ops import checks, dispatch
from sumix.ops.mix import LINEAR_DTYPES, as_given, call, dense, fake, fallback, gradient, setup_context

_mix_mask = torch.ops.sumix.mix_mask.default
_mix_mask_backward = torch.ops.sumix.mix_mask_backward.default


def mix_mask(x: Tensor, mask: Tensor, perm: Tensor) -> Tensor:
    r"""Weighted mean of each image and its partner with a weight per pixel, `mask x + (1 - mask) x[perm]`.

    One pass over memory; `x[perm]` is never gathered. Differentiable in `x`, once; not in `mask`. A weight of exactly 0
    takes nothing from its image, not even NaN. A bool mask chooses, and so copies any dtype as it is.

    Parameters
    ----------
    x : Tensor, shape (N, ..., H, W)
        Images (N, C, H, W), videos (N, C, T, H, W; the same mask in each frame), maps (N, H, W); or signals
        (N, ..., L). Any dtype for a bool mask; otherwise the dtypes, arithmetic and rounding of `mix_linear`.
        Contiguous or channels_last memory is used as it is, any other is copied first.
    mask : Tensor, shape (N, H, W), or (N, L) for signals; bool or floating point
        Weight of the sample's own image, 0 to 1. Used in float32. (N, 1, 1), or (N, 1) for signals: the same weight all
        over, as in `mix_linear`.
    perm : Tensor, shape (N,), any integer dtype
        Each image's partner, 0 to N - 1. Not necessarily a permutation.

    Returns
    -------
    Tensor, of the shape, dtype and memory format of `x`

    Raises
    ------
    TypeError
        If an argument is not a dense tensor of the right kind.
    ValueError
        If shapes or devices do not fit together; on CPU, outside of torch.compile, also if a weight is NaN or not
        within 0 to 1, or a partner leaves the batch.

    References
    ----------
    Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", arXiv 2002.12047.
    """
    if isinstance(mask, Tensor) and mask.ndim == 3 and mask.dtype in (torch.float32, torch.bool):
        out = as_given(_mix_mask, x, mask, perm)
        if out is not None:
            return out
    mask = checks.mask(mask, "mask", checks.batch(x, "x"), "x")
    if x.dtype not in LINEAR_DTYPES and mask.dtype is not torch.bool:
        raise TypeError(
            f"x must be floating point, uint8 or a signed integer unless the mask is bool, got x of {x.dtype}"
        )
    perm = checks.indices(perm, "perm", x, "x")
    signals = mask.ndim == 2
    if signals:  # images of one row
        mask, x = mask.unsqueeze(1), x.unsqueeze(-2)
    out = call(_mix_mask, dense(x), mask, perm)
    return out.squeeze(-2) if signals else out


for _name in ("mix_mask", "mix_mask_backward"):
    dispatch.fallback(_name, fallback(_name))
    dispatch.fake(_name)(fake)

dispatch.register_autograd("sumix::mix_mask", gradient(_mix_mask_backward), setup_context=setup_context)
dispatch.register_autograd("sumix::mix_mask_backward", dispatch.once("mix_mask"))
