"""Every bench on a GPU, beside eager PyTorch, torch.compile and other packages: python -m benchmarks.gpu"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType

import sumix
from benchmarks import (
    bench_foreground,
    bench_loss,
    bench_mask,
    bench_masked_similarity,
    bench_mix,
    bench_saliency,
    bench_sample,
    bench_transforms,
    common,
)
from benchmarks.batches import DTYPES, batches
from benchmarks.common import Contestant, Group, Report, distance, main, median_ratio, parser, quartiles, table

EPILOG = """\
The contestants are those of the benches on the CPU (python -m benchmarks.bench_loss --help and so on say who they are),
without those that know no GPU; "compiled" is torch.compile(dynamic=False), compiled before anything is timed.
  call us    wall time of a call, of many in a row: what a training loop waits for, be it the GPU or Python
  GPU us     time that the GPU takes for a call whose launches are all there when it begins (a kernel that only waits
             goes before), with the second-level cache overwritten before (not with --keep-l2); CUDA events. Of what
             waits for the GPU in between, or of a thousand launches and more, for which its queue has no room, Python's
             time too.
  launches   kernels, copies and fills that one call starts, by torch's profiler
  GB/s       memory traffic that the job cannot do without over the GPU's time
  of copy    that as a share of what a large copy from device memory to device memory reached at the beginning
Both times are medians; the JSON has quartiles and minima too. The GPU's clocks are neither locked nor watched.
With --device cpu the same code runs on the CPU, where "launches" counts operators and both times are a clock's: it
shows that this program works, no more.
"""

OURS = ("ops", "sumix", "SUMixLoss", "torch.ops", "grid", "smooth")
LARGE_LOSSES = [(256, 21843), (64, 100000)]


def why_no_gpu() -> str | None:
    """Why there is none to measure; None if there is."""
    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no GPU and driver that it can use"
    return sumix.cuda_available().reason


class Timer:
    """Times calls on a device."""

    def __init__(self, device: torch.device, flush: bool) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"
        self.cache = None
        if self.on_gpu:
            if flush:
                size = torch.cuda.get_device_properties(device).L2_cache_size
                self.cache = torch.empty(2 * max(size, 2**25), dtype=torch.uint8, device=device)
            self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.cycles_per_second = self._clock()

    def _clock(self) -> float:
        cycles = 10_000_000
        for _ in range(2):  # the first is a warm-up
            self.start.record()
            torch.cuda._sleep(cycles)
            self.end.record()
            self.end.synchronize()
        return cycles / (1e-3 * self.start.elapsed_time(self.end))

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def in_a_row(self, call: Callable[[], Any], loops: int) -> float:
        """Seconds a call."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(loops):
            call()
        self.synchronize()
        return (time.perf_counter() - start) / loops

    def loops(self, call: Callable[[], Any], seconds: float) -> int:
        """How many calls take so long."""
        loops = 1
        while (one := self.in_a_row(call, loops)) * loops < seconds:
            loops = max(loops + 1, min(10 * loops, int(1.2 * seconds / one)))
        return loops

    def alone(self, call: Callable[[], Any], ahead: float) -> float:
        """Seconds that the GPU takes for one call; `ahead`: seconds that the host needs to launch it."""
        if not self.on_gpu:
            return self.in_a_row(call, 1)
        torch.cuda._sleep(int((2 * ahead + 2e-4) * self.cycles_per_second))
        if self.cache is not None:
            self.cache.zero_()
        self.start.record()
        call()
        self.end.record()
        self.end.synchronize()
        return 1e-3 * self.start.elapsed_time(self.end)

    def launches(self, call: Callable[[], Any]) -> int | None:
        """What one call starts on the GPU; None if the profiler sees nothing. On a CPU: torch's operators."""
        kinds = torch.profiler.ProfilerActivity
        call()
        with torch.profiler.profile(activities=[kinds.CPU, *([kinds.CUDA] if self.on_gpu else [])]) as profile:
            call()
            self.synchronize()
        if self.on_gpu:
            return sum(map(is_launch, profile.events())) or None
        return sum(event.name.startswith(("aten::", "sumix::")) for event in profile.events()) or None

    def copy_speed(self, size: int) -> float:
        """Bytes a second that a copy within device memory reads and writes."""
        source = torch.zeros(size, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        times = [self.alone(lambda: target.copy_(source), 1e-5) for _ in range(7)]
        return 2 * size / statistics.median(times)


def is_launch(event: Any) -> bool:
    """Whether it ran on the GPU; torch.compile's names for parts of a call are drawn on the GPU's line too."""
    return event.device_type == DeviceType.CUDA and not event.is_user_annotation


class GpuReport(Report):
    """As Report, with the times and the numbers that a GPU is judged by."""

    def __init__(self, options: argparse.Namespace, timer: Timer) -> None:
        super().__init__("gpu", options)
        self.timer = timer
        self.copy_bytes = 2**24 if options.quick or not timer.on_gpu else 2**30
        self.copy = timer.copy_speed(self.copy_bytes)
        self.environment |= {"device": str(timer.device), **(describe(timer.device) if timer.on_gpu else {})}
        self.extra |= {"copy_gb_per_s": [round(self.copy * 1e-9, 1)], "left_out": []}
        print("  ".join(f"{key}={value}" for key, value in self.environment.items() if value is not None))
        print(f"copy within device memory: {self.copy * 1e-9:.1f} GB/s")

    def keep(self, group: Group) -> tuple[Group, dict[str, float]]:
        """The contestants that work and are right here, and their errors; ours must be."""
        kept, errors = [], {}
        for contestant in group.contestants:
            try:
                errors |= common.validate(replace(group, contestants=[contestant]))
                kept.append(contestant)
            except Exception as error:
                if contestant.name.startswith(OURS):
                    raise
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                print(f"{group.title}: {contestant.name} is left out: {reason}")
                self.extra["left_out"].append({"group": group.title, "name": contestant.name, "reason": reason})
        return replace(group, contestants=kept), errors

    def run(self, group: Group) -> dict[str, float]:
        """Check, time, print and record one group."""
        group, errors = self.keep(group)
        calls = {contestant.name: contestant.call for contestant in group.contestants}
        loops = {name: self.timer.loops(call, 1e-3 * self.options.min_sample_ms) for name, call in calls.items()}
        launches = {name: self.timer.launches(call) for name, call in calls.items()}
        walls: dict[str, list[float]] = {name: [] for name in calls}
        alone: dict[str, list[float]] = {name: [] for name in calls}
        for done in range(self.options.repeats):
            common._progress(f"{group.title}: round {done + 1} of {self.options.repeats}")
            for name, call in calls.items():
                walls[name].append(self.timer.in_a_row(call, loops[name]))
                alone[name].append(self.timer.alone(call, walls[name][-1]))
        common._progress("")
        references = [name for name in group.references if name in calls]
        lines = []
        for name in calls:
            row = {"group": group.name, **group.params, "name": name, "launches": launches[name]}
            for kind, times in (("call", walls), ("gpu", alone)):
                q1, q3 = quartiles(times[name])
                values = {"median": statistics.median(times[name]), "min": min(times[name]), "q1": q1, "q3": q3}
                row[f"{kind}_us"] = {key: round(1e6 * value, 3) for key, value in values.items()}
                row[f"{kind}_ratio_to"] = {other: median_ratio(times[name], times[other]) for other in references}
            speed = group.nbytes / statistics.median(alone[name]) if group.nbytes else None
            row |= {"bytes": group.nbytes, "gb_per_s": speed and speed * 1e-9, "of_copy": speed and speed / self.copy}
            self.rows.append({**row, "repeats": self.options.repeats, "loops": loops[name], "error": errors[name]})
            lines.append(
                [
                    name,
                    *(f"{row[f'{kind}_us']['median']:,.1f}" for kind in ("call", "gpu")),
                    "?" if launches[name] is None else str(launches[name]),
                    *(["", ""] if speed is None else [f"{speed * 1e-9:.1f}", f"{speed / self.copy:.2f}"]),
                    *(f"{row[f'{kind}_ratio_to'][other]:.2f}" for other in references for kind in ("call", "gpu")),
                ]
            )
        heads = ["", "call us", "GPU us", "launches", "GB/s", "of copy"]
        heads += [f"{kind} / {other}" for other in references for kind in ("call", "GPU")]
        print(f"\n{group.title}\n{table(heads, lines)}", flush=True)
        self.write()
        return {name: statistics.median(times) for name, times in walls.items()}


def describe(device: torch.device) -> dict[str, Any]:
    """What the GPU is."""
    found = torch.cuda.get_device_properties(device)
    return {
        "gpu": found.name,
        "capability": f"{found.major}.{found.minor}",
        "memory_gib": round(found.total_memory / 2**30, 1),
        "multiprocessors": found.multi_processor_count,
        "l2_mib": found.L2_cache_size / 2**20,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "clocks": "unknown: neither locked nor watched",
    }


def driver() -> str | None:
    """The driver's version, by its own tool."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.split("\n")[0].strip() or None


def compiled(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same call, compiled when it is first made."""
    torch.compiler.reset()  # else a few sizes later it refuses to compile the same function again
    return torch.compile(call, dynamic=False)


def flat(made: Any) -> list[Tensor]:
    """Tensors of a result."""
    return [made] if isinstance(made, Tensor) else [part for one in made for part in flat(one)]


def with_compiled_twin(group: Group) -> Group:
    """The group with its eager twin, compiled, if it has none yet; what draws at random cannot be compared."""
    named = {contestant.name: contestant for contestant in group.contestants}
    if "eager twin" not in named or "compiled twin" in named or group.name == "FMix":
        return group
    eager = named["eager twin"].call
    call = compiled(eager)
    twin = Contestant("compiled twin", call, lambda: distance(flat(call()), flat(eager())))
    return replace(group, contestants=[*group.contestants, twin])


def with_compiled_mixer(group: Group, batch: Any, kind: str) -> Group:
    """The group with our mixer compiled."""
    call = compiled(bench_transforms.OURS[kind](num_classes=batch.classes))
    own = batch.images.clone()
    error = partial(bench_transforms._label_error, call, batch)
    mixer = Contestant("sumix, compiled", partial(call, own, batch.labels), error)
    return replace(group, contestants=[*group.contestants, mixer])


def loss_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """Forward and backward of the loss."""
    twins = ["eager twin"] if options.no_compile else ["eager twin", "compiled twin"]
    for n, k in bench_loss.SIZES[:1] if options.quick else [*bench_loss.SIZES, *LARGE_LOSSES]:
        for dtype in [torch.float32] if options.quick else [torch.float32, torch.bfloat16]:
            for setting in bench_loss.SETTINGS:
                problem = bench_loss.Problem(n, k, dtype, setting, device)
                yield bench_loss.comparison(problem, ["ops.sumix_loss", "SUMixLoss", *twins, "step-by-step port"])


def mix_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """The mixing ops."""
    for batch in batches(DTYPES, options.quick, device):
        yield from bench_mix.op_groups(batch)


def transform_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """The mixers."""
    kinds = ["CutMix", "FMix"] if options.quick else list(bench_transforms.OURS)
    for batch in batches(DTYPES[:1] if options.quick else DTYPES, options.quick, device):
        for kind in kinds:
            group = bench_transforms.transform_group(batch, kind)
            compiles = not options.no_compile and batch.dtype is torch.float32
            yield with_compiled_mixer(group, batch, kind) if compiles else group
            if kind == "CutMix" and batch.dtype is torch.uint8:
                yield bench_transforms.normalized_group(batch)


def saliency_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """Saliency."""
    sizes = bench_saliency.SIZES[: 1 if options.quick else None]
    return chain.from_iterable(bench_saliency.groups(shape, device) for shape in sizes)


def mask_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """The masks of FMix, GridMix and SmoothMix."""
    for n, channels, height, width in bench_mask.SIZES[: 1 if options.quick else None]:
        images = torch.randn(n, channels, height, width, device=device)
        yield from bench_mask.top_k_groups(n, height, width, device)
        yield bench_mask.fmix_group(images)
        yield bench_mask.shapes_group(images)


def sample_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """What a mixer draws."""
    return chain.from_iterable(bench_sample.groups(n, device) for n in ((100,) if options.quick else (100, 1024)))


def similarity_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """Mask-aware similarity."""
    for problem in bench_masked_similarity.PROBLEMS[: 1 if options.quick else None]:
        yield replace(problem, device=device).group(not options.no_compile)


def foreground_groups(options: argparse.Namespace, device: torch.device) -> Iterator[Group]:
    """Foreground evidence."""
    for problem in bench_foreground.PROBLEMS[: 1 if options.quick else None]:
        yield replace(problem, device=device).group(not options.no_compile)


BENCHES = {
    "loss": loss_groups,
    "mix": mix_groups,
    "transforms": transform_groups,
    "saliency": saliency_groups,
    "mask": mask_groups,
    "sample": sample_groups,
    "masked_similarity": similarity_groups,
    "foreground": foreground_groups,
}


def launches_of_the_loss(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many launches one step of the authors' loss takes, by who computes it."""
    steps = [row for row in rows if row["group"].startswith("loss,") and row["setting"] == "published"]
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for row in steps:
        step = kinds.setdefault((row["size"], row["dtype"]), {"size": row["size"], "dtype": row["dtype"]})
        step[row["name"]] = row["launches"]
    return list(kinds.values())


def bench(options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    if device.type == "cuda" and (reason := why_no_gpu()) is not None:
        sys.exit(f"no GPU: {reason}")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timer = Timer(device, not options.keep_l2)
    report = GpuReport(options, timer)
    for name in options.only:
        for group in BENCHES[name](options, device):
            report.run(group if options.no_compile else with_compiled_twin(group))
    report.extra["copy_gb_per_s"].append(round(timer.copy_speed(report.copy_bytes) * 1e-9, 1))
    report.extra["launches_of_the_loss"] = launches_of_the_loss(report.rows)
    for step in report.extra["launches_of_the_loss"]:
        print("launches a step: " + ", ".join(f"{key} {value}" for key, value in step.items()))
    report.write()


if __name__ == "__main__":
    arguments = parser(__doc__, EPILOG)
    arguments.add_argument("--device", default="cuda:0", help="cuda:0, another GPU, or cpu (default: cuda:0)")
    arguments.add_argument("--only", choices=BENCHES, nargs="+", default=list(BENCHES), help="which (default: all)")
    arguments.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which needs a compiler")
    arguments.add_argument("--keep-l2", action="store_true", help="do not overwrite the second-level cache")
    main(arguments, bench)
