"""The harness of the bench_* modules: check first, then time, side by side.

Every contestant's output is compared with its float64 twin before anything is timed, and a wrong one stops the bench: a
fast wrong answer is no result. Then each round times every contestant once, in turn (A B C A B C ...), so that whatever
else the machine does meets all of them alike. One sample is a loop of calls of at least --min-sample-ms, after one call
that is not timed, with the garbage collector off. On one thread, a sample during which other processes had the core for
more than a twentieth of the time is taken again, a few times at most.

With glibc, freed blocks of up to 32 MiB stay with the process, so that no contestant pays for the state in which
another left the heap; larger ones are given back and fetched anew, page by page, as always.

Reported are the median of the samples, their minimum and their quartiles; a ratio is the median of the rounds' own
ratios, which a machine that slows down and speeds up does not disturb.
"""

import argparse
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from sumix import _C

RETAKES = 4
CPU = torch.device("cpu")


class WrongResult(RuntimeError):
    """A contestant computes something else than the twin."""


@dataclass(frozen=True)
class Contestant:
    """One way of doing a group's job.

    Attributes
    ----------
    name : str
        As the table shows it.
    call : callable
        What is timed, without arguments; its result is dropped.
    error : callable
        Runs the same work once and returns its distance from the expected result: at most the group's tolerance.
    """

    name: str
    call: Callable[[], Any]
    error: Callable[[], float]


@dataclass(frozen=True)
class Group:
    """Contestants that do the same job on the same input, and so share a table.

    Attributes
    ----------
    name : str
        The job.
    params : dict
        Sizes, dtype and settings, for the table's title and the JSON.
    contestants : sequence of Contestant
        In the table's order.
    tolerance : float
        Largest error that counts as right.
    references : sequence of str
        Contestants to give the ratios to, one column each.
    nbytes : int, optional
        Memory traffic that the job cannot do without, in bytes; GB/s is this over the time, for everyone.
    """

    name: str
    params: dict[str, Any]
    contestants: Sequence[Contestant]
    tolerance: float
    references: Sequence[str]
    nbytes: int | None = None

    @property
    def title(self) -> str:
        """Name and parameters in one line."""
        return f"{self.name}: " + ", ".join(f"{key} {value}" for key, value in self.params.items())


def distance(results: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest |result - expected|, relative to the largest |expected| of its tensor unless that is 0.

    inf if shapes differ; NaN, which is within no tolerance, if a result is NaN.
    """
    if [tuple(r.shape) for r in results] != [tuple(e.shape) for e in expected]:
        return float("inf")
    errors = []
    for result, truth in zip(results, expected, strict=True):
        result, truth = result.detach().double(), truth.detach().double()
        scale = truth.abs().max().item() or 1.0
        errors.append((result - truth).abs().max().item() / scale)
    return float("nan") if any(e != e for e in errors) else max(errors)


def validate(group: Group) -> dict[str, float]:
    """Error of every contestant by name.

    Raises
    ------
    WrongResult
        If one is above the group's tolerance or not a number.
    """
    errors = {}
    for contestant in group.contestants:
        errors[contestant.name] = error = contestant.error()
        if not error <= group.tolerance:
            raise WrongResult(
                f"{group.title}: {contestant.name} is wrong: it differs from the float64 twin by {error:.3g}, "
                f"allowed are {group.tolerance:g}"
            )
    return errors


def sample(call: Callable[[], Any], loops: int) -> tuple[float, float]:
    """Seconds of one call, from `loops` in a row, and the share of the time in which this process was running."""
    start, start_cpu = time.perf_counter_ns(), time.process_time_ns()
    for _ in range(loops):
        call()
    cpu, wall = time.process_time_ns() - start_cpu, time.perf_counter_ns() - start
    return wall * 1e-9 / loops, cpu / wall


def calibrate(call: Callable[[], Any], seconds: float) -> int:
    """How many calls make a sample of at least `seconds`."""
    loops = 1
    while (one := sample(call, loops)[0]) * loops < seconds:
        loops = max(loops + 1, min(10 * loops, int(1.2 * seconds / one)))
    return loops


def measure(group: Group, repeats: int, seconds: float, retakes: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Interleaved samples, in seconds a call, and the calls of one sample, of every contestant by name.

    A sample in which the process ran less than 95 % of the time is taken again, up to `retakes` times, and the one in
    which it ran most counts.
    """
    loops = {c.name: calibrate(c.call, seconds) for c in group.contestants}
    samples: dict[str, list[float]] = {c.name: [] for c in group.contestants}
    gc.collect()
    gc.disable()
    try:
        for done in range(repeats):
            _progress(f"{group.title}: round {done + 1} of {repeats}")
            for contestant in group.contestants:
                best, most = 0.0, -1.0
                for _ in range(1 + retakes):
                    contestant.call()
                    one, running = sample(contestant.call, loops[contestant.name])
                    if running > most:
                        best, most = one, running
                    if running >= 0.95:
                        break
                samples[contestant.name].append(best)
    finally:
        gc.enable()
        _progress("")
    return samples, loops


def _progress(message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{message}", end="", file=sys.stderr, flush=True)


def median_ratio(samples: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of this sample over the reference's of the same round."""
    return statistics.median(a / b for a, b in zip(samples, reference, strict=True))


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; both the one value if there is but one."""
    if len(samples) == 1:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Lines of text: the columns numbered in `left` to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [headers, *rows]) for i in range(len(headers))]
    lines = [headers, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def environment(threads: int) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "threads": threads,
        "sumix_cpu_isa": _C.cpu_isa,
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "sumix": importlib.metadata.version("sumix") if _installed("sumix") else None,
        **{name: peers.version(name) for name in peers.NAMES},
    }


def _installed(name: str) -> bool:
    return any(True for _ in importlib.metadata.distributions(name=name))


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass
class Report:
    """Runs groups, prints a table after each and keeps the JSON file up to date, so that Ctrl-C leaves what is done."""

    benchmark: str
    options: argparse.Namespace
    rows: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_freed_memory()
        self.environment = environment(self.options.threads)
        print("  ".join(f"{key}={value}" for key, value in self.environment.items() if value is not None))

    def run(self, group: Group) -> dict[str, float]:
        """Check, time, print and record one group; median seconds by contestant."""
        errors = validate(group)
        retakes = RETAKES if self.options.threads == 1 and not self.options.quick else 0
        samples, loops = measure(group, self.options.repeats, self.options.min_sample_ms * 1e-3, retakes)
        references = [name for name in group.references if name in samples]
        lines = []
        for name, times in samples.items():
            median, (q1, q3) = statistics.median(times), quartiles(times)
            ratios = {reference: median_ratio(times, samples[reference]) for reference in references}
            speed = group.nbytes / median * 1e-9 if group.nbytes else None
            micro = {"median_us": median, "min_us": min(times), "q1_us": q1, "q3_us": q3}
            self.rows.append(
                {
                    "group": group.name,
                    **group.params,
                    "name": name,
                    **{key: round(value * 1e6, 3) for key, value in micro.items()},
                    "repeats": len(times),
                    "loops": loops[name],
                    "gb_per_s": speed,
                    "ratio_to": ratios,
                    "error": errors[name],
                }
            )
            lines.append(
                [
                    name,
                    *(microseconds(value) for value in micro.values()),
                    *(["" if speed is None else f"{speed:.2f}"] if group.nbytes else []),
                    *(f"{ratio:.2f}" for ratio in ratios.values()),
                    f"{errors[name]:.1e}",
                ]
            )
        headers = ["", "median us", "min", "q1", "q3", *(["GB/s"] if group.nbytes else [])]
        print(f"\n{group.title}")
        print(table([*headers, *(f"/ {reference}" for reference in references), "error"], lines), flush=True)
        self.write()
        return {name: statistics.median(times) for name, times in samples.items()}

    def write(self) -> None:
        """Bring the JSON file, if one is wanted, up to date."""
        if self.options.json is None:
            return
        document = {
            "benchmark": self.benchmark,
            "environment": self.environment,
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.options).items()},
            "rows": self.rows,
            **self.extra,
        }
        self.options.json.parent.mkdir(parents=True, exist_ok=True)
        self.options.json.write_text(json.dumps(document, indent=1) + "\n")


def microseconds(seconds: float) -> str:
    """In microseconds, to what a reader can use."""
    return f"{seconds * 1e6:,.1f}" if seconds < 1e-4 else f"{seconds * 1e6:,.0f}"


def parser(description: str, epilog: str = "") -> argparse.ArgumentParser:
    """The options that all benches share; --quick stands for few short repeats and whatever the bench leaves out."""
    p = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--threads", type=_positive, default=1, help="threads that torch may use (default: 1)")
    p.add_argument("--repeats", type=_positive, help="samples of each contestant (default: 25; 3 with --quick)")
    p.add_argument(
        "--min-sample-ms",
        type=_milliseconds,
        help="shortest sample in milliseconds; calls are repeated to fill it (default: 2; 0.5 with --quick)",
    )
    p.add_argument("--quick", action="store_true", help="smallest sizes, few short samples: does it all run?")
    p.add_argument("--json", type=Path, metavar="FILE", help="write environment, options and all numbers to FILE")
    return p


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def _milliseconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value:g}")
    return value


def keep_freed_memory() -> None:
    """Switch off, in glibc's malloc, what decides by past requests whether freed memory goes back to the system."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(m_trim_threshold, 2**30)
        libc.mallopt(m_mmap_threshold, 2**25)  # the largest that it takes


def main(p: argparse.ArgumentParser, bench: Callable[[argparse.Namespace], None]) -> None:
    """Parse, set threads and seed, run; exit 1 with the reason if a contestant is wrong, 130 on Ctrl-C."""
    options = p.parse_args()
    options.repeats = options.repeats or (3 if options.quick else 25)
    options.min_sample_ms = options.min_sample_ms or (0.5 if options.quick else 2.0)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    try:
        bench(options)
    except WrongResult as error:
        sys.exit(f"stopped: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
