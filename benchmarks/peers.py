"""The packages that sumix is compared with, each optional: its module, or None where it is not installed.

Shared by tests and benchmarks, so that both get past the same obstacle: a torchvision built for another torch than the
one installed (a CUDA build beside a CPU-only torch, say) cannot load its compiled ops and then fails on import with
"operator torchvision::nms does not exist", though its transforms need none of them.
"""

import functools
import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

NAMES = ("torchvision", "timm", "kornia", "mixup")


@functools.cache
def load(name: str) -> ModuleType | None:
    """Import one of `NAMES`.

    Parameters
    ----------
    name : str
        What to import, as in `NAMES`.

    Returns
    -------
    module or None
        None if the package is absent, or, with a warning, if it is there but cannot be imported.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    if version(name) is None:
        return None
    try:
        if name != "torchvision":
            load("torchvision")  # timm and others import it themselves
            return importlib.import_module(name)
        return _torchvision()
    except Exception as error:
        warnings.warn(f"{name} {version(name)} cannot be imported: {type(error).__name__}: {error}", stacklevel=2)
        return None


def version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def opencv() -> ModuleType | None:
    """OpenCV, which several packages bring; None if it is absent or comes without its contributed modules."""
    try:
        module = importlib.import_module("cv2")
    except ImportError:
        return None
    return module if hasattr(module, "saliency") else None


def opencv_saliency() -> Callable[[Any], Any] | None:
    """OpenCV's fine-grained static saliency of a NumPy image, times 255 and rounded: uint8 (H, W). Or None."""
    if (cv2 := opencv()) is None:
        return None
    detector = cv2.saliency.StaticSaliencyFineGrained_create()

    def salient(image: Any) -> Any:
        success, result = detector.computeSaliency(image)
        assert success
        return (255 * result).round().astype("uint8")

    return salient


def _torchvision() -> ModuleType:
    try:
        module = importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for half_imported in [key for key in sys.modules if key.partition(".")[0] == "torchvision"]:
            del sys.modules[half_imported]
        for op in ("nms", "qnms"):  # declared, never implemented: enough to import
            torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        module = importlib.import_module("torchvision")
    importlib.import_module("torchvision.transforms.v2")
    return module
