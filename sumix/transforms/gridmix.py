"""GridMix: the partner shows through holes on a grid."""

from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import checks
from sumix.ops.mask_shapes import grid_mask, sample_grid
from sumix.ops.sample import lam_of
from sumix.recipe import Recipe
from sumix.transforms.base import Mixer, MixerOptions


class GridMix(Mixer):
    r"""Shows each image's partner through square holes on a grid, within a random rectangle.

    In the upper left corner of each cell a hole of :math:`\sqrt{1 - \lambda}` of its sides, at least one pixel and not
    the whole cell, with :math:`\lambda` from Beta(alpha, alpha). The `lam` returned is the mask's exact mean.

    Parameters
    ----------
    alpha : float
        Of the Beta distribution, above 0.
    area : (float, float)
        Least and greatest share of the image that the rectangle covers.
    aspect : (float, float)
        Least and greatest height over width of it.
    cells : (int, int)
        Fewest and most cells in a row.
    SHARED

    Notes
    -----
    Images (N, C, H, W), (N, C, T, H, W) (the same mask in every frame), or signals (N, C, L).

    CALL

    References
    ----------
    Baek et al., "GridMix: Strong regularization through local context mapping", Pattern Recognition 109, 2021.
    """

    DIMS = (3, 4, 5)
    blends = False

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        area: tuple[float, float] = (0.5, 1.0),
        aspect: tuple[float, float] = (0.5, 2.0),
        cells: tuple[int, int] = (2, 6),
        **shared: Unpack[MixerOptions],
    ) -> None:
        super().__init__(**shared)
        self.alpha, self.area, self.aspect, self.cells = alpha, area, aspect, cells

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        self.alpha = checks.positive(self.alpha, "alpha")
        how = {"area": self.area, "aspect": self.aspect, "cells": self.cells}
        sample_grid(0, 1, **how, seed=0, device="cpu")  # refuses what does not fit

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """Masks with holes."""
        drawn = lam_of(seed, n, self.alpha, self.p)
        box, cells = sample_grid(n, size, area=self.area, aspect=self.aspect, cells=self.cells, seed=seed)
        mask, lam = grid_mask(box, cells, drawn, size)
        return Recipe(lam, mask=mask)
