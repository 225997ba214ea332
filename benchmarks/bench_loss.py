"""The SUMix loss, forward and backward, beside what one would write without it: python -m benchmarks.bench_loss"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import memory
from benchmarks.common import CPU, Contestant, Group, Report, distance, main, parser, table
from sumix import MixTarget, SUMixLoss, SUMixOutput, ops, reference

EPILOG = """\
contestants, all given the same tensors, and all asked for the gradients to the mixed logits and to both uncertainties
(torch.autograd.grad; the four (N, K) inputs are leaves, so no other op is timed):
  ops.sumix_loss     the op with its Python wrapper
  SUMixLoss          the criterion, as a training script calls it
  eager twin         sumix.reference.sumix_loss: the formulas, vectorised in plain PyTorch
  compiled twin      torch.compile(dynamic=False) of the twin; compiled before anything is timed
  step-by-step port  sumix.reference.published_loss: what the authors' code does, loops over the batch and all
  clone()            no contestant but a limit: moves as many bytes
settings: "published" (ratio="published", weighting="batch": the authors' loss, which the port computes too) and
"default" (ratio="semantic", weighting="sample"). GB/s counts one read of the four inputs and one write of the three
gradients, for all.

A second table takes the op's time apart; a third shows the memory that one forward and backward needs.
"""

SIZES = [(100, 100), (256, 1000), (1024, 1000)]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2}
SETTINGS = {
    "published": {"ratio": "published", "weighting": "batch"},
    "default": {"ratio": "semantic", "weighting": "sample"},
}


def labels_of(target: MixTarget) -> tuple[Tensor, ...]:
    """What the op takes of a target."""
    return target.y_a, target.y_b, target.perm, target.lam


@dataclass(frozen=True)
class Problem:
    """One batch, and the loss that every contestant computes of it."""

    n: int
    k: int
    dtype: torch.dtype
    setting: str
    device: torch.device = CPU

    @cached_property
    def rows(self) -> tuple[Tensor, ...]:
        """Mixed logits, raw logits, mixed uncertainty, raw uncertainty; (N, K) each."""
        generator = torch.Generator().manual_seed(self.n * self.k)
        z, r, v, u = (3 * torch.randn(self.n, self.k, generator=generator) for _ in range(4))
        rows = z, r, reference.uncertainty(v), reference.uncertainty(u)
        return tuple(row.to(self.device, self.dtype).requires_grad_(i != 1) for i, row in enumerate(rows))

    @cached_property
    def target(self) -> MixTarget:
        """Labels, partners, and one lam for all: the port knows no other."""
        generator = torch.Generator().manual_seed(self.n + self.k)
        y = torch.randint(self.k, (self.n,), generator=generator)
        perm = torch.randperm(self.n, generator=generator)
        return MixTarget(y_a=y, y_b=y[perm], lam=torch.full((self.n,), 0.625), perm=perm).to(self.device)

    def gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        """The loss, and its gradients to all rows but the raw logits, which have none."""
        z, _, v, u = self.rows
        return loss, *torch.autograd.grad(loss, (z, v, u))

    @cached_property
    def expected(self) -> tuple[Tensor, ...]:
        """The float64 twin."""
        rows = [row.detach().double().requires_grad_(row.requires_grad) for row in self.rows]
        y_a, y_b, perm, lam = labels_of(self.target)
        loss, *_ = reference.sumix_loss(*rows, y_a, y_b, perm, lam.double(), **SETTINGS[self.setting])
        z, _, v, u = rows
        return loss, *torch.autograd.grad(loss, (z, v, u))

    def contestant(self, name: str, loss: Callable[[], Tensor]) -> Contestant:
        """Forward and backward of `loss()`."""

        def call() -> tuple[Tensor, ...]:
            return self.gradients(loss())

        return Contestant(name, call, lambda: distance(call(), self.expected))


def losses(problem: Problem) -> dict[str, Callable[[], Tensor]]:
    """Every way to compute the problem's loss."""
    rows, target = problem.rows, problem.target
    z, r, v, u = rows
    y_a, y_b, perm, lam = labels_of(target)
    options = SETTINGS[problem.setting]
    criterion = SUMixLoss(gamma=0.5, **options)
    mixed, raw = SUMixOutput(z, v), SUMixOutput(r, u)

    def twin(*tensors: Tensor) -> Tensor:
        return reference.sumix_loss(*tensors, **options)[0]

    compiled = torch.compile(twin, dynamic=False, fullgraph=True)
    ways = {
        "ops.sumix_loss": lambda: ops.sumix_loss(*rows, y_a, y_b, perm, lam, **options)[0],
        "SUMixLoss": lambda: criterion(mixed, raw, target),
        "eager twin": lambda: twin(*rows, y_a, y_b, perm, lam),
        "compiled twin": lambda: compiled(*rows, y_a, y_b, perm, lam),
    }
    if problem.setting == "published" and problem.dtype in (torch.float32, torch.float64):
        ways["step-by-step port"] = lambda: reference.published_loss(*rows, y_a, y_b, perm, 0.625)
    return ways


def comparison(problem: Problem, only: Sequence[str]) -> Group:
    """The first table."""
    torch.compiler.reset()  # else a few sizes later it refuses to compile the same function again
    ways = losses(problem)
    contestants = [problem.contestant(name, ways[name]) for name in only if name in ways]
    z = problem.rows[0]
    block = torch.rand(7 * z.numel() // 2, device=z.device).to(z.dtype)
    contestants.append(Contestant("clone()", block.clone, lambda: distance((block.clone(),), (block,))))
    return Group(
        name="loss, forward and backward",
        params=_params(problem),
        contestants=contestants,
        tolerance=TOLERANCE[problem.dtype],
        references=["ops.sumix_loss"],
        nbytes=7 * z.numel() * z.element_size(),
    )


def take_apart(report: Report, problem: Problem) -> None:
    """The second table: differences of medians, between the real size and one class of one sample."""
    one = Problem(1, 1, problem.dtype, problem.setting)
    timed = {
        "all": problem.contestant("forward and backward", losses(problem)["ops.sumix_loss"]),
        "op": _op(problem, "op alone, gradients computed", True),
        "op_no_gradients": _op(problem, "op alone, without gradients", False),
        "floor_all": one.contestant("(1, 1): forward and backward", losses(one)["ops.sumix_loss"]),
        "floor_wrapper": _wrapper(one, "(1, 1): wrapper under no_grad"),
        "floor_op": _op(one, "(1, 1): op alone, gradients computed", True),
        "floor_op_no_gradients": _op(one, "(1, 1): op alone, without gradients", False),
    }
    group = Group(
        name="ops.sumix_loss taken apart",
        params=_params(problem),
        contestants=list(timed.values()),
        tolerance=TOLERANCE[problem.dtype],
        references=[],
    )
    medians = report.run(group)
    t = {key: medians[contestant.name] * 1e6 for key, contestant in timed.items()}
    wrapper = t["floor_wrapper"] - t["floor_op_no_gradients"]
    autograd = t["floor_all"] - wrapper - t["floor_op"]
    kernel = t["op"] - t["floor_op"]
    parts = {
        "kernel": (kernel, "op alone, less the same at (1, 1)"),
        "dispatch": (t["floor_op"], "op alone at (1, 1): dispatcher, unpacking, checks in C, allocating six outputs"),
        "wrapper": (wrapper, "at (1, 1) under no_grad, wrapper less op: checks in Python"),
        "autograd": (autograd, "at (1, 1), forward and backward less wrapper and op"),
        "rest": (t["all"] - t["floor_all"] - kernel, "what the sum above misses: backward's own passes over memory"),
        "kernel without gradients": (
            t["op_no_gradients"] - t["floor_op_no_gradients"],
            "for comparison, as in evaluation; not part of the sum",
        ),
    }
    lines = [[name, f"{value:.1f}", how] for name, (value, how) in parts.items()]
    print(table(["part", "us", "how it is found"], lines, left=(0, 2)), flush=True)
    microseconds = {name: round(value, 3) for name, (value, _) in parts.items()}
    report.extra.setdefault("parts_us", []).append({**_params(problem), **microseconds})
    report.write()


def _op(problem: Problem, name: str, needs_grad: bool) -> Contestant:
    rows = [row.detach() for row in problem.rows]
    y_a, y_b, perm, lam = labels_of(problem.target)
    ratio, weighting = SETTINGS[problem.setting].values()
    real = torch.float64 if problem.dtype is torch.float64 else torch.float32
    op = partial(
        torch.ops.sumix.sumix_loss.default,
        *(*rows, y_a, y_b, perm, lam.to(real), torch.empty(0, dtype=real), torch.empty(0, dtype=real)),
        *(reference.RATIOS.index(ratio), reference.WEIGHTINGS.index(weighting), reference.REDUCTIONS.index("mean")),
        *(0.5, reference.scale_of(ratio, rows[0], 0.3, None), 0.0, -100, needs_grad),
    )

    def call() -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():  # as the wrapper calls it
            return op()

    def error() -> float:
        loss, _, grad_z, grad_v, grad_u, _ = call()
        return distance(
            (loss, grad_z, grad_v, grad_u) if needs_grad else (loss,), problem.expected[: 1 + 3 * needs_grad]
        )

    return Contestant(name, call, error)


def _wrapper(problem: Problem, name: str) -> Contestant:
    loss = losses(problem)["ops.sumix_loss"]

    def call() -> Tensor:
        with torch.no_grad():
            return loss()

    return Contestant(name, call, lambda: distance((call(),), problem.expected[:1]))


def _params(problem: Problem) -> dict[str, Any]:
    return {
        "size": f"({problem.n}, {problem.k})",
        "dtype": str(problem.dtype).removeprefix("torch."),
        "setting": problem.setting,
    }


def show_memory(report: Report, problem: Problem, names: Sequence[str]) -> None:
    """The third table, measured in a process of its own."""
    size, dtype = f"{problem.n}x{problem.k}", _params(problem)["dtype"]
    which = ["--size", size, "--dtype", dtype, "--setting", problem.setting, "--peak-of", *names]
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_loss", *which],
        cwd=Path(__file__).parents[1],
        env=os.environ | memory.MALLOC,
        capture_output=True,
        text=True,
    )
    if child.returncode != 0:
        raise RuntimeError(f"measuring memory failed:\n{child.stderr}")
    peaks = json.loads(child.stdout)
    array = problem.n * problem.k * problem.dtype.itemsize
    lines = [
        [name, *("unknown" if peak is None else f"{peak / 2**20:.2f} MiB = {peak / array:.2f}" for peak in peaks[name])]
        for name in names
    ]
    print(
        f"\nPeak memory of one forward and backward above its inputs, size ({problem.n}, {problem.k}), setting "
        f"{problem.setting}, in MiB and in\narrays of (N, K), {array / 2**20:.2f} MiB each. "
        "The three gradients that the caller asked for are 3 of them."
    )
    print(table(["", "torch's allocator", "resident memory"], lines), flush=True)
    report.extra["peak_bytes"] = [
        {**_params(problem), "name": name, "array": array, "allocated": peaks[name][0], "resident": peaks[name][1]}
        for name in names
    ]
    report.write()


def peaks_of(names: Sequence[str], problem: Problem) -> dict[str, tuple[int, int | None]]:
    """What the child process of `show_memory` prints: bytes by torch's allocator and of resident memory."""
    ways = losses(problem)
    calls = {name: problem.contestant(name, ways[name]).call for name in names}
    peaks = {}
    for name, call in calls.items():
        call()  # whatever is set up once
        peaks[name] = memory.allocated_peak(call), memory.resident_peak(call)
    return peaks


def bench(options: argparse.Namespace) -> None:
    dtype = getattr(torch, options.dtype)
    sizes = options.size or (SIZES[:1] if options.quick else SIZES)
    setting = options.setting[0]
    largest = Problem(*(options.size or SIZES)[-1], dtype, setting)
    if options.peak_of:
        print(json.dumps(peaks_of(options.peak_of, largest)))
        return
    twins = ["eager twin"] if options.no_compile else ["eager twin", "compiled twin"]
    report = Report("loss", options)
    for n, k in sizes:
        for name in options.setting:
            contestants = ["ops.sumix_loss", "SUMixLoss", *twins, "step-by-step port"]
            report.run(comparison(Problem(n, k, dtype, name), contestants))
    for n, k in sizes:
        take_apart(report, Problem(n, k, dtype, setting))
    show_memory(report, largest, ["ops.sumix_loss", *twins[: 1 if options.quick else None]])


def _size(text: str) -> tuple[int, int]:
    n, _, k = text.partition("x")
    if not (n.isdecimal() and k.isdecimal() and int(n) > 0 and int(k) > 0):
        raise argparse.ArgumentTypeError(f"must be NxK, two numbers from 1 on, got {text!r}")
    return int(n), int(k)


if __name__ == "__main__":
    arguments = parser(__doc__, EPILOG)
    arguments.add_argument(
        "--size", type=_size, nargs="+", metavar="NxK", help="batch by classes (default: 100x100 256x1000 1024x1000)"
    )
    arguments.add_argument(
        "--dtype",
        choices=["float32", "float64", "bfloat16"],
        default="float32",
        help="of the four (N, K) inputs; the port runs in the first two (default: float32)",
    )
    arguments.add_argument(
        "--setting",
        choices=list(SETTINGS),
        nargs="+",
        default=list(SETTINGS),
        help="which loss, as below; the first named is taken apart and has its memory measured (default: both)",
    )
    arguments.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which needs a compiler")
    arguments.add_argument(
        "--peak-of",
        nargs="+",
        metavar="CONTESTANT",
        help="print only the peak memory of these in bytes, as JSON; the bench starts itself so, in a fresh process",
    )
    main(arguments, bench)
