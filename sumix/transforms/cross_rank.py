"""Partners from all ranks of torch.distributed.

Every rank draws the recipe and the partners of all samples of all ranks from one seed, that of the first rank, so one
process with the whole batch and several with a part each make the same mixes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist

from sumix.evidence.evidence import Evidence
from sumix.ranks import agree, describe, gather, group_of
from sumix.ranks import check as check_cross_rank
from sumix.recipe import Recipe

if TYPE_CHECKING:
    from sumix.transforms.base import Mixer
    from sumix.transforms.inputs import Batch


def forward(mixer: Mixer, check: Callable[[], Batch]) -> tuple[Batch, Tensor, Any, list[Tensor]]:
    """The steps of `Mixer.forward` with partners from all ranks: the target's `perm` counts through them.

    `check` gives the batch, or fails.
    """
    group = group_of(check_cross_rank(mixer.cross_rank))

    def bring() -> tuple[str, Batch]:
        own = check()
        if own.images.requires_grad:
            raise ValueError("images must not require gradients with cross_rank: none flow between ranks")
        named = {extra.name: extra.plain for extra in own.extras}
        how = f"{type(mixer).__name__}(per_sample={mixer.per_sample}){'' if mixer.mixup_enabled else ' switched off'}"
        if own.evidence is not None:
            named |= {"evidence": own.evidence.map, "gate": own.evidence.gate}
        return f"{how}, {describe(images=own.images, labels=own.labels, **named)}", own

    batch = agree(bring, group)
    images, labels, seed, evidence = batch[:4]
    n, seed = images.shape[0], gather(seed.reshape(1), group)[0]  # the first rank's
    all_images, all_labels = gather(images, group), gather(labels, group)
    total, first = all_images.shape[0], dist.get_rank(group) * n
    mine = slice(first, first + n)

    everyone = mixer.draw_partners(all_labels, seed)
    if mixer.per_sample:
        seen = [gather(found, group).index_select(0, everyone) for found in mixer.look(images, evidence)]
    else:
        seen = mixer.look_at_one(all_images, _map(lambda part: gather(part, group), evidence), everyone)
    recipe = mixer.rows(seed, total, mixer.size(images), seen).rows(mine)
    perm = everyone[mine].contiguous()

    doubled, crossed = _doubled(recipe), torch.arange(2 * n, device=perm.device).roll(n)
    both = _map(lambda part: _beside(part, gather(part, group), perm), evidence)
    weights = mixer.label_weights(both, doubled, crossed, images)
    weights = None if weights is None else weights[:n]
    target = mixer.target(labels, all_labels.index_select(0, perm), perm, recipe, weights, images)
    mixed = mixer.apply_to_images(_beside(images, all_images, perm), doubled, crossed)[:n]
    others = []
    for extra in batch.extras:
        pair = extra._replace(plain=_beside(extra.plain, gather(extra.plain, group), perm))
        others.append(mixer.apply_to_extra(pair, doubled, crossed)[:n])
    return batch, mixed, target, others


def _map(fn: Callable[[Tensor], Tensor], evidence: Evidence | None) -> Evidence | None:
    if evidence is None:
        return None
    return Evidence(fn(evidence.map), None if evidence.gate is None else fn(evidence.gate))


def _beside(own: Tensor, everyone: Tensor, perm: Tensor) -> Tensor:
    """Our own rows, and after them their partners."""
    return torch.cat([own, everyone.index_select(0, perm)])


def _doubled(recipe: Recipe) -> Recipe:
    """A recipe for our own rows and their partners, of which only the first are used: for those it may be anything."""
    return Recipe(*(None if part is None else torch.cat([part, part]) for part in recipe))
