"""What transforms and loss need of torch.distributed to take partners from other ranks."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def check(value: Any) -> Any:
    """Fail unless `value` is a bool or a process group."""
    if isinstance(value, bool) or (dist.is_available() and isinstance(value, dist.ProcessGroup)):
        return value
    raise TypeError(f"cross_rank must be a bool or a torch.distributed.ProcessGroup, got {type(value).__name__}")


def group_of(cross_rank: Any) -> Any:
    """The process group that `cross_rank` means."""
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError("cross_rank must be False, or torch.distributed.init_process_group be called first")
    return dist.group.WORLD if cross_rank is True else cross_rank


def gather(x: Tensor, group: Any) -> Tensor:
    """The rows of all ranks, one after the other, without gradient; every rank must have as many."""
    rows = x.detach().contiguous()
    if rows.dtype in (torch.int16, torch.uint16, torch.uint32):  # which neither gloo nor NCCL knows
        return gather(rows.view(torch.uint8), group).view(rows.dtype)
    everyone = rows.new_empty((dist.get_world_size(group) * rows.shape[0], *rows.shape[1:]))
    # The old name warns from torch 2.13 on.
    all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor
    all_gather(everyone, rows, group=group)
    return everyone


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return gather(x, group)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous().clone()  # autograd's own
        dist.all_reduce(grad, group=ctx.group)
        n = grad.shape[0] // dist.get_world_size(ctx.group)
        return grad.narrow(0, dist.get_rank(ctx.group) * n, n), None


def gather_with_gradient(x: Tensor, group: Any) -> Tensor:
    """As `gather`; a row's gradient is the sum of what it had on all ranks."""
    return _Gather.apply(x, group)
