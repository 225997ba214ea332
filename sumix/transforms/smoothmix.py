"""SmoothMix: the partner shows through a soft round window."""

import torch
from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import dispatch
from sumix.ops.mask_shapes import sample_smooth, smooth_mask
from sumix.ops.sample import lam_of
from sumix.recipe import Recipe
from sumix.transforms.base import Mixer, MixerOptions


class SmoothMix(Mixer):
    r"""Blends each image with its partner by a Gaussian about a random place: no edge anywhere.

    The partner's weight at distance d is :math:`\exp(-d^2 / (2 \sigma^2))`. `lam` is 1 minus its exact mean (OpenMixup
    returns the mean itself, which is the partner's share).

    Parameters
    ----------
    spread : (float, float)
        Least and greatest sigma, as shares of the height; uniform between them.
    SHARED

    Notes
    -----
    Images (N, C, H, W), (N, C, T, H, W) (the same mask in every frame), or signals (N, C, L), floating point, uint8 or
    a signed integer. One seed gives the same masks with one build of torch on one kind of processor: they pass through
    torch's exponential and mean.

    CALL

    References
    ----------
    Lee et al., "SmoothMix: A Simple Yet Effective Data Augmentation to Train Robust Classifiers", CVPR Workshops 2020.
    """

    DIMS = (3, 4, 5)

    def __init__(self, *, spread: tuple[float, float] = (0.25, 0.5), **shared: Unpack[MixerOptions]) -> None:
        super().__init__(**shared)
        self.spread = spread

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        sample_smooth(0, 1, spread=self.spread, seed=0, device="cpu")  # refuses what does not fit

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """Masks without an edge."""
        centre, sigma = sample_smooth(n, size, spread=self.spread, seed=seed)
        mask, lam = smooth_mask(centre, sigma, size)
        if not dispatch.is_surely(self.p, 1):
            whole = lam_of(seed, n, 1.0, self.p) == 1
            lam = torch.where(whole, 1.0, lam)
            mask = torch.where(whole.view(-1, *[1] * len(size)), 1.0, mask)
        return Recipe(lam, mask=mask)
