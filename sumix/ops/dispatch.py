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


def on_one_device(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of an op, for tensors that all share a device, also those of shape (0,) that stand for none.

    Torch calls a kernel by one of its tensors' devices, whatever the others are on.
    """
    names = [argument.name for argument in getattr(torch.ops.sumix, name).default._schema.arguments]

    def run(*arguments: Any) -> Any:
        first = arguments[0]  # of every op a tensor
        for which, argument in zip(names, arguments, strict=True):
            if isinstance(argument, Tensor) and argument.device != first.device:
                raise RuntimeError(
                    f"sumix::{name}: {which} must be on the device of {names[0]}, {first.device}, got {argument.device}"
                )
        return kernel(*arguments)

    return run


def fake(name: str) -> Callable[[Callable[..., Any]], None]:
    """Register what torch knows of the op's results before they are computed.

    It is also what torch calls for real tensors where one of several is on the meta device.
    """

    def register(kernel: Callable[..., Any]) -> None:
        torch.library.register_fake(f"sumix::{name}", on_one_device(name, kernel))

    return register


def new_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A new tensor with the very strides of x, as kernels make it; torch.empty_like has its own where x is empty."""
    return x.new_empty_strided(x.shape, x.stride(), dtype=dtype)


def fallback(name: str, twin: Callable[..., Any]) -> Callable[..., Any]:
    """Let a plain PyTorch twin of the op's own schema serve all devices that have no kernels."""

    def warning(first: Tensor, *others: Any) -> Any:
        if first.device.type == "cuda":
            _warn_of_missing_kernels(first.device)
        return twin(first, *others)

    run = on_one_device(name, warning)
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
