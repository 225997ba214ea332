"""MixUp: each image is blended with its partner."""

from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import checks
from sumix.ops.sample import lam_of
from sumix.recipe import Recipe
from sumix.transforms.base import Mixer, MixerOptions


class MixUp(Mixer):
    r"""Blends each image with another of the batch, :math:`\lambda x_i + (1 - \lambda) x_{\mathrm{perm}_i}`.

    lam is drawn from Beta(alpha, alpha).

    Parameters
    ----------
    alpha : float
        Of the Beta distribution, above 0. The smaller, the nearer to all or nothing; 1 is uniform.
    SHARED

    Notes
    -----
    Images may have any shape (N, ...), floating point, uint8 or a signed integer (rounded to nearest). So may what
    `target.mix` is given: hidden features of the same batch, say (manifold mixup).

    CALL

    References
    ----------
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """

    volume = None  # a weight suits images of any dimensions

    def __init__(self, *, alpha: float = 1.0, **shared: Unpack[MixerOptions]) -> None:
        super().__init__(**shared)
        self.alpha = alpha

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        self.alpha = checks.positive(self.alpha, "alpha")

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """The weights."""
        return Recipe(lam_of(seed, n, self.alpha, self.p))
