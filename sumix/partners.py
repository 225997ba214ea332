"""The loss of samples whose partners are on other ranks."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from sumix.ops import checks, dispatch
from sumix.ranks import gather, gather_with_gradient
from sumix.target import MixTarget


def beside_partners(
    z: Tensor, r: Tensor, v: Tensor | None, u: Tensor | None, target: MixTarget, maps: Tensor | None, group: Any
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, MixTarget, Tensor | None]:
    """Our own n samples and, as n more, their partners, gathered from all ranks; the target's `perm` leads there.

    The loss must then ignore the latter n (see `only`): they have raw outputs, but no mix.
    """
    perm = checks.indices(target.perm, "target.perm", z, "mixed")
    total = perm.shape[0] * dist.get_world_size(group)
    if dispatch.is_at_hand(perm) and ((perm < 0) | (perm >= total)).any():
        raise ValueError(f"target.perm must be from 0 to {total - 1}, counting through all ranks' samples")
    y_a = checks.indices(target.y_a, "target.y_a", z, "mixed")  # int64, which holds any ignore_index
    y_b = checks.indices(target.y_b, "target.y_b", z, "mixed")
    lam = checks.ratios(target.lam, "target.lam", z, "mixed", checks.floating(target.lam, "target.lam").dtype)

    def partners(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else torch.cat([rows, gather_with_gradient(rows, group).index_select(0, perm)])

    def twice(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else torch.cat([rows, rows])

    def blank(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else torch.cat([rows, torch.zeros_like(rows)])

    n = perm.shape[0]
    there = torch.arange(2 * n, device=perm.device).roll(n)  # where each sample's partner is
    pairs = MixTarget(
        y_a=torch.cat([y_a, y_b]),
        y_b=torch.cat([y_b, y_a]),
        lam=twice(lam),
        perm=there,
        box=twice(target.box),
        mask=twice(target.mask),
        resize=twice(target.resize),
        image_size=target.image_size,
    )
    if maps is not None:
        maps = torch.cat([maps, gather(maps, group).index_select(0, perm)]).detach()
    return blank(z), partners(r), blank(v), partners(u), pairs, maps


def only(n: int, target: MixTarget, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The labels of the first n samples; the others are ignored."""
    ignored = torch.full_like(target.y_a[n:], ignore_index)
    return torch.cat([target.y_a[:n], ignored]), torch.cat([target.y_b[:n], ignored])
