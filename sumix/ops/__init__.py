"""The operators, one module a family: functions of tensors, documented, checked and differentiable.

Each is a thin layer over `torch.ops.sumix.<name>`, whose arguments are plainer and may change between releases.
"""

from sumix.ops.loss import SUMixParts, sumix_loss
from sumix.ops.mix import mix_box, mix_linear
from sumix.ops.mix_inplace import mix_box_, mix_resize_
from sumix.ops.mix_mask import mix_mask
from sumix.ops.mix_normalize import mix_normalize
from sumix.ops.mix_resize import mix_resize
from sumix.ops.semantic_distance import semantic_distance
from sumix.ops.uncertainty import uncertainty

__all__ = [
    "SUMixParts",
    "mix_box",
    "mix_box_",
    "mix_linear",
    "mix_mask",
    "mix_normalize",
    "mix_resize",
    "mix_resize_",
    "semantic_distance",
    "sumix_loss",
    "uncertainty",
]
