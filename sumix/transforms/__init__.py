"""Transforms of batches: images and labels in, mixed images and their target out."""

from sumix.transforms.base import Mixer
from sumix.transforms.collate import SUMixCollate
from sumix.transforms.cutmix import CutMix
from sumix.transforms.fmix import FMix
from sumix.transforms.foregroundmix import ForegroundMix
from sumix.transforms.gridmix import GridMix
from sumix.transforms.mixup import MixUp
from sumix.transforms.randommix import RandomMix
from sumix.transforms.resizemix import ResizeMix
from sumix.transforms.saliencymix import SaliencyMix
from sumix.transforms.smoothmix import SmoothMix

__all__ = [
    "CutMix",
    "FMix",
    "ForegroundMix",
    "GridMix",
    "MixUp",
    "Mixer",
    "RandomMix",
    "ResizeMix",
    "SUMixCollate",
    "SaliencyMix",
    "SmoothMix",
]
