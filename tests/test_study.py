"""Composites know where their objects are, and the study trains what is missing, paired by seed."""

import hashlib
import io
import json
import re
import tarfile
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import composites, study
from benchmarks.nets import NarrowResNet
from benchmarks.step import ROWS, Step, with_head


@pytest.fixture(scope="module")
def wheels():
    return composites.wheels()


def plain(colour, size=64):
    return Image.new("RGBA", (size, size), (*colour, 255))


def test_masks_are_where_the_object_is():
    backgrounds = [Image.new("RGB", (100, 80), (0, 0, 255))]
    made = composites.make([plain((255, 0, 0)), plain((0, 255, 0))], backgrounds, [0, 1] * 50, 0.25, random(0))
    assert made.images.shape == (100, 3, 48, 48) and made.masks.shape == (100, 48, 48)
    assert made.labels.tolist() == [0, 1] * 50
    shown = made.images.argmax(dim=1)
    inside, outside = made.masks > 0.9, made.masks < 0.1
    assert (shown == made.labels.view(-1, 1, 1))[inside].all()
    assert (shown == 2)[outside].all()
    assert (inside | outside).double().mean() > 0.9
    share = made.masks.double().mean((1, 2))
    assert share.min() > 0.14 and share.max() < 0.36
    assert share.mean().item() == pytest.approx(0.25, abs=0.02)


def test_objects_longer_than_the_frame_are_cut_off():
    long = Image.new("RGBA", (200, 20), (255, 0, 0, 255))
    made = composites.make([long], [Image.new("RGB", (80, 80))], [0] * 50, 0.6, random(0))
    share = made.masks.double().mean((1, 2))
    assert 0.05 < share.max() < 0.3


def test_equal_generators_make_equal_composites(wheels):
    objects = list(wheels.objects.values())
    assert len(objects) == 11
    one, same, other = (composites.make(objects, wheels.seen, [3, 5], 0.25, random(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images) and torch.equal(one.masks, same.masks)
    assert not torch.equal(one.images, other.images)


def random(seed):
    return np.random.default_rng(seed)


def deb(files):
    """A .deb with these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    package = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", stream.getvalue())):
        package += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        package += b"\n" * (len(content) % 2)
    return package


def test_fetch_unpacks_what_is_wanted_once(tmp_path, monkeypatch, capsys):
    content = deb({"usr/share/a.png": b"a", "usr/share/b.png": b"b"})
    (tmp_path / "x.deb").write_bytes(content)
    package = composites.Package("x.deb", hashlib.sha256(content).hexdigest(), ("usr/share/b.png",))
    monkeypatch.setattr(composites, "PACKAGES", (package,))
    mirror, folder = tmp_path.as_uri(), tmp_path / "data"
    composites.fetch(folder, mirror)
    assert [file.read_bytes() for file in folder.rglob("*.png")] == [b"b"]
    assert "x.deb" in capsys.readouterr().out
    (tmp_path / "x.deb").unlink()
    composites.fetch(folder, mirror)  # all is there
    assert capsys.readouterr().out == ""

    with pytest.raises(urllib.error.URLError):
        composites.fetch(tmp_path / "other", mirror)
    (tmp_path / "x.deb").write_bytes(content[:-1])
    with pytest.raises(ValueError, match="SHA-256 must be"):
        composites.fetch(tmp_path / "other", mirror)
    with pytest.raises(ValueError, match=r"lacks usr/share/c\.png"):
        composites.unpack(content, ("usr/share/c.png",), tmp_path / "other")


def test_missing_data_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.composites --fetch"):
        composites.debian(tmp_path)
    with pytest.raises(SystemExit, match="study: --data must be"):
        study.main(["--run", "composites25", "--results", str(tmp_path / "r.jsonl")])
    with pytest.raises(SystemExit, match=r"study: --data must be .*train/CLASS"):
        study.main(["--run", "cifar1000", "--results", str(tmp_path / "r.jsonl")])


@pytest.mark.parametrize("key", ROWS)
def test_every_row_takes_a_step(key):
    torch.manual_seed(0)
    row = ROWS[key]
    model = NarrowResNet(3, 4)
    if row.kind == "published":
        with_head(model, "fc")
    step = Step(row, model, 3, {"mean": 0.5, "std": 0.25})
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 3
    masks = torch.zeros(6, 32, 32)
    masks[:, 8:20, 8:20] = 1
    loss = step(images, labels, masks, seed=1)
    assert loss.isfinite()
    loss.backward()
    assert model.stem[0].weight.grad.abs().max() > 0
    assert model.training


def test_rows_share_partners_and_boxes():
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    masks = torch.ones(8, 32, 32)
    targets = {}
    for key in ("cutmix", "cutmix-true", "cutmix-fg", "fgmix-true", "resizemix"):
        torch.manual_seed(0)
        step = Step(ROWS[key], NarrowResNet(8, 4), 8, {})
        targets[key] = step.mixed(images, labels, masks, 5)[1]
    assert all(torch.equal(target.perm, targets["cutmix"].perm) for target in targets.values())
    assert torch.equal(targets["cutmix-fg"].box, targets["cutmix"].box)
    assert torch.allclose(targets["cutmix-true"].label_lam, targets["cutmix"].lam, atol=1e-6)  # all is object


def test_augmentation_moves_masks_with_images():
    images = torch.rand(40, 3, 16, 16)
    moved, masks = study.augmented(images, images[:, 1].clone(), torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, 1], masks)
    assert not torch.equal(moved, images)
    same, none = study.augmented(images, None, torch.Generator().manual_seed(0))
    assert torch.equal(same, moved) and none is None


def test_differences_are_taken_seed_by_seed():
    def runs(key, found):
        return [
            {"set": "wheels", "row": key, "seed": s, "top1": t, "ece": 1.0, "nll": 0.5, "seconds": 1.0}
            for s, t in found.items()
        ]

    text = study.table(runs("none-ls", {1: 50, 2: 70, 3: 90}) + runs("fgmix-ls", {2: 72, 3: 94}), "wheels")
    line = re.split(r"\s{2,}", text.splitlines()[-1])
    assert line[:3] == ["ForegroundMix, smoothing", "2", "83.0 +- 11.0"]
    assert line[-2] == "3.0 +- 1.0"  # minus none-ls; cutmix and none have no seed


@pytest.mark.package
def test_the_study_resumes(tmp_path, capsys):
    file = tmp_path / "results" / "study.jsonl"
    arguments = ["--run", "wheels", "--seeds", "11", "--image-steps", "200", "--results", str(file)]
    study.main([*arguments, "--rows", "none-ls"])
    (first,) = map(json.loads, file.read_text().splitlines())
    assert (first["set"], first["row"], first["seed"]) == ("wheels", "none-ls", 11)
    assert 0 <= first["top1"] <= 100 and first["setting"]["image_steps"] == 200
    capsys.readouterr()
    study.main([*arguments, "--rows", "none-ls", "fgmix-ls"])
    again, second = map(json.loads, file.read_text().splitlines())
    assert again == first and second["row"] == "fgmix-ls"
    assert "none-ls seed" not in capsys.readouterr().out
    study.main(["--results", str(file)])
    assert "ForegroundMix, smoothing" in capsys.readouterr().out
