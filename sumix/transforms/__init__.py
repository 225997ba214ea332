"""Transforms of batches: images and labels in, mixed images and their target out."""

from sumix.transforms.cutmix import CutMix
from sumix.transforms.mixup import MixUp

__all__ = ["CutMix", "MixUp"]
