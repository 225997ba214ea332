"""Label-aware mixup for PyTorch."""

import re

try:
    import torch
except ImportError as error:
    raise ImportError("sumix needs torch 2.10 or newer, and found none") from error

if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 10):
    raise ImportError(f"sumix needs torch 2.10 or newer, found torch {torch.__version__}")

from sumix import _C  # noqa: F401, E402  (importing it registers torch.ops.sumix)
from sumix import ops, reference  # noqa: E402
from sumix.metrics import mix_accuracy  # noqa: E402
from sumix.target import MixTarget  # noqa: E402
from sumix.transforms import CutMix, MixUp  # noqa: E402

__all__ = ["CutMix", "MixTarget", "MixUp", "mix_accuracy", "ops", "reference"]
