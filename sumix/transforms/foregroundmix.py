"""ForegroundMix: what the evidence calls the partner's object is pasted, in its own place."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from sumix.evidence.evidence import Evidence
from sumix.ops import checks
from sumix.ops.evidence_mask import evidence_mask
from sumix.ops.sample import sample_uniform
from sumix.recipe import Recipe
from sumix.transforms.base import Mixer, MixerOptions


class ForegroundMix(Mixer):
    r"""Pastes the partner's object, where its evidence says that it is, and labels by the evidence that stays visible.

    With s the partner's map of evidence, and u the same enlarged bilinearly to the image's size, the mix shows the
    partner where :math:`u > threshold \cdot \max s` and the own image elsewhere. The object keeps its place and size.
    `lam` is the share of the pixels that the own image keeps; the labels' weights are what `rule` makes of the
    evidence that stays visible.

    Where no object stands out in the partner (`evidence.gate` below `min_gate`) nothing is pasted. With evidence from
    the network that is being trained, this is most of a warm-up: a fresh network's gates are mostly shut.

    Parameters
    ----------
    p : float
        Probability to mix, 0 to 1: of each sample, or of the batch if `per_sample` is false.
    threshold : float
        Share of the map's maximum above which the partner shows, 0 to 1.
    soft : float
        Width of a soft edge, as a share of the maximum too, at most 2 min(threshold, 1 - threshold); 0: a hard edge.
    min_gate : float
        The partner's gate from which on its object is pasted, 0 to 1. Without gates all are.
    rule : {"relative", "visible", "absolute", "uncertain"}, optional
        How labels follow from what is visible of both images' evidence, see `MixTarget.relabel`. None: by area.
    SHARED

    Notes
    -----
    Images (N, C, H, W), (N, C, T, H, W) (the same mask in every frame), or signals (N, C, L), any dtype with a hard
    edge. The method and its measurements are this project's own: `python -m benchmarks.study` has them.

    CALL

    Examples
    --------
    >>> evidence, mix = NetworkEvidence(model), ForegroundMix()
    >>> mixed, target = mix(images, labels, evidence(images))
    >>> loss = cross_entropy(model(mixed), target.soft(num_classes, label_smoothing=0.1))
    """

    DIMS = (3, 4, 5)
    looks = 2
    takes_evidence = True

    def __init__(
        self,
        *,
        p: float = 0.5,
        threshold: float = 0.25,
        soft: float = 0.0,
        min_gate: float = 0.5,
        rule: str | None = "relative",
        **shared: Unpack[MixerOptions],
    ) -> None:
        super().__init__(p=p, rule=rule, **shared)
        self.threshold, self.soft, self.min_gate = threshold, soft, min_gate

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        self.threshold = checks.number(self.threshold, "threshold", 0, 1)
        self.soft = checks.number(self.soft, "soft", 0, 2 * min(self.threshold, 1 - self.threshold))
        self.min_gate = checks.number(self.min_gate, "min_gate", 0, 1)

    @property
    def blends(self) -> bool:
        """Whether the masks have soft edges."""
        return self.soft > 0

    def look(self, images: Tensor, evidence: Evidence | None) -> list[Tensor]:
        """Each image's map, and whether it has an object to paste."""
        if evidence.gate is None:
            found = torch.ones(images.shape[0], dtype=torch.bool, device=images.device)
        else:
            found = evidence.gate >= self.min_gate
        return [evidence.map, found]

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """Masks of the partners' objects."""
        maps, found = seen
        paste = found & (sample_uniform(n, 1, seed=seed).squeeze(1) < self.p)
        mask, lam = evidence_mask(maps, size, threshold=self.threshold, soft=self.soft, paste=paste)
        return Recipe(lam, mask=mask)

    def check_images(self, images: Any) -> None:
        """Fail unless `images` can be mixed."""
        super().check_images(images)
        if 0 in images.shape[2:]:
            raise ValueError(f"images must have pixels, got {checks.shape(images)}")
