"""What every op does around torch's dispatcher: shortcuts in plain eager mode, refusals where torch would be silent."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sumix import _C, warn
from sumix.device import cuda_available


def _for_good(register: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch.library, whose second call for the same op, which torch refuses, does nothing.

    So sumix can be imported again, or reloaded: torch keeps what was registered first.
    """

    @functools.wraps(register)
    def once_a_process(name: str, *how: Any, **options: Any) -> Any:
        key = " ".join([register.__name__, name, *(word for word in how if isinstance(word, str))])
        if key in _C.registered:
            return lambda function: function  # where this is a decorator
        _C.registered[key] = None
        return register(name, *how, **options)

    return once_a_process


@_for_good
def impl_with_keyset(name: str, key: str, function: Callable[..., Any]) -> None:
    """As torch.library.impl, for a dispatch key that it does not know; `function` gets the key set first."""
    library = torch.library.Library("sumix", "IMPL")
    library.impl(name, function, key, with_keyset=True)
    _C.registered[f"library of {name} {key}"] = library  # which takes back what it holds when it goes


define = _for_good(torch.library.define)
impl = _for_good(torch.library.impl)
register_fake = _for_good(torch.library.register_fake)
_register_autograd = _for_good(torch.library.register_autograd)
register_autocast = _for_good(torch.library.register_autocast)


# For each op with an autograd formula the same formula as torch.func's transforms want it.
_functions: dict[Callable[..., Any], type[torch.autograd.Function]] = {}


def register_autograd(
    name: str,
    formula: Callable[..., Any],
    *,
    setup_context: Callable[..., None] | None = None,
) -> None:
    """As torch.library.register_autograd, whose formulas torch.func refuses; `call` uses this one there."""
    _register_autograd(name, formula, setup_context=setup_context)
    op = getattr(torch.ops.sumix, name.removeprefix("sumix::")).default
    methods = {
        "generate_vmap_rule": True,
        "forward": staticmethod(lambda *arguments: op(*arguments)),
        "setup_context": staticmethod(setup_context or _keep_nothing),
        "backward": staticmethod(formula),
    }
    _functions[op] = type(op._opname, (torch.autograd.Function,), methods)


def _keep_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def in_functorch() -> bool:
    """Whether a torch.func transform is at work, inside of which no tensor says whether it requires a gradient."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _in_func() -> bool:
    """Whether the innermost transform is one of those that ask for gradients or for many calls at once."""
    innermost = torch._C._functorch.peek_interpreter_stack()
    return innermost is not None and innermost.key() != torch._C._functorch.TransformType.Functionalize


def is_plain(*tensors: Any) -> bool:
    """Whether these are ordinary tensors where we have kernels, in eager mode, outside of torch.compile and torch.func.

    Also outside of modes that see every operator, such as FakeTensorMode, where not even an ordinary tensor's values
    can be looked at.

    Then the op may be called past autograd's Python layer, and be left to check its arguments itself.
    """
    if torch.compiler.is_compiling() or in_functorch() or torch._C._len_torch_dispatch_stack() > 0:
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


def refuse_script(module: torch.nn.Module) -> NoReturn:
    """What torch.jit.script calls first, as a module's __prepare_scriptable__."""
    raise TypeError(f"torch.jit.script cannot compile {type(module).__name__}: use torch.compile, or torch.export")


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
        register_fake(f"sumix::{name}", on_one_device(name, kernel))

    return register


def new_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A new tensor with the very strides of x, as kernels make it; torch.empty_like has its own where x is empty."""
    return x.new_empty_strided(x.shape, x.stride(), dtype=dtype)


def fallback(name: str, twin: Callable[..., Any]) -> Callable[..., Any]:
    """Let a plain PyTorch twin of the op's own schema serve all devices that have no kernels."""

    def warning(first: Tensor, *others: Any) -> Any:
        for tensor in (first, *others):
            if isinstance(tensor, Tensor) and (tensor.layout != torch.strided or tensor.is_quantized):
                raise RuntimeError(f"sumix::{name} takes dense tensors, got layout {tensor.layout}, {tensor.dtype}")
        if first.device.type == "cuda":
            _warn_of_missing_kernels(first.device)
        return twin(first, *others)

    run = on_one_device(name, warning)
    impl(f"sumix::{name}", "default", run)
    return run


def _warn_of_missing_kernels(device: torch.device) -> None:
    """Say once that what runs on a GPU here is right and not fast."""
    warn.once(
        "kernels",
        f"sumix runs as plain PyTorch on {device}, which is right but not fast: {cuda_available().reason}. "
        "To have its CUDA kernels, build it from source where there is an nvcc, with SUMIX_CUDA=1 to see what fails",
    )


# For each op that takes floats, by its name, where they stand among its arguments: see with_numbers.
_floats: dict[str, tuple[int, ...]] = {}


def with_numbers(op: Callable[..., Any], *gradient: Callable[..., Any]) -> Callable[..., Any]:
    """A second form of the op for torch.compile, `sumix::<op>_numbers`, whose floats come in one tensor, the last.

    A float in a graph is a constant: each of its values would be a graph of its own, and after eight torch gives up.
    The tensor, float64 (F,), is on the CPU wherever the others are, so that reading it waits for nothing. `gradient`:
    the formula for torch.library.register_autograd and its setup_context, or one formula that raises.
    """
    name = op._opname
    arguments, returns = re.fullmatch(r"sumix::\w+\((.*)\) -> (.*)", str(op._schema)).groups()
    arguments = arguments.split(", ")
    at = tuple(i for i, argument in enumerate(arguments) if argument.startswith("float "))
    kept = ", ".join(argument for i, argument in enumerate(arguments) if i not in at)
    define(f"sumix::{name}_numbers", f"({kept}, Tensor numbers) -> {returns}")

    def run(*given: Any) -> Any:
        return op(*_merge(given[:-1], given[-1].tolist(), at))

    def fake(*given: Any) -> Any:  # what an op returns has one shape whatever its floats are
        return op(*_merge(given[:-1], [1.0] * len(at), at))

    impl(f"sumix::{name}_numbers", "default", run)
    register_fake(f"sumix::{name}_numbers", fake)
    if gradient:
        formula, *setup = gradient
        register_autograd(f"sumix::{name}_numbers", formula, setup_context=setup[0] if setup else None)
    _floats[op._opname] = at
    return getattr(torch.ops.sumix, f"{name}_numbers").default


def _merge(others: Sequence[Any], floats: Sequence[float], at: tuple[int, ...]) -> list[Any]:
    merged = list(others)
    for place, value in zip(at, floats, strict=True):
        merged.insert(place, value)
    return merged


def call(op: Callable[..., Any], *arguments: Any) -> Any:
    """The op; in a graph whose floats change from call to call, its form `with_numbers`; in torch.func, its formula."""
    if not torch.compiler.is_compiling():
        return _functions[op].apply(*arguments) if op in _functions and _in_func() else op(*arguments)
    name = op._opname
    at = _floats.get(name, ())
    floats = [arguments[i] for i in at]
    if not any([_changes(value) for value in floats]):
        return op(*arguments)
    others = [argument for i, argument in enumerate(arguments) if i not in at]
    form = getattr(torch.ops.sumix, f"{name}_numbers").default
    return form(*others, torch.stack([as_tensor(value) for value in floats]))


def _changes(value: float | Tensor) -> bool:
    return isinstance(value, Tensor) or not _is_static(value)


def _is_static(value: float) -> bool:
    """Whether a float of a graph is the same in each of its calls."""
    from torch.fx.experimental.symbolic_shapes import has_static_value  # 0.3 s, which whoever compiles has spent

    return has_static_value(value)


def is_surely(value: float, expected: float) -> bool:
    """Whether an option has this value for good: to ask it of a float that changes would fix the float in a graph."""
    return (not torch.compiler.is_compiling() or _is_static(value)) and value == expected


def operand(value: float) -> float | Tensor:
    """A float for arithmetic: a tensor if it changes from call to call of a graph, where a float may become fixed."""
    return value if not torch.compiler.is_compiling() or _is_static(value) else as_tensor(value)


def as_tensor(value: float | Tensor) -> Tensor:
    """A float that may change from call to call of a graph as a tensor of that graph: (), float64, on the CPU."""
    return value if isinstance(value, Tensor) else torch.ones((), dtype=torch.float64, device="cpu") * value
