"""From what a mix shows of two images' evidence to the weights of their labels."""

import re

from torch import Tensor

from sumix.evidence.evidence import Evidence
from sumix.ops.masked_similarity import masked_similarity
from sumix.recipe import Recipe


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
    try:
        shares = masked_similarity(
            evidence.map,
            perm,
            recipe.lam,
            box=recipe.box,
            mask=recipe.mask,
            resize=recipe.resize,
            size=size,
            evidence="object",
            gate=evidence.gate,
            rule=rule,
            area_weight=area_weight,
        )
    except ValueError as error:
        raise ValueError(re.sub("^objects|^(?=gate)", _named, str(error))) from None
    return shares.weights


def _named(found: re.Match[str]) -> str:
    """What the caller knows the op's argument by."""
    return "evidence" if found[0] else "evidence."
