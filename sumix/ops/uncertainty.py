"""Normalised uncertainty: softmax, then unit length."""

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch

_op = torch.ops.sumix.uncertainty.default
_backward = torch.ops.sumix.uncertainty_backward.default


def uncertainty(logits: Tensor) -> Tensor:
    r"""Uncertainty of each class, :math:`u = q / \|q\|_2` with :math:`q = \mathrm{softmax}(x)`.

    Differentiable once. Under autocast it is computed in float32, as torch's softmax is.

    Parameters
    ----------
    logits : Tensor, shape (N, K), float16, bfloat16, float32 or float64
        Output of the uncertainty layer, unbounded.

    Returns
    -------
    Tensor, shape (N, K), the dtype of `logits`
        Non-negative rows of unit Euclidean length.

    Raises
    ------
    TypeError
        If `logits` is not a floating point tensor.
    ValueError
        If `logits` is not two-dimensional or has no column.

    References
    ----------
    Qin et al., "SUMix: Mixup with Semantic and Uncertain Information", ECCV 2024, section 3.
    """
    dispatch.refuse_forward_mode("uncertainty", logits)
    return dispatch.call(_op, checks.rows(logits, "logits").contiguous())


@dispatch.fake("uncertainty")
def _(logits: Tensor) -> Tensor:
    return logits.new_empty(logits.shape)


@dispatch.fake("uncertainty_backward")
def _(u: Tensor, grad_u: Tensor) -> Tensor:
    return u.new_empty(u.shape)


dispatch.fallback("uncertainty", reference.uncertainty)
dispatch.fallback("uncertainty_backward", reference.uncertainty_backward)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(output)


def _gradient(ctx, grad_u: Tensor) -> Tensor:
    (u,) = ctx.saved_tensors
    return dispatch.call(_backward, u, grad_u.contiguous())  # autograd may hand over an expanded, stride-0 gradient


dispatch.register_autograd("sumix::uncertainty", _gradient, setup_context=_setup_context)
for device in ("cpu", "cuda"):
    dispatch.register_autocast("sumix::uncertainty", device, torch.float32)


dispatch.register_autograd("sumix::uncertainty_backward", dispatch.once("uncertainty"))
