"""Plain PyTorch twins of the operators: for tests, benchmarks, and devices without kernels.

Each op has a twin of its name, written from its formula and differentiated by autograd. The functions named
`*_explicit` and `*_backward` have the op's own schema instead and compute their gradients themselves: autograd is off
inside an op. `published_loss` is the authors' training loss, step by step.
"""

from sumix.reference.loss import (
    CAP,
    RATIOS,
    REDUCTIONS,
    WEIGHTINGS,
    published_loss,
    scale_of,
    sumix_loss,
    sumix_loss_backward,
    sumix_loss_explicit,
)
from sumix.reference.masked_similarity import (
    EVIDENCES,
    kept_share,
    masked_similarity,
    masked_similarity_explicit,
    min_contrast_of,
)
from sumix.reference.mix import (
    cut_box,
    mix_box,
    mix_box_backward,
    mix_linear,
    mix_linear_backward,
    soft_labels,
)
from sumix.reference.semantic_distance import semantic_distance
from sumix.reference.uncertainty import uncertainty, uncertainty_backward

__all__ = [
    "CAP",
    "EVIDENCES",
    "RATIOS",
    "REDUCTIONS",
    "WEIGHTINGS",
    "cut_box",
    "kept_share",
    "masked_similarity",
    "masked_similarity_explicit",
    "min_contrast_of",
    "mix_box",
    "mix_box_backward",
    "mix_linear",
    "mix_linear_backward",
    "published_loss",
    "scale_of",
    "semantic_distance",
    "soft_labels",
    "sumix_loss",
    "sumix_loss_backward",
    "sumix_loss_explicit",
    "uncertainty",
    "uncertainty_backward",
]
