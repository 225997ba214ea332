"""CutMix: a box of each image is filled from its partner."""

from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import checks
from sumix.ops.sample import lam_of
from sumix.ops.sample_box import box_of
from sumix.recipe import Recipe
from sumix.transforms.base import MixerOptions
from sumix.transforms.boxes import BoxMixer


class CutMix(BoxMixer):
    r"""Replaces a random box of each image by the same box of another image of the batch.

    The partner's share is drawn from Beta(alpha, alpha); the box has sides
    :math:`\lfloor H \sqrt{share} \rfloor, \lfloor W \sqrt{share} \rfloor` about a centre uniform over the pixels, half
    sides are rounded down, and the box is clipped to the image. `lam` is then what is left of the own image exactly:
    :math:`1 - \mathrm{area} / (H W)`.

    Parameters
    ----------
    alpha : float
        Of the Beta distribution, above 0. The smaller, the nearer to all or nothing; 1 is uniform.
    minmax : (float, float), optional
        Instead of alpha: sides uniform between these shares of H and of W, the box wholly inside of the image (timm's
        cutmix_minmax).
    correct_lam : bool
        False leaves `lam` as it was drawn, whatever was clipped (timm's correct_lam=False).
    volume : bool
        Whether images (N, C, D, H, W) are volumes, whose boxes have a depth too: sides :math:`\lfloor size \cdot
        share^{1/3} \rfloor`. Otherwise they are videos, with the same box in every frame. With `volume`, the box of
        a video is in some consecutive frames only.
    INPLACE
    SHARED

    Notes
    -----
    Images may be (N, C, H, W), (N, C, T, H, W) (see `volume`), or signals (N, C, L), whose box is
    :math:`\lfloor L \cdot share \rfloor` long.

    CALL

    References
    ----------
    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        minmax: tuple[float, float] | None = None,
        correct_lam: bool = True,
        volume: bool = False,
        inplace: bool = False,
        **shared: Unpack[MixerOptions],
    ) -> None:
        super().__init__(inplace=inplace, **shared)
        self.alpha, self.minmax, self.correct_lam, self.volume = alpha, minmax, correct_lam, volume

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        self.alpha = checks.positive(self.alpha, "alpha")
        if self.minmax is not None:
            self.minmax = checks.interval(self.minmax, "minmax", 0, 1)
        self.DIMS = (5,) if checks.flag(self.volume, "volume") else (3, 4, 5)
        if self.minmax is not None and not checks.flag(self.correct_lam, "correct_lam"):
            raise ValueError("correct_lam must be True with minmax: the box alone says what lam is")

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """Boxes anywhere."""
        if self.minmax is not None:
            box, lam = box_of(seed, n, size, "minmax", 0, self.p, *self.minmax)
        else:
            box, lam = box_of(seed, n, size, "span" if len(size) == 1 else "cut", self.alpha, self.p)
        return Recipe(lam if self.correct_lam else lam_of(seed, n, self.alpha, self.p), box)
