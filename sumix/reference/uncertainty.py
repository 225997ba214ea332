"""Normalised uncertainty."""

from torch import Tensor

from sumix.reference.precision import real


def uncertainty(logits: Tensor) -> Tensor:
    """u = q / ||q||_2 with q = softmax(x), row by row, for logits (N, K)."""
    q = real(logits).softmax(dim=1)
    return (q / q.norm(dim=1, keepdim=True)).to(logits.dtype)


def uncertainty_backward(u: Tensor, grad_u: Tensor) -> Tensor:
    """dL/dx = u (g - u <g, u>), row by row."""
    wide, g = real(u), real(grad_u)
    return (wide * (g - wide * (wide * g).sum(dim=1, keepdim=True))).to(u.dtype)
