"""Builds sumix._C with a C compiler alone: no torch, no C++ (csrc/torch_abi.h says how).

csrc/cpu is compiled once per instruction set and csrc/kernels.c picks one at import.
SUMIX_WERROR=1 turns warnings into errors: for our tests, not for a user's compiler.
"""

import os
import platform
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = [
    "-std=c11", "-D_GNU_SOURCE", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd",
    "-fexceptions",  # torch's C++ exceptions pass through our frames
    "-ffp-contract=fast",  # -std=c11 alone emits no fused multiply-add
    "-fvisibility=hidden", "-Wall", "-Wextra",
    "-Wno-pass-failed",  # clang's remark that it left a loop marked for SIMD scalar
    *(["-Werror"] if os.environ.get("SUMIX_WERROR") == "1" else []),
]  # fmt: skip

# Spelled out, because compilers older than gcc 12 know no -march=x86-64-v3. csrc/kernels.c asks the processor for the
# same.
V3 = ["-mavx2", "-mfma", "-mbmi2"]
V4 = [*V3, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
X86_LEVELS = platform.machine() in ("x86_64", "AMD64") and platform.system() == "Linux"
# What promises equal bits everywhere: csrc/random.h says why.
EXACT = ["-ffp-contract=off", "-DSUMIX_NO_CONTRACTION"]
EXACT_SOURCES = ["csrc/cpu/mask.c", "csrc/cpu/sample.c"]
ISAS = {"baseline": [], "v3": V3, "v4": V4} if X86_LEVELS else {"baseline": []}


class BuildKernels(build_ext):
    """Compiles csrc/cpu for each instruction set and links all of them into the one module."""

    def build_extension(self, ext: Extension) -> None:
        objects = []
        for isa, flags in ISAS.items():
            others = sorted(set(glob("csrc/cpu/*.c")) - set(EXACT_SOURCES))
            for sources, more in ((others, []), (EXACT_SOURCES, EXACT)):
                objects += self.compiler.compile(
                    sources,
                    output_dir=os.path.join(self.build_temp, isa),
                    extra_postargs=[*FLAGS, *flags, f"-DSUMIX_ISA={isa}", *more],
                )
        ext.extra_objects = objects
        super().build_extension(ext)


core = Extension(
    "sumix._C",
    sources=sorted(glob("csrc/*.c")),
    depends=[*glob("csrc/**/*.h", recursive=True), *glob("csrc/cpu/*.c")],
    extra_compile_args=[*FLAGS, *(["-DSUMIX_X86_LEVELS"] if X86_LEVELS else [])],
    extra_link_args=["-ldl", "-lm"],
    py_limited_api=True,
)
setup(
    ext_modules=[core],
    cmdclass={"build_ext": BuildKernels},
    packages=["sumix", "sumix.ops", "sumix.reference", "sumix.transforms"],
    package_data={"sumix": ["py.typed"]},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
