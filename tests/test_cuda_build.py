"""What setup.py makes of nvcc, the environment and the machine, and what sumix.cuda_available() makes of the build."""

import pathlib
import re
import stat
import sys
import types
import warnings

import pytest
import torch

import sumix
import sumix.device
from sumix import warn
from sumix.ops import dispatch

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "csrc" / "cuda"))
import check_registers  # noqa: E402
import nvcc  # noqa: E402

KNOWN = {75, 80, 86, 87, 89, 90, 100, 103, 120}


def names(architectures):
    return [name for architecture in architectures for name in architecture.names]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.0", ["sm_80"]),
        ("8.0;9.0+PTX", ["sm_80", "sm_90", "compute_90"]),
        ("9.0+PTX 8.0", ["sm_80", "sm_90", "compute_90"]),
        (" 8.0, 8.6 ;", ["sm_80", "sm_86"]),
        ("10.0 7.5", ["sm_75", "sm_100"]),  # by number, not by text
        ("9.0a 10.0f", ["sm_90a", "sm_100f"]),
        ("9.0a+PTX", ["sm_90a", "compute_90a"]),
        ("8.0 8.0+PTX", ["sm_80", "compute_80"]),
        ("Ampere", ["sm_80", "sm_86", "compute_86"]),
        ("turing;Hopper", ["sm_75", "compute_75", "sm_90", "compute_90"]),
        ("Ampere+Tegra", ["sm_87"]),
    ],
)
def test_arch_list(text, expected):
    assert names(nvcc.parse(text)) == expected


@pytest.mark.parametrize("text", ["8", "80", "8.0b", "sm_80", "Fermi", "8.0+", "8.0;x"])
def test_what_the_list_cannot_say_is_an_error_that_names_what_it_can(text):
    with pytest.raises(ValueError, match=r"TORCH_CUDA_ARCH_LIST=.*9\.0\+PTX.*Hopper"):
        nvcc.parse(text)


def test_flags():
    (architecture,) = nvcc.parse("9.0a+PTX")
    assert architecture.flag == "-gencode=arch=compute_90a,code=[sm_90a,compute_90a]"
    compiler = nvcc.Compiler("nvcc", "lib", (architecture,))
    exact = compiler.command("csrc/cuda/sample.cu", "x.o")
    assert "--fmad=false" in exact and "-DSUMIX_NO_CONTRACTION" in exact
    assert "--fmad=false" not in compiler.command("csrc/cuda/loss.cu", "x.o")


@pytest.mark.parametrize(
    ("wanted", "own", "expected"),
    [
        ("8.0 9.0", "8.6", ["sm_80", "sm_90"]),  # what is asked for, whatever there is
        ("8.0 6.1", "", ["sm_80"]),
        (None, "8.6", ["sm_86"]),
        ("native", "8.6 9.0", ["sm_86", "sm_90"]),
        ("", "12.0", ["sm_120"]),
        (None, "13.0", ["sm_120", "compute_120"]),  # newer than this nvcc: its driver compiles the text
        (None, "6.1", names(nvcc.parse(nvcc.DEFAULT))),  # older: nothing for this machine
        (None, "", names(nvcc.parse(nvcc.DEFAULT))),
    ],
)
def test_what_is_compiled_for(monkeypatch, wanted, own, expected):
    monkeypatch.setattr(nvcc, "own_gpus", lambda: own)
    assert names(nvcc.choose(KNOWN, wanted)) == expected


@pytest.mark.parametrize("own", ["", "5.2"])
def test_an_nvcc_older_than_the_newest_gpus_adds_the_text_for_those_to_come(monkeypatch, own):
    monkeypatch.setattr(nvcc, "own_gpus", lambda: own)
    assert names(nvcc.choose({75, 80, 86, 89, 90}, None))[-2:] == ["sm_90", "compute_90"]


def test_what_is_left_out_is_said(capsys):
    nvcc.choose({80, 90}, "6.1 8.0 10.0")
    assert "sm_61, sm_100" in capsys.readouterr().out
    with pytest.raises(ValueError, match="none of them"):
        nvcc.choose({80, 90}, "6.1")


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("output", "expected"),
    [("echo 9.0; echo 8.6; echo 9.0", "8.6 9.0"), ("echo not a valid field >&2; exit 2", ""), ("echo '[N/A]'", "")],
)
def test_own_gpus(monkeypatch, tmp_path, output, expected):
    monkeypatch.setattr(nvcc, "_by_the_driver", set)
    program(tmp_path / "nvidia-smi", output)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert nvcc.own_gpus() == expected


def test_own_gpus_without_nvidia_smi(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvcc, "_by_the_driver", lambda: {"9.0"})
    assert nvcc.own_gpus() == "9.0"
    monkeypatch.undo()
    assert isinstance(nvcc._by_the_driver(), set)  # of this machine, whatever it has


FAKE_NVCC = """case "$*" in
  --list-gpu-arch) echo compute_80; echo compute_90;;
  --dryrun*) echo '#$ LIBRARIES=  "-L{0}/stubs" "-L{0}/lib"';;
esac"""


def scope(monkeypatch):
    """What setup.py defines before its first class."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "setup.py").read_text().split("\nclass ")[0]
    defined = {"__name__": "setup"}
    exec(text, defined)
    return defined


def find(monkeypatch, **environment):
    """What setup.py finds in this environment alone."""
    for name in ("CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST", "SUMIX_CUDA", "SUMIX_WERROR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    return scope(monkeypatch)["find_nvcc"]()


def test_nvcc_is_found_and_refused(monkeypatch, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert find(monkeypatch, PATH=empty) is None
    assert "CPU kernels alone: no nvcc" in capsys.readouterr().out
    with pytest.raises(Exception, match="SUMIX_CUDA=1, but no nvcc in CUDA_HOME, CUDA_PATH or PATH"):
        find(monkeypatch, PATH=empty, SUMIX_CUDA=1)
    with pytest.raises(ValueError, match="SUMIX_CUDA must be 0 or 1"):
        find(monkeypatch, SUMIX_CUDA="yes")

    home = tmp_path / "cuda"
    program(home / "bin" / "nvcc", FAKE_NVCC.format(home))
    with pytest.raises(Exception, match=r"no libcudart_static\.a in .*cuda/lib"):
        find(monkeypatch, CUDA_HOME=home, SUMIX_CUDA=1)
    (home / "lib").mkdir()
    (home / "lib" / "libcudart_static.a").touch()
    for where in ({"CUDA_HOME": home}, {"CUDA_PATH": home}, {"PATH": home / "bin"}):
        found = find(monkeypatch, **{"PATH": empty, "TORCH_CUDA_ARCH_LIST": "7.5;9.0+PTX", **where})
        assert found.names == "sm_90 compute_90" and found.library == str(home / "lib")
    assert find(monkeypatch, CUDA_HOME=home, SUMIX_CUDA=0) is None

    program(home / "bin" / "nvcc", "echo no host compiler >&2; exit 1")
    assert find(monkeypatch, PATH=empty, CUDA_HOME=home) is None
    assert "nvcc does not work: no host compiler" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_jobs_that_are_no_number_are_refused(monkeypatch, value):
    jobs = scope(monkeypatch)["jobs"]
    monkeypatch.setenv("MAX_JOBS", value)
    with pytest.raises(ValueError, match="MAX_JOBS must be a whole number above 0"):
        jobs()
    monkeypatch.setenv("MAX_JOBS", "3")
    assert jobs() == 3
    monkeypatch.setenv("MAX_JOBS", "")
    assert jobs() >= 1


# ---- make registers ----

LOG = """ptxas info    : Compiling entry function '_ZN1_GLOBAL__N_3sumIfEEvPf' for 'sm_80'
ptxas info    : Function properties for _ZN1_GLOBAL__N_3sumIfEEvPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 26 registers, used 1 barriers, 128 bytes smem, 392 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4dropPf' for 'sm_80'
ptxas info    : Function properties for _Z4dropPf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, 392 bytes cmem[0]"""
PTX = """
.entry _ZN1_GLOBAL__N_3sumIfEEvPf(
  .param .u64 a
)
.maxntid 128, 1, 1
{ ret; }
.visible .entry _Z4dropPf(.param .u64 a)
{ ret; }
"""


def test_what_the_compiler_says_of_registers(monkeypatch):
    good, bad = check_registers.parse(LOG, PTX, "sm_80")
    assert (good.threads, good.registers, good.shared, good.stack, good.spills) == (128, 26, 128, 0, 0)
    assert (bad.threads, bad.registers, bad.shared, bad.stack, bad.spills) == (0, 255, 0, 16, 12)
    good.name, bad.name = "sum<float>", "drop"
    monkeypatch.setattr(check_registers, "KERNELS", {"sum": check_registers.Kernel(), "drop": check_registers.Kernel()})
    rows, wrong = check_registers.judge([good, bad], False)
    assert [row.name for row in rows] == ["sum"] and len(wrong) == 1 and "drop on sm_80: no __launch" in wrong[0]
    bad.threads = 256
    _, (spills, low) = check_registers.judge([good, bad], False)
    assert "drop on sm_80: 12 bytes of spills, 16 bytes of stack" in spills
    assert "drop on sm_80: occupancy 12 %, documented 100 %" in low
    monkeypatch.setattr(check_registers, "KERNELS", {})
    assert 'lacks "sum": Kernel(100)' in check_registers.judge([good], False)[1][-1]


@pytest.mark.parametrize(
    ("capability", "threads", "registers", "shared", "percent"),
    [  # as NVIDIA's occupancy calculator has it
        ("8.0", 128, 32, 0, 100),
        ("8.0", 128, 33, 0, 75),
        ("8.0", 256, 64, 0, 50),
        ("8.0", 256, 255, 0, 12),
        ("8.0", 1024, 40, 0, 50),
        ("7.5", 1024, 40, 0, 100),
        ("8.6", 1024, 32, 0, 67),
        ("9.0", 1024, 32, 100 * 1024, 100),
        ("8.0", 1024, 32, 100 * 1024, 50),
        ("8.6", 64, 32, 0, 67),  # 16 blocks of 2 warps
    ],
)
def test_occupancy(capability, threads, registers, shared, percent):
    at = check_registers.MULTIPROCESSORS[capability]
    assert check_registers.occupancy(at, threads, registers, shared) == percent


def test_names_of_kernels():
    short = check_registers.short
    assert short("void (anonymous namespace)::rows<float, (mode)1>(long, float const*)") == "rows<float, (mode)1>"
    assert short("(anonymous namespace)::plain(int)") == "plain"


# ---- cuda_available ----


def support(monkeypatch, architectures, devices=None, torch_cuda="13.0", usable=True):
    module = types.SimpleNamespace(
        cuda_architectures=architectures, cuda_missing="nvcc failed", cuda_devices=lambda: devices
    )
    monkeypatch.setattr(sumix.device, "_C", module)
    monkeypatch.setattr(torch.version, "cuda", torch_cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    return sumix.cuda_available()


GPU = (13000, 13000, None, [(9, 0)])


@pytest.mark.parametrize(
    ("architectures", "devices", "torch_cuda", "usable", "reason"),
    [
        ("", None, "13.0", True, "built without CUDA: nvcc failed"),
        ("sm_90", GPU, None, True, "torch is built without CUDA"),
        ("sm_90", (13000, 0, "insufficient driver", []), "13.0", True, "no CUDA driver"),
        ("sm_90", (13000, 12080, "insufficient", []), "13.0", True, r"driver, for CUDA 12\.8, is older than .* 13\.0"),
        ("sm_90", (13000, 13000, "no CUDA-capable device", []), "13.0", True, "no GPU: no CUDA-capable device"),
        ("sm_90", (13000, 13000, None, []), "13.0", True, "no GPU"),
        ("sm_90 sm_80", (13000, 13000, None, [(7, 5)]), "13.0", True, "code for sm_90 sm_80, not for sm_75"),
        ("sm_80", (13000, 13000, None, [(9, 0), (7, 5)]), "13.0", True, "not for sm_75, sm_90"),
        ("sm_80 compute_80", (13020, 13000, None, [(9, 0)]), "13.0", True, "too old to compile it"),
        ("sm_90", GPU, "13.0", False, "torch finds no GPU"),
    ],
)
def test_why_not(monkeypatch, architectures, devices, torch_cuda, usable, reason):
    found = support(monkeypatch, architectures, devices, torch_cuda, usable)
    assert not found
    assert re.search(reason, found.reason)


@pytest.mark.parametrize(
    ("architectures", "devices"),
    [
        ("sm_80 sm_90", GPU),
        ("sm_80 compute_80", GPU),
        ("sm_80", (13000, 13000, None, [(8, 6)])),
        ("sm_80", (13020, 13000, None, [(8, 0)])),  # an older driver of the same major version runs machine code
        ("sm_90a", GPU),
        ("sm_90", (13000, 13000, None, [(5, 2), (9, 0)])),  # beside one for the screen
    ],
)
def test_available(monkeypatch, architectures, devices):
    found = support(monkeypatch, architectures, devices)
    assert found and found.reason is None
    assert found.runtime in ("13.0", "13.2") and found.driver == "13.0" and found.torch == "13.0"
    assert found.architectures == tuple(architectures.split()) and found.gpus == tuple(
        f"{a}.{b}" for a, b in devices[3]
    )


@pytest.mark.parametrize(
    ("name", "gpu", "serves"),
    [
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_100", (12, 0), False),
        ("compute_90", (12, 0), True),
        ("compute_90a", (12, 0), False),
        ("compute_120", (9, 0), False),
    ],
)
def test_which_code_a_gpu_runs(name, gpu, serves):
    assert sumix.device._serves((name,), gpu, True) == serves
    if name.startswith("compute"):
        assert not sumix.device._serves((name,), gpu, False)


def test_here():
    """Whatever there is, it says so and does not fail; without a GPU, why not."""
    found = sumix.cuda_available()
    assert bool(found) == (found.reason is None)
    assert sumix._C.has_cuda_kernels == (found.torch is not None and found.architectures != ())
    assert (sumix._C.cuda_missing == "") == (found.architectures != ())
    if not torch.cuda.is_available():
        assert not found
    if found.driver is None:
        assert found.gpus == ()


# ---- A GPU without kernels ----


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = torch.device("cuda", 1)


def test_a_gpu_without_kernels_is_one_warning(monkeypatch):
    monkeypatch.setattr(warn, "_said", set())
    monkeypatch.setattr(torch.library, "impl", lambda *_: None)
    run = dispatch.fallback("uncertainty", sumix.reference.uncertainty)
    x = torch.randn(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = run(x)
    with pytest.warns(UserWarning, match=r"plain PyTorch on cuda:1.*built without CUDA.*SUMIX_CUDA=1") as told:
        monkeypatch.setattr(
            sumix.device, "_C", types.SimpleNamespace(cuda_architectures="", cuda_missing="nvcc failed")
        )
        results = [run(x.as_subclass(OnCuda)) for _ in range(3)]
    assert len(told) == 1
    assert all(torch.equal(result.as_subclass(torch.Tensor), expected) for result in results)


def test_every_op_warns():
    """No op registers its twin by itself."""
    for path in (ROOT / "sumix" / "ops").glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if '"default"' in line and "low_frequency" not in line]
        assert lines == [] or path.name == "dispatch.py"
