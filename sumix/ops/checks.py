"""Checks that every wrapper shares: a bad argument gets a ValueError or TypeError that names it."""

import math
import numbers
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32)  # fit in int64
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def shape(tensor: Tensor) -> str:
    """The shape as it is written in messages: (2, 3)."""
    return str(tuple(tensor.shape))


def kind_of(value: Any) -> str:
    """The type of a value that is not what it must be, as messages say it."""
    if isinstance(value, torch.fx.Proxy):
        return "a Proxy of torch.fx.symbolic_trace, which cannot trace sumix; torch.export can"
    return type(value).__name__


def tensor(value: Any, name: str, *, distributed: bool = False) -> Tensor:
    """Fail unless `value` is a dense tensor, and, unless `distributed`, one that is all on this rank."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {kind_of(value)}")
    if not distributed and type(value).__name__ == "DTensor":
        raise TypeError(f"{name} must be an ordinary Tensor, got a DTensor: pass its to_local()")
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        kind = "a nested tensor" if value.is_nested else f"layout {value.layout}, dtype {value.dtype}"
        raise TypeError(f"{name} must be a dense tensor, got {kind}")
    return value


def floating(value: Any, name: str, *, distributed: bool = False) -> Tensor:
    """Fail unless `value` is a dense tensor of one of the four floating point types."""
    if tensor(value, name, distributed=distributed).dtype not in FLOATS:
        raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {value.dtype}")
    return value


def rows(value: Any, name: str) -> Tensor:
    """Fail unless `value` is a floating point (N, K) with K > 0."""
    if floating(value, name).ndim != 2 or value.shape[1] == 0:
        raise ValueError(f"{name} must be (N, K) with K > 0, got {shape(value)}")
    return value


def same_device(value: Tensor, name: str, like: Tensor, like_name: str) -> None:
    """Fail unless both are on one device."""
    if value.device != like.device:
        raise ValueError(f"{name} must be on the device of {like_name}, {like.device}, got {value.device}")


def like(value: Any, name: str, other: Tensor, other_name: str, *, any_dtype: bool = False) -> Tensor:
    """Fail unless `value` is floating point with shape, device and (unless `any_dtype`) dtype of `other`."""
    if floating(value, name).shape != other.shape:
        raise ValueError(f"{name} must have the shape of {other_name}, {shape(other)}, got {shape(value)}")
    if not any_dtype and value.dtype != other.dtype:
        raise TypeError(f"{name} must have the dtype of {other_name}, {other.dtype}, got {value.dtype}")
    same_device(value, name, other, other_name)
    return value


def indices(value: Any, name: str, like: Tensor, like_name: str) -> Tensor:
    """Fail unless `value` is an integer (N,) beside `like`'s N rows; int64, contiguous."""
    usual = type(value) is Tensor and value.dtype is torch.int64 and value.shape == like.shape[:1]
    if usual and value.device == like.device and value.is_contiguous():
        return value  # in a third of the time
    if tensor(value, name).dtype not in INTEGERS:
        raise TypeError(f"{name} must be an integer tensor, got {value.dtype}")
    if value.ndim != 1 or value.shape[0] != like.shape[0]:
        raise ValueError(f"{name} must be (N,) = ({like.shape[0]},) as {like_name} has N rows, got {shape(value)}")
    same_device(value, name, like, like_name)
    return value.to(torch.int64).contiguous()


def ratios(value: Any, name: str, like: Tensor, like_name: str, dtype: torch.dtype) -> Tensor:
    """Fail unless `value` is a floating point (N,) beside `like`'s N rows; in `dtype`, contiguous, without gradient."""
    if floating(value, name).ndim != 1 or value.shape[0] != like.shape[0]:
        raise ValueError(f"{name} must be (N,) = ({like.shape[0]},) as {like_name} has N rows, got {shape(value)}")
    same_device(value, name, like, like_name)
    return value.detach().to(dtype).contiguous()


def label_weights(value: Any, name: str, like: Tensor, like_name: str, dtype: torch.dtype) -> Tensor:
    """Fail unless `value` is a floating point (N, 3) beside `like`'s N rows; in `dtype`, contiguous, no gradient."""
    if floating(value, name).shape != (like.shape[0], 3):
        raise ValueError(f"{name} must be (N, 3) = ({like.shape[0]}, 3) as {like_name} has N rows, got {shape(value)}")
    same_device(value, name, like, like_name)
    return value.detach().to(dtype).contiguous()


def weight(value: Any, name: str, like: Tensor, like_name: str, dtype: torch.dtype) -> Tensor:
    """Fail unless `value` is a floating point (K,) for `like`'s K columns; in `dtype`, contiguous, no gradient."""
    if floating(value, name).ndim != 1 or value.shape[0] != like.shape[1]:
        raise ValueError(f"{name} must be (K,) = ({like.shape[1]},) as {like_name} has K classes, got {shape(value)}")
    same_device(value, name, like, like_name)
    return value.detach().to(dtype).contiguous()


def flag(value: Any, name: str) -> bool:
    """Fail unless `value` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")
    return value


def batch(value: Any, name: str) -> Tensor:
    """Fail unless `value` is a dense tensor with a batch dimension."""
    if tensor(value, name).ndim == 0:
        raise ValueError(f"{name} must have a batch dimension, (N, ...), got a scalar")
    return value


def boxes(value: Any, name: str, like: Tensor, like_name: str, *, volumes: bool = False) -> Tensor:
    """Fail unless `value` is an integer (N, 4) for (N, ..., H, W), or (N, 2) for (N, ..., L); int64, contiguous.

    With `volumes` it may be (N, 6), for (N, ..., D, H, W).
    """
    if tensor(value, name).dtype not in INTEGERS:
        raise TypeError(f"{name} must be an integer tensor, got {value.dtype}")
    if value.ndim != 2 or value.shape[0] != like.shape[0] or value.shape[1] not in ((2, 4, 6) if volumes else (2, 4)):
        n, others = like.shape[0], ", or (N, 6) for volumes" if volumes else ""
        raise ValueError(f"{name} must be (N, 4) = ({n}, 4), or (N, 2) for signals{others}, got {shape(value)}")
    if like.ndim <= value.shape[1] // 2:
        expected = {2: "(N, ..., L)", 4: "(N, ..., H, W)", 6: "(N, ..., D, H, W)"}[value.shape[1]]
        raise ValueError(f"{like_name} must be {expected} for a {name} of shape {shape(value)}, got {shape(like)}")
    same_device(value, name, like, like_name)
    return value.to(torch.int64).contiguous()


def as_images(x: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """Signals with boxes (N, 2) as images of one row with boxes (N, 4); images as they are."""
    if box.shape[1] == 4:
        return x, box
    x1, x2 = box.unbind(1)
    return x.unsqueeze(-2), torch.stack([x1, torch.zeros_like(x1), x2, torch.ones_like(x2)], dim=1)


def mask(value: Any, name: str, like: Tensor, like_name: str) -> Tensor:
    """Fail unless `value` is bool or floating point (N, H, W) for (N, ..., H, W), or (N, L) for (N, ..., L).

    Or of that many dimensions with 1 for all but N. bool or float32, contiguous, without gradient.
    """
    if tensor(value, name).dtype not in (torch.bool, *FLOATS):
        raise TypeError(f"{name} must be bool or floating point, got {value.dtype}")
    if value.ndim not in (2, 3) or like.ndim < value.ndim:
        raise ValueError(
            f"{name} must be (N, H, W) for {like_name} (N, ..., H, W), or (N, L) for {like_name} (N, ..., L), "
            f"got {shape(value)} for {shape(like)}"
        )
    spatial = tuple(value.shape[1:])
    whole = (like.shape[0], *like.shape[1 - value.ndim :])
    if value.shape[0] != like.shape[0] or (spatial != whole[1:] and spatial != (1,) * len(spatial)):
        alike = (like.shape[0], *(1,) * len(spatial))
        raise ValueError(f"{name} must be {whole} or {alike} as {like_name} is {shape(like)}, got {shape(value)}")
    same_device(value, name, like, like_name)
    return value.detach().to(value.dtype if value.dtype is torch.bool else torch.float32).contiguous()


# Beyond this, float32 results would not be finite.
LARGEST = 1e30


def number(value: Any, name: str, low: float, high: float = LARGEST) -> float:
    """Fail unless `value` is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, numbers.Real)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value}")
    return float(value)


def as_float(value: Any) -> Any:
    """A number of any kind as a float; anything else as it is, for `number` to refuse.

    torch.compile follows the changes of a float; of an int, it makes a graph for each value.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    try:
        return float(value)
    except OverflowError:
        return value


def positive(value: Any, name: str) -> float:
    """Fail unless `value` is a number above 0."""
    if number(value, name, 0) == 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return float(value)


def interval(value: Any, name: str, low: float, high: float) -> tuple[float, float]:
    """Fail unless `value` is a pair of numbers, low <= value[0] <= value[1] <= high."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers, got {value!r}")
    least, most = number(value[0], f"{name}[0]", low, high), number(value[1], f"{name}[1]", low, high)
    if least > most:
        raise ValueError(f"{name} must not descend, got {value}")
    return least, most


def per_channel(value: Any, name: str, above: float = -math.inf) -> Tensor:
    """Fail unless `value` is a number above `above`, or one a channel; float32 (C,), without gradient.

    Of a Tensor, which would have to be waited for, the numbers themselves are left to the kernels.
    """
    if isinstance(value, Tensor):
        if tensor(value, name).dtype not in (*FLOATS, *INTEGERS):
            raise TypeError(f"{name} must be a Tensor of real numbers, got {value.dtype}")
        if value.numel() == 0:
            raise ValueError(f"{name} must be (C,), got {shape(value)}")
        return value.detach().reshape(-1).to(torch.float32)
    return torch.tensor(_numbers(value, name, above), dtype=torch.float32, device="cpu")


def _numbers(value: Any, name: str, above: float) -> list[float]:
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if len(values) == 0:
        raise ValueError(f"{name} must be a number, or one a channel, got {value!r}")
    for one in values:
        if number(one, name, -LARGEST) <= above:
            raise ValueError(f"{name} must be above {above:g}, got {one}")
    return [float(one) for one in values]


def channels(value: Any, name: str, like: Tensor, like_name: str, count: int, above: float = -math.inf) -> Tensor:
    """`per_channel` for the `count` channels of `like`: (count,), contiguous, on its device."""
    if isinstance(value, Tensor):
        same_device(tensor(value, name), name, like, like_name)
        if value.dtype in FLOATS and value.shape == (count,):
            return value.detach().to(torch.float32).contiguous()
    if isinstance(value, Tensor) or like.is_cpu:
        values = per_channel(value, name, above)
    else:  # made where they are needed: a copy from the host would be waited for
        each = _numbers(value, name, above)
        values = torch.stack([torch.full((), one, dtype=torch.float32, device=like.device) for one in each])
    given = values.shape[0]
    if given not in (1, count):
        raise ValueError(
            f"{name} must be a number, or {count} of them as {like_name} has {count} channels, got {given}"
        )
    return values.expand(count).contiguous()


def integer(value: Any, name: str, low: int = -(2**63)) -> int:
    """Fail unless `value` is an integer from `low` to what int64 holds."""
    if torch.jit.is_tracing() and isinstance(value, Tensor) and value.ndim == 0:
        value = value.item()  # torch.jit.trace makes tensors of sizes
    if isinstance(value, bool) or not isinstance(value, (int, numbers.Integral)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if not low <= value < 2**63:
        raise ValueError(f"{name} must be from {low} to {2**63 - 1}, got {value}")
    return int(value)


def count(value: Any, name: str) -> int:
    """Fail unless `value` is an int of at least 1."""
    return integer(value, name, low=1)


def choice(value: Any, name: str, options: tuple[str, ...]) -> int:
    """The place of `value` among `options`; fail if it is none of them."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return options.index(value)


RESIZE_MODES = ("nearest", "nearest-exact", "bilinear")  # their codes are 1, 2, 3; 0 resizes nothing


def resize(value: Any, name: str, like: Tensor, like_name: str) -> Tensor:
    """The codes (N,) of a way to resize, or of one a row; fail if it is none."""
    if isinstance(value, Tensor):
        return indices(value, name, like, like_name)
    return torch.full((like.shape[0],), 1 + choice(value, name, RESIZE_MODES), dtype=torch.int64, device=like.device)


def reraise(error: RuntimeError, names: dict[str, str] | None = None) -> NoReturn:
    """Turn what a kernel found wrong with its arguments into a ValueError; pass on everything else.

    `names`: what the user calls arguments that the op knows by another name.
    """
    found = re.match(r"sumix::\w+: ((\w+).*)", str(error))
    if found:
        name = found[2]
        raise ValueError((names or {}).get(name, name) + found[1][len(name) :]) from None
    raise error
