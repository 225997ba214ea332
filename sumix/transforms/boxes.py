"""What the mixers that paste boxes share: they can do it in place."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import checks
from sumix.ops.mix import dense
from sumix.ops.mix_inplace import mix_box_, mix_resize_
from sumix.recipe import Recipe
from sumix.transforms.base import Mixer, MixerOptions


class BoxMixer(Mixer):
    """A mixer whose recipe is a box alone."""

    blends = False

    def __init__(self, *, inplace: bool = False, **shared: Unpack[MixerOptions]) -> None:
        super().__init__(**shared)
        self.inplace = inplace

    def check_options(self) -> None:
        """Fail unless the options are what they can be."""
        super().check_options()
        if checks.flag(self.inplace, "inplace") and (self.normalize is not None or self.cross_rank is not False):
            raise ValueError("inplace must be False with normalize or cross_rank, which make new images")

    def check_images(self, images: Any) -> None:
        """Fail unless `images` can be mixed, and written to if that was asked for."""
        super().check_images(images)
        if not self.inplace:
            return
        if images.requires_grad and torch.is_grad_enabled():
            raise ValueError("images must not require gradients with inplace: a mix in place has none")
        if dense(images) is not images:
            raise ValueError(f"images must be contiguous or channels_last with inplace, got strides {images.stride()}")

    def apply_to_images(self, images: Tensor, recipe: Recipe, perm: Tensor) -> Tensor:
        """The mixed images, in place if that was asked for."""
        if not self.inplace:
            return super().apply_to_images(images, recipe, perm)
        if recipe.resize is None:
            return mix_box_(images, recipe.box, perm)
        return mix_resize_(images, recipe.box, perm, recipe.resize)
