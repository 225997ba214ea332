"""A small set of real photographs that needs no download: files inside the wheels of scikit-image and scikit-learn.

A class is one photograph. Training crops come from the left of it and test crops from the right, so that no pixel is in
both. That makes it instance recognition on a small set: enough to see that everything runs and learns on real pixels,
too little to rank methods by.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sumix import show

SIZE = 32  # pixels, what the network sees
CROP = 2 * SIZE  # pixels of the photograph, shrunk by two
SPLIT = 0.6  # share of the width that training crops come from

# (package, distribution, folder of its data, {file: class name})
SOURCES = (
    (
        "skimage",
        "scikit-image",
        "data",
        {
            "astronaut.png": "astronaut",
            "chelsea.png": "cat",
            "coffee.png": "coffee",
            "hubble_deep_field.jpg": "galaxies",
            "ihc.png": "tissue",
            "motorcycle_left.png": "motorcycle",
            "retina.jpg": "retina",
            "rocket.jpg": "rocket",
            "brick.png": "brick",
            "camera.png": "cameraman",
            "cell.png": "cell",
            "coins.png": "coins",
            "grass.png": "grass",
            "gravel.png": "gravel",
            "moon.png": "moon",
            "clock_motion.png": "clock",
        },
    ),
    ("sklearn", "scikit-learn", "datasets/images", {"china.jpg": "temple", "flower.jpg": "flower"}),
)


class Photographs(NamedTuple):
    """Crops of every photograph. Images are float32, standardised per channel by the training crops' mean and std."""

    train_images: Tensor  # (K * train_crops, 3, SIZE, SIZE)
    train_labels: Tensor  # (K * train_crops,) int64
    test_images: Tensor  # (K * test_crops, 3, SIZE, SIZE)
    test_labels: Tensor  # (K * test_crops,) int64
    mean: Tensor  # (3, 1, 1), of pixels in [0, 1]
    std: Tensor  # (3, 1, 1)
    classes: tuple[str, ...]  # K names


def paths() -> dict[str, Path]:
    """Where each class's photograph lies; neither package is imported, so neither can try to download anything.

    Raises
    ------
    FileNotFoundError
        If a package is not installed, or its data folder lacks one of the files.
    """
    found = {}
    for package, distribution, folder, files in SOURCES:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(f"the photographs are files of {distribution}: pip install {distribution}")
        root = Path(spec.submodule_search_locations[0]) / folder
        missing = [name for name in files if not (root / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{distribution} {version(distribution)} lacks {', '.join(missing)} in {root}: "
                f"install its wheel from PyPI, which ships them"
            )
        found |= {label: root / name for name, label in files.items()}
    return found


def crops(pixels: np.ndarray, count: int, generator: torch.Generator) -> Tensor:
    """Random CROP x CROP crops of one photograph (H, W, 3) uint8, shrunk to (count, 3, SIZE, SIZE) float32 in [0, 1].

    Shrinking averages 2 x 2 pixels, so that a crop depends on nothing outside it.
    """
    height, width, _ = pixels.shape
    tops = torch.randint(height - CROP + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(width - CROP + 1, (count,), generator=generator).tolist()
    cut = np.stack([pixels[y : y + CROP, x : x + CROP] for y, x in zip(tops, lefts, strict=True)])
    small = cut.reshape(count, SIZE, 2, SIZE, 2, 3).mean((2, 4), dtype=np.float32) / 255
    return torch.from_numpy(small).permute(0, 3, 1, 2).contiguous()


def load(train_crops: int = 40, test_crops: int = 30, seed: int = 0) -> Photographs:
    """Crops of every photograph: `train_crops` from the left 60 % of each, `test_crops` from the right 40 %.

    Grey photographs become RGB with three equal channels. The same `seed` gives the same crops.

    Raises
    ------
    FileNotFoundError
        If a photograph is missing (see `paths`).
    """
    generator = torch.Generator().manual_seed(seed)
    train, test = [], []
    files = paths()
    for path in files.values():
        pixels = np.asarray(show.read(path))
        edge = int(SPLIT * pixels.shape[1])
        train.append(crops(pixels[:, :edge], train_crops, generator))
        test.append(crops(pixels[:, edge:], test_crops, generator))
    train_images, test_images = torch.cat(train), torch.cat(test)
    mean = train_images.mean((0, 2, 3)).view(3, 1, 1)
    std = train_images.std((0, 2, 3)).view(3, 1, 1)
    classes = torch.arange(len(files))
    return Photographs(
        train_images=(train_images - mean) / std,
        train_labels=classes.repeat_interleave(train_crops),
        test_images=(test_images - mean) / std,
        test_labels=classes.repeat_interleave(test_crops),
        mean=mean,
        std=std,
        classes=tuple(files),
    )
