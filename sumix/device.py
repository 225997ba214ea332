"""What there is to run the CUDA kernels: in this build of sumix, in torch, and in this machine."""

import re
from dataclasses import dataclass, replace

import torch

from sumix import _C


@dataclass(frozen=True)
class CudaSupport:
    """What `sumix.cuda_available` found; true if the CUDA kernels can run on one of the GPUs at least.

    Attributes
    ----------
    reason : str or None
        Why they cannot; None if they can.
    architectures : tuple of str
        What this build has code for: `sm_90` for a compute capability, `compute_90` the text that a driver compiles for
        later ones. Empty if it was built without CUDA.
    runtime, driver : str or None
        The CUDA versions of the runtime in this build and of the driver: "13.0". None where there is none.
    torch : str or None
        The CUDA version that torch is built with.
    gpus : tuple of str
        The compute capability of each GPU: "9.0".
    """

    reason: str | None
    architectures: tuple[str, ...] = ()
    runtime: str | None = None
    driver: str | None = None
    torch: str | None = None
    gpus: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.reason is None


def cuda_available() -> CudaSupport:
    """Whether sumix's CUDA kernels can run here, and if not, why.

    It never fails, and starts nothing on a GPU: no context is made, no memory taken. If sumix was built without CUDA,
    its ops take CUDA tensors all the same and run as plain PyTorch, which is right and not fast. If it was built for
    other GPUs alone, or with a newer CUDA than the driver's, they raise RuntimeError. Like torch.cuda.is_available, it
    asks the driver, after which a process that is forked from this one cannot use CUDA.

    Returns
    -------
    CudaSupport
        True or false, and what was found: `bool(cuda_available())`, `cuda_available().reason`.

    Examples
    --------
    >>> support = sumix.cuda_available()
    >>> print("CUDA kernels" if support else f"no CUDA kernels: {support.reason}")
    """
    found = CudaSupport(None, tuple(_C.cuda_architectures.split()), torch=torch.version.cuda)
    if not found.architectures:
        return replace(found, reason=f"sumix was built without CUDA: {_C.cuda_missing}")
    runtime, driver, error, gpus = _C.cuda_devices()
    found = replace(
        found,
        runtime=_version(runtime),
        driver=_version(driver),
        gpus=tuple(f"{major}.{minor}" for major, minor in gpus),
    )
    return replace(found, reason=_reason(found, runtime, driver, error, gpus))


def _version(number: int) -> str | None:
    return f"{number // 1000}.{number % 1000 // 10}" if number > 0 else None


def _reason(
    found: CudaSupport, runtime: int, driver: int, error: str | None, gpus: list[tuple[int, int]]
) -> str | None:
    """What is in the way, the first of it."""
    if found.torch is None:
        return "this torch is built without CUDA"
    if driver == 0:
        return "there is no CUDA driver"
    if driver // 1000 < runtime // 1000:  # within a major version, older drivers run what was compiled for them
        return f"the driver, for CUDA {found.driver}, is older than the runtime, CUDA {found.runtime}"
    if error is not None:
        return f"CUDA finds no GPU: {error}"
    if not gpus:
        return "there is no GPU"
    if not any(_serves(found.architectures, gpu, driver >= runtime) for gpu in gpus):
        names = ", ".join(f"sm_{major}{minor}" for major, minor in sorted(set(gpus)))
        because = "" if driver >= runtime else f", and the driver, for CUDA {found.driver}, is too old to compile it"
        return f"this build has code for {' '.join(found.architectures)}, not for {names}{because}"
    if not torch.cuda.is_available():
        return "torch finds no GPU that it can use"
    return None


def _serves(architectures: tuple[str, ...], gpu: tuple[int, int], text_too: bool) -> bool:
    """Whether a GPU runs one of these: machine code of its major version and no later minor one, or any earlier text.

    `a` and `f` say that code is for that one GPU, or for its family, alone.
    """
    for name in architectures:
        kind, number, suffix = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", name).groups()
        made_for = divmod(int(number), 10)
        if suffix == "a":
            fits = made_for == gpu
        elif kind == "sm" or suffix == "f":
            fits = made_for[0] == gpu[0] and made_for[1] <= gpu[1]
        else:
            fits = made_for <= gpu
        if fits and (kind == "sm" or text_too):
            return True
    return False
