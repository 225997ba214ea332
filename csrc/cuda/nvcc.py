"""What setup.py, and the check of the kernels' registers, need to know of nvcc: where it is, what to compile for, how.

Python alone, no torch: building sumix needs none.
"""

import ctypes
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace

# Of the GPUs that torch's releases are built for: every card since is served by one of these or by the PTX of the last.
# (Not every Jetson; built on one, sumix has its own.)
DEFAULT = "7.5 8.0 8.6 8.9 9.0 10.0 12.0+PTX"

# What TORCH_CUDA_ARCH_LIST may name instead of numbers, as torch.utils.cpp_extension reads it.
NAMES = {
    "Kepler+Tesla": "3.7",
    "Kepler": "3.5+PTX",
    "Maxwell+Tegra": "5.3",
    "Maxwell": "5.0 5.2+PTX",
    "Pascal": "6.0 6.1+PTX",
    "Volta+Tegra": "7.2",
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere+Tegra": "8.7",
    "Ampere": "8.0 8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell+Tegra": "11.0",
    "Blackwell": "10.0 10.3 12.0 12.1+PTX",
}

# Files that promise equal bits everywhere; csrc/exact.h says why.
EXACT_STEMS = ("evidence_mask", "mask", "mix", "mix_inplace", "mix_mask", "mix_normalize", "mix_resize", "sample")
EXACT_SOURCES = tuple(f"csrc/cuda/{stem}.cu" for stem in EXACT_STEMS)
EXACT = ["--fmad=false", "-DSUMIX_NO_CONTRACTION"]


class Unusable(Exception):
    """Why there will be no CUDA kernels."""


@dataclass(frozen=True, order=True)
class Architecture:
    """One compute capability to compile for; `suffix` "a": for it alone, "f": for its family."""

    major: int
    minor: int
    suffix: str = ""
    ptx: bool = False  # also the text that a driver compiles for later GPUs

    @property
    def number(self) -> str:
        return f"{self.major}{self.minor}{self.suffix}"

    @property
    def names(self) -> list[str]:
        """What cuobjdump calls the code that results."""
        return [f"sm_{self.number}", *([f"compute_{self.number}"] if self.ptx else [])]

    @property
    def flag(self) -> str:
        return f"-gencode=arch=compute_{self.number},code=[{','.join(self.names)}]"


def parse(text: str) -> list[Architecture]:
    """The architectures that a TORCH_CUDA_ARCH_LIST names, sorted: "8.0;9.0a+PTX", "8.0 9.0", "Ampere"."""
    by_name = {name.lower(): numbers for name, numbers in NAMES.items()}
    found = []
    for entry in re.split(r"[;,\s]+", text.strip("; \t\n")):
        for word in by_name.get(entry.lower(), entry).split():
            match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", word, re.IGNORECASE)
            if match is None:
                raise ValueError(
                    f"TORCH_CUDA_ARCH_LIST={text!r}: {entry!r} is neither a compute capability such as 8.0, 9.0a or "
                    f"9.0+PTX nor one of {', '.join(NAMES)}"
                )
            found.append(Architecture(int(match[1]), int(match[2]), match[3].lower(), match[4] is not None))
    return _merged(found)


def own_gpus() -> str:
    """The compute capabilities of this machine's GPUs, "8.6 9.0"; "" where there is none, or no telling."""
    try:
        command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()
        found = {line for line in lines if re.fullmatch(r"\d+\.\d", line)}
        return " ".join(sorted(found or _by_the_driver()))
    except (OSError, subprocess.SubprocessError):
        return " ".join(sorted(_by_the_driver()))


def _by_the_driver() -> set[str]:
    """The same from the driver itself: containers often lack nvidia-smi, and old ones do not know that query."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count, found = ctypes.c_int(0), set()
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return set()
        for device in range(count.value):
            numbers = [ctypes.c_int(), ctypes.c_int()]
            for number, attribute in zip(numbers, (75, 76), strict=True):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
                if driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device) != 0:
                    return set()
            found.add(f"{numbers[0].value}.{numbers[1].value}")
        return found
    except (OSError, AttributeError):
        return set()


@dataclass(frozen=True)
class Compiler:
    """An nvcc and what it is to compile for."""

    path: str
    library: str  # the folder of libcudart_static.a
    architectures: tuple[Architecture, ...]
    version: str = ""  # what it says of itself

    @property
    def names(self) -> str:
        """What will be in the module: "sm_80 sm_90 compute_90"."""
        return " ".join(name for architecture in self.architectures for name in architecture.names)

    def flags(self, source: str) -> list[str]:
        """nvcc with everything but what to make of one .cu file, and where."""
        host = ["-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-Wall", "-Wno-unused-function"]
        return [
            self.path, "-std=c++17", "-O3", f"-Xcompiler={','.join(host)}",
            *(architecture.flag for architecture in self.architectures),
            *(EXACT if source.replace(os.sep, "/") in EXACT_SOURCES else []),
            *(["-Werror=all-warnings"] if os.environ.get("SUMIX_WERROR") == "1" else []),
        ]  # fmt: skip

    def command(self, source: str, target: str, threads: int = 1) -> list[str]:
        """Compiles one .cu file for all architectures, `threads` of them at a time."""
        compressed = "-Xfatbin=-compress-all"  # a fifth of the size
        return [*self.flags(source), compressed, f"--threads={threads}", "-c", source, "-o", target]


def find() -> Compiler:
    """The nvcc of CUDA_HOME, CUDA_PATH or PATH, for TORCH_CUDA_ARCH_LIST, this machine's GPUs, or all of DEFAULT.

    Raises Unusable where there is none, and ValueError for a TORCH_CUDA_ARCH_LIST that names nothing it can compile.
    """
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = [shutil.which(os.path.join(home, "bin", "nvcc")) for home in homes] + [shutil.which("nvcc")]
    path = next((path for path in candidates if path is not None), None)
    if path is None:
        raise Unusable("no nvcc in CUDA_HOME, CUDA_PATH or PATH")
    try:
        listed = _output(path, "--list-gpu-arch")
        plan = _output(path, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull)  # it may be a script elsewhere
        version = _output(path, "--version")
    except subprocess.CalledProcessError as error:
        raise Unusable(f"{path} does not work: {error.output.strip() or error}") from None
    except OSError as error:
        raise Unusable(f"{path} does not work: {error}") from None
    folders = re.findall(r'-L([^"\n]+)"', plan)
    library = next((one for one in folders if os.path.exists(os.path.join(one, "libcudart_static.a"))), None)
    if library is None:
        raise Unusable(f"no libcudart_static.a in {' or '.join(folders)}, where {path} would look for it")
    known = {int(number) for number in re.findall(r"compute_(\d+)", listed)}
    return Compiler(path, library, tuple(choose(known, os.environ.get("TORCH_CUDA_ARCH_LIST"))), version)


def _output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


def choose(known: set[int], wanted: str | None) -> list[Architecture]:
    """What to compile for, of the `known` numbers (80, 90, ...) that nvcc compiles for; says what it leaves out."""
    if wanted is not None and wanted.strip().lower() in ("", "native"):
        wanted = None
    own = own_gpus() if wanted is None else ""
    kept, left_out = [], []
    for architecture in parse(wanted or own or DEFAULT):
        (kept if _base(architecture) in known else left_out).append(architecture)
    if left_out:
        print(f"sumix: this nvcc does not compile for {', '.join(one.names[0] for one in left_out)}: left out")
    if wanted is not None and not kept:
        raise ValueError(f"TORCH_CUDA_ARCH_LIST={wanted!r}: this nvcc compiles for none of them")
    if own:  # a GPU newer than this nvcc compiles the text for the newest before it
        older = [max((n for n in known if n < _base(one)), default=0) for one in left_out]
        kept += [Architecture(*divmod(number, 10), ptx=True) for number in older if number > 0]
    if not kept:  # GPUs older than this nvcc compiles for: then not for this machine
        kept, own = [one for one in parse(DEFAULT) if _base(one) in known], ""
    if wanted is None and not own and kept:  # the text belongs to the newest, also where this nvcc is older than that
        kept[-1] = replace(kept[-1], ptx=True)
    return _merged(kept)


def _base(architecture: Architecture) -> int:
    return 10 * architecture.major + architecture.minor


def _merged(architectures: list[Architecture]) -> list[Architecture]:
    """Sorted, each number once, with PTX if one of them has it."""
    found: dict[tuple[int, int, str], bool] = {}
    for one in architectures:
        key = one.major, one.minor, one.suffix
        found[key] = found.get(key, False) or one.ptx
    return sorted(Architecture(*key, ptx) for key, ptx in found.items())
