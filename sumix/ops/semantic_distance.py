"""Semantic distance: how far each class of a mixed image is from the raw one."""

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch

_op = torch.ops.sumix.semantic_distance.default


def semantic_distance(
    logits: Tensor, raw_logits: Tensor, masked: Tensor, *, scale: float = 1.0, published: bool = False
) -> Tensor:
    r"""Distance of each class between a mixed and a raw image, :math:`\alpha = s\, d / \|d\|_2`.

    :math:`d = \mathrm{softmax}(p - m)` with :math:`m = \mathrm{softmax}(z)` and :math:`p = \mathrm{softmax}(r)`,
    :math:`p_{\text{masked}} = 0`: large for the classes that the mix has lost. No gradient flows through it.

    Parameters
    ----------
    logits, raw_logits : Tensor, shape (N, K), one floating point dtype
        Logits z of the mixed and r of the raw images (for the partners' distance, the partners' rows).
    masked : Tensor, shape (N,), integer
        Class that each raw image forgets, usually the other image's label; -1 for none.
    scale : float
        s, finite and not negative. SUMix uses the batch size; `SUMixLoss(ratio="semantic")` kappa * sqrt(K).
    published : bool
        Compute the published code's :math:`d = \mathrm{softmax}(m - p)`, which is *small* where the mix has lost a
        class.

    Returns
    -------
    Tensor, shape (N, K), the dtype of `logits`
        Positive rows of Euclidean length `scale`.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If shapes, devices or values do not fit: on CPU also a `masked` outside -1 to K - 1.

    References
    ----------
    Qin et al., "SUMix: Mixup with Semantic and Uncertain Information", ECCV 2024, section 3.
    """
    checks.rows(logits, "logits")
    checks.like(raw_logits, "raw_logits", logits, "logits")
    masked = checks.indices(masked, "masked", logits, "logits")
    scale = checks.number(scale, "scale", 0)
    checks.flag(published, "published")
    try:
        rows = logits.detach().contiguous(), raw_logits.detach().contiguous()
        return dispatch.call(_op, *rows, masked, scale, published)
    except RuntimeError as error:
        checks.reraise(error)


@dispatch.fake("semantic_distance")
def _(logits: Tensor, raw_logits: Tensor, masked: Tensor, scale: float, published: bool) -> Tensor:
    return logits.new_empty(logits.shape)


dispatch.fallback("semantic_distance", reference.semantic_distance)


def _none(ctx, grad: Tensor) -> None:
    raise RuntimeError(
        "sumix::semantic_distance has no gradient: detach its inputs, as sumix.ops.semantic_distance does"
    )


dispatch.register_autograd("sumix::semantic_distance", _none)
dispatch.with_numbers(_op, _none)
