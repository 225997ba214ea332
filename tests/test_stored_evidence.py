"""Maps that are made once and stored: what is written, that nothing is lost by a kill, and that crops move the maps."""

import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from benchmarks import peers
from sumix import ForegroundMix
from sumix.evidence import Evidence, EvidenceDataset
from sumix.evidence.__main__ import main
from sumix.evidence.stored import LEVELS, Pictures, Prepared, store

image_module = pytest.importorskip("PIL.Image")
safetensors = pytest.importorskip("safetensors.torch")
v2 = getattr(getattr(peers.load("torchvision"), "transforms", None), "v2", None)

ROOT = Path(__file__).parents[1]
NET = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 6, 3, 2, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(6, 3),
    )
"""


def pictures(folder, count=12, size=(40, 30)):
    """Photographs in three folders, each with a bright square."""
    generator = torch.Generator().manual_seed(0)
    for at in range(count):
        pixels = torch.randint(0, 60, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
        y, x = torch.randint(0, 15, (2,), generator=generator).tolist()
        pixels[y : y + 12, x : x + 12] = 220
        path = folder / f"class{at % 3}" / f"{at:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image_module.fromarray(pixels.numpy()).save(path)
    (folder / "notes.txt").write_text("no image")
    return folder


def brightness(images):
    return Evidence(F.avg_pool2d((images.mean(1) + 2.5).clamp(min=0), 4), images.mean((1, 2, 3)).sigmoid())


def prepared(folder):
    return Prepared(Pictures(folder), 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_a_tar_file_has_the_order_of_its_folder(tmp_path):
    folder = pictures(tmp_path / "images")
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for path in sorted(folder.rglob("*"), reverse=True):
            tar.add(path, str(path.relative_to(folder)), recursive=False)
    one, two = Pictures(folder), Pictures(tmp_path / "images.tar")
    assert one.names == two.names and len(one) == 12
    assert one.names == sorted(one.names) and one.names[0] == "class0/000.png"
    for at in (0, 7, 11):
        assert one[at][0].tobytes() == two[at][0].tobytes() and one[at][1] == two[at][1] == at // 4
    for images in DataLoader(prepared(tmp_path / "images.tar"), batch_size=5, num_workers=2):
        assert images.shape[1:] == (3, 32, 32)


def test_what_is_stored_is_what_was_seen(tmp_path):
    folder = pictures(tmp_path / "images")
    store(prepared(folder), brightness, tmp_path / "maps.safetensors", about={"model": "brightness"}, batch=5)
    found = safetensors.load_file(tmp_path / "maps.safetensors")
    want = brightness(torch.stack([prepared(folder)[at] for at in range(12)]))
    assert found["maps"].shape == (12, 8, 8) and found["maps"].dtype == torch.uint8
    scaled = want.map / want.map.amax((1, 2), keepdim=True)
    assert (found["maps"] / LEVELS - scaled).abs().max() <= 0.51 / LEVELS
    assert (found["gate"] / LEVELS - want.gate).abs().max() <= 0.51 / LEVELS
    assert [path.name for path in tmp_path.glob("maps*")] == ["maps.safetensors"]


def test_an_interrupted_run_goes_on_and_another_one_begins_anew(tmp_path):
    folder, file = pictures(tmp_path / "images"), tmp_path / "maps.safetensors"
    store(prepared(folder), brightness, file, about={"model": "one"}, batch=5)
    whole, seen = file.read_bytes(), []

    def failing(images):
        seen.append(len(images))
        if len(seen) == 6:  # three batches before any is kept
            raise KeyboardInterrupt
        return brightness(images)

    with pytest.raises(KeyboardInterrupt):
        store(prepared(folder), failing, file, about={"model": "one"}, batch=5)
    part = tmp_path / "maps.safetensors.part"
    assert file.read_bytes() == whole
    with part.open("ab") as out:
        out.write(b"half a map")
    seen = [0] * 10
    store(prepared(folder), failing, file, about={"model": "one"}, batch=5)
    assert file.read_bytes() == whole and not part.exists()
    assert seen[10:] == [5, 5, 2, 2]  # the mean feature's, and then what was missing
    part.write_bytes(b'{"model": "two"}\n' + b"x" * 100)
    store(prepared(folder), brightness, file, about={"model": "one"}, batch=5)
    assert file.read_bytes() == whole


@pytest.mark.package
def test_the_command_survives_a_kill(tmp_path):
    folder, net = pictures(tmp_path / "images", 300), tmp_path / "net.py"
    net.write_text(NET)
    base = [
        sys.executable,
        "-m",
        "sumix.evidence",
        str(folder),
        "--model",
        f"{net}:make",
        "--size",
        "64",
        "--batch",
        "2",
    ]
    subprocess.run([*base, "-o", str(tmp_path / "whole.safetensors")], cwd=ROOT, check=True)
    process = subprocess.Popen([*base, "-o", str(tmp_path / "maps.safetensors")], cwd=ROOT)
    part, deadline = tmp_path / "maps.safetensors.part", time.monotonic() + 120
    while not (part.exists() and part.stat().st_size > 3000) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.exists() and not (tmp_path / "maps.safetensors").exists()
    subprocess.run([*base, "-o", str(tmp_path / "maps.safetensors")], cwd=ROOT, check=True)
    whole, again = (safetensors.load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "maps"))
    assert len(whole["maps"]) == 300
    assert torch.equal(whole["maps"], again["maps"]) and torch.equal(whole["gate"], again["gate"])


def test_the_dataset_brings_maps_along_and_mixers_take_them(tmp_path):
    folder, file = pictures(tmp_path / "images"), tmp_path / "maps.safetensors"
    store(prepared(folder), brightness, file, about={})
    dataset = EvidenceDataset(prepared_with_labels(folder), file)
    assert len(dataset) == 12
    image, label, pixels, gate = dataset[3]
    assert pixels.shape == image.shape[-2:] and pixels.dtype == torch.uint8 and label == 0 and 0 <= gate <= 1
    images, labels, maps, gates = next(iter(DataLoader(dataset, batch_size=12)))
    mixed, target = ForegroundMix(p=1.0, min_gate=0.0)(images, labels, Evidence(maps, gates), seed=1)
    assert mixed.shape == images.shape and (target.lam < 1).any()
    with pytest.raises(ValueError, match="maps must be those of the dataset's 4 items, got 12"):
        EvidenceDataset(torch.utils.data.Subset(prepared(folder), range(4)), file)
    safetensors.save_file({"weight": torch.ones(12)}, file)
    with pytest.raises(ValueError, match=r"maps must be a file of python -m sumix\.evidence, got one of weight"):
        EvidenceDataset(prepared(folder), file)
    with pytest.raises(ValueError, match="DATASET must hold images, and it is empty"):
        store([], brightness, file, about={})


class WithLabels(torch.utils.data.Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, at):
        return self.images[at], self.labels[at]


def prepared_with_labels(folder):
    return WithLabels(prepared(folder), [label for _, label in Pictures(folder)])


@pytest.mark.skipif(v2 is None, reason="torchvision is not installed")
def test_the_crop_of_a_map_is_the_map_of_the_crop(tmp_path):
    folder, file = pictures(tmp_path / "images", size=(128, 96)), tmp_path / "maps.safetensors"
    store(prepared(folder), brightness, file, about={})
    moves = v2.Compose([v2.RandomResizedCrop(64, scale=(0.3, 0.8), antialias=True), v2.RandomHorizontalFlip()])
    dataset = EvidenceDataset(
        Pictures(folder), file, v2.Compose([v2.ToImage(), moves, v2.ToDtype(torch.float32, True)])
    )
    torch.manual_seed(0)
    compared = 0
    for image, _, pixels, gate in dataset:
        assert type(pixels).__name__ == "Mask" and pixels.shape == (64, 64) and isinstance(gate, float)
        seen = brightness((image.as_subclass(torch.Tensor).unsqueeze(0) - 0.5) / 0.25).map[0]
        stored = F.avg_pool2d(pixels.as_subclass(torch.Tensor)[None].float(), 4)[0]
        if seen.max() - seen.min() > 2:  # the bright square is in the crop
            both = torch.stack([seen.flatten(), stored.flatten()])
            assert torch.corrcoef(both)[0, 1] > 0.6  # cells of the whole image are larger than those of a crop
            compared += 1
    assert compared > 4


def test_bad_calls_of_the_command_are_told(tmp_path, capsys):
    folder, net = pictures(tmp_path / "images"), tmp_path / "net.py"
    net.write_text(NET)
    out = ["-o", str(tmp_path / "maps.safetensors")]
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in [
        ([str(tmp_path / "none"), "--model", f"{net}:make", *out], "DATASET must be a folder"),
        ([str(empty), "--model", f"{net}:make", *out], "DATASET must hold images"),
        ([str(folder), "--model", "resnet50", *out], "--model must be MODULE:NAME"),
        ([str(folder), "--model", f"{net}:NET", *out], "has no attribute 'NET'"),
        ([str(folder), "--model", f"{net}:make", "--layer", "none", *out], "layer must be"),
    ]:
        assert main(arguments) == 1
        assert message in capsys.readouterr().err
    for arguments, message in [
        ([str(folder), "--model", "x:y", "-o", "maps.pt"], "--output must end in .safetensors"),
        ([str(folder), "--model", "x:y", "--batch", "0", *out], "--batch must be at least 1"),
    ]:
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err
