"""Plain PyTorch twins of the operators: for tests, benchmarks, and devices without kernels.

Each op has a twin of its name, written from its formula and differentiated by autograd. The functions named
`*_explicit` and `*_backward` have the op's own schema instead and compute their gradients themselves: autograd is off
inside an op. `published_loss` is the authors' training loss, step by step.
"""

from sumix.reference.evidence_mask import evidence_mask
from sumix.reference.fmix import low_frequency_image
from sumix.reference.foreground import GATE, foreground, foreground_explicit
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
from sumix.reference.mask import mask_top_k, sample_top_k
from sumix.reference.mask_shapes import grid_mask, smooth_mask
from sumix.reference.masked_similarity import (
    EVIDENCES,
    RULES,
    evidence_map,
    kept_share,
    masked_similarity,
    masked_similarity_explicit,
    min_contrast_of,
)
from sumix.reference.mix import mix_box, mix_box_backward, mix_linear, mix_linear_backward, soft_labels
from sumix.reference.mix_inplace import mix_box_, mix_resize_
from sumix.reference.mix_mask import mix_mask, mix_mask_backward
from sumix.reference.mix_normalize import mix_normalize
from sumix.reference.mix_resize import mix_resize, mix_resize_backward
from sumix.reference.saliency import saliency, saliency_peak, to_8_bits
from sumix.reference.sample import (
    cut_box,
    philox,
    sample_box,
    sample_lam,
    sample_normal,
    sample_perm,
    sample_seed,
    sample_uniform,
)
from sumix.reference.semantic_distance import semantic_distance
from sumix.reference.uncertainty import uncertainty, uncertainty_backward

__all__ = [
    "CAP",
    "EVIDENCES",
    "GATE",
    "RATIOS",
    "REDUCTIONS",
    "RULES",
    "WEIGHTINGS",
    "cut_box",
    "evidence_map",
    "evidence_mask",
    "foreground",
    "foreground_explicit",
    "grid_mask",
    "kept_share",
    "low_frequency_image",
    "mask_top_k",
    "masked_similarity",
    "masked_similarity_explicit",
    "min_contrast_of",
    "mix_box",
    "mix_box_",
    "mix_box_backward",
    "mix_linear",
    "mix_linear_backward",
    "mix_mask",
    "mix_mask_backward",
    "mix_normalize",
    "mix_resize",
    "mix_resize_",
    "mix_resize_backward",
    "philox",
    "published_loss",
    "saliency",
    "saliency_peak",
    "sample_box",
    "sample_lam",
    "sample_normal",
    "sample_perm",
    "sample_seed",
    "sample_top_k",
    "sample_uniform",
    "scale_of",
    "semantic_distance",
    "smooth_mask",
    "soft_labels",
    "sumix_loss",
    "sumix_loss_backward",
    "sumix_loss_explicit",
    "to_8_bits",
    "uncertainty",
    "uncertainty_backward",
]
