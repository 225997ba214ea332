"""Label-aware mixup for PyTorch."""

import re

try:
    import torch
except ImportError as error:
    raise ImportError("sumix needs torch 2.10 or newer, and found none") from error

if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 10):
    raise ImportError(f"sumix needs torch 2.10 or newer, found torch {torch.__version__}")

from sumix import (
    _C,  # noqa: F401  (importing it registers torch.ops.sumix)
    ops,
    reference,
)
from sumix.head import SUMixHead, SUMixOutput
from sumix.loss import SUMixLoss
from sumix.metrics import mix_accuracy
from sumix.ops.loss import SUMixParts
from sumix.target import MixTarget
from sumix.transforms import CutMix, MixUp

__all__ = [
    "CutMix",
    "MixTarget",
    "MixUp",
    "SUMixHead",
    "SUMixLoss",
    "SUMixOutput",
    "SUMixParts",
    "mix_accuracy",
    "ops",
    "reference",
]
