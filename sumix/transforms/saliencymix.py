"""SaliencyMix: the box is pasted from where its partner is most salient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from sumix.evidence.evidence import Evidence
from sumix.ops import checks
from sumix.ops.saliency import ORDERS, saliency_peak
from sumix.ops.sample import lam_of
from sumix.ops.sample_box import cut_box
from sumix.recipe import Recipe
from sumix.transforms.base import MixerOptions
from sumix.transforms.boxes import BoxMixer


class SaliencyMix(BoxMixer):
    r"""Replaces a box of each image by the same box of its partner, about the partner's most salient pixel.

    Boxes as in `CutMix`, but for their centre: the maximum of the partner's saliency map (`ops.saliency_peak`), the
    first one where several are equal. `lam` is what is left of the own image exactly.

    Parameters
    ----------
    alpha : float
        Of the Beta distribution, above 0. The paper's experiments with SUMix: 0.2.
    mean, std : float or sequence of float, optional
        What the images were normalised by, one value per channel: float images are brought back to 8 bits by it.
        Without them every float image is stretched from its own minimum and maximum. uint8 images are taken as they
        are.
    order : {"rgb", "bgr"}
        Of the channels.
    correct_lam : bool
        False leaves `lam` as it was drawn, whatever was clipped.
    INPLACE
    SHARED

    Notes
    -----
    `per_sample=False` uses one box for the batch, about the peak of the first sample's partner, as the authors do.
    Their code, however, hands float images to a detector that takes their bytes for pixels, so its peaks are random
    places: `python -m benchmarks.published_saliency` shows it. Here the detector sees the images.

    Images (N, C, H, W), C 1 or 3, uint8 or floating point.

    CALL

    References
    ----------
    Uddin et al., "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization", ICLR 2021.
    """

    DIMS = (4,)
    looks = 1

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        mean: float | Sequence[float] | Tensor | None = None,
        std: float | Sequence[float] | Tensor | None = None,
        order: str = "rgb",
        correct_lam: bool = True,
        inplace: bool = False,
        **shared: Unpack[MixerOptions],
    ) -> None:
        super().__init__(inplace=inplace, **shared)
        self.alpha, self.mean, self.std, self.order, self.correct_lam = alpha, mean, std, order, correct_lam

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        self.alpha = checks.positive(self.alpha, "alpha")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given both or neither")
        if self.mean is not None:
            self.keep("_mean_of_images", self.mean, "mean")
            self.keep("_std_of_images", self.std, "std")
        checks.choice(self.order, "order", ORDERS)
        checks.flag(self.correct_lam, "correct_lam")

    def check_images(self, images: Any) -> None:
        """Fail unless the saliency of `images` is defined."""
        super().check_images(images)
        if images.dtype not in (torch.uint8, *checks.FLOATS):
            raise TypeError(f"images must be uint8 or floating point, got {images.dtype}")
        if images.shape[1] not in (1, 3) or (images.shape[0] > 0 and 0 in images.shape[2:]):
            raise ValueError(f"images must be (N, 1, H, W) or (N, 3, H, W), with pixels, got {checks.shape(images)}")

    def look(self, images: Tensor, evidence: Evidence | None) -> list[Tensor]:
        """Each image's most salient pixel."""
        mean = std = None
        if self.mean is not None:
            mean, std = self.kept("_mean_of_images", images), self.kept("_std_of_images", images)
        return [saliency_peak(images, order=self.order, mean=mean, std=std)]

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """Boxes about the partners' peaks."""
        drawn = lam_of(seed, n, self.alpha, self.p)
        box, lam = cut_box(drawn, seen[0], size)
        return Recipe(lam if self.correct_lam else drawn, box)
