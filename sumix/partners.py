"""The loss of samples whose partners are on other ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.loss import Options, run
from sumix.ranks import gather, gather_with_gradient, total
from sumix.target import MixTarget

_AREA, _SAMPLE = reference.RATIOS.index("area"), reference.WEIGHTINGS.index("sample")
_MEAN, _SUM = reference.REDUCTIONS.index("mean"), reference.REDUCTIONS.index("sum")


class Pairs(NamedTuple):
    """Our own n samples, followed by their n partners, which are raw outputs without a mix for the loss to ignore."""

    z: Tensor
    r: Tensor
    v: Tensor | None
    u: Tensor | None
    target: MixTarget
    """Its `perm` leads from the first n rows to the others; `y_a` are the images' own labels where there are maps."""
    maps: Tensor | None
    gate: Tensor | None


def checked(
    z: Tensor, r: Tensor, v: Tensor | None, u: Tensor | None, target: MixTarget, world: int, options: Options
) -> MixTarget:
    """The target, converted, if it and the outputs fit, as far as this shows without waiting for a device."""
    checks.rows(z, "mixed")
    for name, rows in ("raw", r), ("mixed's uncertainty", v), ("raw's uncertainty", u):
        if rows is not None:
            checks.like(rows, name, z, "mixed", any_dtype=True)
    perm = checks.indices(target.perm, "target.perm", z, "mixed")
    y_a = checks.indices(target.y_a, "target.y_a", z, "mixed")  # int64, which holds any ignore_index
    y_b = checks.indices(target.y_b, "target.y_b", z, "mixed")
    real = torch.float64 if z.dtype is torch.float64 else torch.float32
    lam = checks.ratios(target.lam, "target.lam", z, "mixed", real)
    n, k = z.shape
    if dispatch.is_at_hand(perm) and ((perm < 0) | (perm >= n * world)).any():
        raise ValueError(f"target.perm must be from 0 to {n * world - 1}, counting through all ranks' samples")
    for name, labels in ("y_a", y_a), ("y_b", y_b):
        if dispatch.is_at_hand(labels) and (((labels < 0) | (labels >= k)) & (labels != options.ignore_index)).any():
            raise ValueError(f"target.{name} must be classes from 0 to {k - 1} or ignore_index")
    if dispatch.is_at_hand(lam) and not ((lam >= 0) & (lam <= 1)).all():
        raise ValueError("target.lam must be from 0 to 1")
    weights = target.weights
    if weights is not None:
        weights = checks.label_weights(weights, "target.weights", z, "mixed", real)
    return replace(target, y_a=y_a, y_b=y_b, lam=lam, perm=perm, weights=weights)


def check_maps(maps: Any, name: str, z: Tensor) -> None:
    """Fail unless the maps have a row for each sample; the rest shows when they are used."""
    if checks.batch(maps, name).shape[0] != z.shape[0]:
        raise ValueError(f"{name} must be (N, ...) with N = {z.shape[0]}, got {checks.shape(maps)}")
    checks.same_device(maps, name, z, "mixed")


def mean_of(maps: Tensor, group: Any) -> Tensor:
    """The mean (d,) of maps (N, d, ...) over the places and samples of all ranks, which bring as many."""
    if checks.floating(maps, "fine").ndim not in (3, 4):
        raise ValueError(f"fine must be (N, d, H, W), or (N, d, L) for signals, got {checks.shape(maps)}")
    real = torch.float64 if maps.dtype is torch.float64 else torch.float32
    means = maps.detach().flatten(2).mean(dim=2, dtype=real)
    return total(means.mean(dim=0), group) / dist.get_world_size(group)


def beside_partners(
    z: Tensor,
    r: Tensor,
    v: Tensor | None,
    u: Tensor | None,
    target: MixTarget,
    maps: Tensor | None,
    gate: Tensor | None,
    group: Any,
) -> Pairs:
    """Fetch the partners, which `target.perm` counts through all ranks."""
    n = z.shape[0]

    def partners(rows: Tensor | None) -> Tensor | None:
        if rows is None:
            return None
        return torch.cat([rows, gather_with_gradient(rows, group).index_select(0, target.perm)])

    def twice(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else torch.cat([rows, rows])

    def blank(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else torch.cat([rows, torch.zeros_like(rows)])

    y_a = twice(target.y_a)
    if maps is not None:  # of which "cam" sees those of each image's own class
        maps = torch.cat([maps, gather(maps, group).index_select(0, target.perm)]).detach()
        y_a = torch.cat([target.y_a, gather(target.y_a, group).index_select(0, target.perm)])
    if gate is not None:
        gate = torch.cat([gate, gather(gate, group).index_select(0, target.perm)])
    pairs = replace(
        target,
        y_a=y_a,
        y_b=twice(target.y_b),
        lam=twice(target.lam),
        perm=torch.arange(2 * n, device=z.device).roll(n),
        box=twice(target.box),
        mask=twice(target.mask),
        resize=twice(target.resize),
        weights=twice(target.weights),
    )
    return Pairs(blank(z), partners(r), blank(v), partners(u), pairs, maps, gate)


def loss_over_ranks(
    pairs: Pairs, weight: Tensor | None, learned: Tensor | None, options: Options, group: Any
) -> tuple[Tensor, Tensor]:
    """The loss of our own n samples, and its parts (3, n).

    A mean is a sum over the own samples, divided by the weight of all ranks' labels and multiplied by the number of
    ranks. So the mean of the ranks' losses and gradients is that of one process. With class weights or weighting
    "batch" the two terms are divided by different totals, and the first depends on all ranks' ratios, so each term is
    computed separately.
    """
    n, target = pairs.z.shape[0] // 2, pairs.target
    ignored = torch.full_like(target.y_a[n:], options.ignore_index)
    y_a, y_b = torch.cat([target.y_a[:n], ignored]), torch.cat([target.y_b[:n], ignored])
    mean = options.reduction == _MEAN
    summed = options._replace(weighting=_SAMPLE, reduction=_SUM if mean else options.reduction)

    def of_own(lam: Tensor, weight: Tensor | None, learned: Tensor | None, options: Options) -> tuple[Tensor, Tensor]:
        loss, parts = run(*pairs[:4], y_a, y_b, target.perm, lam, weight, learned, options)
        return (loss if loss.ndim == 0 else loss[:n]), parts[:, :n]

    kept = _Kept(y_a[:n], y_b[:n], options.ignore_index, group)
    if weight is None and options.weighting == _SAMPLE:
        loss, parts = of_own(target.lam, None, learned, summed)
        return (kept.mean(loss, _of_ratio(target.lam[:n])) if mean else loss), parts

    without = target.lam.new_zeros(pairs.z.shape[1])  # class weights that leave the regulariser alone
    regularizer, found = of_own(target.lam, without, learned, summed._replace(gamma=1.0, label_smoothing=0.0))
    used, three = _of_ratio(found[0]), learned is not None and learned.ndim == 2
    if three:
        used = learned[:n].to(used.dtype).where(kept.both.unsqueeze(1), used)
    if options.weighting != _SAMPLE:
        used = kept.mean_weights(used)
    # Where one of a sample's labels is ignored, `lam` is used in place of `learned`; it may not be NaN, as this may.
    ratio = used[:, 0].where(kept.a, 1 - used[:, 1])
    given = ratio.where(ratio >= 0, 0).repeat(2)
    as_learned = used.repeat(2, 1) if three else ratio.repeat(2)
    classification, parts = of_own(given, weight, as_learned, summed._replace(ratio=_AREA, gamma=0.0))
    if mean:
        classification = kept.mean(classification, used, weight)
        regularizer = kept.mean(regularizer, _of_ratio(target.lam[:n]))
    return classification + options.gamma * regularizer, torch.stack([found[0], parts[1], found[2]])


def _of_ratio(ratio: Tensor) -> Tensor:
    """The label weights (n, 3) of a mix ratio (n,)."""
    return torch.stack([ratio, 1 - ratio, torch.zeros_like(ratio)], dim=1)


class _Kept:
    """Which labels of our own samples count, and means over those of all ranks."""

    def __init__(self, y_a: Tensor, y_b: Tensor, ignore_index: int, group: Any) -> None:
        self.y_a, self.y_b, self.group = y_a, y_b, group
        self.a, self.b = y_a != ignore_index, y_b != ignore_index
        self.any, self.both = self.a | self.b, self.a & self.b

    def mean_weights(self, used: Tensor) -> Tensor:
        """The mean of label weights (n, 3) over all samples of all ranks that have a label, for each of ours."""
        own = used.where(self.any.unsqueeze(1), 0).sum(dim=0)
        *weights, count = total(torch.cat([own, self._count(own).view(1)]), self.group)
        return (torch.stack(weights) / count).expand_as(used)

    def mean(self, own: Tensor, used: Tensor, weight: Tensor | None = None) -> Tensor:
        """The sum over our own samples, by the mean over ranks of what their labels weigh.

        `used`: label weights (n, 3). Without class weights a sample with both labels counts 1, whatever they sum to.
        Where no rank has kept a label it is NaN with a gradient of 0, as in torch.nn.CrossEntropyLoss.
        """
        of_a, of_b = self.a, self.b
        if weight is not None:
            of_a, of_b = weight[self.y_a.where(self.a, 0)] * self.a, weight[self.y_b.where(self.b, 0)] * self.b
        weighs = used[:, 0] * of_a + used[:, 1] * of_b
        with_rest = 1 if weight is None else weighs + used[:, 2] * weight.mean()
        weighs = torch.where(self.both, with_rest, weighs).sum()
        weights, count = total(torch.stack([weighs, self._count(weighs)]), self.group)
        return own * (dist.get_world_size(self.group) / weights.where(count > 0, 1)) + 0 / count

    def _count(self, like: Tensor) -> Tensor:
        return self.any.sum().to(like.dtype)
