"""What every op does around torch's dispatcher: shortcuts in plain eager mode, refusals where torch would be silent."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def in_functorch() -> bool:
    """Whether a torch.func transform is at work, inside of which no tensor says whether it requires a gradient."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_plain(*tensors: Any) -> bool:
    """Whether these are ordinary tensors on a CPU or a GPU, in eager mode, outside of torch.compile and torch.func.

    Then the op may be called past autograd's Python layer, and be left to check its arguments itself.
    """
    if torch.compiler.is_compiling() or in_functorch():
        return False
    for tensor in tensors:  # noqa: SIM110 - all() takes three times as long over so few
        if type(tensor) is not Tensor or not (tensor.is_cpu or tensor.is_cuda):
            return False
    return True


def may_look(*tensors: Any) -> bool:
    """Whether these are plain, and on the CPU: elsewhere a look at a value would wait for the device."""
    return is_plain(*tensors) and all(tensor.is_cpu for tensor in tensors)


def refuse_forward_mode(name: str, *tensors: Tensor | None) -> None:
    """Fail if one of the tensors carries a forward-mode tangent, which torch would drop without a word."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    for tensor in tensors:
        if isinstance(tensor, Tensor) and forward_ad.unpack_dual(tensor).tangent is not None:
            raise RuntimeError(f"sumix::{name} has no forward-mode derivative")


def once(name: str) -> Callable[..., None]:
    """The autograd formula of a backward op: without one, a second derivative is silently 0."""

    def refuse(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(f"sumix::{name} can be differentiated only once")

    return refuse


def one_device(*tensors: Tensor) -> None:
    """For fake kernels, which torch also runs where only one of several tensors is on the meta device."""
    devices = {tensor.device for tensor in tensors if tensor.shape != (0,)}
    if len(devices) > 1:
        raise RuntimeError(f"all tensors must be on one device, got {', '.join(sorted(map(str, devices)))}")
