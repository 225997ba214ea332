"""Real photographs that need no download: files inside the wheels of scikit-image and scikit-learn."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIZE = 32  # pixels of a crop, shrunk by two
CROP = 2 * SIZE  # pixels of the photograph

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
