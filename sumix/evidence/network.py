"""Evidence from a network's own maps, by a pass of its own over the unmixed images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sumix import ranks
from sumix.evidence.attention import class_attention, find_attention, tokens_of
from sumix.evidence.evidence import Evidence
from sumix.features import choose, in_eval_mode, is_coarse, warn_of_coarse_maps, watch
from sumix.finer import eagerly
from sumix.head import lasting, unwrapped
from sumix.maps import map_in
from sumix.ops import checks, dispatch
from sumix.ops.foreground import check_gate, check_rounds, foreground
from sumix.reference import GATE, evidence_map, min_contrast_of

KINDS = ("foreground", "feature", "cam", "attention")


class NetworkEvidence(nn.Module):
    """Makes `Evidence` of images: what a classifier sees in them, by one more forward pass without gradient.

    `evidence(images)` leaves the model as it was, its running averages, training flags and gradients: it sees the
    images in eval mode. It may be the model that is being trained, its moving average (EMA), or any other classifier of
    the same images. It does not become a part of this module, whose only state is a mean feature; but a copy of this
    module, or a pickle, contains a copy of the model.

    Parameters
    ----------
    model : nn.Module
        A classifier, as `capture_features` takes it; wrapped by DistributedDataParallel, FSDP or torch.compile or not.
    kind : {"foreground", "feature", "cam", "attention"}
        "foreground": evidence by two means, with a gate, see `sumix.ops.foreground`. The others have no gate.
        "feature": what stands out in the last map, see `sumix.ops.masked_similarity`. "cam": the class activation of
        each image's own label, from a classifier that is linear in the mean of the map (SnapMix). "attention": that of
        the class token in the last block of a vision transformer (TransMix).
    layer, fine, grid : optional
        Where the maps are, if they are not found by themselves, as for `capture_features`.
    rounds : int
        How often "foreground" forms its two means, see `sumix.ops.foreground`.
    gate : (float, float) or None
        The separations at which the gate of "foreground" begins to open, and is open. None: no gate. Trained from
        scratch on composites, networks did better without one (`python -m benchmarks.study`); with it, images without
        an object keep labels by area.
    momentum : float
        Share of the newest batch in the running mean feature that the gate compares with, above 0 to 1. In eval mode
        (`evidence.eval()`) the mean stays.
    cross_rank : bool or torch.distributed.ProcessGroup
        Whether the mean is over the batches of all ranks. False: each rank keeps its own.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, the model has no map, or `labels` are missing for "cam".

    Notes
    -----
    Not within a graph of torch.compile: call it outside of the compiled step. What is compiled inside of the model runs
    as it was written during this pass.

    Examples
    --------
    >>> evidence, mix = NetworkEvidence(model), ForegroundMix()
    >>> mixed, target = mix(images, labels, evidence(images))
    """

    mean: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        kind: str = "foreground",
        *,
        layer: str | nn.Module | None = None,
        fine: str | nn.Module | bool | None = None,
        grid: Sequence[int] | None = None,
        rounds: int = 1,
        gate: tuple[float, float] | None = GATE,
        momentum: float = 0.1,
        cross_rank: Any = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
        checks.choice(kind, "kind", KINDS)
        self.rounds, self.gate = check_rounds(rounds), None if gate is None else check_gate(gate)
        self.momentum = checks.number(momentum, "momentum", 0, 1)
        checks.positive(momentum, "momentum")
        ranks.check(cross_rank)
        self.kind, self.cross_rank = kind, cross_rank
        model = unwrapped(model, ("_orig_mod",))
        if isinstance(model, (DistributedDataParallel, nn.DataParallel)):
            model = unwrapped(model.module, ("_orig_mod",))
        self._models = (model,)  # a tuple hides it: it is no part of this module
        self._layers = choose(model, layer, fine if kind == "foreground" else False, grid)
        self._attention = find_attention(model) if kind == "attention" else None
        self.register_buffer("mean", None)

    @property
    def model(self) -> nn.Module:
        """The classifier."""
        return self._models[0]

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor | None = None) -> Evidence:
        """Evidence of a batch of unmixed images, as the model takes them; `labels` (N,) for "cam", -1 for none."""
        checks.batch(images, "images")
        classes = self._classes(images, labels)
        features, fine, kept = self._maps(images)
        if is_coarse(features):
            warn_of_coarse_maps()
        if self.kind == "foreground":
            return self._foreground(features, features if fine is None else fine)
        if self.kind == "attention":
            sides = features.shape[2:]
            attended = kept["attended"]
            return Evidence(attended[:, attended.shape[1] - sides.numel() :].unflatten(1, sides))
        places, weight = features.flatten(2).float(), kept.get("weight")
        if weight is not None and weight.shape[1] != places.shape[1]:
            raise ValueError(
                f'kind="cam" needs a classifier that is linear in the mean of the map: it takes {weight.shape[1]} '
                f"features, and the map has {places.shape[1]}"
            )
        found = evidence_map(places, self.kind, weight, classes, min_contrast_of(features.dtype))
        return Evidence(found.unflatten(1, features.shape[2:]))

    def _foreground(self, features: Tensor, fine: Tensor) -> Evidence:
        if self.gate is None:
            return Evidence(foreground(features, fine, rounds=self.rounds).map)
        known = None if self.mean is None else self.mean.to(fine.device)
        found = foreground(features, fine, rounds=self.rounds, mean=known, gate=self.gate)
        if self.training or known is None:
            newest = found.means.mean(dim=0)
            if self.cross_rank is not False:
                group = ranks.group_of(self.cross_rank)
                newest = ranks.total(newest, group) / len(ranks.members(group))
            moved = newest if known is None else known.lerp(newest, self.momentum)
            self.mean = torch.where(moved.isfinite(), moved, 0 if known is None else known)
        return Evidence(found.map, found.gate)

    def _classes(self, images: Tensor, labels: Any) -> Tensor | None:
        if self.kind != "cam":
            return None
        if labels is None:
            raise ValueError('labels must be given for kind="cam": evidence(images, labels)')
        linear = self._layers.linear(self.model)
        if linear is None:
            raise ValueError(f'kind="cam" needs a linear classifier, and {type(self.model).__name__} has none')
        classes = checks.indices(labels, "labels", images, "images")
        if dispatch.is_at_hand(classes) and ((classes < -1) | (classes >= linear.out_features)).any():
            raise ValueError(f"labels must be from 0 to K - 1 = {linear.out_features - 1}, or -1 for none")
        return classes

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """The last map and the finer one of one pass in eval mode, and what else of it this kind needs."""
        model = self.model
        kept: dict[str, Any] = {}

        def keep(name: str, output: Any) -> None:
            kept[name] = map_in(output)

        hooks = watch(
            model,
            self._layers,
            lambda module, inputs, output: keep("coarse", output),
            lambda module, inputs, named: keep("coarse", (*inputs, *named.values())),
            lambda module, inputs, output: keep("fine", output),
        )
        if self.kind == "cam":

            def keep_weight(module: nn.Module, inputs: tuple) -> None:  # now, because FSDP frees it afterwards
                weight = lasting(module.weight)
                if weight is None:
                    raise ValueError(
                        'kind="cam" needs the classifier\'s weight, which FSDP has freed: wrap more than it'
                    )
                kept["weight"] = weight.float()

            hooks.append(self._layers.linear(model).register_forward_pre_hook(keep_weight))
        if self._attention is not None:
            attention = unwrapped(model.get_submodule(self._attention))

            def attend(module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
                kept["attended"] = class_attention(module, tokens_of(module, inputs, named))

            hooks.append(attention.register_forward_pre_hook(attend, with_kwargs=True))
        try:
            with in_eval_mode(model), eagerly():
                model(images)
        finally:
            for hook in hooks:
                hook.remove()
        features, fine = self._layers.maps(model, kept.get("coarse"), kept.get("fine"), (images,), images.shape[0])
        return features, fine, kept

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        """Make room for a mean that the file has and this module does not have yet."""
        saved = state_dict.get(f"{prefix}mean")
        if saved is not None and self.mean is None:
            self.mean = torch.empty_like(saved)
        super()._load_from_state_dict(state_dict, prefix, *more)

    def extra_repr(self) -> str:
        """The options, for repr()."""
        fine = "" if self._layers.fine is None else f", fine={self._layers.fine!r}"
        return f"{type(self.model).__name__}, kind={self.kind!r}, layer={self._layers.coarse!r}{fine}"
