"""The operators, one module a family: functions of tensors, documented, checked and differentiable.

Each calls `torch.ops.sumix.<name>`, which can be used directly where its checks are not wanted.
"""

from sumix.ops.mix import mix_box, mix_linear
from sumix.ops.uncertainty import uncertainty

__all__ = ["mix_box", "mix_linear", "uncertainty"]
