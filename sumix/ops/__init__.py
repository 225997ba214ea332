"""The operators, one module a family: functions of tensors, documented, checked and differentiable.

Each is a thin layer over `torch.ops.sumix.<name>`, whose arguments are plainer and may change between releases.
"""

from sumix.ops.loss import SUMixParts, sumix_loss
from sumix.ops.masked_similarity import VisibleShares, masked_similarity
from sumix.ops.mix import mix_box, mix_linear
from sumix.ops.semantic_distance import semantic_distance
from sumix.ops.uncertainty import uncertainty

__all__ = [
    "SUMixParts",
    "VisibleShares",
    "masked_similarity",
    "mix_box",
    "mix_linear",
    "semantic_distance",
    "sumix_loss",
    "uncertainty",
]
