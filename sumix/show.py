"""Every mixer on images of your own, as one picture.

A row an image: first as it is (its middle square), then mixed by one mixer a column, always with the same other image.
Below each mix is lam, the share of the row's own image in its area. With --model, the labels are what the model sees in
the unmixed images, and below lam is what each ratio of sumix.SUMixLoss makes of it: the weight of the own label.
"""

import argparse
import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sumix import visualize

EPILOG = """\
examples:
  python -m sumix.show cat.jpg dog.jpg bird.jpg -o grid.png
  python -m sumix.show cat.jpg dog.jpg -o grid.pdf --mixers CutMix FMix --alpha 0.2 --seed 7
  python -m sumix.show cat.jpg dog.jpg -o grid.png --model torchvision.models:resnet18 --weights DEFAULT
  python -m sumix.show cat.jpg dog.jpg -o grid.png --model mymodels:make_net --weights checkpoint.pth --size 64

needs matplotlib and Pillow: pip install sumix[show]
"""
JPEG = {"quality": 85}


def load(paths: list[Path], size: int) -> Tensor:
    """The middle square of each image: (N, 3, size, size), uint8."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install sumix[show]") from error

    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (size, size))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"{path} cannot be read: {why}") from error
        images.append(torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3))
    return torch.stack(images).permute(0, 3, 1, 2).contiguous()


def build(name: str, weights: str | None) -> nn.Module:
    """The model that `module:function` makes, with the weights of a file, or those that `weights=` means to it."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise ValueError(f"--model must be MODULE:FUNCTION, got {name!r}")
    from_file = weights is not None and Path(weights).is_file()
    given = {} if weights is None or from_file else {"weights": weights}
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
    try:
        make: Any = importlib.import_module(module)
        for part in function.split("."):
            make = getattr(make, part)
        model = make(**given)
    except Exception as error:  # whatever the user's module may raise
        raise ValueError(f"--model {call} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"--model {call} must make an nn.Module, got {type(model).__name__}")
    if from_file:
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state.get("model", state))
            nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
            model.load_state_dict(state)
        except Exception as error:  # pickle's are many
            raise ValueError(f"--weights {weights} does not fit {name}: {error}") from error
    return model


def at_least_one(text: str) -> int:
    """An int above 0."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 1 if it failed (2, by SystemExit, if it was not understood)."""
    parser = argparse.ArgumentParser(
        "python -m sumix.show", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files of any size, at least two")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="to write: .png, .jpg, .pdf, .svg"
    )
    parser.add_argument(
        "--mixers",
        nargs="+",
        metavar="NAME",
        choices=tuple(visualize.MIXERS),
        default=tuple(visualize.MIXERS),
        help="some of " + ", ".join(visualize.MIXERS) + " (all)",
    )
    parser.add_argument("--size", type=at_least_one, default=224, metavar="PIXELS", help="a side of each image (224)")
    parser.add_argument("--alpha", type=float, default=1.0, help="lam is drawn from Beta(ALPHA, ALPHA) (1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other mixes and partners (0)")
    parser.add_argument("--dpi", type=at_least_one, default=150, help="pixels an inch; an image takes 1.2 inches (150)")
    of_model = parser.add_argument_group("a classifier, for the ratios")
    of_model.add_argument("--model", metavar="MODULE:FUNCTION", help="a function that makes it")
    of_model.add_argument(
        "--weights", metavar="FILE|NAME", help="a checkpoint of its state_dict, or what the function gets as weights="
    )
    of_model.add_argument(
        "--ratios",
        nargs="+",
        metavar="NAME",
        choices=visualize.RATIOS,
        help="some of " + ", ".join(visualize.RATIOS) + " (all that it allows), published as in a batch of 100",
    )
    of_model.add_argument("--layer", metavar="NAME", help="that gives the feature map, if not found by itself")
    for name, values in zip(("mean", "std"), visualize.IMAGENET, strict=True):
        default = " ".join(map(str, values))
        of_model.add_argument(
            f"--{name}", nargs=3, type=float, metavar=("R", "G", "B"), default=values, help=f"of its images ({default})"
        )
    options = parser.parse_args(arguments)
    if len(options.images) < 2:
        parser.error("give at least two images: each is mixed with another")
    if options.model is None and options.weights is not None:
        parser.error("--weights are of a --model, and there is none")
    output = options.output if options.output.suffix else options.output.with_suffix(".png")
    if output.resolve() in [path.resolve() for path in options.images]:
        parser.error(f"-o {output} would overwrite an image")
    try:
        write(options, output)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"wrote {output}")
    return 0


def write(options: argparse.Namespace, output: Path) -> None:
    """Make the picture."""
    images = load(options.images, options.size)
    mixers = visualize.make_mixers(options.mixers, alpha=options.alpha)
    model = None
    if options.model is not None:
        torch.manual_seed(options.seed)  # a model without weights draws them
        model = build(options.model, options.weights)
    how = {"seed": options.seed, "names": options.ratios, "layer": options.layer}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's model: one line is enough on failure, none on success
        figure = visualize.mix_grid(images, mixers, model=model, mean=options.mean, std=options.std, **how)
    jpeg = {"pil_kwargs": JPEG} if output.suffix.lower() in (".jpg", ".jpeg") else {}
    figure.savefig(output, dpi=options.dpi, **jpeg)


if __name__ == "__main__":
    raise SystemExit(main())
