"""Plain PyTorch twins of the operators: what tests compare with, benchmarks start from, and devices without kernels use."""

from torch import Tensor


def uncertainty(logits: Tensor) -> Tensor:
    """u = q / ||q||_2 with q = softmax(x), row by row, for logits (N, K)."""
    q = logits.softmax(dim=1)
    return q / q.norm(dim=1, keepdim=True)
