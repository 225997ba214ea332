"""Label-aware mixup for PyTorch."""

__version__ = "0.2.0"

import importlib
import re
from types import ModuleType

try:
    import torch
except ImportError as error:
    raise ImportError("sumix needs torch 2.10 or newer, and found none") from error

if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 10):
    raise ImportError(f"sumix needs torch 2.10 or newer, found torch {torch.__version__}")

try:
    importlib.import_module("sumix._C")  # which registers torch.ops.sumix
except ModuleNotFoundError as error:
    raise ImportError(
        f"sumix's kernels are not beside its Python files in {__path__[0]}. If that is a checkout that was not built, "
        "start Python in another folder to use an installed sumix, or build in place: "
        "python setup.py build_ext --inplace"
    ) from error

from sumix import evidence, ops, reference
from sumix.device import CudaSupport, cuda_available
from sumix.features import capture_features
from sumix.head import SUMixHead, SUMixOutput, plain_state_dict
from sumix.loss import SUMixLoss
from sumix.metrics import mix_accuracy
from sumix.ops.loss import SUMixParts
from sumix.pair import PairedMix, forward_pair
from sumix.target import MixTarget
from sumix.transforms import (
    CutMix,
    FMix,
    ForegroundMix,
    GridMix,
    Mixer,
    MixUp,
    RandomMix,
    ResizeMix,
    SaliencyMix,
    SmoothMix,
    SUMixCollate,
)
from sumix.warn import SUMixWarning

__all__ = [
    "CudaSupport",
    "CutMix",
    "FMix",
    "ForegroundMix",
    "GridMix",
    "MixTarget",
    "MixUp",
    "Mixer",
    "PairedMix",
    "RandomMix",
    "ResizeMix",
    "SUMixCollate",
    "SUMixHead",
    "SUMixLoss",
    "SUMixOutput",
    "SUMixParts",
    "SUMixWarning",
    "SaliencyMix",
    "SmoothMix",
    "capture_features",
    "cuda_available",
    "evidence",
    "forward_pair",
    "mix_accuracy",
    "ops",
    "plain_state_dict",
    "reference",
]


def __getattr__(name: str) -> ModuleType:
    """sumix.visualize, imported when it is first used."""
    if name == "visualize":
        return importlib.import_module("sumix.visualize")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
