"""The box mixers in place, for those who own the batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.mix import dense
from sumix.ops.mix_resize import NAMES, check_mode
from sumix.ops.volumes import as_slices

_mix_box_ = torch.ops.sumix.mix_box_.default
_mix_resize_ = torch.ops.sumix.mix_resize_.default


def mix_box_(x: Tensor, box: Tensor, perm: Tensor) -> Tensor:
    r"""`mix_box`, written to `x` itself.

    What the boxes will hold is put aside before any is pasted, so every `perm` is right, cycles included. Without
    gradient; torch.compile makes it functional like torch's own in-place operators.

    Parameters
    ----------
    x : Tensor
        As in `mix_box`, in contiguous or channels_last memory.
    box, perm : Tensor
        As in `mix_box`.

    Returns
    -------
    Tensor
        `x`.

    Raises
    ------
    TypeError
        As `mix_box`.
    ValueError
        As `mix_box`, before anything is written; also if `x` requires a gradient while gradients are recorded, or is
        neither contiguous nor channels_last: strided, expanded or otherwise overlapping.
    """
    box = checks.boxes(box, "box", checks.batch(x, "x"), "x", volumes=True)
    perm = checks.indices(perm, "perm", x, "x")
    if box.shape[1] != 6:
        images, box = checks.as_images(x, box)
    elif dense(x) is x:
        images, box, perm = as_slices(x, box, perm)
    else:
        images = x  # which is refused
    _write(_mix_box_, x, images, box, perm)
    return x


def mix_resize_(x: Tensor, box: Tensor, perm: Tensor, mode: str | Tensor = "bilinear") -> Tensor:
    r"""`mix_resize`, written to `x` itself; see `mix_box_`.

    Parameters
    ----------
    x : Tensor
        As in `mix_resize`, in contiguous or channels_last memory.
    box, perm, mode
        As in `mix_resize`.

    Returns
    -------
    Tensor
        `x`.

    Raises
    ------
    TypeError
        As `mix_resize`.
    ValueError
        As `mix_resize`, and for `x` as `mix_box_`.
    """
    box = checks.boxes(box, "box", checks.batch(x, "x"), "x")
    perm = checks.indices(perm, "perm", x, "x")
    resize = check_mode(mode, x)
    images, box = checks.as_images(x, box)
    _write(_mix_resize_, x, images, box, resize, perm)
    return x


def _write(op: Callable[..., None], x: Tensor, images: Tensor, *how: Tensor) -> None:
    dispatch.refuse_forward_mode(op._opname, x)
    if x.requires_grad and torch.is_grad_enabled():
        raise ValueError("x requires a gradient, which mixing in place does not have: use mix_box or mix_resize")
    if dense(images) is not images:
        raise ValueError(
            f"x must be contiguous or channels_last to be mixed in place, got shape {checks.shape(x)}, "
            f"strides {x.stride()}"
        )
    if not torch.compiler.is_compiling():
        # Boxes lie at the same places in what a lazily conjugated or negated view shows and in memory.
        images = images.conj() if images.is_conj() else images
        images = torch._neg_view(images) if images.is_neg() else images
    try:
        if dispatch.is_plain(images, *how) and not images.is_inference():
            with torch._C._AutoDispatchBelowADInplaceOrView():
                op(images, *how)
            torch.autograd.graph.increment_version(images)
        else:
            op(images, *how)
    except RuntimeError as error:
        checks.reraise(error, NAMES)


def _counting(op: Callable[..., None]) -> Callable[..., None]:
    """Counts the write, so that autograd notices where it kept x for a backward pass: torch does not by itself."""

    def count(keyset: Any, x: Tensor, *how: Tensor) -> None:
        torch.autograd.graph.increment_version(x)
        with torch._C._AutoDispatchBelowADInplaceOrView():
            op.redispatch(keyset & torch._C._after_ADInplaceOrView_keyset, x, *how)

    return count


def _refusing(op: Callable[..., None]) -> Callable[..., None]:
    """Torch records nothing for an operator without a formula, and a gradient would be silently wrong."""

    def refuse(keyset: Any, x: Tensor, *how: Tensor) -> None:
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(f"sumix::{op._opname}: x requires a gradient, which mixing in place does not have")
        with torch._C._AutoDispatchBelowAutograd():
            op.redispatch(keyset & torch._C._after_autograd_keyset, x, *how)

    return refuse


def _refusing_views(op: Callable[..., None]) -> Callable[..., None]:
    """Torch would conjugate or negate x in place before, and fail before it undid that."""

    def refuse(keyset: Any, x: Tensor, *how: Tensor) -> None:
        raise RuntimeError(f"sumix::{op._opname}: no argument may be a lazily conjugated or negated view")

    return refuse


def _fake(x: Tensor, *how: Tensor) -> None:
    """There is nothing to make."""


for _op in (_mix_box_, _mix_resize_):
    dispatch.impl_with_keyset(f"sumix::{_op._opname}", "Autograd", _refusing(_op))
    dispatch.impl_with_keyset(f"sumix::{_op._opname}", "ADInplaceOrView", _counting(_op))
    for _key in ("Conjugate", "Negative"):
        dispatch.impl_with_keyset(f"sumix::{_op._opname}", _key, _refusing_views(_op))
    dispatch.fallback(_op._opname, getattr(reference, _op._opname))
    dispatch.fake(_op._opname)(_fake)
