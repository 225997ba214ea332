"""Every mixer on images of your own, as one picture.

One row per image: first as it is (its middle square), then one column per mixer, always with the same other image.
Below each mix is lam, the share of the row's own image in its area. With --model, the labels are what the model sees in
the unmixed images, and below lam is what each ratio of sumix.SUMixLoss makes of it: the weight of the own label.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor, nn

from sumix import visualize

if TYPE_CHECKING:
    from PIL import Image

EPILOG = """\
examples:
  python -m sumix.show cat.jpg dog.jpg bird.jpg -o grid.png
  python -m sumix.show cat.jpg dog.jpg -o grid.pdf --mixers CutMix FMix --alpha 0.2 --seed 7
  python -m sumix.show cat.jpg dog.jpg -o grid.png --model torchvision.models:resnet18 --weights DEFAULT
  python -m sumix.show cat.jpg dog.jpg -o grid.png --model mymodels:make_net --weights checkpoint.pth --size 64

needs matplotlib and Pillow: pip install sumix[show]
"""
JPEG = {"quality": 85}

# Pillow's modes of 8 bits a channel, or fewer.
COLOURS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
# The formats in which an integer mode of Pillow's reaches from 0 to 65535. In others it may be signed, or end anywhere.
# A PNG of 16 bits is I;16, or I in older versions of Pillow.
SIXTEEN_BITS = {"I": ("PNG", "PPM", "ICO", "ICNS")}
SIXTEEN_BITS |= dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), (*SIXTEEN_BITS["I"], "TIFF", "JPEG2000"))
EXPECTED = "8 bits a channel, 16 bits unsigned, or floating point from 0 to 1"

# TIFF's tags, and values of theirs.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, UNSIGNED = 0, 1, 1


def load(paths: list[Path], size: int) -> Tensor:
    """The middle square of each image, read by `read`: (N, 3, size, size), uint8."""
    _, ops = _pillow()
    squares = [ops.fit(read(path), (size, size)).tobytes() for path in paths]
    images = torch.frombuffer(bytearray(b"".join(squares)), dtype=torch.uint8)
    return images.view(-1, size, size, 3).permute(0, 3, 1, 2).contiguous()


def read(path: Path) -> Image.Image:
    """An image file, upright, as Pillow's RGB; of an animation, its first frame.

    Pixels that are transparent are laid on white. Grey of 16 bits is scaled from 0..65535 to 0..255 and rounded, in a
    TIFF of 12 bits from 0..4095; of colours of 16 bits a channel, Pillow keeps the upper 8. Floating point is scaled
    from 0..1.

    Raises
    ------
    ImportError
        Without Pillow.
    ValueError
        If the file is missing, damaged or no image, or if it does not say which numbers are black and white: signed
        integers, integers of 32 bits, floating point that is not within 0..1.
    """
    pillow, ops = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata; damaged pixels are errors
            # Given a path, Pillow 13 may map the file into memory, and then it scrambles a TIFF that is to be turned.
            with open(path, "rb") as file, pillow.open(file) as image:
                upright = ops.exif_transpose(image)
                if image.mode in COLOURS:
                    _check_colours(image, upright, file)
                else:
                    upright = pillow.frombytes("L", upright.size, _grey(image, upright).numpy().tobytes())
            if upright.mode == "La":
                upright = upright.convert("LA")  # from where there is a way to RGBA
            white = pillow.new("RGBA", upright.size, "white")
            return pillow.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    except pillow.UnidentifiedImageError as error:
        raise ValueError(f"{path} cannot be read: cannot identify image file") from error
    except Exception as error:  # whatever a decoder may raise
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read: {why}") from error


def _pillow() -> tuple[ModuleType, ModuleType]:
    """PIL.Image and PIL.ImageOps."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install sumix[show]") from error
    return Image, ImageOps


def _refusal(image: Image.Image, why: str) -> ValueError:
    return ValueError(f"it is a {image.format} file of mode {image.mode} {why}; expected {EXPECTED}")


def _tag(image: Image.Image, number: int, default: int) -> int:
    """A tag of a TIFF file, of several values the first; of another file, the default."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    return value[0] if isinstance(value, tuple) else value


def _check_colours(image: Image.Image, upright: Image.Image, file: BinaryIO) -> None:
    """Fail if Pillow misreads the file; put the transparent colour of `upright` on the scale of its pixels."""
    if _tag(image, SAMPLE_FORMAT, UNSIGNED) != UNSIGNED:
        raise _refusal(image, "with signed integers")
    key = upright.info.get("transparency")
    if image.format == "PNG" and image.mode in ("L", "RGB") and key is not None:
        file.seek(24)
        depth = file.read(1)[0]
        if depth == 16:
            raise _refusal(image, "with a transparent colour of 16 bits a channel, of which Pillow keeps 8")
        if image.mode == "L" and key < 2**depth:
            upright.info["transparency"] = key * 255 // (2**depth - 1)


def _grey(image: Image.Image, upright: Image.Image) -> Tensor:
    """The pixels of a grey image of more than 8 bits as uint8, in one row."""
    if image.mode == "F":
        pixels = torch.frombuffer(bytearray(upright.tobytes()), dtype=torch.float32)
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise _refusal(image, f"with numbers from {pixels.min().item():.9g} to {pixels.max().item():.9g}")
        levels = (255 * pixels).round()
    elif image.format in SIXTEEN_BITS.get(image.mode, ()):
        pixels = torch.frombuffer(bytearray(upright.convert("I").tobytes()), dtype=torch.int32)
        most = 2 ** _tag(image, BITS_PER_SAMPLE, 16) - 1
        levels = (255 * pixels + most // 2) // most
        levels[pixels == upright.info.get("transparency", -1)] = 255
    else:
        raise _refusal(image, "which does not say what is black and what is white")
    if _tag(image, PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO:  # which Pillow undoes in 8 bits only
        levels = 255 - levels
    return levels.to(torch.uint8)


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
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help=f"at least two image files of any size, of {EXPECTED}; what is transparent is laid on white, and of an "
        "animation the first frame is taken",
    )
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
