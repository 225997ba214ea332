"""Our C declarations of libtorch's ABI are torch's own, and what importing and building promise holds."""

import importlib.machinery
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import torch
import torch.utils.cpp_extension as cpp

import sumix

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(*command, **kwargs):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)


def test_our_declarations_have_torchs_types():
    includes = [flag for path in cpp.include_paths() for flag in ("-I", path)]
    check = ROOT / "tests" / "torch_abi_check.cpp"
    done = run("g++", "-std=c++20", "-fsyntax-only", *includes, check)
    assert done.returncode == 0, done.stderr


IMPORT = "import sumix, torch; print(sumix._C.cpu_isa)"


@pytest.mark.parametrize("isa", ["baseline", "v3", "v4"])
def test_every_instruction_set_gives_the_same(isa, tmp_path):
    script = """if True:
        import torch, sumix
        from sumix import ops
        torch.manual_seed(0)
        z, r, v, u = (torch.randn(33, 103, requires_grad=True) for _ in range(4))
        y, perm, lam = torch.randint(103, (33,)), torch.randperm(33), torch.rand(33)
        loss, parts = ops.sumix_loss(z, r, v, u, y, y[perm], perm, lam)
        grads = torch.autograd.grad(loss, (z, v, u))
        print(sumix._C.cpu_isa)
        x, box = torch.randn(33, 3, 7, 9), torch.tensor([[1, 2, 8, 5]] * 33)
        others = [ops.uncertainty(z.half()), ops.uncertainty(z.double()), ops.semantic_distance(z, r, y)]
        others += [ops.mix_box(x, box, perm), ops.mix_linear(x, lam, perm), ops.mix_linear(x.bfloat16(), lam, perm)]
        mask, images = torch.rand(33, 7, 9), torch.randint(256, (33, 3, 7, 9), dtype=torch.uint8)
        others += [ops.mix_mask(x, mask, perm), ops.mix_mask(x, mask > 0.5, perm), ops.mix_resize(x, box, perm)]
        others += [ops.mix_normalize(images, perm, mask=mask, mean=(0, 0, 0), std=(1, 1, 1))]
        torch.save([loss, *parts, *grads, *others], "result.pt")
    """
    done = run(sys.executable, "-c", script, env={**os.environ, "SUMIX_CPU_ISA": isa}, cwd=tmp_path)
    if isa != "baseline" and done.returncode != 0:
        assert f"SUMIX_CPU_ISA={isa}: this build or this processor does not have it" in done.stderr
        assert sumix._C.cpu_isa != "v4"  # the best one was chosen, so this cannot be one that the processor has
        pytest.skip(f"this processor has no {isa}")
    assert done.stdout.strip() == isa, done.stderr
    got = torch.load(tmp_path / "result.pt")
    done = run(sys.executable, "-c", script, env={**os.environ, "SUMIX_CPU_ISA": "baseline"}, cwd=tmp_path)
    assert done.stdout.strip() == "baseline", done.stderr
    want = torch.load(tmp_path / "result.pt")
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-2 if a.element_size() == 2 else 1e-6, rtol=1e-5)


def test_an_unknown_instruction_set_is_refused():
    done = run(sys.executable, "-c", IMPORT, env={**os.environ, "SUMIX_CPU_ISA": "v9"})
    assert done.returncode != 0 and "ImportError: SUMIX_CPU_ISA=v9" in done.stderr


def fake_torch(folder, text):
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(text)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__version__ = '2.9.1+cpu'", "sumix needs torch 2.10 or newer, found torch 2.9.1+cpu"),
        ("__version__ = '1.13.0'", "sumix needs torch 2.10 or newer, found torch 1.13.0"),
        ("raise ImportError('no')", "sumix needs torch 2.10 or newer, and found none"),
        ("__version__ = '2.10.0'", "libtorch_cpu"),  # claims to be new enough, but no library is loaded
    ],
)
def test_a_missing_or_old_torch_is_one_clear_error(tmp_path, text, message):
    done = run(sys.executable, "-c", IMPORT, env=fake_torch(tmp_path, text))
    assert done.returncode != 0
    assert message in done.stderr and "ImportError" in done.stderr.strip().splitlines()[-1]


def test_a_checkout_that_was_not_built_says_so(tmp_path):
    shutil.copytree(ROOT / "sumix", tmp_path / "sumix", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    # An editable install would find the built module of this checkout.
    alone = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
    done = run(sys.executable, "-c", alone + IMPORT, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert "ImportError: sumix's kernels are not beside its Python files" in done.stderr


def test_the_module_uses_the_limited_api_alone():
    path = pathlib.Path(sumix._C.__file__)
    assert path.name.split(".", 1)[1] == importlib.machinery.EXTENSION_SUFFIXES[1].lstrip(".")  # abi3
    needed = run("readelf", "-d", path).stdout if shutil.which("readelf") else ""
    assert "torch" not in needed and "stdc++" not in needed and "libpython" not in needed


@pytest.mark.package
def test_the_sdist_builds_without_torch(tmp_path):
    """Every source and header is in it, and a compiler that warns is no obstacle."""
    tree = tmp_path / "tree"
    # Without what other tests may be writing at the same time.
    ignore = shutil.ignore_patterns(".*", "__pycache__", "build", "runs", "*.so", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=ignore)
    build = "from setuptools import build_meta as b; import sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    environment = {k: v for k, v in os.environ.items() if k != "SUMIX_WERROR"} | {"SUMIX_CUDA": "0"}
    done = run(sys.executable, "-c", build, "build_sdist", tmp_path, cwd=tree, env=environment)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "from", filter="data")
    (source,) = (tmp_path / "from").iterdir()
    files = (p for p in (ROOT / "csrc").rglob("*") if p.is_file() and p.parent.name != "__pycache__")
    ours = {p.relative_to(ROOT).as_posix() for p in files}
    assert ours <= {p.relative_to(source).as_posix() for p in source.rglob("*")}
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    environment = fake_torch(blocker, "raise ImportError('building must not import torch')")
    environment = {
        **environment,
        "SUMIX_CUDA": "0",
        "PYTHONPATH": str(blocker),
        "CFLAGS": "-Wpadded",
    }  # structs warn, and nothing fails
    environment.pop("SUMIX_WERROR", None)  # which is for ourselves
    done = run(sys.executable, "-c", build, "build_wheel", tmp_path, cwd=source, env=environment)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"sumix-{sumix.__version__}-cp310-abi3-")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"sumix/_C.abi3.so", "sumix/py.typed", "sumix/ops/loss.py", "sumix/transforms/__init__.py"} <= set(names)
    assert not any(name.startswith(("csrc", "tests", "benchmarks")) for name in names)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "clang-14"])
def test_no_warnings(compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    scope = {"__name__": "setup"}
    text = (ROOT / "setup.py").read_text().split("\nclass ")[0]
    exec(text, scope)
    python = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_paths()['include'])").stdout.strip()
    for isa, flags in scope["ISAS"].items():
        for source in [
            *(ROOT / "csrc" / "cpu").glob("*.c"),
            *((ROOT / "csrc").glob("*.c") if isa == "baseline" else []),
        ]:
            # Only what the parser sees: warnings of the optimiser are errors where CI builds, with one compiler.
            options = [*scope["FLAGS"], "-Werror", *flags, f"-DSUMIX_ISA={isa}", f"-I{python}"]
            command = [compiler, "-fsyntax-only", *options]
            exact = str(source.relative_to(ROOT)) in scope["EXACT_SOURCES"]
            done = run(*command, *(scope["EXACT"] if exact else []), source)
            assert done.returncode == 0, done.stderr
            if exact:  # what promises equal bits is not compiled by mistake with flags that break the promise
                assert "SUMIX_NO_CONTRACTION" in run(*command, source).stderr
