"""Builds sumix._C with a C compiler and, where there is one, nvcc: no torch, no C++ (csrc/torch_abi.h says how).

csrc/cpu is compiled once per instruction set and csrc/kernels.c picks one at import. csrc/cuda is compiled where there
is an nvcc, for the GPUs of this machine, or else for all that torch's releases are built for.

SUMIX_CUDA=0: no CUDA kernels. SUMIX_CUDA=1: a missing or failing nvcc is an error.
TORCH_CUDA_ARCH_LIST: the compute capabilities to compile for, as torch's own extensions read it.
MAX_JOBS: how many compilers at a time; else as many as there are processors.
SUMIX_WERROR=1 turns warnings into errors: for our tests, not for a user's compiler.
"""

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError
from setuptools.modified import newer_group

sys.path.append(os.path.join("csrc", "cuda"))
import nvcc

STRICT = os.environ.get("SUMIX_WERROR") == "1"
FLAGS = [
    "-std=c11", "-D_GNU_SOURCE", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd",
    "-fexceptions",  # torch's C++ exceptions pass through our frames
    "-ffp-contract=fast",  # -std=c11 alone emits no fused multiply-add
    "-fvisibility=hidden", "-Wall", "-Wextra",
    "-Wno-pass-failed",  # clang's remark that it left a loop marked for SIMD scalar
    *(["-Werror"] if STRICT else []),
]  # fmt: skip

# Spelled out, because compilers older than gcc 12 know no -march=x86-64-v3. csrc/kernels.c asks the processor for the
# same.
V3 = ["-mavx2", "-mfma", "-mbmi2"]
V4 = [*V3, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
X86_LEVELS = platform.machine() in ("x86_64", "AMD64") and platform.system() == "Linux"
# What promises equal bits everywhere: csrc/exact.h says why.
EXACT = ["-ffp-contract=off", "-DSUMIX_NO_CONTRACTION"]
EXACT_STEMS = ("evidence_mask", "mask", "mix", "mix_inplace", "mix_mask", "mix_normalize", "mix_resize", "sample")
EXACT_SOURCES = [f"csrc/cpu/{stem}.c" for stem in EXACT_STEMS]
ISAS = {"baseline": [], "v3": V3, "v4": V4} if X86_LEVELS else {"baseline": []}
HEADERS = glob("csrc/**/*.h", recursive=True)
CUDA_HEADERS = glob("csrc/cuda/*.cuh")
OBJECTS = os.path.join("build", "objects")  # one place, whether it is for a wheel or an editable install


def jobs() -> int:
    """How many compilers to run at a time."""
    wanted = os.environ.get("MAX_JOBS", "").strip()
    if not wanted:
        return os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) == 0:
        raise ValueError(f"MAX_JOBS must be a whole number above 0, got {wanted!r}")
    return int(wanted)


def find_nvcc() -> nvcc.Compiler | None:
    """The nvcc to build with; None, with a reason, where SUMIX_CUDA does not ask for one."""
    wanted = os.environ.get("SUMIX_CUDA", "")
    if wanted not in ("", "0", "1"):
        raise ValueError(f"SUMIX_CUDA must be 0 or 1, got {wanted!r}")
    if wanted == "0":
        return None
    try:
        return nvcc.find()
    except nvcc.Unusable as reason:
        if wanted == "1":
            raise CompileError(f"SUMIX_CUDA=1, but {reason}") from None
        print(f"sumix: CPU kernels alone: {reason}")
        return None


class BuildKernels(build_ext):
    """Compiles csrc/cpu for each instruction set and csrc/cuda for each GPU, and links all into the one module."""

    def build_extension(self, ext: Extension) -> None:
        compiler, at_once = find_nvcc(), jobs()
        missing = "SUMIX_CUDA was 0" if os.environ.get("SUMIX_CUDA") == "0" else "there was no nvcc that could be used"
        with ThreadPoolExecutor(at_once) as pool:  # nvcc first: it takes longest
            for_cuda = [pool.submit(*job) for job in self.cuda_jobs(compiler, at_once)]
            for_cpu = [pool.submit(*job) for job in self.cpu_jobs()]
        ext.extra_objects = [job.result() for job in for_cpu]
        try:
            objects = [job.result() for job in for_cuda]
        except CompileError as error:
            if STRICT or os.environ.get("SUMIX_CUDA") == "1":
                raise
            print(f"{error}\nsumix: nvcc failed, so CPU kernels alone; SUMIX_CUDA=1 would have made it an error")
            objects, missing = [], "nvcc failed"
        ext.define_macros = [("SUMIX_NO_CUDA", f'"{missing}"')]  # sumix.cuda_available() says it
        if objects:
            ext.extra_objects += objects
            ext.define_macros = [("SUMIX_CUDA", f'"{compiler.names}"')]
            # cudart and what C++ nvcc's stubs use, statically: the module loads where there is no CUDA.
            ext.extra_link_args += [f"-L{compiler.library}", "-lcudart_static", "-lsupc++", "-lrt", "-lpthread", "-ldl"]
            ext.extra_link_args += ["-Wl,--exclude-libs,ALL"]  # so that torch's own cudart stays torch's
        self.force = True  # setuptools knows of no objects
        super().build_extension(ext)

    def cpu_jobs(self) -> list[tuple]:
        """What to call for every object of csrc/cpu."""
        jobs = []
        for isa, flags in ISAS.items():
            for source in sorted(glob("csrc/cpu/*.c")):
                exact = EXACT if source in EXACT_SOURCES else []
                jobs.append((self.compile_for_cpu, source, isa, [*FLAGS, *flags, f"-DSUMIX_ISA={isa}", *exact]))
        return jobs

    def compile_for_cpu(self, source: str, isa: str, flags: list[str]) -> str:
        folder = os.path.join(OBJECTS, isa)
        (target,) = self.compiler.object_filenames([source], output_dir=folder)
        with Record(target, source, [*self.compiler.compiler_so, *flags]) as record:
            if record.is_stale:
                self.compiler.compile([source], output_dir=folder, extra_postargs=flags)
        return target

    def cuda_jobs(self, compiler: nvcc.Compiler | None, processors: int) -> list[tuple]:
        """What to call for every object of csrc/cuda: the longest first, and on the processors that are left over."""
        if compiler is None:
            return []
        sources = sorted(glob("csrc/cuda/*.cu"), key=os.path.getsize, reverse=True)
        at_once = len(compiler.architectures)
        wide = processors // at_once
        return [
            (self.compile_for_cuda, source, compiler, at_once if place < wide else 1)
            for place, source in enumerate(sources)
        ]

    def compile_for_cuda(self, source: str, compiler: nvcc.Compiler, threads: int) -> str:
        target = os.path.join(OBJECTS, "cuda", os.path.basename(source) + ".o")
        command = compiler.command(source, target, threads)
        with Record(target, source, [*command, compiler.version]) as record:
            if record.is_stale:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                if done.returncode != 0:
                    raise CompileError(f"{' '.join(command)}\n{done.stdout}")
                print(done.stdout, end="")
        return target


class Record:
    """How an object was made, in a file beside it: it is stale if by another command, or before a change of what it is
    made of."""

    def __init__(self, target: str, source: str, command: list[str]) -> None:
        self.path, self.text = target + ".command", " ".join(command)
        made_of = [source, "setup.py", *HEADERS, *(CUDA_HEADERS if source.endswith(".cu") else [])]
        self.is_stale = newer_group(made_of, self.path, "newer") or self.text != self.read()

    def read(self) -> str:
        with open(self.path) as file:
            return file.read()

    def __enter__(self) -> "Record":
        if self.is_stale and os.path.exists(self.path):
            os.remove(self.path)
        return self

    def __exit__(self, error: type | None, *rest: object) -> None:
        if self.is_stale and error is None:
            with open(self.path, "w") as file:
                file.write(self.text)


core = Extension(
    "sumix._C",
    sources=sorted(glob("csrc/*.c")),
    depends=[*HEADERS, *glob("csrc/cpu/*.c"), *glob("csrc/cuda/*.*")],  # which is also how they come into an sdist
    extra_compile_args=[*FLAGS, *(["-DSUMIX_X86_LEVELS"] if X86_LEVELS else [])],
    extra_link_args=["-ldl", "-lm"],
    py_limited_api=True,
)
setup(
    ext_modules=[core],
    cmdclass={"build_ext": BuildKernels},
    packages=["sumix", "sumix.integrations", "sumix.ops", "sumix.reference", "sumix.transforms"],
    package_data={"sumix": ["py.typed"]},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
