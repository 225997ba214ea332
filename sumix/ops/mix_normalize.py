"""Mixing 8-bit images and normalising the result in one pass."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.mix import dense

_mix_normalize = torch.ops.sumix.mix_normalize.default
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # as the op numbers them


def mix_normalize(
    x: Tensor,
    perm: Tensor,
    *,
    box: Tensor | None = None,
    resize: Tensor | str | None = None,
    mask: Tensor | None = None,
    lam: Tensor | None = None,
    mean: float | Sequence[float] | Tensor,
    std: float | Sequence[float] | Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Mix 8-bit images, then scale, subtract the mean and divide by the standard deviation, in one pass.

    `(mixed / 255 - mean) / std` in the dtype that the network wants: the last step of an input pipeline that keeps its
    images in 8 bits. What is mixed is not rounded to 8 bits in between. Without gradient, as the images are integers.
    The arguments are those of a `MixTarget`, so one can be replayed by
    `mix_normalize(x, target.perm, box=target.box, resize=target.resize, mask=target.mask, lam=target.lam, ...)`.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W), uint8
        Contiguous or channels_last memory is used as it is, any other is copied first.
    perm : Tensor, shape (N,), any integer dtype
        Each image's partner, 0 to N - 1. Not necessarily a permutation.
    box : Tensor, shape (N, 4), any integer dtype, optional
        As in `mix_box`: x1, y1, x2, y2 in pixels, filled from the partner. An empty box pastes nothing.
    resize : {"nearest", "nearest-exact", "bilinear"}, or Tensor, shape (N,), any integer dtype, optional
        How the boxes are filled, as `mode` in `mix_resize`; by default from the partner's own box.
    mask : Tensor, shape (N, H, W) or (N, 1, 1), bool or floating point, optional
        As in `mix_mask`, after the boxes: weight of the own image against that of `x[perm]`.
    lam : Tensor, shape (N,), floating point, optional
        As in `mix_linear`, where neither `box` nor `mask` is given; otherwise not used, as they say it all.
    mean, std : float, sequence of C floats, or Tensor, shape (C,)
        For images from 0 to 1. Finite, `std` above 0. Used in float32; a tensor saves the time to make one of it.
    dtype : {torch.float32, torch.float16, torch.bfloat16}, default: torch.float32
        Of the result. Computed in float32, rounded once.

    Returns
    -------
    Tensor, of the shape and memory format of `x`

    Raises
    ------
    TypeError
        If an argument is not of the right kind.
    ValueError
        If there is nothing to mix by, shapes or devices do not fit together or `dtype` is none of the above; on CPU,
        outside of torch.compile, also for values in `box`, `resize`, `mask`, `lam`, `perm`, `mean` or `std` that are
        not as above.
    """
    if checks.tensor(x, "x").dtype is not torch.uint8:
        raise TypeError(f"x must be uint8, got {x.dtype}")
    if x.ndim != 4:
        raise ValueError(f"x must be (N, C, H, W), got {checks.shape(x)}")
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {type(dtype).__name__}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    perm = checks.indices(perm, "perm", x, "x")
    absent = x.new_empty(0)
    boxes = ways = masks = absent
    if box is not None:
        boxes = checks.boxes(box, "box", x, "x")
        if boxes.shape[1] != 4:
            raise ValueError(f"box must be (N, 4) for images, got {checks.shape(boxes)}")
        if resize is not None:
            ways = checks.resize(resize, "resize", x, "x")
    elif resize is not None:
        raise ValueError("resize needs a box")
    if mask is not None:
        masks = checks.mask(mask, "mask", x, "x")
        if masks.ndim != 3:
            raise ValueError(f"mask must be (N, H, W) or (N, 1, 1), got {checks.shape(masks)}")
    elif box is None:
        if lam is None:
            raise ValueError("box, mask or lam must be given")
        masks = checks.ratios(lam, "lam", x, "x", torch.float32).view(-1, 1, 1)
    channels = [
        checks.channels(value, name, x, "x", x.shape[1], above)
        for value, name, above in ((mean, "mean", -math.inf), (std, "std", 0))
    ]
    how = (boxes, ways, masks, perm, *channels)
    try:
        if dispatch.is_plain(x, *how):
            with torch._C._AutoDispatchBelowAutograd():
                return _mix_normalize(dense(x), *how, DTYPES.index(dtype))
        return _mix_normalize(dense(x), *how, DTYPES.index(dtype))
    except RuntimeError as error:
        checks.reraise(error, {"mask": "lam"} if mask is None else {})


def _explicit(
    x: Tensor, box: Tensor, resize: Tensor, mask: Tensor, perm: Tensor, mean: Tensor, std: Tensor, dtype: int
) -> Tensor:
    absent = [None if t.shape == (0,) else t for t in (box, resize, mask)]
    out = reference.mix_normalize(x, *absent, perm, mean, std, DTYPES[dtype])
    return dispatch.new_like(x, DTYPES[dtype]).copy_(out)


dispatch.fallback("mix_normalize", _explicit)


@dispatch.fake("mix_normalize")
def _(x: Tensor, box, resize, mask, perm: Tensor, mean: Tensor, std: Tensor, dtype: int) -> Tensor:
    return dispatch.new_like(x, DTYPES[dtype])
