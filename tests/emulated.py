"""The CUDA kernels run on the CPU (tests/cuda_emulation), as a second extension beside the real one.

`load()` registers torch.ops.sumix_emulated: the same boxed ops with the emulated CUDA kernels in them.
`replace()`, before sumix is imported, puts them in the place of torch.ops.sumix itself, so that any test tests them.
"""

import ctypes
import fcntl
import functools
import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys
import sysconfig

import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
ORDERS = (0, 1, 5)  # forward, reverse, shuffled: tests/cuda_emulation/emulated.h


def build(target: str, **variables: str) -> pathlib.Path:
    """What make builds, up to date. The environment's MAKEFLAGS are an outer make's, not for this one.

    `make unit` has built it before, but workers of pytest-xdist that start without that must not build it at once.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", "-s", target, *(f"{name}={value}" for name, value in variables.items())]
    (ROOT / "build").mkdir(exist_ok=True)
    with open(ROOT / "build" / "emulated.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / target


def _load(library: pathlib.Path, name: str):
    loader = importlib.machinery.ExtensionFileLoader(name, str(library))
    spec = importlib.util.spec_from_file_location(name, library, loader=loader)
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_LAZY)
    try:
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    finally:
        sys.setdlopenflags(flags)
    return module


@functools.cache
def load():
    """Returns (torch.ops.sumix_emulated, a function that sets the order of blocks and threads)."""
    library = build("build/extension/sumix_emulated.so", PYTHON_INCLUDE=sysconfig.get_path("include"))
    _load(library, "sumix_emulated._C")
    return torch.ops.sumix_emulated, ctypes.CDLL(str(library)).sumix_emulated_order


def replace(library: pathlib.Path | None = None):
    """Put a build of the extension, that of the emulated kernels unless another is given, in the place of sumix._C."""
    library = library or build("build/extension/sumix.so", PYTHON_INCLUDE=sysconfig.get_path("include"))
    sys.modules["sumix._C"] = _load(library, "sumix._C")
