"""The SUMix loss as a criterion."""

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from sumix import partners, ranks, reference, warn
from sumix.head import SUMixOutput
from sumix.ops import checks, dispatch
from sumix.ops.foreground import foreground
from sumix.ops.loss import Options, SUMixParts, resolve_options, run
from sumix.ops.masked_similarity import masked_similarity
from sumix.target import MixTarget, check_partners, check_ranks

VISIBLE = (*reference.EVIDENCES, "foreground")  # ratios from what a mix leaves visible
RATIOS = (*reference.RATIOS, *VISIBLE)

# In the order of resolve_options.
OPTIONS = ("gamma", "ratio", "weighting", "kappa", "distance_scale", "reduction", "label_smoothing", "ignore_index")
NUMBERS = ("gamma", "kappa", "distance_scale", "label_smoothing", "area_weight")
ATTRIBUTES = (*OPTIONS, "rule", "area_weight", "weight", "return_parts", "cross_rank")


class SUMixLoss(nn.Module):
    """Cross entropy whose mix ratio is learned per sample from what the network sees, plus an uncertainty regulariser.

    `criterion(mixed_output, raw_output, target)` takes the network's outputs for the mixed and for the raw images of
    one batch (both with gradient) and the `MixTarget` that a transform returned. Formula, gradients and numerical
    limits: `sumix.ops.sumix_loss`.

    Parameters
    ----------
    gamma : float
        Weight of the regulariser, at least 0. The paper: 0.5 (CIFAR-100, CUB, Aircraft, ImageNet), 1.0 (Tiny-ImageNet).
        The default leaves it out: with the published ratio its gradient is next to nothing beside the other term's, and
        in the plain form it can ruin a training (`python -m benchmarks.regulariser`, `benchmarks.plain_form`).
    ratio : {"semantic", "published", "area", "foreground", "feature", "cam", "object"}
        Where the mix ratio comes from. From the logits: "semantic", what the paper sets out to do; `ratio="published",
        weighting="batch"` is the authors' exact loss, whose ratio moves the other way. "area": no correction, or the
        target's own `weights`, where a mixer's or `target.relabel`'s rule has set them. From what the mix leaves
        visible (see below): "foreground", of the object that two of the raw images' feature maps tell from the rest,
        and by area where none stands out; "feature", of what stands out in the last feature map; "cam", of the class
        activation of each image's own label; "object", of the objects whose masks you pass.
    rule : {"relative", "visible", "absolute", "uncertain"}
        How the shares of both images that are visible weigh their labels: `sumix.ops.masked_similarity` has the
        formulas. "relative" is a ratio; "uncertain" says how little a mix shows. Not for ratios from the logits.
    area_weight : float
        How much of these weights follows the area, 0 to 1, of the ratios from what is visible. 1 for the first epochs,
        while the maps mean little, and less later is a schedule.
    weighting : {"sample", "batch"}
        Whether each sample's cross entropies get its own ratio, or the batch's mean ratio as in the authors' code.
    kappa : float
        Strength of "semantic", at least 0, independent of batch size and class count.
    distance_scale : float or None
        Strength of "published", at least 0; None for the batch size, as in the authors' code.
    reduction : {"mean", "sum", "none"}
        "none" gives one loss per sample, shape (N,).
    weight : Tensor, shape (K,), floating point, or None
        Class weights, in the classification term only, as in torch.nn.CrossEntropyLoss.
    label_smoothing : float
        In [0, 1], in the classification term only.
    ignore_index : int
        Labels of this value, -100 unless given, do not count.
    cross_rank : bool or torch.distributed.ProcessGroup
        For the targets of a transform with `cross_rank`, and for those alone: the partners' outputs are gathered from
        all ranks of the default group, or of this one, with gradient. The loss is that of the own rank's samples;
        averaged over ranks, as DistributedDataParallel does with gradients, it is what one process makes of the whole
        batch, whatever the options and wherever labels are ignored (reduction "sum": added up, "none": one rank's rows
        after the other's). Every rank must bring as many samples, and call it with the same options.
    return_parts : bool
        Return `(loss, SUMixParts(lam, classification, regularizer))`, each part of shape (N,) and without gradient.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not fit, when constructed or called.

    Notes
    -----
    In the plain form (logits in place of uncertainties, `SUMixHead(normalized=False)`) the regulariser asks for a small
    logit at the label, against the cross entropy, and a training can collapse to 0 % accuracy. In `python -m
    benchmarks.plain_form`, a small network on digits, these settings trained: gamma 0, gamma 0.1, the authors' setting,
    and "semantic" with kappa 1 and gamma at most 0.5. Other settings warn, once per process, with a `SUMixWarning` (not
    under torch.compile). At a high learning rate gamma 0.1 can fail too: in torchvision's reference script, at 0.1, it
    ended in NaN. A `SUMixHead` with its uncertainty branch has no such trouble.

    **Schedules.** Every option may be changed between steps, `criterion.gamma = 0.5 * epoch / epochs` for one; it is
    checked when it is next used, and a name that is no option is refused. torch.compile compiles once more for the
    second value of `gamma`, `kappa`, `distance_scale`, `label_smoothing` or `area_weight`, and not again for later
    ones. For other options, and with CUDA graphs (mode="reduce-overhead"), it compiles for each value.

    **Torch's transforms.** torch.func's grad, vjp, jacrev, vmap and functionalize, torch.export and torch.jit.trace
    work; a second derivative, forward mode (jvp, jacfwd), torch.jit.script, torch.fx.symbolic_trace, DTensors, sparse
    and quantized tensors are refused with an error that says so. The same holds of the mixers and of `sumix.ops`.

    The outputs come from `forward_pair`, which runs both batches as one, or from two calls of the model. The model must
    be in training mode for both, and gradient flows into both. In eval mode the head returns only logits, which are the
    plain form.

    **Ratios from what is visible.** "foreground", "feature", "cam" and "object" weight a label by the share of the
    evidence for it that the mix shows: if the pasted box hides the whole object, its label weighs nothing, however
    small the box; and a box that brings nothing but background brings no label. `sumix.ops.masked_similarity` has the
    formula, what it costs and how it was measured, `sumix.ops.foreground` how the evidence of "foreground" is found.
    They help with objects before a background, once the network has begun to tell these apart; on textures area is the
    truth, to which "foreground" alone goes back by itself. `criterion.ratio` may be changed at any time, from "area" to
    "foreground" after some epochs, say. alpha is 0 in the regulariser, which uses lam as always. They need

    - "foreground": the raw images' last feature map and a finer one, from `capture_features(model)`, or as `features=`
      and `fine=`; where there is no finer one, as in vision transformers, the last serves as both;
    - "feature": the raw images' feature map, from a `SUMixHead` that is given the map, from `capture_features(model)`,
      or as `features=`;
    - "cam": the same, and the classifier's weight, which `SUMixHead` and `capture_features` supply;
    - "object": `objects=`, masks (N, H', W') of the *unmixed* images in any resolution, bool or not negative.

    Examples
    --------
    >>> mix, criterion = CutMix(alpha=0.2), SUMixLoss()
    >>> mixed, target = mix(images, labels)
    >>> loss = criterion(*forward_pair(model, mixed, images), target)
    >>> loss, parts = SUMixLoss(return_parts=True)(*forward_pair(model, mixed, images), target)
    >>> parts.lam.mean(), parts.classification.mean(), parts.regularizer.mean()

    The ratio from the feature map of an existing model:

    >>> capture_features(model)
    >>> criterion = SUMixLoss(gamma=0.1, ratio="feature")
    >>> loss = criterion(*forward_pair(model, mixed, images), target)

    References
    ----------
    Qin et al., "SUMix: Mixup with Semantic and Uncertain Information", ECCV 2024, section 3.
    """

    weight: Tensor | None
    _options: Options | None
    __prepare_scriptable__ = dispatch.refuse_script

    def __init__(
        self,
        gamma: float = 0.0,
        *,
        ratio: str = "semantic",
        rule: str = "relative",
        area_weight: float = 0.0,
        weighting: str = "sample",
        kappa: float = 0.3,
        distance_scale: float | None = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        return_parts: bool = False,
        cross_rank: Any = False,
    ) -> None:
        super().__init__()
        if weight is not None and (checks.floating(weight, "weight").ndim != 1 or weight.numel() == 0):
            raise ValueError(f"weight must be (K,) with K > 0, got {checks.shape(weight)}")
        self.gamma, self.ratio, self.weighting, self.kappa = gamma, ratio, weighting, kappa
        self.distance_scale, self.reduction = distance_scale, reduction
        self.rule, self.area_weight = rule, area_weight
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        self.return_parts, self.cross_rank = return_parts, cross_rank
        self.register_buffer("weight", weight)
        self._options = self._resolve()  # refuses here what would fail in the first step

    def __setattr__(self, name: str, value: Any) -> None:
        """Options may be changed, in a schedule for gamma, say; they are checked again when they are next used."""
        if type(self) is SUMixLoss and not (name in ATTRIBUTES or name.startswith("_") or hasattr(self, name)):
            raise AttributeError(f"SUMixLoss has no option {name!r}; it has {', '.join(ATTRIBUTES)}")
        if name in ATTRIBUTES:
            super().__setattr__("_options", None)
            value = checks.as_float(value) if name in NUMBERS else value
        super().__setattr__(name, value)

    def _resolve(self) -> Options:
        checks.choice(self.ratio, "ratio", RATIOS)
        checks.choice(self.rule, "rule", reference.RULES)
        checks.number(self.area_weight, "area_weight", 0, 1)
        if self.ratio in ("semantic", "published") and (self.rule != "relative" or self.area_weight > 0):
            name = "area_weight" if self.rule == "relative" else "rule"
            needed = ", ".join(map(repr, VISIBLE))
            raise ValueError(
                f"{name}={getattr(self, name)!r} needs a ratio from what is visible, {needed}, got ratio={self.ratio!r}"
            )
        checks.flag(self.return_parts, "return_parts")
        ranks.check(self.cross_rank)
        options = {name: getattr(self, name) for name in OPTIONS}
        if self.ratio in VISIBLE:
            options["ratio"] = "area"
        return resolve_options(**options)

    def _resolved(self) -> Options:
        """What `_resolve` found when the options were last changed; in a graph, what they are whenever it runs."""
        if torch.compiler.is_compiling():
            return self._resolve()
        if self._options is None:
            self._options = self._resolve()
        return self._options

    def _warn_of_collapse(self) -> None:
        """Warn, once, if these options are not among those that trained in the plain form in benchmarks.plain_form."""
        if torch.compiler.is_compiling():
            return
        gamma, ratio, scale = self.gamma, self.ratio, self.distance_scale
        safe = gamma <= 0.1 or (ratio == "semantic" and self.kappa >= 1 and gamma <= 0.5)
        safe = safe or (ratio == "published" and (scale is None or scale >= 4))
        if safe:
            return
        warn.once(
            "plain form",
            f"sumix: SUMixLoss(gamma={gamma:g}, ratio={ratio!r}) of plain logits, without uncertainties, can collapse "
            "to 0 % accuracy. Use a SUMixHead, which brings the uncertainties, or gamma=0.1, or gamma=0.0 where the "
            "learning rate is high; the notes in SUMixLoss's documentation have other settings that train",
        )

    def forward(
        self,
        mixed: SUMixOutput | Tensor,
        raw: SUMixOutput | Tensor | MixTarget,
        target: MixTarget | None = None,
        *,
        features: Tensor | None = None,
        fine: Tensor | None = None,
        objects: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, SUMixParts]:
        """The loss of the outputs for the mixed and the raw images of one batch, mixed as `target` says.

        `criterion(both, target)` takes the output of 2 N images, as `PairedMix` makes them: the mixed ones first.
        `features` (N, D, h, w) stands in for the map of `raw`, `fine` (N, d, H, W) for its finer one; `objects` (N, H',
        W') are masks of the raw images. An argument that the ratio does not need is ignored.
        """
        if target is None:
            mixed, raw, target = _halves(mixed, raw)
        given = {"features": features, "fine": fine, "objects": objects}
        if ranks.check(self.cross_rank) is not False:
            loss, parts = self._across_ranks(mixed, raw, target, given)
        else:
            z, r, v, u, maps = self._take(mixed, raw, target, given)
            check_partners(target, "SUMixLoss without cross_rank")
            learned = self._learn(raw, r, target, *self._evidence(maps))
            labels = (target.y_a, target.y_b, target.perm, target.lam)
            loss, parts = run(z, r, v, u, *labels, self.weight, learned, self._resolved())
        if _unpack(raw, "raw")[1] is None:
            self._warn_of_collapse()
        return (loss, SUMixParts(*parts.unbind(0))) if self.return_parts else loss

    def _take(
        self, mixed: Any, raw: Any, target: Any, given: dict[str, Tensor | None]
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, dict[str, Tensor]]:
        """z, r, v, u, and what the ratio reads of the raw images, by name."""
        z, v = _unpack(mixed, "mixed")
        r, u = _unpack(raw, "raw")
        if u is None and v is not None and dispatch.is_surely(self._resolved().gamma, 0):
            v = None  # which the regulariser alone reads, and a head in eval mode does not give
        if (v is None) != (u is None):
            raise TypeError(
                "mixed and raw must both carry an uncertainty, or neither; are both from a model in training mode?"
            )
        if not isinstance(target, MixTarget):
            raise TypeError(
                f"target must be the MixTarget of a transform without num_classes, got {type(target).__name__}"
            )
        for name in ("y_a", "y_b"):
            if isinstance(labels := getattr(target, name), Tensor) and labels.ndim == 2:
                raise ValueError(
                    f"target.{name} must be (N,), one class a sample, got soft labels {checks.shape(labels)}, which "
                    "SUMixLoss cannot look up; for CrossEntropyLoss there is target.soft(num_classes)"
                )
        return z, r, v, u, self._maps(raw, **given) if self.ratio in VISIBLE else {}

    def _across_ranks(
        self, mixed: Any, raw: Any, target: Any, given: dict[str, Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """The loss of this rank's samples and its parts, with partners from all ranks."""
        known = isinstance(target, MixTarget)  # what is wrong with options is found before any rank waits for others
        if known:
            check_partners(target, "SUMixLoss(cross_rank=...)", "ranks")
        group = ranks.group_of(self.cross_rank)
        if known:
            check_ranks(target, ranks.members(group))

        def bring() -> tuple[str, tuple[Any, ...]]:
            options = self._resolved()
            *rows, maps = self._take(mixed, raw, target, given)
            own = partners.checked(*rows, target, dist.get_world_size(group), options)
            for name, part in maps.items():
                partners.check_maps(part, name, rows[0])
            return self._describe(rows, maps), (rows, own, maps, options)

        rows, own, maps, options = ranks.agree(bring, group)
        if self.ratio == "published" and self.distance_scale is None:
            options = options._replace(distance_scale=float(rows[0].shape[0] * dist.get_world_size(group)))
        evidence = self._evidence(maps, partners.mean_of(maps["fine"], group) if "fine" in maps else None)
        pairs = partners.beside_partners(*rows, own, *evidence, group)
        learned = self._learn(raw, pairs.r, pairs.target, pairs.maps, pairs.gate)
        return partners.loss_over_ranks(pairs, self.weight, learned, options, group)

    def _describe(self, rows: list[Tensor | None], maps: dict[str, Tensor]) -> str:
        """What must be the same on all ranks, for the same tensors to be gathered forward and backward."""
        z, r, v, u = rows
        how = f"ratio={self.ratio!r}, rule={self.rule!r}, weighting={self.weighting!r}, reduction={self.reduction!r}"
        how += "" if self.weight is None else ", with class weights"
        tensors = ranks.describe(mixed=z, raw=r, uncertainty=v, raw_uncertainty=u, **maps)
        flows = {"raw": r, "raw_uncertainty": u} if torch.is_grad_enabled() else {}
        wanted = [name for name, x in flows.items() if x is not None and x.requires_grad]
        return f"SUMixLoss({how}), {tensors}, gradient of {' and '.join(wanted) or 'none'}"

    def _maps(
        self, raw: SUMixOutput | Tensor, features: Tensor | None, fine: Tensor | None, objects: Tensor | None
    ) -> dict[str, Tensor]:
        """What the ratio reads of the raw images, object masks or feature maps, by the names of the arguments."""
        if self.ratio == "object":
            if objects is None:
                raise ValueError(
                    'objects must be given for ratio="object": masks (N, H, W) of the unmixed images, '
                    "criterion(mixed, raw, target, objects=masks)"
                )
            return {"objects": objects}
        maps = features if features is not None or not isinstance(raw, SUMixOutput) else raw.features
        if maps is None:
            raise ValueError(
                f'ratio="{self.ratio}" needs the raw images\' last feature map, and the raw outputs carry none: call '
                "capture_features(model) once, give SUMixHead the map (N, D, h, w) in place of pooled features, or "
                "pass features=; in eval mode a model returns logits alone, so it must be in training mode"
            )
        if self.ratio != "foreground":
            return {"features": maps}
        if fine is None and features is None:  # the finer map of another network would not fit
            fine = raw.fine
        return {"features": maps, "fine": maps if fine is None else fine}

    def _evidence(self, maps: dict[str, Tensor], mean: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Maps of the evidence, or to find it in, and how far each is trusted.

        `mean`: of the finer maps, for evidence by two means; None: the mean over this batch.
        """
        if self.ratio != "foreground":
            return next(iter(maps.values()), None), None
        found = foreground(maps["features"], maps["fine"], mean=mean)
        return found.map, found.gate

    def _learn(
        self,
        raw: SUMixOutput | Tensor,
        logits: Tensor,
        target: MixTarget,
        maps: Tensor | None,
        gate: Tensor | None,
    ) -> Tensor | None:
        """lam~ (N,) or label weights (N, 3), from what is visible of each image's evidence, or the target's own."""
        if maps is None:
            return self._own_weights(target)
        classes = {}
        if self.ratio == "cam":
            weight = raw.class_weight if isinstance(raw, SUMixOutput) else None
            if weight is None:
                raise ValueError(
                    'ratio="cam" needs the weight of a linear classifier that sees the mean of the map: use SUMixHead '
                    "or capture_features(model), or return SUMixOutput(logits, class_weight=...) for the raw images"
                )
            if isinstance(target.y_a, Tensor):
                own = target.y_a.to(torch.int64) if target.y_a.dtype in checks.INTEGERS else target.y_a
                classes["labels"] = own.where(own != self.ignore_index, -1)
            classes["class_weight"] = weight[: logits.shape[1]]  # DataParallel stacks one copy a replica
        where = {"box": target.box, "mask": target.mask, "resize": target.resize, "size": target.image_size}
        where |= {"gate": gate, "rule": self.rule, "area_weight": self.area_weight}
        if self.ratio == "foreground":
            try:
                shares = masked_similarity(maps, target.perm, target.lam, evidence="object", **where)
            except ValueError as error:  # of the features in which these objects were found
                raise ValueError(str(error).replace("objects", "features")) from None
        else:
            shares = masked_similarity(maps, target.perm, target.lam, evidence=self.ratio, **where, **classes)
        return shares.lam if self.rule in ("relative", "absolute") else shares.weights

    def _own_weights(self, target: MixTarget) -> Tensor | None:
        """The weights that the target's rule has set, which only "area" goes by."""
        if target.weights is None:
            return None
        if self.ratio == "area":
            return target.checked_weights()
        if self.ratio in reference.RATIOS and not torch.compiler.is_compiling():
            warn.once(
                "weights by a rule",
                f"sumix: SUMixLoss(ratio={self.ratio!r}) ignores the label weights that a mixer's rule or relabel "
                'has set; ratio="area" goes by them',
            )
        return None

    def extra_repr(self) -> str:
        """The options, for repr()."""
        strength = {"semantic": f", kappa={self.kappa}", "published": f", distance_scale={self.distance_scale}"}
        strength |= dict.fromkeys(VISIBLE, f", rule={self.rule!r}, area_weight={self.area_weight}")
        return (
            f"gamma={self.gamma}, ratio={self.ratio!r}{strength.get(self.ratio, '')}, weighting={self.weighting!r}, "
            f"reduction={self.reduction!r}, label_smoothing={self.label_smoothing}, ignore_index={self.ignore_index}, "
            f"return_parts={self.return_parts}"
        )


def _halves(both: Any, target: Any) -> tuple[Any, Any, MixTarget]:
    """The outputs for the mixed and for the raw images, of one output for both."""
    if not isinstance(target, MixTarget):
        raise TypeError(
            "target must be given: criterion(mixed, raw, target), or criterion(both, target) with the MixTarget of a "
            f"transform without num_classes, got {checks.kind_of(target)}"
        )
    logits, _ = _unpack(both, "both")
    n = len(target)
    if logits.ndim == 0 or logits.shape[0] != 2 * n:
        raise ValueError(
            f"both must have a row for each of the {2 * n} images of {n} mixed and {n} raw ones, got "
            f"{checks.shape(logits)}; with two outputs, call criterion(mixed, raw, target)"
        )
    return both[:n], both[n:], target


def _unpack(output: Any, name: str) -> tuple[Tensor, Tensor | None]:
    if isinstance(output, SUMixOutput):
        return output.logits, output.uncertainty
    if isinstance(output, Tensor):
        return output, None
    kind = checks.kind_of(output)
    advice = ""
    if hasattr(output, "logits"):
        advice = "; pass its logits, or call capture_features(model), which in training mode makes a SUMixOutput of it"
    raise TypeError(f"{name} must be a SUMixOutput or a Tensor of logits, got {kind}{advice}")
