"""The SUMix loss: vectorised, with its gradients spelled out, and as the authors' code computes it."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sumix.reference.precision import real
from sumix.reference.semantic_distance import semantic_distance

RATIOS = ("area", "published", "semantic")
WEIGHTINGS = ("sample", "batch")
REDUCTIONS = ("none", "mean", "sum")

# t = exp(min(-(beta + alpha), CAP)) stays finite. Below CAP it is the published code's; from CAP on, t is constant and
# has no gradient.
CAP = 80.0


def scale_of(ratio: str, logits: Tensor, kappa: float, distance_scale: float | None) -> float:
    """The factor of d / ||d||_2 for logits (N, K): kappa sqrt(K) for "semantic"; else `distance_scale`, or -1 for N."""
    if ratio == "semantic":
        return kappa * math.sqrt(logits.shape[1])
    return -1.0 if distance_scale is None else distance_scale


def _evidence(exponent: Tensor) -> Tensor:
    """t. A clamp would pass on the gradient where the exponent is CAP."""
    return exponent.masked_fill(exponent >= CAP, CAP).exp()


def _at(rows: Tensor, labels: Tensor) -> Tensor:
    return rows.gather(1, labels.unsqueeze(1)).squeeze(1)


def _cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int, **options: Any) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none", ignore_index=ignore_index, **options)


class _Pair(NamedTuple):
    """A batch's two labels a sample: which are kept, and a valid class in place of those that are not."""

    keep_a: Tensor
    keep_b: Tensor
    a: Tensor
    b: Tensor

    @property
    def both(self) -> Tensor:
        return self.keep_a & self.keep_b

    @property
    def any(self) -> Tensor:
        return self.keep_a | self.keep_b


def _pair(y_a: Tensor, y_b: Tensor, ignore_index: int) -> _Pair:
    keep_a, keep_b = y_a != ignore_index, y_b != ignore_index
    return _Pair(keep_a, keep_b, y_a.where(keep_a, 0), y_b.where(keep_b, 0))


@torch.no_grad()
def _learn_ratio(
    z: Tensor, r: Tensor, labels: _Pair, perm: Tensor, lam: Tensor, ratio: str, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """lam~ and both distances. lam~ is lam where one label is ignored: the other alone says nothing of their ratio."""
    if ratio == "area":
        return lam, torch.zeros_like(z), torch.zeros_like(z)
    published = ratio == "published"
    scale = z.shape[0] if scale < 0 else scale
    alpha_a = semantic_distance(z, r, labels.b.where(labels.keep_b, -1), scale, published)
    alpha_b = semantic_distance(z, r[perm], labels.a.where(labels.keep_a, -1), scale, published)
    logit = lam.log() - (-lam).log1p() - _at(alpha_a, labels.a) + _at(alpha_b, labels.b)
    return logit.sigmoid().where(labels.both, lam), alpha_a, alpha_b


def _given_ratio(z: Tensor, labels: _Pair, lam: Tensor, learned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A ratio (N,), or the first of label weights (N, 3), that was found elsewhere, without distances."""
    learned = learned if learned.ndim == 1 else learned[:, 0]
    learned = learned.detach().to(lam.dtype).where(labels.both, lam)
    return learned, torch.zeros_like(z), torch.zeros_like(z)


class _Weights(NamedTuple):
    """(N,) each: of both cross entropies, and of their mean over all classes."""

    own: Tensor
    other: Tensor
    rest: Tensor
    given: bool
    """Whether they were found elsewhere: then they need not sum to 1."""


def _weigh(ratio: Tensor, given: Tensor | None, labels: _Pair, weighting: str) -> _Weights:
    """What multiplies the cross entropies: lam~ and 1 - lam~, or label weights found elsewhere, or the batch's means.

    A sample with one label alone has none of the rest, and its lam~ is lam.
    """
    weights, three = [ratio, 1 - ratio, torch.zeros_like(ratio)], given is not None and given.ndim == 2
    if three:
        found = given.detach().to(ratio.dtype).unbind(1)
        weights = [one.where(labels.both, other) for one, other in zip(found, weights, strict=True)]
    if weighting == "batch":
        weights = [(one.where(labels.any, 0).sum() / labels.any.sum()).expand_as(one) for one in weights]
    own, other, rest = weights
    return _Weights(own, other, rest.where(labels.both, 0), three)


def _even(used: _Weights, labels: _Pair, label_smoothing: float) -> Tensor | float:
    """(N,) what the mean cross entropy of all classes weighs beside the smoothing of both labels.

    Smoothing replaces a share of the target by 1 spread over all classes, whatever the target sums to.
    """
    if not used.given:
        return 0.0
    missing = label_smoothing * (1 - used.own - used.other)
    return ((1 - label_smoothing) * used.rest + missing).where(labels.both, 0)


def _totals(
    used: _Weights, lam: Tensor, labels: _Pair, weight: Tensor | None, reduction: str
) -> tuple[Tensor | float, Tensor | float]:
    """What the classification term and the regulariser are divided by."""
    if reduction != "mean":
        return 1.0, 1.0
    weight_a = labels.keep_a if weight is None else weight[labels.a] * labels.keep_a
    weight_b = labels.keep_b if weight is None else weight[labels.b] * labels.keep_b
    classification = used.own * weight_a + used.other * weight_b
    if used.given and weight is None:  # a sample counts 1, whatever its labels weigh
        classification = classification.where(~labels.both, 1)
    elif used.given:
        classification = classification + used.rest * weight.mean()
    return classification.sum(), (lam * labels.keep_a + (1 - lam) * labels.keep_b).sum()


def sumix_loss(
    logits: Tensor,
    raw_logits: Tensor,
    uncertainty: Tensor | None,
    raw_uncertainty: Tensor | None,
    y_a: Tensor,
    y_b: Tensor,
    perm: Tensor,
    lam: Tensor,
    *,
    gamma: float = 0.5,
    ratio: str = "semantic",
    weighting: str = "sample",
    kappa: float = 0.3,
    distance_scale: float | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    learned: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Twin of `sumix.ops.sumix_loss`, vectorised. Returns loss, lam~ (N,), classification (N,), regularizer (N,)."""
    z, r = real(logits), real(raw_logits)
    v, u = (z, r) if uncertainty is None else (real(uncertainty), real(raw_uncertainty))
    lam, labels = lam.to(z.dtype), _pair(y_a, y_b, ignore_index)
    given = learned
    if given is None:
        scale = scale_of(ratio, z, kappa, distance_scale)
        learned, alpha_a, alpha_b = _learn_ratio(z, r, labels, perm, lam, ratio, scale)
    else:
        learned, alpha_a, alpha_b = _given_ratio(z, labels, lam, given)
    used = _weigh(learned, given, labels, weighting)

    weight = None if weight is None else weight.to(z.dtype)
    options = {"weight": weight, "label_smoothing": label_smoothing}
    ce_a, ce_b = (_cross_entropy(z, y, ignore_index, **options) for y in (y_a, y_b))
    classification = used.own * ce_a + used.other * ce_b
    if used.given:
        of_all = -z.log_softmax(dim=1) if weight is None else -z.log_softmax(dim=1) * weight
        classification = classification + _even(used, labels, label_smoothing) * of_all.mean(dim=1)
    # The partner first: torch.compile (2.13, on CPU) fuses the sum of u's two gradients into the scatter of the second,
    # and so reads rows before they are complete. In this order it does not.
    t_b = _evidence(-(u[perm] + v + alpha_b))
    t_a = _evidence(-(u + v + alpha_a))
    regularizer = lam * _cross_entropy(t_a, y_a, ignore_index) + (1 - lam) * _cross_entropy(t_b, y_b, ignore_index)

    if reduction == "none":
        loss = classification + gamma * regularizer
    else:
        class_total, regularizer_total = _totals(used, lam, labels, weight, reduction)
        loss = classification.sum() / class_total + gamma * (regularizer.sum() / regularizer_total)
    return loss, learned, classification.detach(), regularizer.detach()


def sumix_loss_explicit(
    logits: Tensor,
    raw_logits: Tensor,
    uncertainty: Tensor,
    raw_uncertainty: Tensor,
    y_a: Tensor,
    y_b: Tensor,
    perm: Tensor,
    lam: Tensor,
    weight: Tensor,
    learned: Tensor,
    ratio: int,
    weighting: int,
    reduction: int,
    gamma: float,
    scale: float,
    label_smoothing: float,
    ignore_index: int,
    needs_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The loss with its gradients under the op's own schema, for devices without kernels.

    Absent tensors have shape (0,). Returns loss, parts (3, N), and the gradients that `sumix_loss_backward` scales:
    by the mixed logits, the mixed uncertainty, the raw uncertainty (sample i's own share, or the sum), the partner's
    share.
    """
    plain, name = uncertainty.ndim == 1, REDUCTIONS[reduction]
    weights, given = (None if tensor.shape == (0,) else tensor for tensor in (weight, learned))
    loss, *parts = sumix_loss(
        logits,
        raw_logits,
        None if plain else uncertainty,
        None if plain else raw_uncertainty,
        *(y_a, y_b, perm, lam),
        gamma=gamma,
        ratio=RATIOS[ratio],
        weighting=WEIGHTINGS[weighting],
        kappa=scale / math.sqrt(logits.shape[1]),
        distance_scale=None if scale < 0 else scale,
        reduction=name,
        weight=weights,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        learned=given,
    )
    absent = lam.new_empty(0)
    if not needs_grad:
        return loss, torch.stack(parts), absent, lam.new_empty(0), lam.new_empty(0), lam.new_empty(0)

    z, r = real(logits), real(raw_logits)
    v, u = (z, r) if plain else (real(uncertainty), real(raw_uncertainty))
    labels = _pair(y_a, y_b, ignore_index)
    if given is None:
        used, alpha_a, alpha_b = _learn_ratio(z, r, labels, perm, lam, RATIOS[ratio], scale)
    else:
        used, alpha_a, alpha_b = _given_ratio(z, labels, lam, given)
    used = _weigh(used, given, labels, WEIGHTINGS[weighting])
    class_total, regularizer_total = _totals(used, lam, labels, weights, name)
    if name == "mean":  # where every label is ignored, the loss is 0 / 0 and its gradient 0
        kept = labels.any.any()
        class_total, regularizer_total = (total.where(kept, 1) for total in (class_total, regularizer_total))
    hot_a = F.one_hot(labels.a, z.shape[1]) * labels.keep_a.unsqueeze(1)
    hot_b = F.one_hot(labels.b, z.shape[1]) * labels.keep_b.unsqueeze(1)
    shares = torch.ones_like(lam[:1]).expand(z.shape[1]) if weights is None else weights

    # dCE/dz = (sum of the target) softmax(z) - target, for the target that class weights and smoothing make of both
    # labels.
    target = (1 - label_smoothing) * shares * (used.own.unsqueeze(1) * hot_a + used.other.unsqueeze(1) * hot_b)
    kept = used.own * labels.keep_a + used.other * labels.keep_b
    even = label_smoothing * kept + _even(used, labels, label_smoothing)
    target = target + shares / z.shape[1] * even.unsqueeze(1)
    grad_z = (target.sum(dim=1, keepdim=True) * z.softmax(dim=1) - target) / class_total

    def share(exponent: Tensor, hot: Tensor, part: Tensor, keep: Tensor) -> Tensor:
        t = _evidence(exponent)
        grad = (gamma * part * keep / regularizer_total).unsqueeze(1) * (t.softmax(dim=1) - hot) * -t
        return grad.masked_fill(exponent >= CAP, 0)

    own = share(-(u + v + alpha_a), hot_a, lam, labels.keep_a)
    other = share(-(u[perm] + v + alpha_b), hot_b, 1 - lam, labels.keep_b)
    grad_v = absent
    if plain:
        grad_z = grad_z + (own + other)
    else:
        grad_v = own + other
    if name == "none":
        return loss, torch.stack(parts), grad_z, grad_v, own, other
    return loss, torch.stack(parts), grad_z, grad_v, own.index_add(0, perm, other), lam.new_empty(0)


def sumix_loss_backward(
    grad_loss: Tensor,
    logits: Tensor,
    raw_logits: Tensor,
    uncertainty: Tensor,
    raw_uncertainty: Tensor,
    grad_logits: Tensor,
    grad_uncertainty: Tensor,
    grad_raw: Tensor,
    grad_partner: Tensor,
    perm: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scales what `sumix_loss_explicit` left by the incoming gradient, () or (N,), under the op's own schema."""
    g = grad_loss.unsqueeze(1) if grad_loss.ndim else grad_loss
    raw = grad_raw * g
    if grad_partner.ndim == 2:
        raw = raw.index_add(0, perm, grad_partner * g)
    mixed = grad_uncertainty * g if grad_uncertainty.ndim == 2 else grad_uncertainty.clone()
    return (grad_logits * g).to(logits.dtype), mixed.to(logits.dtype), raw.to(logits.dtype)


def published_loss(
    logits: Tensor,
    raw_logits: Tensor,
    uncertainty: Tensor,
    raw_uncertainty: Tensor,
    y_a: Tensor,
    y_b: Tensor,
    perm: Tensor,
    lam: float,
    gamma: float = 0.5,
) -> Tensor:
    """What the authors' training code computes, a step after the other as it does: loops over the batch and all.

    One `lam` a batch. Its cross entropies are means over the batch before the per-sample ratio multiplies them. In the
    plain form the logits are passed for the uncertainties; it overflows there once a logit and an uncertainty sum to
    about -88 in float32, since its exponent has no bound.
    """
    n = logits.shape[0]
    with torch.no_grad():
        raw, mixed = raw_logits.softmax(dim=1), logits.softmax(dim=1)
        raw_b = raw[perm].clone()
        raw_a = raw.clone()
        for i in range(n):  # each raw sample forgets the other sample's class
            raw_a[i, y_b[i].item()] = 0
            raw_b[i, y_a[i].item()] = 0
        distance_a, distance_b = (mixed - raw_a).softmax(dim=1), (mixed - raw_b).softmax(dim=1)
        alpha_a = n * distance_a / distance_a.norm(dim=1, keepdim=True)
        alpha_b = n * distance_b / distance_b.norm(dim=1, keepdim=True)
        ratios = []
        for i in range(n):
            weight_a = lam * torch.exp(-alpha_a[i, y_a[i].item()])
            weight_b = (1 - lam) * torch.exp(-alpha_b[i, y_b[i].item()])
            ratios.append(weight_a / (weight_a + weight_b))

    ce_a, ce_b = F.cross_entropy(logits, y_a), F.cross_entropy(logits, y_b)
    classification = logits.new_zeros(())
    for i in range(n):
        classification = classification + ratios[i] * ce_a + (1 - ratios[i]) * ce_b
    classification = classification / n

    feature_a = torch.exp(-(raw_uncertainty + uncertainty + alpha_a))
    feature_b = torch.exp(-(raw_uncertainty[perm] + uncertainty + alpha_b))
    regularizer = lam * F.cross_entropy(feature_a, y_a) + (1 - lam) * F.cross_entropy(feature_b, y_b)
    return classification + gamma * regularizer
