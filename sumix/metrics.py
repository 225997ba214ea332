"""Accuracy on mixed images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sumix.head import SUMixOutput
from sumix.ops import checks, dispatch
from sumix.target import MixTarget


def mix_accuracy(
    output: Tensor | SUMixOutput,
    target: MixTarget | Tensor,
    *,
    topk: int | Sequence[int] = 1,
    ignore_index: int = -100,
) -> Tensor | tuple[Tensor, ...]:
    """Share of the labels' weight that the predictions hit, the k classes with the largest logits of each sample.

    With classes (N,) it is the mean of lam [y_a is hit] + (1 - lam) [y_b is hit] over the labels that count: the
    sum of the hits' weights over the sum of all weights. For soft labels, it is the share of their sum that lies in the
    k classes: for multi-hot labels that is the recall, and smoothed labels keep it below 1.

    Parameters
    ----------
    output : Tensor of logits (N, K), floating point, or SUMixOutput
        Output of the network.
    target : MixTarget, or Tensor (N,) or (N, K)
        The labels: the MixTarget that a transform returned; soft labels (N, K), which a transform with `num_classes`
        returns, or multi-hot ones; or, for images that are not mixed, classes (N,).
    topk : int or sequence of int
        k, 1 to K, or several: `topk=(1, 5)`.
    ignore_index : int
        Labels with this value are left out, as in `SUMixLoss`.

    Returns
    -------
    Tensor, scalar, float32; or, if `topk` is a sequence, a tuple with one for each k
        From 0 to 1, on the device of the logits, without waiting for it. NaN if nothing counts, for example with an
        empty batch, or if a rule's weights are NaN, as of maps that are not finite.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If shapes or devices do not fit together, or a k is not within 1 to K; in eager mode on CPU also if a lam is not
        from 0 to 1, a class not from 0 to K - 1, or a soft label negative or NaN.

    Notes
    -----
    Among equal logits, the class with the lower number comes first. NaN counts as the largest logit, as in torch.topk,
    but never as a hit: a network whose logits are all NaN has accuracy 0.

    Examples
    --------
    >>> top1, top5 = mix_accuracy(model(mixed), target, topk=(1, 5))
    """
    gained, total = hits(output, target, topk=topk, ignore_index=ignore_index)
    shares = tuple(gain / total for gain in gained)
    return shares if isinstance(topk, Sequence) else shares[0]


def hits(
    output: Tensor | SUMixOutput, target: MixTarget | Tensor, *, topk: int | Sequence[int], ignore_index: int
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The two sides of `mix_accuracy`'s division: for each k the weight of the labels hit, and the weight of all."""
    logits = output.logits if isinstance(output, SUMixOutput) else output
    logits = checks.rows(logits, "output").detach()
    ks = _ks(topk, logits.shape[1])
    ignore_index = checks.integer(ignore_index, "ignore_index")
    if isinstance(target, MixTarget):
        lam = checks.ratios(target.lam, "target.lam", logits, "output", torch.float32)
        if dispatch.is_at_hand(lam) and not ((lam >= 0) & (lam <= 1)).all():
            raise ValueError("target.lam must be from 0 to 1")
        lam = target.label_lam.detach().to(torch.float32)  # NaN where evidence was
        labels = [("target.y_a", target.y_a, lam), ("target.y_b", target.y_b, 1 - lam)]
    elif isinstance(target, Tensor):
        labels = [("target", target, logits.new_ones(logits.shape[0], dtype=torch.float32))]
    else:
        raise TypeError(f"target must be a MixTarget or a Tensor, got {type(target).__name__}")
    best = _best(logits, max(ks))
    gained, total = 0, 0  # weight that each of a sample's best classes hits, (N, k); weight of all labels
    for name, label, weight in labels:
        if isinstance(label, Tensor) and label.ndim == 2:
            shares = weight.unsqueeze(1) * _shares(label, name, logits)
            gained, total = gained + shares.gather(1, best), total + shares.sum()
        else:
            classes, counts = _classes(label, name, logits, ignore_index)
            weight = weight.where(counts, 0)
            gained, total = gained + weight.unsqueeze(1) * (best == classes.unsqueeze(1)), total + weight.sum()
    gained = gained.where(~logits.gather(1, best).isnan(), 0)
    return tuple(gained[:, :k].sum() for k in ks), total


def _ks(topk: Any, classes: int) -> tuple[int, ...]:
    ks = tuple(topk) if isinstance(topk, Sequence) and not isinstance(topk, str) else (topk,)
    if not ks:
        raise ValueError("topk must be an int, or a sequence of at least one")
    for k in ks:
        if checks.count(k, "topk") > classes:
            raise ValueError(f"topk must be at most K = {classes}, the number of classes in output, got {k}")
    return ks


def _best(logits: Tensor, k: int) -> Tensor:
    """The k classes with the largest logits of each row, the largest first: (N, k). torch.topk leaves ties open."""
    if k == 1:
        return logits.argmax(dim=1, keepdim=True)
    return logits.argsort(dim=1, descending=True, stable=True)[:, :k]


def _classes(label: Any, name: str, logits: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The classes (N,), and which of them count."""
    classes = checks.indices(label, name, logits, "output")
    counts = classes != ignore_index
    if dispatch.is_at_hand(classes) and (counts & ((classes < 0) | (classes >= logits.shape[1]))).any():
        raise ValueError(f"{name} must be from 0 to K - 1 = {logits.shape[1] - 1}, or the ignore_index {ignore_index}")
    return classes, counts


def _shares(label: Tensor, name: str, logits: Tensor) -> Tensor:
    """Soft or multi-hot labels (N, K) in float32."""
    if checks.tensor(label, name).dtype not in (*checks.FLOATS, *checks.INTEGERS, torch.bool):
        raise TypeError(f"{name} must hold real numbers, got {label.dtype}")
    if label.shape != logits.shape:
        raise ValueError(f"{name} must be (N,), or (N, K) = {checks.shape(logits)}, got {checks.shape(label)}")
    checks.same_device(label, name, logits, "output")
    shares = label.detach().to(torch.float32)
    if dispatch.is_at_hand(shares) and not (shares >= 0).all():
        raise ValueError(f"{name} must not be negative or NaN")
    return shares
