"""make registers: nvcc compiles every kernel for every architecture; none may spill, use a stack, or lose occupancy.

Occupancy is how many warps a multiprocessor holds of those it has room for, by the registers, the shared memory and the
block size of a kernel: while some wait for memory, the others have work. ptxas tells registers, spills and static
shared memory, PTX the block size (`__launch_bounds__`). KERNELS says the least that is asked of each kernel, and why
where that is not all; the table of what was measured is the one in csrc/cuda/README.md.

    python tests/check_registers.py [--all] [--arch "8.0 9.0"] [csrc/cuda/loss.cu ...]

--all: a row for every instantiation of a template, not only the worst of them. Results are kept in build/registers
until a source changes. Python and nvcc alone, no torch.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "csrc" / "cuda"))
import nvcc  # noqa: E402


@dataclass(frozen=True)
class Kernel:
    """What is asked of a kernel: its least occupancy in percent, on any architecture and for any element type."""

    occupancy: int = 100
    dynamic: int = 0  # bytes of dynamic shared memory a block, at most
    why: str = ""  # the occupancy is below 100


# fmt: off
KERNELS = {
    "uncertainty_forward": Kernel(38, 3072, "a thread loads 16 bytes at once: 24 warps have what memory can deliver"),
    "uncertainty_backward": Kernel(25, 3072, "the same; streamed rows the least"),
    "semantic_distance_rows": Kernel(25, 3072, "four elements of two rows a thread, each with exponentials of its own"),
    "loss_rows": Kernel(12, 3616, "twelve elements a thread, each with its exponentials; float64 the least"),
    "loss_sum_up": Kernel(50, 256, "one block"),
    "loss_reduce": Kernel(50, 256, "one block"),
    "loss_scale": Kernel(),
    "loss_scale_samples": Kernel(50, 256, "a thread loads 16 bytes of three rows at once"),
    "mask_cut": Kernel(12, 40960, "an image lies in shared memory; 1024 threads where it does not"),
    "evidence_mask_cut": Kernel(62, 0, "64-bit coordinates; what takes time is writing the mask"),
    "mask_sample": Kernel(75),
    "masked_similarity_shares": Kernel(12, 0, "64-bit edges of cells; a few microseconds in all"),
    "masked_similarity_many_places": Kernel(25, 32000, "a thread has several loads under way"),
    "masked_similarity_few_places": Kernel(25, 0, "256 places of a channel in registers"),
    "masked_similarity_channels_last": Kernel(25, 32000, "a thread has several loads under way"),
    "foreground_few_places": Kernel(25, 1024, "256 places of a channel in registers"),
    "foreground_many_places": Kernel(25, 32000, "a thread has several loads under way"),
    "foreground_channels_last": Kernel(25, 32000, "the same, and two sums of each channel"),
    "foreground_gates": Kernel(25, 0, "float64 the least; a few microseconds in all"),
    "soft_labels_forward": Kernel(75),
    "mix_linear_forward": Kernel(38, 0, "four loads of 16 bytes a thread under way, of two images"),
    "mix_linear_backward": Kernel(50, 0, "sums of two vectors in registers"),
    "mix_box_forward": Kernel(38, 0, "four loads of 16 bytes a thread under way"),
    "mix_box_backward": Kernel(38, 0, "sums of two vectors in registers"),
    "mix_inplace_paste": Kernel(50, 0, "four loads of 16 bytes a thread under way"),
    "mix_inplace_put_aside": Kernel(38, 0, "the same"),
    "mix_inplace_put_aside_resized": Kernel(25, 0, "where an element comes from takes arithmetic"),
    "mix_mask_forward": Kernel(25, 0, "weights and several vectors of two images in registers"),
    "mix_mask_gather": Kernel(25, 0, "the same"),
    "mix_normalize_forward": Kernel(25, 0, "weights, several vectors of two images and where they come from"),
    "mix_resize_fill": Kernel(25, 0, "where an element comes from takes arithmetic"),
    "mix_resize_gather": Kernel(25, 0, "the same"),
    "saliency_whole": Kernel(16, 47104, "an image lies in shared memory"),
    "saliency_range": Kernel(),
    "saliency_smooth": Kernel(33, 0, "float64 the least"),
    "saliency_integrate": Kernel(42, 0, "strips lie in shared memory"),
    "saliency_compare": Kernel(38, 0, "24 vectors of entries a thread"),
    "saliency_finish": Kernel(83),
    "saliency_place": Kernel(),
    "sample_lam": Kernel(75),
    "sample_box": Kernel(62),
    "sample_cut_box": Kernel(75),
    "sample_any": Kernel(),
    "sample_cycle": Kernel(75),
    "sample_ranks": Kernel(75),
    "sample_turn": Kernel(67, 0, "one block"),
    "sample_noise": Kernel(),
    "sample_seed": Kernel(),
}
# fmt: on


MOST_SHARED = 48 * 1024  # a block's, without asking the driver for more


@dataclass(frozen=True)
class Multiprocessor:
    """The CUDA C++ Programming Guide's table of compute capabilities; all have 65536 registers."""

    warps: int
    blocks: int
    shared: int  # KiB
    reserved: int = 1024  # bytes of shared memory that every block costs besides


MULTIPROCESSORS = {
    "7.5": Multiprocessor(32, 16, 64, 0),
    "8.0": Multiprocessor(64, 32, 164),
    "8.6": Multiprocessor(48, 16, 100),
    "8.7": Multiprocessor(48, 16, 164),
    "8.9": Multiprocessor(48, 24, 100),
    "9.0": Multiprocessor(64, 32, 228),
    "10.0": Multiprocessor(64, 32, 228),
    "12.0": Multiprocessor(48, 24, 100),
}


def occupancy(at: Multiprocessor, threads: int, registers: int, shared: int) -> int:
    """Percent of the warps that a multiprocessor has room for, by the rules of CUDA's occupancy calculator."""
    warps = -(-threads // 32)
    of_a_warp = -(-registers * 32 // 256) * 256  # registers are given out in 256s, warps in fours
    by_registers = 65536 // of_a_warp // 4 * 4 // warps
    by_shared = at.shared * 1024 // max(1, -(-(shared + at.reserved) // 128) * 128)
    return round(100 * min(by_registers, by_shared, at.blocks, at.warps // warps) * warps / at.warps)


@dataclass
class Measured:
    """What nvcc made of one instantiation for one architecture."""

    name: str
    architecture: str
    threads: int = 0
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spills: int = 0

    @property
    def base(self) -> str:
        return self.name.split("<")[0]


def parse(log: str, ptx: str, architecture: str) -> list[Measured]:
    """ptxas -v and PTX, by mangled names."""
    found: dict[str, Measured] = {}
    current = None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            current = found[match[1]] = Measured(match[1], architecture)
        elif current is None:
            continue
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            current.stack = max(current.stack, int(match[1]))  # also of a function that the kernel calls
            current.spills = max(current.spills, int(match[2]), int(match[3]))
        elif match := re.search(r"Used (\d+) registers", line):
            current.registers = int(match[1])
            shared = re.search(r"(\d+) bytes smem", line)
            current.shared = int(shared[1]) if shared else 0
    for entry in re.finditer(r"\.entry (\S+?)\((?:.*?)\)(.*?)\{", ptx, re.DOTALL):
        if bounds := re.search(r"\.maxntid (\d+)", entry[2]):
            found[entry[1]].threads = int(bounds[1])
    return list(found.values())


def demangled(names: Iterable[str]) -> list[str]:
    """Kernels as they are written: uncertainty_forward<float>."""
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [short(name) for name in done.stdout.splitlines()]


def short(name: str) -> str:
    """Without namespace, result and parameters."""
    name, depth = name.replace("(anonymous namespace)::", "").removeprefix("void "), 0
    for place, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:place]
    return name


def compile_for(source: str, compiler: nvcc.Compiler) -> list[Measured]:
    """Of one file for one architecture; from build/registers if nothing has changed."""
    (architecture,) = compiler.architectures
    name = architecture.names[0]
    command = [*compiler.flags(source), "-Xptxas=-v", "-cubin", "--keep"]
    made_of = [
        source,
        *sorted(map(str, pathlib.Path("csrc").rglob("*.h"))),
        *map(str, pathlib.Path("csrc").rglob("*.cuh")),
    ]
    digest = hashlib.sha256(repr([*command, compiler.version]).encode())
    for path in (*made_of, __file__):
        digest.update(pathlib.Path(path).read_bytes())
    kept = pathlib.Path("build", "registers", f"{pathlib.Path(source).stem}.{name}.json")
    if kept.exists() and (found := json.loads(kept.read_text()))["of"] == digest.hexdigest():
        return [Measured(**one) for one in found["kernels"]]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--keep-dir", folder, source, "-o", os.path.join(folder, "out.cubin")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}")
        (ptx,) = pathlib.Path(folder).glob("*.ptx")
        kernels = parse(done.stdout, ptx.read_text(), name)
    for kernel, written in zip(kernels, demangled(kernel.name for kernel in kernels), strict=True):
        kernel.name = written
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"of": digest.hexdigest(), "kernels": [asdict(kernel) for kernel in kernels]}))
    return kernels


@dataclass
class Row:
    """The instantiations of a kernel on all architectures, the worst of each."""

    name: str
    threads: set[int] = field(default_factory=set)
    shared: int = 0
    registers: dict[str, int] = field(default_factory=dict)
    occupancy: dict[str, int] = field(default_factory=dict)

    def add(self, one: Measured, percent: int) -> None:
        self.threads.add(one.threads)
        self.shared = max(self.shared, one.shared)
        self.registers[one.architecture] = max(self.registers.get(one.architecture, 0), one.registers)
        self.occupancy[one.architecture] = min(self.occupancy.get(one.architecture, 100), percent)


def judge(measured: list[Measured], every: bool) -> tuple[list[Row], list[str]]:
    """The table, and what is wrong."""
    rows: dict[str, Row] = {}
    wrong, unknown = [], {}
    for one in measured:
        asked = KERNELS.get(one.base, Kernel(0))
        where = f"{one.name} on {one.architecture}"
        if one.threads == 0:
            wrong.append(f"{where}: no __launch_bounds__")
            continue
        if one.spills > 0 or one.stack > 0:
            wrong.append(f"{where}: {one.spills} bytes of spills, {one.stack} bytes of stack")
        if one.shared + asked.dynamic > MOST_SHARED:
            wrong.append(f"{where}: {one.shared} + {asked.dynamic} bytes of shared memory, of {MOST_SHARED} at most")
        at = MULTIPROCESSORS[".".join(re.fullmatch(r"sm_(\d+)(\d)[af]?", one.architecture).groups())]
        percent = occupancy(at, one.threads, one.registers, one.shared + asked.dynamic)
        if one.base not in KERNELS:
            unknown[one.base] = min(unknown.get(one.base, 100), percent)
        if percent < asked.occupancy:
            wrong.append(
                f"{where}: occupancy {percent} %, documented {asked.occupancy} % "
                f"({one.threads} threads, {one.registers} registers, {one.shared} + {asked.dynamic} bytes shared)"
            )
        key = one.name if every else one.base
        rows.setdefault(key, Row(key)).add(one, percent)
    for name, percent in unknown.items():
        wrong.append(f'KERNELS in {pathlib.Path(__file__).name} lacks "{name}": Kernel({percent}), as measured')
    return list(rows.values()), wrong


def table(rows: list[Row], architectures: list[str]) -> str:
    """Markdown."""
    lines = [
        f"| kernel | threads | registers: {' | '.join(architectures)} | shared, static + dynamic | occupancy, least |",
        f"| --- | ---: |{' ---: |' * len(architectures)} ---: | ---: |",
    ]
    for row in rows:
        registers = " | ".join(str(row.registers.get(name, "")) for name in architectures)
        dynamic = KERNELS.get(row.name.split("<")[0], Kernel()).dynamic
        least = min(row.occupancy.values())
        where = [name for name in architectures if row.occupancy.get(name) == least]
        least = f"{least} %" + ("" if len(where) == len(architectures) else f" ({', '.join(where)})")
        threads = ", ".join(map(str, sorted(row.threads)))
        lines.append(f"| {row.name} | {threads} | {registers} | {row.shared} + {dynamic} | {least} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", help="by default all of csrc/cuda")
    parser.add_argument("--all", action="store_true", help="a row for every instantiation")
    parser.add_argument("--arch", default=nvcc.DEFAULT, help="compute capabilities, by default %(default)s")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ["TORCH_CUDA_ARCH_LIST"] = options.arch
    compiler = nvcc.find()
    one_each = [nvcc.Architecture(a.major, a.minor, a.suffix) for a in compiler.architectures]
    sources = [os.path.relpath(s) for s in options.sources] or sorted(map(str, pathlib.Path("csrc/cuda").glob("*.cu")))
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        jobs = [
            pool.submit(compile_for, source, replace(compiler, architectures=(architecture,)))
            for source in sources
            for architecture in one_each
        ]
    measured = [one for job in jobs for one in job.result()]
    rows, wrong = judge(measured, options.all)
    if not options.sources:
        unused = set(KERNELS) - {one.base for one in measured}
        wrong += [f"KERNELS has {name}, and csrc/cuda has not" for name in sorted(unused)]
    print(table(rows, [architecture.names[0] for architecture in one_each]))
    if wrong:
        raise SystemExit("\n".join(["", *wrong]))


if __name__ == "__main__":
    main()
