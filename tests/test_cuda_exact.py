"""Equal bits on every device need that nvcc contracts no product and sum and approximates nothing: its PTX says so.

csrc/exact.h says what such code may use: operations that IEEE 754 rounds correctly. In PTX those name how they round
(add.rn.f32); what does not is nvcc's or ptxas's to fuse. It says too that assertions are in it.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
CUDA = ROOT / "csrc" / "cuda"
sys.path.append(str(CUDA))
from nvcc import EXACT, EXACT_SOURCES  # noqa: E402

STEMS = [pathlib.Path(source).stem for source in EXACT_SOURCES]

INSTRUCTION = re.compile(r"^\s*(?:\{\s*)?(?:@!?%\w+\s+)?([a-z]\w*(?:\.\w+)+)\s", re.MULTILINE)
FLOATING = re.compile(r"\.(b?f16|b?f16x2|f32|f64)\b")
ROUNDED = re.compile(r"(add|sub|mul|div|rcp|sqrt)\.rn\.f(32|64)")
WITHOUT_ROUNDING = re.compile(r"(ld|st|mov|selp|setp|abs|neg|min|max)\.[\w.]+")
CONVERSION = re.compile(r"cvt(\.rn|\.r[nzmp]i)?(\.(b?f16|f32|f64|[su](8|16|32|64))){2}")
FUSED = re.compile(r"fma\.rn\.f32")
ASKED_FOR = {"evidence_mask", "mix_inplace", "mix_normalize", "mix_resize"}  # fmaf() is written there


def inexact(ptx: str, *others: re.Pattern) -> list[str]:
    """The floating-point instructions that are not rounded correctly, or not as the source says."""
    found = {name for name in INSTRUCTION.findall(ptx) if FLOATING.search(name)}
    exact = (ROUNDED, WITHOUT_ROUNDING, CONVERSION, *others)
    return sorted(name for name in found if ".ftz" in name or not any(pattern.fullmatch(name) for pattern in exact))


def find_nvcc() -> str | None:
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [os.path.join(home, "bin", "nvcc") for home in homes] + ["nvcc"]
    return next(filter(None, map(shutil.which, places)), None)


def ptx_of(source: pathlib.Path, *flags: str) -> str:
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc in CUDA_HOME, CUDA_PATH or PATH")
    command = [nvcc, "-std=c++17", "-O3", "-arch=compute_80", *flags, "-ptx", source.name, "-o", "/dev/stdout"]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("stem", STEMS)
def test_nothing_is_contracted_or_approximated(stem):
    ptx = ptx_of(CUDA / f"{stem}.cu", *EXACT)
    assert ".entry" in ptx
    assert inexact(ptx, *([FUSED] if stem in ASKED_FOR else [])) == []


def test_without_the_flags_there_is_no_such_promise():
    with_contraction = inexact(ptx_of(CUDA / "sample.cu", "-DSUMIX_NO_CONTRACTION"))
    assert {"fma.rn.f32", "fma.rn.f64", "mul.f32", "add.f64"} <= set(with_contraction)
    fast = inexact(ptx_of(CUDA / "sample.cu", *EXACT, "--use_fast_math"))
    assert any(".ftz" in name for name in fast) and any("approx" in name for name in fast)


def test_assertions_stay_whatever_the_flags():
    """NVCC_APPEND_FLAGS may bring NDEBUG, and then wrong partners would be read from beyond the batch."""
    assert "__assertfail" in ptx_of(CUDA / "sample.cu", *EXACT, "-DNDEBUG")


def test_what_counts_as_exact():
    exact = """
        add.rn.f32 %f1, %f2, %f3;
        sqrt.rn.f64 %fd1, %fd2;
        @%p3 div.rn.f32 %f1, %f2, %f3;
        cvt.rzi.s64.f64 %rd1, %fd2;
        setp.lt.f64 %p1, %fd1, 0d0000000000000000;
        st.global.v4.f32 [%rd1], {%f1, %f2, %f3, %f4};
        mad.lo.s32 %r1, %r2, %r3, %r4;
    """
    assert inexact(exact) == []
    wrong = [
        "fma.rn.f32",
        "mul.f64",
        "add.ftz.f32",
        "div.approx.f32",
        "sqrt.rz.f64",
        "cvt.rz.f32.f64",
        "ex2.approx.f32",
    ]
    for name in wrong:
        assert inexact(exact + f"        @!%p1 {name} %f1, %f2;\n") == [name]
