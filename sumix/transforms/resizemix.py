"""ResizeMix: the whole partner, made small, is pasted into a box."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import checks
from sumix.ops.mix import LINEAR_DTYPES
from sumix.ops.sample_box import box_of
from sumix.recipe import Recipe
from sumix.transforms.base import MixerOptions
from sumix.transforms.boxes import BoxMixer


class ResizeMix(BoxMixer):
    r"""Replaces a random box of each image by the whole of another image of the batch, resized to fit.

    The box has sides :math:`2 \lfloor \lfloor \tau H \rfloor / 2 \rfloor` and the same of W about a centre uniform over
    the pixels, and is clipped to the image before the partner is resized into what is left of it. `lam` is what is left
    of the own image exactly; an empty box pastes nothing.

    Parameters
    ----------
    alpha : float, optional
        tau is drawn from Beta(alpha, alpha), and again from the uniform distribution if it leaves `scope`. None for the
        uniform distribution at once, which is what 1 amounts to.
    scope : (float, float)
        The least and the greatest tau.
    mode : {"nearest", "nearest-exact", "bilinear"}
        How the partner is resized, as by torch.nn.functional.interpolate. "nearest" is what was published.
    INPLACE
    SHARED

    Notes
    -----
    Images (N, C, H, W) or (N, C, T, H, W) (frame by frame).

    CALL

    References
    ----------
    Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", arXiv 2012.11101, 2020.
    """

    DIMS = (4, 5)

    def __init__(
        self,
        *,
        alpha: float | None = 1.0,
        scope: tuple[float, float] = (0.1, 0.8),
        mode: str = "nearest",
        inplace: bool = False,
        **shared: Unpack[MixerOptions],
    ) -> None:
        super().__init__(inplace=inplace, **shared)
        self.alpha, self.scope, self.mode = alpha, scope, mode

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        self.alpha = None if self.alpha is None else checks.positive(self.alpha, "alpha")
        self.scope = checks.interval(self.scope, "scope", 0, 1)
        checks.choice(self.mode, "mode", checks.RESIZE_MODES)

    def check_images(self, images: Any) -> None:
        """Fail unless `images` can be resized."""
        super().check_images(images)
        if self.mode == "bilinear" and images.dtype not in LINEAR_DTYPES:
            kinds = "floating point, uint8 or a signed integer"
            raise TypeError(f'images must be {kinds} for mode="bilinear", got {images.dtype}')

    def draw(self, seed: Tensor, n: int, size: tuple[int, ...], seen: list[Tensor]) -> Recipe:
        """Boxes that the whole partner goes into."""
        alpha = 0.0 if self.alpha is None else self.alpha
        box, lam = box_of(seed, n, size, "resize", alpha, self.p, *self.scope)
        code = checks.choice(self.mode, "mode", checks.RESIZE_MODES) + 1
        return Recipe(lam, box, resize=torch.full_like(lam, code, dtype=torch.int64))
