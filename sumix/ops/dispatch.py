"""What every op does around torch's dispatcher: shortcuts in plain eager mode, refusals where torch would be silent."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sumix import _C
from sumix.device import cuda_available


def in_functorch() -> bool:
    """Whether a torch.func transform is at work, inside of which no tensor says whether it requires a gradient."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_plain(*tensors: Any) -> bool:
    """Whether these are ordinary tensors where we have kernels, in eager mode, outside of torch.compile and torch.func.

    Then the op may be called past autograd's Python layer, and be left to check its arguments itself.
    """
    if torch.compiler.is_compiling() or in_functorch():
        return False
    for tensor in tensors:  # all() takes three times as long over so few
        if type(tensor) is not Tensor or not (tensor.is_cpu or (tensor.is_cuda and _C.has_cuda_kernels)):
            return False
    return True


def is_at_hand(tensor: Any) -> bool:
    """Whether the values of a plain tensor can be looked at without waiting for a device."""
    return is_plain(tensor) and tensor.is_cpu


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


def fallback(name: str, twin: Callable[..., Any]) -> Callable[..., Any]:
    """Let a plain PyTorch twin of the op's own schema serve all devices that have no kernels."""

    def run(*arguments: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, Tensor) and argument.device.type == "cuda":
                _warn_of_missing_kernels(argument.device)
                break
        return twin(*arguments)

    torch.library.impl(f"sumix::{name}", "default", run)
    return run


_warned = False


def _warn_of_missing_kernels(device: torch.device) -> None:
    """Say once that what runs on a GPU here is right and not fast."""
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        f"sumix runs as plain PyTorch on {device}, which is right but not fast: {cuda_available().reason}. "
        "To have its CUDA kernels, build it from source where there is an nvcc, with SUMIX_CUDA=1 to see what fails",
        stacklevel=2,
    )
