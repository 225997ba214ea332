"""Maps of evidence that are made once and stored: one small map for each image of a data set."""

from __future__ import annotations

import importlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from sumix import tv_tensors
from sumix.evidence.evidence import Evidence

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
LEVELS = 255  # a map's maximum, and an open gate, as a byte
WARM_UP = 8  # batches from all over the data set, for the mean feature that the gate compares with


def needed(name: str) -> ModuleType:
    """A package that only stored evidence needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"stored evidence needs {name}: pip install sumix[evidence]") from error


class Pictures(Dataset):
    """The images of a folder or of a tar file, in the order of torchvision's ImageFolder: by class, then by name.

    Items are (PIL image, class), where a class is the folder that an image lies in.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._tar, self._owner = root, None, -1
        if root.is_dir():
            names = [
                str((Path(folder) / name).relative_to(root))
                for folder, _, files in os.walk(root, followlinks=True)
                for name in files
            ]
        else:
            with tarfile.open(root) as tar:
                names = [member.name for member in tar if member.isfile()]
        self.names = sorted(
            (name for name in names if name.lower().endswith(IMAGES)), key=lambda name: (os.path.dirname(name), name)
        )
        if not self.names:
            raise ValueError(f"DATASET must hold images ({', '.join(IMAGES)}), and {root} has none")
        folders = sorted({os.path.dirname(name) for name in self.names})
        self.classes = {folder: at for at, folder in enumerate(folders)}

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.names)

    def __getitem__(self, at: int) -> tuple[Any, int]:
        """An image in RGB, and its class."""
        name = self.names[at]
        if self.root.is_dir():
            file: Any = self.root / name
        else:
            if self._owner != os.getpid():  # a worker's own, for a file has one place at which it is read
                self._tar, self._owner = tarfile.open(self.root), os.getpid()  # noqa: SIM115
            file = BytesIO(self._tar.extractfile(name).read())
        with needed("PIL.Image").open(file) as image:
            return image.convert("RGB"), self.classes[os.path.dirname(name)]

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, which no other process can use."""
        return {**vars(self), "_tar": None, "_owner": -1}


class Prepared(Dataset):
    """Images as a network takes them: the whole of each, squeezed to a square, normalised."""

    def __init__(self, dataset: Any, size: int, mean: Iterable[float], std: Iterable[float]) -> None:
        self.dataset, self.size = dataset, size
        self.mean, self.std = (torch.tensor(list(values)).view(-1, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.dataset)

    def __getitem__(self, at: int) -> Tensor:
        """(3, size, size), float32."""
        item = self.dataset[at]
        image = as_tensor(item[0] if isinstance(item, (tuple, list)) else item)
        image = image.expand(3, -1, -1) if image.shape[0] == 1 else image
        whole = F.interpolate(image.unsqueeze(0), (self.size, self.size), mode="bilinear", antialias=True)[0]
        return (whole - self.mean) / self.std


def as_tensor(image: Any) -> Tensor:
    """An image of Pillow's or a tensor (C, H, W) as float32 in [0, 1]."""
    if not isinstance(image, Tensor):
        pixels = image.convert("RGB")
        flat = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
        image = flat.view(pixels.height, pixels.width, 3).permute(2, 0, 1)
    image = image.as_subclass(Tensor)
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def encoded(evidence: Evidence) -> Tensor:
    """A batch of maps as bytes (N, h w + 1): each map in units of its maximum, and last its gate."""
    maps = evidence.map.float().flatten(1)
    scaled = maps / maps.amax(dim=1, keepdim=True).clamp(min=1e-30)
    gate = torch.ones(len(maps), 1) if evidence.gate is None else evidence.gate.float().cpu().unsqueeze(1)
    whole = torch.cat([scaled.cpu(), gate], dim=1).nan_to_num(0)
    return (whole * LEVELS).round().to(torch.uint8)


def store(
    dataset: Any,
    evidence: Callable[[Tensor], Evidence],
    file: Path,
    *,
    about: dict[str, Any],
    batch: int = 64,
    workers: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> None:
    """Write the maps of all images; continue what an interrupted call with the same `about` has left.

    Parameters
    ----------
    dataset : Prepared, or another Dataset of tensors
        Of normalised images.
    evidence : callable
        Makes Evidence of a batch, a NetworkEvidence for one.
    file : Path
        A .safetensors file, with `maps` (N, h, w) and `gate` (N,), uint8. Until it is whole, the maps lie beside it, in
        FILE.part.
    about : dict
        What the maps were made by: kept with them, and compared before they are continued.
    """
    save = needed("safetensors.torch").save_file
    part = file.with_name(file.name + ".part")
    count = len(dataset)
    if count == 0:
        raise ValueError("DATASET must hold images, and it is empty")
    loader = {"batch_size": batch, "num_workers": workers}

    def maps_of(images: Tensor) -> Evidence:
        return evidence(images.to(device))

    # Before a map is kept, the mean feature of the data set: the same after an interruption.
    spread = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: WARM_UP * batch].tolist()
    for images in DataLoader(Subset(dataset, spread), **loader):
        sides = tuple(maps_of(images).map.shape[1:])
    if isinstance(evidence, torch.nn.Module):
        evidence.eval()
    header = json.dumps({**about, "count": count, "sides": sides}, sort_keys=True).encode() + b"\n"
    record = sides[0] * sides[1] + 1
    done = _continued(part, header, record)
    rest = DataLoader(Subset(dataset, range(done, count)), **loader)
    with part.open("ab") as out, _bar(count, done, progress) as bar:
        for images in rest:
            out.write(encoded(maps_of(images)).numpy().tobytes())
            out.flush()
            bar(len(images))
    content = torch.frombuffer(bytearray(part.read_bytes()[len(header) :]), dtype=torch.uint8).view(count, record)
    tensors = {"maps": content[:, :-1].reshape(count, *sides).contiguous(), "gate": content[:, -1].contiguous()}
    unfinished = file.with_name(file.name + ".unfinished")
    save(tensors, unfinished, metadata={key: str(value) for key, value in about.items()})
    unfinished.replace(file)
    part.unlink()


def _continued(part: Path, header: bytes, record: int) -> int:
    """How many maps are there already; a last one that is not whole is cut off, and what was made otherwise removed."""
    if part.exists():
        with part.open("rb") as file:
            same = file.readline() == header
        if same:
            done = (part.stat().st_size - len(header)) // record
            os.truncate(part, len(header) + done * record)
            return done
    part.write_bytes(header)
    return 0


class _bar:
    """A progress bar, if it is wanted and tqdm is there."""

    def __init__(self, total: int, done: int, wanted: bool) -> None:
        self.bar = needed("tqdm").tqdm(total=total, initial=done, unit="image") if wanted else None

    def __enter__(self) -> Callable[[int], Any]:
        return (lambda count: None) if self.bar is None else self.bar.update

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


class EvidenceDataset(Dataset):
    """A data set whose items bring their stored map and its gate along, so that transforms move the map with the image.

    Items are (image, label, map, gate): the map a torchvision `Mask` of the image's size, uint8, or a plain tensor (H,
    W) where torchvision is not in use; the gate a number from 0 to 1. v2's crops, flips and rotations move the map as
    they move the image. A batch of them is `Evidence(maps, gates)`.

    Parameters
    ----------
    dataset : Dataset
        Of (image, label), in the order in which the maps were made, *without* transforms that move pixels: those are to
        see the map too.
    maps : path
        What `python -m sumix.evidence` wrote.
    transforms : callable, optional
        Applied to (image, label, map, gate): torchvision's `v2.Compose([...])`, say.

    Raises
    ------
    ValueError
        If there are not as many maps as items.

    Examples
    --------
    >>> dataset = EvidenceDataset(ImageFolder("train"), "maps.safetensors", v2.Compose([...]))
    >>> for images, labels, maps, gates in DataLoader(dataset, batch_size=256):
    ...     mixed, target = ForegroundMix()(images, labels, Evidence(maps, gates))
    """

    def __init__(self, dataset: Any, maps: str | os.PathLike, transforms: Callable[..., Any] | None = None) -> None:
        found = needed("safetensors.torch").load_file(maps)
        if not {"maps", "gate"} <= set(found):
            raise ValueError(f"maps must be a file of python -m sumix.evidence, got one of {', '.join(found)}")
        if len(found["maps"]) != len(dataset):
            raise ValueError(f"maps must be those of the dataset's {len(dataset)} items, got {len(found['maps'])}")
        self.dataset, self.transforms = dataset, transforms
        self.maps, self.gate = found["maps"], found["gate"]

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.dataset)

    def __getitem__(self, at: int) -> Any:
        """(image, label, map, gate), transformed."""
        image, label = self.dataset[at][:2]
        size = tuple(image.shape[-2:]) if isinstance(image, Tensor) else (image.height, image.width)
        wide = F.interpolate(self.maps[at][None, None].float(), size, mode="bilinear").round().to(torch.uint8)[0, 0]
        item = image, label, tv_tensors.mask(wide), self.gate[at].item() / LEVELS
        return item if self.transforms is None else self.transforms(*item)
