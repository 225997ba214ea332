"""Pasting the whole partner, resized, into a box of each image of a batch."""

import torch
from torch import Tensor

from sumix.ops import checks, dispatch
from sumix.ops.mix import LINEAR_DTYPES, as_given, call, dense, fake, fallback, gradient, setup_context

_mix_resize = torch.ops.sumix.mix_resize.default
_mix_resize_backward = torch.ops.sumix.mix_resize_backward.default


NAMES = {"resize": "mode"}  # what the op calls otherwise


def mix_resize(x: Tensor, box: Tensor, perm: Tensor, mode: str | Tensor = "bilinear") -> Tensor:
    r"""Fill a box of each image with the whole of its partner, resized to the box's size.

    Pixels are those of `torch.nn.functional.interpolate(x[perm[i]], size=(y2 - y1, x2 - x1), mode=mode)`, without
    antialiasing. One call for all boxes. Differentiable in `x`, once.

    Parameters
    ----------
    x : Tensor, shape (N, ..., H, W)
        Images (N, C, H, W), videos (N, C, T, H, W; frame by frame), maps (N, H, W); or signals (N, ..., L), resized
        along L. Any dtype for the nearest modes; "bilinear" takes the dtypes of `mix_linear`, and like it computes in
        float32, or float64 for float64, int32 and int64, and rounds integers to nearest, ties to even. Contiguous or
        channels_last memory is used as it is, any other is copied first.
    box : Tensor, shape (N, 4), any integer dtype
        x1, y1, x2, y2 in pixels, ends exclusive, 0 <= x1 <= x2 <= W and 0 <= y1 <= y2 <= H: as it is, clipped already.
        An empty box pastes nothing. For signals (N, 2): x1, x2.
    perm : Tensor, shape (N,), any integer dtype
        Each image's partner, 0 to N - 1. Not necessarily a permutation.
    mode : {"nearest", "nearest-exact", "bilinear"}, or Tensor, shape (N,), any integer dtype; default: "bilinear"
        As in `interpolate`; "bilinear" is "linear" for signals. Or a way for each row: 1, 2, 3 for these three, and 0
        for the partner's own box, not resized, as in `mix_box`.

    Returns
    -------
    Tensor, of the shape, dtype and memory format of `x`

    Raises
    ------
    TypeError
        If an argument is not a dense tensor of the right kind, or `mode` neither string nor integer tensor.
    ValueError
        If shapes or devices do not fit together or `mode` is none of the above; on CPU, outside of torch.compile, also
        if a box leaves the image, a partner the batch, or a row's `mode` is not 0 to 3.

    Notes
    -----
    "nearest" and "nearest-exact" are interpolate's bit for bit for the dtypes whose indices it computes in float32:
    all but float64 in contiguous memory, where a few of its indices differ from its own for float32.

    References
    ----------
    Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", arXiv 2012.11101.
    """
    box = checks.boxes(box, "box", checks.batch(x, "x"), "x")
    perm = checks.indices(perm, "perm", x, "x")
    resize = check_mode(mode, x)
    signals = box.shape[1] == 2
    x, box = checks.as_images(x, box)
    out = as_given(_mix_resize, x, box, resize, perm)
    if out is None:
        out = call(_mix_resize, dense(x), box, resize, perm, names=NAMES)
    return out.squeeze(-2) if signals else out


def check_mode(mode: str | Tensor, x: Tensor) -> Tensor:
    """The codes (N,) of `mode`, if it can be done with images of this dtype."""
    if isinstance(mode, str) and mode == "bilinear" and x.dtype not in LINEAR_DTYPES:
        raise TypeError(f'x must be floating point, uint8 or a signed integer for mode="bilinear", got {x.dtype}')
    return checks.resize(mode, "mode", x, "x")


for _name in ("mix_resize", "mix_resize_backward"):
    dispatch.fallback(_name, fallback(_name))
    dispatch.fake(_name)(fake)

dispatch.register_autograd("sumix::mix_resize", gradient(_mix_resize_backward), setup_context=setup_context)
dispatch.register_autograd("sumix::mix_resize_backward", dispatch.once("mix_resize"))
