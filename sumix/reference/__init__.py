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
from sumix.reference.mix import (
    cut_box,
    mix_box,
    mix_box_backward,
    mix_linear,
    mix_linear_backward,
    soft_labels,
)
from sumix.reference.saliency import saliency, saliency_peak, to_8_bits
from sumix.reference.semantic_distance import semantic_distance
from sumix.reference.uncertainty import uncertainty, uncertainty_backward

__all__ = [
    "CAP",
    "RATIOS",
    "REDUCTIONS",
    "WEIGHTINGS",
    "cut_box",
    "mix_box",
    "mix_box_backward",
    "mix_linear",
    "mix_linear_backward",
    "published_loss",
    "saliency",
    "saliency_peak",
    "scale_of",
    "semantic_distance",
    "soft_labels",
    "sumix_loss",
    "sumix_loss_backward",
    "sumix_loss_explicit",
    "to_8_bits",
    "uncertainty",
    "uncertainty_backward",
]
