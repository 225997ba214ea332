"""Accuracy on mixed images."""

import torch
from torch import Tensor

from sumix.head import SUMixOutput
from sumix.ops import checks, dispatch
from sumix.target import MixTarget


def mix_accuracy(output: Tensor | SUMixOutput, target: MixTarget) -> Tensor:
    """Share of the labels' weight that the predictions hit: the mean of lam [pred = y_a] + (1 - lam) [pred = y_b].

    Parameters
    ----------
    output : Tensor of logits (N, K), floating point, or SUMixOutput
        Output of the network for the mixed images.
    target : MixTarget
        Their labels.

    Returns
    -------
    Tensor, scalar, float32
        0 to 1, on the device of the logits, which is not waited for. NaN for an empty batch.

    Raises
    ------
    TypeError
        If `output` is neither or `target` not a MixTarget.
    ValueError
        If their shapes or devices do not fit together; in eager mode on CPU also if a lam is not from 0 to 1.
    """
    logits = output.logits if isinstance(output, SUMixOutput) else output
    checks.rows(logits, "output")
    if not isinstance(target, MixTarget):
        raise TypeError(f"target must be a MixTarget, got {type(target).__name__}")
    y_a = checks.indices(target.y_a, "target.y_a", logits, "output")
    y_b = checks.indices(target.y_b, "target.y_b", logits, "output")
    lam = checks.ratios(target.lam, "target.lam", logits, "output", torch.float32)
    if dispatch.is_at_hand(lam) and not ((lam >= 0) & (lam <= 1)).all():
        raise ValueError("target.lam must be from 0 to 1")
    prediction = logits.argmax(dim=1)
    return (lam * (prediction == y_a) + (1 - lam) * (prediction == y_b)).mean()
