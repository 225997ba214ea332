"""From what a mix shows of two images' evidence to the weights of their labels."""

import torch
from torch import Tensor

from sumix.evidence.evidence import Evidence
from sumix.ops.masked_similarity import masked_similarity
from sumix.recipe import Recipe

RULES = ("relative", "visible", "absolute", "uncertain")


def label_weights(
    evidence: Evidence,
    recipe: Recipe,
    perm: Tensor,
    size: tuple[int, ...] | None,
    *,
    rule: str = "relative",
    area_weight: float = 0.0,
) -> Tensor:
    """Weights (N, 3) of the own label, the partner's, and of what is spread evenly over all classes."""
    shares = masked_similarity(
        evidence.map,
        perm,
        recipe.lam,
        box=recipe.box,
        mask=recipe.mask,
        resize=recipe.resize,
        size=size,
        evidence="object",
    )
    a, b = shares.own, shares.partner
    if evidence.gate is not None:
        w, v = evidence.gate, evidence.gate[perm]
        a, b = w * a + (1 - w) * recipe.lam, v * b + (1 - v) * (1 - recipe.lam)
    total = a + b
    if rule == "relative":
        a, b = torch.where(total == 0, recipe.lam, a / total), torch.where(total == 0, 1 - recipe.lam, b / total)
    elif rule == "uncertain":
        a, b = a / total.clamp(min=1), b / total.clamp(min=1)
    rest = 1 - a - b if rule == "uncertain" else torch.zeros_like(a)
    weights = torch.stack([a, b, rest], dim=1)
    area = torch.stack([recipe.lam, 1 - recipe.lam, torch.zeros_like(a)], dim=1)
    return weights + area_weight * (area - weights)
