"""A fuzzer of the op table: torch.ops.sumix.* called with what nobody should call it with.

Every call must raise a Python exception or succeed. One that succeeds must give the same bits again, leave alone what
it does not say it writes to, have tensors of one device, and give the shapes, dtypes and strides that the op's fake
kernel gives. What is called is derived from the registered schemas: each argument by its name, first as a call that
would succeed, in which then up to three arguments are spoilt.

A call is data, and its repr is the Python that makes it again:

    python -m tests.fuzz --seed 7 --calls 10000
    python -c "from tests.fuzz import *; Call('uncertainty', (T('float32', (2, 0)),)).check()"

`make fuzz` runs it long over an extension that is built with AddressSanitizer and UndefinedBehaviorSanitizer. The call
is written to a file before it is made: a process that dies has left it there.
"""

import argparse
import faulthandler
import itertools
import pathlib
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from tests import emulated

if __name__ == "__main__" and "--extension" in sys.argv:  # before sumix is imported
    emulated.replace(pathlib.Path(sys.argv[sys.argv.index("--extension") + 1]))

import sumix  # noqa: F401

NAMESPACE = "sumix::"
SCHEMAS = {
    schema.name.removeprefix(NAMESPACE): schema
    for schema in sorted(torch._C._jit_get_all_schemas(), key=lambda schema: schema.name)
    if schema.name.startswith(NAMESPACE) and not schema.name.endswith("_numbers")  # which is Python, and calls another
}
FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
OTHERS = ("bool", "uint16", "uint32", "uint64", "complex64", "float8_e4m3fn")
MOST = 1 << 18  # elements of a tensor's memory
HUGE = (2**31, 2**40, 2**48, 2**62, 2**63 - 1)
NO_MEMORY = (2**47, 2**62)  # anything between such sizes and small ones could be had, and would be filled
WILD_INTEGERS = (0, 1, -1, 2, 3, 7, -(2**31), 2**48 + 1, 2**63 - 1, -(2**63), *NO_MEMORY)
WILD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-310, 1e30, 3.4e38, 1e300, float("inf"), -float("inf"), float("nan"))
MARKS = {"n": 101, "t": 102, "h": 103, "w": 104, "height": 105, "width": 106, "k": 107, "d": 108}  # to know sizes by
PATIENCE = 120  # seconds that a call may take


@dataclass(frozen=True)
class T:
    """A tensor: `values` is the name of a kind of values and its bounds; strides None is contiguous."""

    dtype: str
    shape: tuple[int, ...]
    values: tuple = ("normal",)
    stride: tuple[int, ...] | None = None
    offset: int = 0
    device: str = "cpu"
    negative: bool = False  # torch's negative bit: the memory holds what the tensor is minus of
    seed: int = 0

    def make(self) -> torch.Tensor:
        """The tensor; twice the same."""
        dtype = getattr(torch, self.dtype)
        if self.stride is None and 0 not in self.shape:
            flat = self._values(torch.Size(self.shape).numel())
            x = flat.to(dtype).reshape(self.shape)
        else:
            stride = self.stride or contiguous(self.shape)
            span = 0 if 0 in self.shape else 1 + sum((n - 1) * s for n, s in zip(self.shape, stride, strict=True))
            x = self._values(span + self.offset).to(dtype).as_strided(self.shape, stride, self.offset)
        x = x.to(self.device)
        return torch._neg_view(x) if self.negative else x

    def _values(self, count: int) -> torch.Tensor:
        if count > MOST:
            raise ValueError(f"{count} elements are more than this takes the time to fill")
        kind, *bounds = self.values
        generator = torch.Generator().manual_seed(self.seed)
        if kind == "normal":
            return torch.randn(count, generator=generator, dtype=torch.float64) * (bounds[0] if bounds else 1)
        if kind == "unit":
            return torch.rand(count, generator=generator, dtype=torch.float64)
        if kind == "below":  # integers from 0
            return torch.randint(min(max(bounds[0], 1), 2**62), (count,), generator=generator)
        if kind == "permutation":
            return torch.randperm(count, generator=generator)
        if kind == "boxes":
            corners = [
                torch.randint(side + 1, (count // 4 + 1, 2), generator=generator).sort(1).values for side in bounds
            ]
            y, x = corners
            return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1).flatten()[:count]
        some = WILD_FLOATS if self.dtype in FLOATS else WILD_INTEGERS
        few = torch.tensor(some, dtype=torch.float64 if self.dtype in FLOATS else torch.int64)
        return few[torch.randint(len(some), (count,), generator=generator)]


@dataclass(frozen=True)
class Same:
    """The very tensor that another argument is."""

    argument: int


@dataclass(frozen=True)
class Call:
    """An op and its arguments."""

    op: str
    arguments: tuple

    def make(self) -> list[Any]:
        """The arguments as the op takes them."""
        made = [argument.make() if isinstance(argument, T) else argument for argument in self.arguments]
        return [made[argument.argument] if isinstance(argument, Same) else argument for argument in made]

    def run(self, arguments: list[Any]) -> tuple[torch.Tensor, ...]:
        """The op's results. Only an Exception may come instead."""
        out = getattr(torch.ops.sumix, self.op).default(*arguments)
        return () if out is None else out if isinstance(out, tuple) else (out,)

    def check(self) -> bool:
        """Whether the call succeeds; fail if it does what no call may do."""
        arguments = self.make()
        given = [x for x in arguments if isinstance(x, torch.Tensor)]
        before = [bits(x) for x in given]
        try:
            results = self.run(arguments)
        except Exception:
            return False
        devices = {x.device for x in given}
        assert len(devices) == 1, f"tensors of {devices} were taken"
        assert {x.device for x in results} <= devices, "a result is on another device"
        in_place = SCHEMAS[self.op].arguments[0].alias_info is not None
        for x, old, schema in zip(given, before, SCHEMAS[self.op].arguments, strict=False):
            assert (x is given[0] and in_place) or bits(x) == old, f"{schema.name} was written to"
        if devices == {torch.device("cpu")}:
            again = self.make()
            repeated = self.run(again)
            for which, (one, other) in enumerate(zip(results, repeated, strict=True)):
                assert bits(one) == bits(other), f"result {which} differs the second time"
            assert bits(arguments[0]) == bits(again[0]), "what was written in place differs the second time"
            if not any(x.is_neg() for x in given):  # torch hands over a copy, with strides of its own
                self.check_fake(again, results)
        return True

    def check_fake(self, arguments: list[Any], results: tuple[torch.Tensor, ...]) -> None:
        """What the op makes of tensors on the meta device, where its fake kernel serves, is like the results."""
        fakes = self.run([on_meta(x) if isinstance(x, torch.Tensor) else x for x in arguments])
        for which, (real, fake) in enumerate(zip(results, fakes, strict=True)):
            got, want = ((x.shape, x.dtype, x.stride()) for x in (fake, real))
            assert got == want, f"result {which} is {want}, its fake {got}"


def on_meta(x: torch.Tensor) -> torch.Tensor:
    """A tensor like it that has no values."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def bits(x: torch.Tensor) -> Any:
    """What a tensor holds, NaN and all, to compare."""
    if x.device.type == "meta" or x.numel() == 0:
        return None
    flat = x.resolve_neg().flatten().clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes()


class Generator:
    """Makes calls from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def call(self) -> Call:
        """One call of any op, of whose arguments up to three are spoilt."""
        pick = self.random
        sizes = {}
        if pick.random() < 0.1:
            zero, huge = pick.sample(list(MARKS), 2)
            sizes = {zero: 0, huge: pick.choice(NO_MEMORY)}
        call = self.good(pick.choice(list(SCHEMAS)), **sizes)
        arguments = list(call.arguments)
        for _ in range(pick.choice((0, 0, 1, 1, 2, 3))):
            at = pick.randrange(len(arguments))
            arguments[at] = self.spoil(arguments[at], arguments)
        return replace(call, arguments=tuple(arguments))

    def good(self, op: str, **sizes: int) -> Call:
        """A call that succeeds, unless its sizes leave nothing to do or its options exclude one another."""
        pick = self.random
        often = (0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 16, 17)
        self.sizes = {name: pick.choice(often) for name in ("n", "t", "h", "w", "height", "width")}
        self.sizes |= {"k": pick.choice((*often, 33)), "d": pick.choice((*often, 33, 40))}
        self.sizes |= {"c": pick.choice((1, 3)), "frames": pick.choice((1, 1, 2))}
        self.sizes |= sizes
        for side in ("h", "w"):
            self.sizes[f"fine_{side}"] = self.sizes[side] + pick.choice((0, 0, 1, 2, 9))
        self.dtype = pick.choice(FLOATS)
        self.plain, self.tokens, self.evidence = pick.random() < 0.3, pick.random() < 0.5, pick.randrange(3)
        self.fine_tokens = pick.random() < 0.5
        if op == "foreground":
            self.sizes["frames"], self.evidence = 1, 0
        self.kind_of_images = pick.choice(((), ("t",), ("c",), ("c", "t")))
        return Call(op, tuple(self.argument(op, argument) for argument in SCHEMAS[op].arguments))

    def argument(self, op: str, schema: Any) -> Any:
        """A good argument, by its name, and by the op's where the same name is something else."""
        name, s, pick = schema.name, self.sizes, self.random
        if str(schema.type) != "Tensor":
            return self.number(op, name, str(schema.type))
        real = "float64" if self.dtype == "float64" else "float32"
        n, k, seed = s["n"], s["k"], pick.randrange(1000)
        side = (s["height"], s["width"])
        rows, each, pixels = (n, k), (n,), (n, *(s[size] for size in self.kind_of_images), *side)
        absent = T(real, (0,))
        spread = ("normal", pick.choice((1, 1, 10, 100)))
        integer = pick.choice(INTEGERS)
        whole = side if pick.random() < 0.7 else (1, 1)
        mask = pick.choice((T("float32", (n, *whole), ("unit",)), T("bool", (n, *whole), ("below", 2))))
        if name == "grad_partner":
            rows = pick.choice((rows, (0,)))
        kinds = {
            "x": T(pick.choice((self.dtype, integer)), pixels, ("below", 200) if pick.random() < 0.5 else spread),
            "grad_out": T(self.dtype, pixels, spread),
            "perm": T("int64", each, pick.choice((("permutation",), ("below", n)))),
            "lam": T(real if op in ("sumix_loss", "masked_similarity") else "float32", each, ("unit",)),
            "box": T("int64", (n, 4), ("boxes", *side)),
            "resize": T("int64", each, ("below", 4)),
            "gate": pick.choice((absent, T(real, each, ("unit",)))),
            "mask": mask,
            "seed": T("int64", (), ("wild",)),
            "evidence": T("float32", (n, s["h"], s["w"]), pick.choice((("unit",), ("below", 3)))),
            "paste": T("uint8", each, ("below", 2)),
            "grey": T("float32", (n, *side), pick.choice((spread, ("wild",), ("below", 3)))),
            "soft": T("int64", pick.choice((each, (0,))), ("below", 2)),
            "logits": T(self.dtype, (n, k), spread),
            "raw_logits": T(self.dtype, (n, k), spread),
            "uncertainty": absent if self.plain else T(self.dtype, (n, k), spread),
            "raw_uncertainty": absent if self.plain else T(self.dtype, (n, k), spread),
            "y_a": T("int64", each, ("below", k)),
            "y_b": T("int64", each, ("below", k)),
            "masked": T("int64", each, ("below", k)),
            "labels": T("int64", each, ("below", k)),
            "weight": pick.choice((absent, T(real, (k,), ("unit",)))),
            "learned": pick.choice((absent, T(real, each, ("unit",)), T(real, (n, 3), ("unit",)))),
            "grad_loss": T(real, pick.choice(((), each)), spread),
            "grad_logits": T(real, (n, k), spread),
            "grad_uncertainty": absent if self.plain else T(real, (n, k), spread),
            "grad_raw": T(real, (n, k), spread),
            "grad_partner": T(real, rows, spread),
            "u": T(self.dtype, (n, k), ("unit",)),
            "grad_u": T(self.dtype, (n, k), spread),
            "centre": T("int64", (n, 2), ("below", min(side))),
            "mean": T("float32", (s["c"],), ("unit",)),
            "std": T("float32", (s["c"],), ("unit",)),
            "class_weight": T(real, (k, s["d"]), spread),
            "features": self.features(spread),
            "normals": T("float32", (n, self.parts()), spread),
            "scale": T("float32", (self.parts(),), ("unit",)),
            "mask_top_k.k": T("int64", each, ("below", side[0] * side[1] + 1)),
        }
        images = (n, s["c"], *side)
        kinds |= {
            "mix_normalize.x": T("uint8", images, ("below", 256)),
            "foreground.mean": pick.choice((absent, T(real, (s["c"],), spread))),
            "fine": self.fine(spread),
            "masked_similarity.mask": pick.choice((absent, replace(mask, dtype=pick.choice(("float32", "uint8"))))),
        }
        for saliency in ("saliency", "saliency_peak"):
            shape = images if pick.random() < 0.8 else (n, *side)
            kinds[f"{saliency}.x"] = T(pick.choice((self.dtype, "uint8")), shape, spread)
            for scale in ("mean", "std"):
                kinds[f"{saliency}.{scale}"] = kinds[scale] if self.plain else absent
        for optional in ("mix_normalize.box", "mix_normalize.resize", "mix_normalize.mask", "masked_similarity.box"):
            kinds[optional] = pick.choice((absent, kinds[optional.partition(".")[2]]))
        kinds["masked_similarity.resize"] = pick.choice((absent, kinds["resize"]))
        spec = replace(kinds.get(f"{op}.{name}") or kinds[name], seed=seed)
        if len(spec.shape) in (4, 5) and pick.random() < 0.3:
            spec = replace(spec, stride=channels_last(spec.shape))
        return spec

    def parts(self) -> int:
        """The numbers of a spectrum."""
        return 2 * self.sizes["height"] * (self.sizes["width"] // 2 + 1)

    def features(self, spread: tuple) -> T:
        """Maps as masked_similarity takes them: objects have one channel."""
        s = self.sizes
        places, d = s["frames"] * s["h"] * s["w"], s["d"]
        if self.evidence == 2:
            self.tokens = False
            return T(self.dtype, (s["n"], 1, s["h"] * s["w"]), ("unit",))
        more = self.random.choice((0, 0, 1)) if self.tokens else 0
        return T(self.dtype, (s["n"], places + more, d) if self.tokens else (s["n"], d, places), spread)

    def fine(self, spread: tuple) -> T:
        """The finer maps of foreground."""
        s = self.sizes
        places, more = s["fine_h"] * s["fine_w"], self.random.choice((0, 1))
        shape = (s["n"], places + more, s["c"]) if self.fine_tokens else (s["n"], s["c"], places)
        return T(self.dtype, shape, spread)

    def number(self, op: str, name: str, kind: str) -> Any:
        """A good number, by its name."""
        pick, s = self.random, self.sizes
        if kind == "bool":
            return {"tokens": self.tokens, "fine_tokens": self.fine_tokens}.get(name, pick.random() < 0.5)
        if kind == "float":
            unit = round(pick.random(), 3)
            known = {"alpha": pick.choice((unit, 1.0, 5.0)), "scale": 10 * unit, "max_soft": unit / 2, "high": 1.0}
            known |= {"threshold": 0.5, "soft": 0.1 + unit / 2}
            return known.get(name, unit)
        numbers = {**s, "size": s["height"] * s["width"], "num_classes": s["k"], "ignore_index": -100}
        numbers |= {
            "evidence": self.evidence,
            "rule": pick.randrange(4),
            "frames": 1 if self.evidence == 2 else s["frames"],
        }
        numbers["rounds"] = pick.choice((1, 1, 2))
        return numbers.get(name, pick.randrange(3))

    def spoil(self, argument: Any, others: list[Any]) -> Any:
        """Something else in the place of an argument."""
        pick = self.random
        if isinstance(argument, bool):
            return not argument
        if isinstance(argument, float):
            return pick.choice(WILD_FLOATS)
        if isinstance(argument, int):
            return pick.choice((*WILD_INTEGERS, argument + 1, argument - 1))
        if isinstance(argument, Same):
            return argument
        how = pick.choice((self.dtype_of, self.rank, self.size, self.layout, self.layout, self.values, self.place))
        if pick.random() < 0.05:
            tensors = [at for at, other in enumerate(others) if isinstance(other, T)]
            return Same(pick.choice(tensors)) if others[tensors[0]] is not argument else argument
        return how(argument)

    def dtype_of(self, spec: T) -> T:
        """Of another dtype."""
        return replace(spec, dtype=self.random.choice(FLOATS + INTEGERS + OTHERS), negative=False)

    def rank(self, spec: T) -> T:
        """With more or fewer dimensions; none; or as one that is absent."""
        pick, shape = self.random, spec.shape
        at = pick.randrange(len(shape) + 1)
        more = shape[:at] + (1,) * pick.choice((1, 1, 2, 6)) + shape[at:]
        shape = pick.choice((more, shape[:at] + shape[at + 1 :], (), (0,), (1,), (0, 0), shape[:1]))
        return replace(spec, shape=shape, stride=None)

    def size(self, spec: T) -> T:
        """With another size in one dimension, or huge ones beside one of 0."""
        pick, shape = self.random, list(spec.shape)
        if not shape:
            return replace(spec, shape=(2,))
        at = pick.randrange(len(shape))
        if pick.random() < 0.5:
            shape[at] = pick.choice((0, 1, 2, shape[at] + 1, max(shape[at] - 1, 0)))
            return replace(spec, shape=tuple(shape), stride=None)
        shape[at] = 0
        for other in range(len(shape)):
            if other != at and pick.random() < 0.5:
                shape[other] = pick.choice(HUGE)
        return replace(spec, shape=tuple(shape), stride=(1,) * len(shape))

    def layout(self, spec: T) -> T:
        """Of the same shape, elsewhere in memory."""
        pick, shape = self.random, spec.shape
        if 0 in shape:
            return replace(spec, stride=tuple(pick.choice((0, 1, 7, 2**40, 2**62)) for _ in shape))
        stride = list(contiguous(shape))
        how = pick.choice(("expanded", "overlapping", "steps", "order", "ones", "offset", "negative"))
        if how == "negative" and spec.dtype in FLOATS + INTEGERS[1:]:
            return replace(spec, negative=True)
        if how == "offset":
            return replace(spec, stride=tuple(stride), offset=pick.choice((1, 3, 16)))
        if how == "expanded" and shape:
            stride[pick.randrange(len(shape))] = 0
        if how == "overlapping":
            stride = [pick.choice((0, 1, step, step + 1)) for step in stride]
        if how == "steps":
            stride = [2 * step for step in stride]
        if how == "order":
            order = pick.sample(range(len(shape)), len(shape))
            step = 1
            for at in order:
                stride[at], step = step, step * shape[at]
        if how == "ones":
            stride = [
                pick.choice((0, 5, 2**40)) if size == 1 else step for size, step in zip(shape, stride, strict=True)
            ]
        return replace(spec, stride=tuple(stride))

    def values(self, spec: T) -> T:
        """With other values."""
        return replace(spec, values=self.random.choice((("wild",), ("wild",), ("below", 2), ("normal", 1e4))))

    def place(self, spec: T) -> T:
        """On another device."""
        return replace(spec, device="meta")


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor; of an empty one any will do where those are too large for torch."""
    try:
        return torch.empty(shape, device="meta").stride()
    except (RuntimeError, TypeError):
        return (1,) * len(shape)


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of (N, C, H, W) or (N, C, T, H, W) in memory as (N, H, W, C) or (N, T, H, W, C)."""
    order = (0, *range(2, len(shape)), 1)
    inner = contiguous(tuple(shape[at] for at in order))
    return tuple(inner[order.index(at)] for at in range(len(shape)))


class Journal:
    """Keeps in a file the call that is being made, for whoever finds the process dead."""

    def __init__(self, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")

    def write(self, call: Call) -> None:
        """Instead of what was there."""
        self.file.seek(0)
        self.file.truncate()
        self.file.write(f"{call!r}.check()\n")
        self.file.flush()


def huge_by_zero(generator: Generator) -> Iterator[Call]:
    """Good calls of every op but for two sizes of its tensors: one is 0, and so another may be huge."""
    for op in SCHEMAS:
        tensors = [x for x in generator.good(op, **MARKS).arguments if isinstance(x, T)]
        used = [name for name, size in MARKS.items() if any(size in x.shape for x in tensors)]
        for zero, huge in itertools.permutations(used, 2):
            yield generator.good(op, **{zero: 0, huge: generator.random.choice(NO_MEMORY)})


def fuzz(seed: int, calls: int, seconds: float, journal: Journal) -> dict[str, list[int]]:
    """Make so many calls, or for so many seconds. Returns how many of each op succeeded, and how many were made."""
    generator, counts, start = Generator(seed), {op: [0, 0] for op in SCHEMAS}, time.monotonic()
    some = (generator.call() for _ in range(calls))
    hostile = itertools.takewhile(lambda _: time.monotonic() - start < seconds, some)
    for call in itertools.chain(huge_by_zero(generator), hostile):
        try:
            call.make()
        except (RuntimeError, TypeError, ValueError):  # torch has no such tensor
            continue
        journal.write(call)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            counts[call.op][0] += call.check()
        except Exception as error:
            raise AssertionError(f"{error}\nfrom tests.fuzz import *\n{call!r}.check()") from error
        counts[call.op][1] += 1
    faulthandler.cancel_dump_traceback_later()
    return counts


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--journal", type=pathlib.Path, default=pathlib.Path("build/fuzz/call"))
    parser.add_argument("--extension", type=pathlib.Path, help="a build of sumix._C in the place of the usual one")
    options = parser.parse_args()
    torch.set_num_threads(2)
    counts = fuzz(options.seed, options.calls, options.seconds, Journal(options.journal))
    for op, (succeeded, made) in counts.items():
        print(f"{op}: {succeeded} of {made} calls succeeded")


if __name__ == "__main__":
    main()
