"""What transforms and loss need of torch.distributed to take partners from other ranks."""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import get_worker_info

from sumix.ops import checks

T = TypeVar("T")

_TEXT = 1024  # bytes for the description of what a rank brings


def check(value: Any) -> Any:
    """Fail unless `value` is a bool or a process group."""
    if isinstance(value, bool) or (dist.is_available() and isinstance(value, dist.ProcessGroup)):
        return value
    raise TypeError(f"cross_rank must be a bool or a torch.distributed.ProcessGroup, got {type(value).__name__}")


def group_of(cross_rank: Any) -> Any:
    """The process group that `cross_rank` means."""
    if not torch.compiler.is_compiling() and get_worker_info() is not None:
        raise ValueError(
            "cross_rank must be False in a DataLoader's workers, which are no ranks of torch.distributed: mix in the "
            "training loop"
        )
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError("cross_rank must be False, or torch.distributed.init_process_group be called first")
    return dist.group.WORLD if cross_rank is True else cross_rank


def members(group: Any) -> tuple[int, ...]:
    """The global numbers of a group's ranks, in the order in which their rows are gathered."""
    return tuple(dist.get_process_group_ranks(group))


def agree(bring: Callable[[], tuple[str, T]], group: Any) -> T:
    """What `bring` returns besides a description, once the descriptions of all ranks are found to be equal.

    Collectives on tensors that do not fit one another hang, corrupt memory or end the process, and so does one that a
    rank never reaches because its arguments were refused. So `bring` checks a rank's arguments and describes their
    shapes. If it fails on one rank, its error is raised there and a ValueError on the others; if the descriptions
    differ, all ranks raise a ValueError.

    The descriptions are compared on the host, in one small collective per call; each rank can change on its own, so
    checking less often would not do. On the CPU that takes microseconds and waits for no GPU. A group that has only
    NCCL must do it on the GPU, and the host waits for the result.
    """
    failure, text, brought = None, "", None
    try:
        text, brought = bring()
    except Exception as error:  # raised below, once the others know
        failure, text = error, f"{type(error).__name__}: {error}"
    recording = torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
    everyone = None
    if not torch.compiler.is_compiling() and not recording:  # no value can be looked at while a graph is made
        own = _encode(text, group)
        everyone = gather(own, group)
    if failure is not None:
        raise failure
    if everyone is not None and not (everyone == own).all():
        raise ValueError(_difference(everyone, members(group)))
    return brought


def describe(**tensors: Tensor | None) -> str:
    """Shapes and dtypes of what is to be gathered."""
    return ", ".join(f"{name} {checks.shape(x)} {x.dtype}" for name, x in tensors.items() if x is not None)


def _encode(text: str, group: Any) -> Tensor:
    """The text as (1, bytes), where the group's collectives can take it at least cost."""
    data = text.encode()
    if len(data) > _TEXT:
        data = data[: _TEXT - 64] + hashlib.sha256(data).hexdigest().encode()
    row = torch.frombuffer(bytearray(data.ljust(_TEXT)), dtype=torch.uint8).unsqueeze(0)
    devices = [backend.partition(":")[0] for backend in dist.get_backend_config(group).split(",")]
    return row if "cpu" in devices else row.to(devices[0])


def _difference(everyone: Tensor, ranks: tuple[int, ...]) -> str:
    said: dict[str, list[int]] = {}
    for rank, row in zip(ranks, everyone.tolist(), strict=True):
        said.setdefault(bytes(row).decode(errors="replace").rstrip(), []).append(rank)
    lines = [f"\n  rank {', '.join(map(str, which))}: {text}" for text, which in said.items()]
    return (
        "with cross_rank every rank must bring the same: as many samples, of one shape and dtype (a DataLoader's last "
        f"batch may be smaller, unless it has drop_last=True), got{''.join(lines)}"
    )


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


def total(x: Tensor, group: Any) -> Tensor:
    """The sum of all ranks' `x`, without gradient."""
    x = x.detach().clone()
    dist.all_reduce(x, group=group)
    return x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        ctx.set_materialize_grads(False)
        return gather(x, group)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        if grad is None:  # as it then is on every rank
            return None, None
        grad = total(grad.contiguous(), ctx.group)
        n = grad.shape[0] // dist.get_world_size(ctx.group)
        return grad.narrow(0, dist.get_rank(ctx.group) * n, n), None


def gather_with_gradient(x: Tensor, group: Any) -> Tensor:
    """As `gather`; a row's gradient is the sum of what it had on all ranks."""
    return _Gather.apply(x, group)
