"""What a mix did to the labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sumix import tv_tensors
from sumix.evidence.evidence import Evidence, as_evidence
from sumix.evidence.rules import label_weights
from sumix.ops import checks, dispatch
from sumix.ops.mix import soft_labels
from sumix.recipe import Recipe, check_label_map, mix_labels, mix_pixels
from sumix.rows import Rows


@dataclass(eq=False)
class MixTarget(Rows):
    """Labels of a mixed batch: sample i shows its own image with weight `lam[i]` and that of `perm[i]` with the rest.

    It holds everything that the mix was made of, so that `mix` can repeat it. It is a dataclass, not a tuple: `len`,
    slices, `chunk` and `split` count samples. DataLoaders pin it, trainers move it (`to`), torch's pytrees know its
    tensors, and torch.load(weights_only=True) reads it.

    Attributes
    ----------
    y_a : Tensor, shape (N,), int64
        Class of each sample's own image; (N, K) float32 if the labels were soft or multi-hot; (N,) float32 or float64
        if they were numbers to be predicted.
    y_b : Tensor, like y_a
        Label of its partner, `y_a[perm]`.
    lam : Tensor, shape (N,), float32
        Weight of the sample's own image, 0 to 1.
    perm : Tensor, shape (N,), int64
        Each sample's partner, one of the rows that `perm_in` names.
    box : Tensor or None, shape (N, 4), int64
        What was pasted, x1, y1, x2, y2 in pixels, ends exclusive; x1, x2 (N, 2) for signals, x1, y1, z1, x2, y2, z2 (N,
        6) for volumes; empty if nothing was.
    mask : Tensor or None, shape (N, H, W), float32 or bool
        Weight of the own image in each pixel, (N, L) for signals; with sides of 1, (N, 1, 1) say, where it is the same
        in all. With both box and mask, every sample has either an empty box or a mask of ones.
    resize : Tensor or None, shape (N,), int64
        What the box shows: 0 the same box of the partner, as without it; else the whole partner, resized by "nearest"
        (1), "nearest-exact" (2) or "bilinear" (3).
    image_size : tuple of int, or None
        (H, W) of the images, (D, H, W) of volumes or (L,) of signals: what box and mask refer to.
    perm_in : {"batch", "ranks", "cut"}
        What `perm` counts: the rows of this batch; those of all ranks, one rank after the other, where the mixer had
        `cross_rank`; or those of a batch from which these samples were cut out (`target[:8]`). Only with "batch" are
        the partners at hand, for `mix` and for a SUMixLoss without `cross_rank`.
    weights : Tensor or None, shape (N, 3), float32
        Where a rule set the labels' weights by evidence: that of the own label, of the partner's, and the rest, which
        is spread evenly over all classes. None: lam, 1 - lam and 0.
    ranks : tuple of int, or None
        With "ranks": the global numbers of the mixer's ranks, in the order in which `perm` counts through them.

    Notes
    -----
    Without box and mask the images were blended with the weights lam.
    """

    STATIC = ("image_size", "perm_in", "ranks")
    ADVICE = (
        "for accuracy there is sumix.mix_accuracy(output, target), for other losses target.soft(num_classes); "
        "target.y_a are the own labels"
    )

    y_a: Tensor
    y_b: Tensor
    lam: Tensor
    perm: Tensor
    box: Tensor | None = None
    mask: Tensor | None = None
    resize: Tensor | None = None
    image_size: tuple[int, ...] | None = None
    perm_in: str = "batch"
    ranks: tuple[int, ...] | None = None
    weights: Tensor | None = None

    def __getitem__(self, rows: Any) -> MixTarget:
        """Some of the samples; their partners may not be among them, so `perm_in` becomes "cut"."""
        return replace(super().__getitem__(rows), perm_in="cut")

    def soft(self, num_classes: int, label_smoothing: float = 0.0, *, multi_label: bool = False) -> Tensor:
        """Targets for torch.nn.CrossEntropyLoss: each class's share; with `multi_label`, for BCEWithLogitsLoss.

        Parameters
        ----------
        num_classes : int
            K, above every label; the labels' own K where they are soft.
        label_smoothing : float
            Share that is spread evenly over all classes, 0 to 1, as CrossEntropyLoss does. With `multi_label`, how far
            each label is moved towards 1/2, as timm does: 0.1 makes 0.05 and 0.95 of 0 and 1.
        multi_label : bool
            Whether each class is a label of its own, yes or no; the target's labels must then be (N, K), multi-hot.

        Returns
        -------
        Tensor, shape (N, K), float32
            lam y_a + (1 - lam) y_b, or with `weights` w_a y_a + w_b y_b, and the rest spread evenly over all classes;
            with `multi_label` the rest moves each label towards 1/2. The rows sum to 1 if those of the labels do, but
            not with the rule "visible", nor with `multi_label` where there is smoothing or a rest.

        Raises
        ------
        TypeError
            If an argument has the wrong type.
        ValueError
            If an argument is out of its range; on CPU, outside of torch.compile, also if a label is not within 0 to
            K - 1, or lam not within 0 to 1.
        """
        checks.count(num_classes, "num_classes")
        smoothing = checks.number(label_smoothing, "label_smoothing", 0, 1)
        checks.batch(self.lam, "lam")
        if isinstance(self.y_a, Tensor) and self.y_a.ndim == 2:
            for name, labels in (("y_a", self.y_a), ("y_b", self.y_b)):
                if checks.floating(labels, name).shape != (self.lam.shape[0], num_classes):
                    expected = f"(N, num_classes) = ({self.lam.shape[0]}, {num_classes})"
                    raise ValueError(f"{name} must be {expected}, got {checks.shape(labels)}")
            levels = 2 if checks.flag(multi_label, "multi_label") else num_classes
            if self.weights is None:
                return _smoothed(self.blend(), smoothing, levels)
            own, partner, rest = self._weights()
            soft = torch.where(own == 0, 0, own * self.y_a) + torch.where(partner == 0, 0, partner * self.y_b)
            return _smoothed(soft + rest / levels, smoothing, levels)
        if checks.flag(multi_label, "multi_label"):
            got = checks.shape(checks.tensor(self.y_a, "y_a"))
            raise ValueError(f"y_a must be (N, num_classes), multi-hot or soft, with multi_label, got {got}")
        if isinstance(self.y_a, Tensor) and self.y_a.is_floating_point():
            raise TypeError(f"y_a must be classes, got numbers, {self.y_a.dtype}, which target.blend() mixes")
        y_a = checks.indices(self.y_a, "y_a", self.lam, "lam")
        y_b = checks.indices(self.y_b, "y_b", self.lam, "lam")
        lam = checks.ratios(self.lam, "lam", y_a, "y_a", torch.float32)
        if self.weights is None:
            return soft_labels(y_a, y_b, lam, num_classes, smoothing)
        own, partner, rest = self._weights()
        total = own + partner
        shares = torch.where(total > 0, own / total, 1).squeeze(1)
        soft = soft_labels(y_a, y_b, shares, num_classes, 0.0) * total + rest / num_classes
        return _smoothed(soft, smoothing, num_classes)

    def checked_weights(self) -> Tensor:
        """`weights` without gradient; fail unless they are what they must be. NaN comes of maps that are not finite."""
        n = self.lam.shape[0]
        if checks.floating(self.weights, "weights").shape != (n, 3):
            raise ValueError(f"weights must be (N, 3) = ({n}, 3), got {checks.shape(self.weights)}")
        checks.same_device(self.weights, "weights", self.lam, "lam")
        if dispatch.is_at_hand(self.weights) and ((self.weights < 0) | (self.weights > 1)).any():
            raise ValueError(f"weights must be from 0 to 1, got {self.weights.min():g} to {self.weights.max():g}")
        return self.weights.detach()

    def _weights(self) -> tuple[Tensor, ...]:
        """Those of `weights`, each (N, 1), float32."""
        return self.checked_weights().to(torch.float32).split(1, dim=1)

    @property
    def label_lam(self) -> Tensor:
        """(N,) the own label's weight relative to both labels': `lam`, unless `weights` say otherwise."""
        if self.weights is None:
            return self.lam
        own, partner, _ = self._weights()
        total = own + partner
        return torch.where(total == 0, self.lam.unsqueeze(1), own / total).squeeze(1)

    def relabel(
        self, evidence: Evidence | Tensor, rule: str = "relative", *, area_weight: float = 0.0, of: str = "images"
    ) -> MixTarget:
        r"""The same mix, its labels weighted by what it shows of each image's evidence.

        With M the share of each cell of the map that the mix keeps of the own image, A its mean, w the gates, and s, s'
        the maps of the own image and of its partner,

        .. math::
            S_a = w \frac{\sum M s}{\sum s} + (1 - w) A, \quad
            S_b = w' \frac{\sum (1 - M) s'}{\sum s'} + (1 - w') (1 - A)

        are the visible shares, of which a rule makes the weights of the own label and of the partner's:

        - "relative": S_a and S_b over their sum;
        - "visible": S_a and S_b themselves, whose sum is 0 to 2 (SnapMix);
        - "absolute": m S_a and m' S_b over their sum, with m the sum of a map, for object masks, which have one scale
          (OA-CutMix);
        - "uncertain": S_a and S_b over max(1, S_a + S_b), and what is missing to 1 spread evenly over all classes.

        Parameters
        ----------
        evidence : Evidence, or Tensor, shape (N, h, w)
            Of the unmixed images, or masks of their objects.
        rule : {"relative", "visible", "absolute", "uncertain"}
        area_weight : float
            Share of the weights that stays by area, 0 to 1.
        of : {"images", "mixed"}
            Whose evidence it is: that of the unmixed images, or of the mixed ones, whose map then stands for s and s'
            both, as in TransMix.

        Returns
        -------
        MixTarget
            With `weights`, which `soft` and `SUMixLoss(ratio="area")` go by.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or with `of="images"` the partners are not in this batch (`perm_in`).

        References
        ----------
        "visible": Huang et al., "SnapMix", arXiv 2012.04846. "absolute": OA-CutMix, arXiv 2606.04820.
        `of="mixed"`: Chen et al., "TransMix", arXiv 2111.09833.
        """
        itself = checks.choice(of, "of", ("images", "mixed")) == 1
        if not itself:
            check_partners(self, "MixTarget.relabel")
        checks.batch(self.lam, "lam")
        given = as_evidence(evidence).checked(self.lam)
        recipe = Recipe(self.lam, self.box, self.mask, self.resize)
        perm = torch.arange(len(self), device=self.lam.device) if itself else self.perm
        weights = label_weights(given, recipe, perm, self.image_size, rule=rule, area_weight=area_weight)
        return replace(self, weights=weights)

    def blend(self) -> Tensor:
        """Numbers to be predicted, mixed as the images were: targets for torch.nn.MSELoss and its kin.

        Returns
        -------
        Tensor, of the shape and dtype of `y_a`, (N,) or (N, K)
            lam y_a + (1 - lam) y_b, with `label_lam` for lam. A label of weight 0 adds nothing, not even NaN.

        Raises
        ------
        TypeError
            If the labels are classes.
        ValueError
            If shapes or devices do not fit together.
        """
        for name, labels in (("y_a", self.y_a), ("y_b", self.y_b)):
            if isinstance(labels, Tensor) and not labels.is_floating_point():
                raise TypeError(
                    f"{name} must be floating point, got {labels.dtype}: target.soft(num_classes) mixes classes"
                )
        y_a = checks.floating(self.y_a, "y_a")
        y_b = checks.like(self.y_b, "y_b", y_a, "y_a")
        lam = checks.ratios(self.label_lam, "lam", y_a, "y_a", y_a.dtype).view(-1, *[1] * (y_a.ndim - 1))
        return torch.where(lam == 1, y_a, torch.where(lam == 0, y_b, lam * y_a + (1 - lam) * y_b))

    def mix(self, x: Tensor, *, ignore_index: int | None = None) -> Tensor:
        """Mix other tensors of the same batch as the images were: their segmentation masks, depth maps, a second view.

        Parameters
        ----------
        x : Tensor, shape (N, ..., H, W), any dtype
            With the images' N and spatial size; (N, ..., L) for signals. A target of MixUp takes any shape (N, ...),
            as of hidden features of the same batch (manifold mixup). The caller must know whether a mean makes sense
            there, which it does not for the corners of boxes. torchvision's images, videos and masks keep their types.
        ignore_index : int, optional
            If given, `x` holds integer labels, not pixels, and none is averaged. Resized boxes take the nearest, and
            where two images show through at once, a label stays if both agree and becomes `ignore_index` if not. If
            None, integers are blended as pixels are, rounded to nearest.

        Returns
        -------
        Tensor, of the shape and dtype of `x`

        Raises
        ------
        TypeError
            If `x` is not a dense tensor of a dtype that the mix can take, or not of integers with `ignore_index`.
        ValueError
            If its shape or device does not fit, or `ignore_index` its dtype, or the partners are not in this batch
            (`perm_in`).
        """
        kind = tv_tensors.kind_of(x, "x")
        if kind:
            if kind == "Mask" and ignore_index is None and not x.is_floating_point():
                ignore_index = self._without_meeting(x)
            return tv_tensors.wrap(self.mix(tv_tensors.plain(x), ignore_index=ignore_index), x)
        checks.batch(x, "x")
        check_partners(self, "MixTarget.mix")
        if self.image_size is not None and (self.box is not None or self.mask is not None):
            fits = x.ndim > len(self.image_size) and tuple(x.shape[-len(self.image_size) :]) == tuple(self.image_size)
            if not fits:
                size = ", ".join(map(str, self.image_size))
                raise ValueError(f"x must be (N, ..., {size}) as the images were, got {checks.shape(x)}")
        checks.ratios(self.lam, "lam", x, "x", torch.float32)
        recipe = Recipe(self.lam, self.box, self.mask, self.resize)
        if ignore_index is None:
            return mix_pixels(x, recipe, self.perm)
        check_label_map(x, "x", ignore_index)
        return mix_labels(x, recipe, self.perm, ignore_index)

    def _without_meeting(self, mask: Tensor) -> int:
        """An ignore_index for a mix in which no two labels of a mask meet; fail if they may."""
        if Recipe(self.lam, self.box, self.mask, self.resize).blends:
            raise ValueError(f"ignore_index must be given to mix x, a Mask of {mask.dtype}: where labels meet")
        return 0

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> MixTarget:
        """The same target on another device."""
        return self._map(lambda part: part.to(device=device, non_blocking=non_blocking))  # never to a dtype

    def cuda(self, device: torch.device | str | int | None = None, non_blocking: bool = False) -> MixTarget:
        """The same target on a GPU."""
        return self._map(lambda part: part.cuda(device, non_blocking=non_blocking))


def _smoothed(soft: Tensor, smoothing: float, levels: int) -> Tensor:
    if dispatch.is_surely(smoothing, 0):
        return soft
    smoothing = dispatch.operand(smoothing)
    return soft * (1 - smoothing) + smoothing / levels


def check_partners(target: MixTarget, what: str, perm_in: str = "batch") -> None:
    """Fail unless the partners are where `what` looks for them: among the rows of this batch, or of all ranks."""
    if target.perm_in == perm_in:
        return
    where = {
        "batch": "rows of its own batch, as its mixer had no cross_rank",
        "ranks": "counted through the batches of all ranks, as its mixer had cross_rank",
        "cut": "rows of a larger batch, out of which it was cut; mix each part of a batch by itself instead",
    }
    if target.perm_in not in where:
        raise ValueError(f"target.perm_in must be one of {', '.join(map(repr, where))}, got {target.perm_in!r}")
    needed = {"batch": "rows of the same batch", "ranks": "counted through all ranks"}[perm_in]
    raise ValueError(f"target's partners are {where[target.perm_in]}; {what} needs partners that are {needed}")


def check_ranks(target: MixTarget, ranks: tuple[int, ...]) -> None:
    """Fail unless the partners are counted through these ranks, or nobody knows through which."""
    if target.ranks not in (None, ranks):
        raise ValueError(
            f"target's partners are counted through ranks {_list(target.ranks)}, as its mixer's cross_rank says, and "
            f"SUMixLoss's cross_rank says {_list(ranks)}: give both the same group"
        )


def _list(ranks: tuple[int, ...]) -> str:
    return ", ".join(map(str, ranks))
