"""Every mixer on images of your own, as one picture: python -m sumix.show IMAGE IMAGE [...] -o grid.png"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sumix import visualize

EPILOG = """\
Each row is one image, first as it is, then mixed with its partner, the next image down in a random order, by one mixer
a column; below each mix is lam, the share of its own image. With --model, the labels are what the model sees in the
unmixed images, and below lam stands what each ratio makes of it.

  python -m sumix.show cat.jpg dog.jpg bird.jpg -o grid.png
  python -m sumix.show cat.jpg dog.jpg -o grid.png --model torchvision.models:resnet18 --weights DEFAULT
"""


def load(paths: list[Path], size: int) -> Tensor:
    """The middle square of each image, size x size: (N, 3, size, size), uint8."""
    from PIL import Image, ImageOps

    images = []
    for path in paths:
        with Image.open(path) as image:
            square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (size, size))
            pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
            images.append(pixels.view(size, size, 3).permute(2, 0, 1))
    return torch.stack(images)


def build(name: str, weights: str | None) -> Any:
    """The model that `module:function` makes, in evaluation mode."""
    module, _, function = name.partition(":")
    make = getattr(importlib.import_module(module), function)
    return (make() if weights is None else make(weights=weights)).eval()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m sumix.show", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, at least two")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write the picture (.png, .pdf, ...)")
    parser.add_argument("--mixers", nargs="+", metavar="NAME", choices=visualize.MIXERS, default=list(visualize.MIXERS))
    parser.add_argument("--size", type=int, default=224, help="pixels a side (224)")
    parser.add_argument("--alpha", type=float, default=1.0, help="of the Beta distribution (1)")
    parser.add_argument("--seed", type=int, default=0, help="another picks other mixes (0)")
    parser.add_argument("--model", metavar="MODULE:FUNCTION", help="makes a classifier, for the learned ratios")
    parser.add_argument("--weights", help="passed to it as weights=")
    options = parser.parse_args(arguments)
    if len(options.images) < 2:
        parser.error("give at least two images: each is mixed with another")
    try:
        images = load(options.images, options.size)
        model = None if options.model is None else build(options.model, options.weights)
        mixers = visualize.make_mixers(options.mixers, alpha=options.alpha)
        figure = visualize.mix_grid(images, mixers, seed=options.seed, model=model)
        figure.savefig(options.output, dpi=100)
    except (ImportError, OSError, ValueError, TypeError, AttributeError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
