"""Writes a map of evidence for each image of a data set: one pass over it, and none of them in training."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sumix
from sumix.evidence.network import KINDS, NetworkEvidence
from sumix.evidence.stored import Pictures, Prepared, needed, store

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
EPILOG = """\
examples:
  python -m sumix.evidence imagenet/train --model timm:resnet50 -o maps.safetensors
  python -m sumix.evidence train.tar --model torchvision:resnet50 --batch 256 --device cuda -o maps.safetensors
  python -m sumix.evidence mydata:training_set --model mynets.py:make --weights best.pth -o maps.safetensors

DATASET is a folder or a tar file of images, in which the order is that of torchvision's ImageFolder, or MODULE:FUNCTION
that makes a dataset of (image, label) without transforms. Ctrl-C, or a kill, loses nothing: the same command continues.

needs safetensors and Pillow: pip install sumix[evidence]
"""


def made_by(name: str, argument: str) -> Any:
    """What the function MODULE:NAME or FILE.py:NAME makes."""
    module, _, attribute = name.rpartition(":")
    if not module or not attribute:
        raise ValueError(f"{argument} must be MODULE:NAME or FILE.py:NAME, or as --help says, got {name!r}")
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            found = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found)
        else:
            found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found()
    except Exception as error:  # whatever the user's module may raise
        raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error


def dataset_of(name: str) -> Any:
    """The images."""
    path = Path(name)
    if path.exists():
        return Pictures(path)
    if ":" not in name:
        raise ValueError(f"DATASET must be a folder, a tar file or MODULE:FUNCTION, and there is no {name}")
    return made_by(name, "DATASET")


def model_of(name: str, weights: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and mean and std of its images, as far as it says."""
    library, _, rest = name.partition(":")
    statistics: dict[str, Any] = dict(IMAGENET)
    if library == "timm":
        model = needed("timm").create_model(rest, pretrained=weights is None)
        statistics = {key: model.pretrained_cfg.get(key, value) for key, value in IMAGENET.items()}
    elif library == "torchvision":
        model = needed("torchvision").models.get_model(rest, weights="DEFAULT" if weights is None else None)
    else:
        model = made_by(name, "--model")
    if not isinstance(model, nn.Module):
        raise ValueError(f"--model {name} must make an nn.Module, got {type(model).__name__}")
    if weights is not None:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("state_dict", state.get("model", state)))
    return model, statistics


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m sumix.evidence",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help="a folder, a tar file, or MODULE:FUNCTION")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .safetensors file to write")
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="timm:NAME, torchvision:NAME, MODULE:FUNCTION or FILE.py:FUNCTION",
    )
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint, in place of pretrained weights")
    parser.add_argument("--kind", choices=[kind for kind in KINDS if kind != "cam"], default="foreground")
    parser.add_argument("--layer", metavar="NAME", help="that gives the last map, if it is not found by itself")
    parser.add_argument("--fine", metavar="NAME", help="that gives the finer map, if it is not found by itself")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="sides of the network's images (224)")
    for name in ("mean", "std"):
        parser.add_argument(f"--{name}", nargs=3, type=float, metavar=("R", "G", "B"), help="of its images")
    parser.add_argument("--batch", type=int, default=64, help="images at a time (64)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images (0: none but this one)")
    parser.add_argument("--device", default="cpu", help="where the network runs (cpu)")
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=sys.stderr.isatty(), help="a bar (on terminals)"
    )
    options = parser.parse_args(arguments)
    for name in ("size", "batch"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.output.suffix != ".safetensors":
        parser.error(f"--output must end in .safetensors, got {options.output}")
    try:
        write(options)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"wrote {options.output}")
    return 0


def write(options: argparse.Namespace) -> None:
    """Make the maps."""
    for name in ("safetensors.torch", "PIL.Image", *(["tqdm"] if options.progress else [])):
        needed(name)
    dataset = dataset_of(options.dataset)  # before a model is loaded, which takes longer
    model, statistics = model_of(options.model, options.weights)
    statistics |= {name: getattr(options, name) for name in statistics if getattr(options, name) is not None}
    evidence = NetworkEvidence(
        model.to(options.device).eval(), options.kind, layer=options.layer, fine=options.fine
    ).to(options.device)
    about = {name: getattr(options, name) for name in ("dataset", "model", "weights", "kind", "layer", "fine", "size")}
    about |= {**statistics, "sumix": sumix.__version__}
    prepared = Prepared(dataset, options.size, **statistics)
    how = {"batch": options.batch, "workers": options.workers, "device": options.device, "progress": options.progress}
    store(prepared, evidence, options.output, about=about, **how)


if __name__ == "__main__":
    raise SystemExit(main())
