"""Mixing each image of a batch with a partner from the same batch: by a box, or by a weighted mean."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.volumes import as_slices, as_volumes

_mix_box = torch.ops.sumix.mix_box.default
_mix_box_backward = torch.ops.sumix.mix_box_backward.default
_mix_linear = torch.ops.sumix.mix_linear.default
_mix_linear_backward = torch.ops.sumix.mix_linear_backward.default
_soft_labels = torch.ops.sumix.soft_labels.default

LINEAR_DTYPES = (*checks.FLOATS, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def mix_box(x: Tensor, box: Tensor, perm: Tensor) -> Tensor:
    r"""Fill a box of each image from its partner: image i is `x[i]`, with `box[i]` from `x[perm[i]]`.

    One pass over memory; `x[perm]` is never gathered. Differentiable in `x`, once.

    Parameters
    ----------
    x : Tensor, shape (N, ..., H, W), any dtype
        Images (N, C, H, W), videos (N, C, T, H, W; the same box in each frame), maps (N, H, W); or signals
        (N, ..., L). Contiguous or channels_last memory is used as it is, any other is copied first.
    box : Tensor, shape (N, 4), any integer dtype
        x1, y1, x2, y2 in pixels, ends exclusive, 0 <= x1 <= x2 <= W and 0 <= y1 <= y2 <= H. An empty box pastes
        nothing. For signals (N, 2): x1, x2. For volumes (N, ..., D, H, W) (N, 6): x1, y1, z1, x2, y2, z2.
    perm : Tensor, shape (N,), any integer dtype
        Each image's partner, 0 to N - 1. Not necessarily a permutation.

    Returns
    -------
    Tensor, of the shape, dtype and memory format of `x`

    Raises
    ------
    TypeError
        If an argument is not a dense tensor, or `box` or `perm` not an integer one.
    ValueError
        If shapes or devices do not fit together; on CPU, outside of torch.compile, also if a box leaves the image or a
        partner the batch.

    References
    ----------
    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    """
    if isinstance(box, Tensor) and box.dtype is torch.int64 and box.shape[-1:] == (4,):
        out = as_given(_mix_box, x, box, perm)
        if out is not None:
            return out
    box = checks.boxes(box, "box", checks.batch(x, "x"), "x", volumes=True)
    perm = checks.indices(perm, "perm", x, "x")
    if box.shape[1] == 6:
        x = dense(x)
        return as_volumes(call(_mix_box, *as_slices(x, box, perm)), x)
    signals = box.shape[1] == 2
    x, box = checks.as_images(x, box)
    out = call(_mix_box, dense(x), box, perm)
    return out.squeeze(-2) if signals else out


def mix_linear(x: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    r"""Weighted mean of each image and its partner, :math:`\lambda_i x_i + (1 - \lambda_i) x_{\mathrm{perm}_i}`.

    One pass over memory; `x[perm]` is never gathered. Differentiable in `x`, once; not in `lam`. A weight of exactly 0
    takes nothing from its image, not even NaN, so that `lam` = 1 leaves an image as it is.

    Parameters
    ----------
    x : Tensor, shape (N, ...)
        float16, bfloat16, float32, float64, uint8, int8, int16, int32 or int64. Half precision and integers of 8 and
        16 bits are computed in float32, integers of 32 and 64 bits in float64; integers are rounded to nearest, ties to
        even. Contiguous or channels_last memory is used as it is, any other is copied first.
    lam : Tensor, shape (N,), floating point
        Weight of the sample's own image, 0 to 1. Used in float32.
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
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """
    if isinstance(lam, Tensor) and lam.dtype is torch.float32:
        out = as_given(_mix_linear, x, lam, perm)
        if out is not None:
            return out
    if checks.batch(x, "x").dtype not in LINEAR_DTYPES:
        raise TypeError(f"x must be floating point, uint8 or a signed integer, got {x.dtype}")
    lam = checks.ratios(lam, "lam", x, "x", torch.float32)
    perm = checks.indices(perm, "perm", x, "x")
    return call(_mix_linear, dense(x), lam, perm)


def dense(x: Tensor) -> Tensor:
    """`x` contiguous or channels_last, as its strides suggest; itself where it is that already."""
    if x.is_contiguous():
        return x
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if last is not None and x.stride(1) == 1 and x.shape[1] > 1:
        return x.contiguous(memory_format=last)
    return x.contiguous()


def run(op: Callable[..., Tensor], x: Tensor, *how: Tensor) -> Tensor:
    """The op, past autograd's Python layer (5 us, half of what a small op takes) where no gradient is wanted."""
    return _run(op, x, how, dispatch.is_plain(x, *how))


def _run(op: Callable[..., Tensor], x: Tensor, how: tuple[Tensor, ...], plain: bool) -> Tensor:
    dispatch.refuse_forward_mode(op._opname, x)
    if not plain or (x.requires_grad and torch.is_grad_enabled()):
        return dispatch.call(op, x, *how)
    with torch._C._AutoDispatchBelowAutograd():
        return op(x, *how)


def as_given(op: Callable[..., Tensor], x: Tensor, *how: Tensor) -> Tensor | None:
    """What the op makes of the arguments as they are; None where they must be checked or converted in Python.

    The op checks everything itself, in less time than the checks here take.
    """
    if not dispatch.is_plain(x, *how) or not x.is_contiguous():  # channels_last, or to be copied
        return None
    try:
        return _run(op, x, how, True)
    except RuntimeError:
        return None


def call(op: Callable[..., Tensor], x: Tensor, *how: Tensor, names: dict[str, str] | None = None) -> Tensor:
    """The op, where a kernel that finds fault with its arguments raises ValueError; see checks.reraise."""
    try:
        return run(op, x, *how)
    except RuntimeError as error:
        checks.reraise(error, names)


def fallback(name: str) -> Callable[..., Tensor]:
    """What serves as this operator on devices without kernels: its twin, in the memory format that a kernel keeps."""
    twin = getattr(reference, name)

    def in_format_of_x(x: Tensor, *how: Tensor) -> Tensor:
        result = twin(x, *how)
        return result if result.stride() == x.stride() else dispatch.new_like(x).copy_(result)

    return in_format_of_x


def fake(x: Tensor, *how: Tensor) -> Tensor:
    """What torch knows of a mix before it is computed: shape, dtype, device and memory format are those of x."""
    return dispatch.new_like(x)


for _name in ("mix_box", "mix_box_backward", "mix_linear", "mix_linear_backward"):
    dispatch.fallback(_name, fallback(_name))
    dispatch.fake(_name)(fake)


def soft_labels(
    y_a: Tensor,
    y_b: Tensor,
    lam: Tensor,
    num_classes: int,
    label_smoothing: float,
    names: dict[str, str] | None = None,
) -> Tensor:
    """Targets (N, num_classes) from int64 labels (N,) and their float32 weights (N,); see `MixTarget.soft`.

    `names`: see `checks.reraise`.
    """
    try:
        if not dispatch.is_plain(y_a, y_b, lam):
            return dispatch.call(_soft_labels, y_a, y_b, lam, num_classes, label_smoothing)
        with torch._C._AutoDispatchBelowAutograd():
            return _soft_labels(y_a, y_b, lam, num_classes, label_smoothing)
    except RuntimeError as error:
        checks.reraise(error, names)


dispatch.fallback("soft_labels", reference.soft_labels)
dispatch.with_numbers(_soft_labels)


@dispatch.fake("soft_labels")
def _(y_a: Tensor, y_b: Tensor, lam: Tensor, num_classes: int, label_smoothing: float) -> Tensor:
    return lam.new_empty((lam.shape[0], num_classes))


def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Keep how it was mixed, not what."""
    ctx.save_for_backward(*inputs[1:])


def gradient(backward: Callable[..., Tensor]) -> Callable[..., tuple[Tensor | None, ...]]:
    """The autograd formula of an op that is linear in x, its first argument, and has no gradient to the others."""

    def formula(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        how = ctx.saved_tensors
        if grad.is_complex():
            parts = [dispatch.call(backward, dense(part), *how) for part in (grad.real, grad.imag)]
            out = torch.complex(*parts)
        else:
            out = dispatch.call(backward, dense(grad), *how)
        return out, *[None] * len(how)

    return formula


for _name, _backward in ("mix_box", _mix_box_backward), ("mix_linear", _mix_linear_backward):
    dispatch.register_autograd(f"sumix::{_name}", gradient(_backward), setup_context=setup_context)
    dispatch.register_autograd(f"sumix::{_name}_backward", dispatch.once(_name))
