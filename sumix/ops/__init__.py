"""The operators, one module a family: functions of tensors, documented, checked and differentiable.

Each is a thin layer over `torch.ops.sumix.<name>`, whose arguments are plainer and may change between releases.
"""

from sumix.ops.evidence_mask import evidence_mask
from sumix.ops.fmix import fmix_mask
from sumix.ops.foreground import Foreground, foreground
from sumix.ops.loss import SUMixParts, sumix_loss
from sumix.ops.mask import mask_top_k, sample_top_k
from sumix.ops.mask_shapes import grid_mask, sample_grid, sample_smooth, smooth_mask
from sumix.ops.masked_similarity import VisibleShares, masked_similarity
from sumix.ops.mix import mix_box, mix_linear
from sumix.ops.mix_inplace import mix_box_, mix_resize_
from sumix.ops.mix_mask import mix_mask
from sumix.ops.mix_normalize import mix_normalize
from sumix.ops.mix_resize import mix_resize
from sumix.ops.saliency import saliency, saliency_peak
from sumix.ops.sample import (
    draw_seed,
    sample_lam,
    sample_normal,
    sample_perm,
    sample_seed,
    sample_uniform,
)
from sumix.ops.sample_box import cut_box, sample_box
from sumix.ops.semantic_distance import semantic_distance
from sumix.ops.uncertainty import uncertainty

__all__ = [
    "Foreground",
    "SUMixParts",
    "VisibleShares",
    "cut_box",
    "draw_seed",
    "evidence_mask",
    "fmix_mask",
    "foreground",
    "grid_mask",
    "mask_top_k",
    "masked_similarity",
    "mix_box",
    "mix_box_",
    "mix_linear",
    "mix_mask",
    "mix_normalize",
    "mix_resize",
    "mix_resize_",
    "saliency",
    "saliency_peak",
    "sample_box",
    "sample_grid",
    "sample_lam",
    "sample_normal",
    "sample_perm",
    "sample_seed",
    "sample_smooth",
    "sample_top_k",
    "sample_uniform",
    "semantic_distance",
    "smooth_mask",
    "sumix_loss",
    "uncertainty",
]
