"""Mixing a batch in place."""

from torch import Tensor

from sumix.reference.mix import mix_box
from sumix.reference.mix_resize import mix_resize


def mix_box_(x: Tensor, box: Tensor, perm: Tensor) -> None:
    """mix_box, written to x."""
    x.copy_(mix_box(x, box, perm))


def mix_resize_(x: Tensor, box: Tensor, resize: Tensor, perm: Tensor) -> None:
    """mix_resize, written to x."""
    x.copy_(mix_resize(x, box, resize, perm))
