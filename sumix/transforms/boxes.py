"""What the mixers that paste boxes share: they can do it in place."""

from torch import Tensor
from typing_extensions import Unpack

from sumix.ops import checks
from sumix.ops.mix_inplace import mix_box_, mix_resize_
from sumix.recipe import Recipe
from sumix.transforms.base import Mixer, MixerOptions


class BoxMixer(Mixer):
    """A mixer whose recipe is a box alone."""

    def __init__(self, *, inplace: bool = False, **shared: Unpack[MixerOptions]) -> None:
        super().__init__(**shared)
        self.inplace = checks.flag(inplace, "inplace")
        if inplace and (self.normalize is not None or self.cross_rank is not False):
            raise ValueError("inplace must be False with normalize or cross_rank, which make new images")

    def apply_to_images(self, images: Tensor, recipe: Recipe, perm: Tensor) -> Tensor:
        """The mixed images, in place if that was asked for."""
        if not self.inplace:
            return super().apply_to_images(images, recipe, perm)
        if recipe.resize is None:
            return mix_box_(images, recipe.box, perm)
        return mix_resize_(images, recipe.box, perm, recipe.resize)
