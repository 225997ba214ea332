"""FMix: a mask of random blobs says which pixels come from the partner."""

import torch
from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import checks
from sumix.ops.fmix import SPECTRA, fmix_mask
from sumix.ops.sample import lam_of
from sumix.recipe import Recipe
from sumix.transforms.base import Mixer, MixerOptions


class FMix(Mixer):
    r"""Shows each image's partner through a mask of random blobs, cut out of low-frequency noise.

    A complex Gaussian spectrum is scaled by :math:`1 / \max(f, 1 / \max(H, W))^{decay}` and transformed to a grey
    image; its lam H W largest pixels keep the own image, the others show the partner. lam is drawn from Beta(alpha,
    alpha); the `lam` returned is the mask's exact mean.

    Parameters
    ----------
    alpha : float
        Of the Beta distribution, above 0. The paper: 1; its experiments with SUMix: 0.2.
    decay : float
        The higher, the smoother and fewer the blobs, at least 0. The paper: 3.
    max_soft : float
        0 for hard edges; otherwise this share of the pixels, at most 0.5, on either side of the edge blends linearly.
    spectrum : {"paper", "published"}
        "published" is what the authors' code computes: it takes the complex numbers along the wrong axis, so that only
        two column frequencies are left and the masks are nearly columns.
    correct_lam : bool
        False leaves `lam` as it was drawn, as the authors' code does.
    SHARED

    Notes
    -----
    Images (N, C, H, W), (N, C, T, H, W) (the same mask in every frame), or signals (N, C, L), floating point, uint8 or
    a signed integer; hard masks take any dtype. Any device that torch.fft knows. One seed gives the same masks with one
    build of torch on one kind of processor: they pass through torch's FFT and power.

    CALL

    References
    ----------
    Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", arXiv 2002.12047, 2020.
    """

    DIMS = (3, 4, 5)

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        decay: float = 3.0,
        max_soft: float = 0.0,
        spectrum: str = "paper",
        correct_lam: bool = True,
        **shared: Unpack[MixerOptions],
    ) -> None:
        super().__init__(**shared)
        self.alpha, self.decay, self.max_soft = alpha, decay, max_soft
        self.spectrum, self.correct_lam = spectrum, correct_lam

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        self.alpha = checks.positive(self.alpha, "alpha")
        self.decay = checks.number(self.decay, "decay", 0)
        self.max_soft = checks.number(self.max_soft, "max_soft", 0, 0.5)
        checks.choice(self.spectrum, "spectrum", SPECTRA)
        checks.flag(self.correct_lam, "correct_lam")

    @property
    def blends(self) -> bool:
        """Whether the masks have soft edges."""
        return self.max_soft > 0

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """Masks of blobs."""
        drawn = lam_of(seed, n, self.alpha, self.p)
        mask, lam = fmix_mask(drawn, size, decay=self.decay, max_soft=self.max_soft, spectrum=self.spectrum, seed=seed)
        if not self.blends:
            mask = mask.to(torch.bool)  # which chooses, from images of any dtype
        return Recipe(lam if self.correct_lam else drawn, mask=mask)
