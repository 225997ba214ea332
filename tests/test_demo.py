"""The demo end to end in a process of its own, Ctrl-C, its images and its calibration error."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

for needed in ("skimage", "sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(needed)

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks import demo, photographs  # noqa: E402
from benchmarks.calibration import expected_calibration_error  # noqa: E402

ROOT = Path(demo.__file__).parents[1]
NAMES = ["no mixing", "CutMix", "CutMix + SUMix (published)", "CutMix + SUMix (semantic)", "CutMix + SUMix (feature)"]
PNG = b"\x89PNG\r\n\x1a\n"
FAST = ["--threads", "1", "--width", "4"]


def start(*arguments, module=True, cwd=ROOT):
    how = ["-m", "benchmarks.demo"] if module else [str(ROOT / "benchmarks" / "demo.py")]
    return subprocess.Popen(
        [sys.executable, *how, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts background jobs, and so all their children, with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process, timeout=300):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


@pytest.mark.package
def test_a_short_run_writes_its_table_results_and_figures(tmp_path):
    # as a file and from another folder; test_ctrl_c runs it as a module
    process = start("--epochs", 2, "--seed", 3, *FAST, "--out", "here", module=False, cwd=tmp_path)
    code, out, err = finish(process)
    assert code == 0, err
    assert "instance recognition" in out and "no claim of accuracy" in out
    results = json.loads((tmp_path / "here" / "results.json").read_text())
    assert results["complete"] and [row["name"] for row in results["rows"]] == NAMES
    assert (results["epochs"], results["seed"], results["threads"], results["width"]) == (2, 3, 1, 4)
    assert (results["train_crops"], results["test_crops"], len(results["classes"])) == (720, 540, 18)
    for row in results["rows"]:
        assert f"\n{row['name']} " in out and f"{row['top1']:.1f}" in out
        assert 0 <= row["top1"] <= 100 and 0 <= row["ece"] <= 100 and row["seconds"] > 0
        assert len(row["epochs"]) == 2 and row["epochs"][-1]["test_top1"] == row["top1"]
        assert all(0 < epoch["loss"] < 100 and epoch["test_cross_entropy"] > 0 for epoch in row["epochs"])
        assert (row["sumix_share"] > 0) == (row["name"] != "no mixing") and row["sumix_share"] < 100
    assert results["rows"][0]["epochs"][1]["loss"] < results["rows"][0]["epochs"][0]["loss"]  # it learns
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["curves.png", "pairs.png", "results.json"]
    for name in ("curves.png", "pairs.png"):
        assert (tmp_path / "here" / name).read_bytes().startswith(PNG)


@pytest.mark.package
def test_ctrl_c_keeps_the_finished_rows(tmp_path):
    (tmp_path / "pairs.png").write_bytes(b"of an earlier run")
    process = start("--epochs", 12, *FAST, "--out", tmp_path)
    results = tmp_path / "results.json"
    deadline = time.monotonic() + 240
    while not results.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)  # it is there, whole, once the first row is finished
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    record = json.loads(results.read_text())
    rows = [row["name"] for row in record["rows"]]
    assert not record["complete"] and 1 <= len(rows) < len(NAMES) and rows == NAMES[: len(rows)]
    assert f"Interrupted: {len(rows)} of {len(NAMES)} rows" in out
    assert all(f"\n{name} " in out for name in rows)
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    if len(rows) < 3:  # no row with SUMix, so no ratios to show, and none of an earlier run either
        assert not (tmp_path / "pairs.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: must be a whole number from 1 to 2147483647, got '0'"),
        (["--threads", "two"], "argument --threads: must be a whole number from 1 to 1024, got 'two'"),
        (["--seed", "-1"], "argument --seed: must be a whole number from 0 to 2147483647, got '-1'"),
        (["--width", "1.5"], "argument --width: must be a whole number from 1 to 256, got '1.5'"),
        (["--rounds", "1"], "unrecognized arguments: --rounds 1"),
        (["--out", os.devnull], f"argument --out: cannot write to {os.devnull}: File exists"),
    ],
)
def test_bad_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        demo.parse(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_quick_is_three_epochs_unless_told(tmp_path):
    out = ["--out", str(tmp_path)]
    assert demo.parse(out).epochs == 40
    assert demo.parse(["--quick", *out]).epochs == 3
    assert demo.parse(["--quick", "--epochs", "5", *out]).epochs == 5


def test_rows_start_alike_and_repeat(tmp_path):
    logits = []
    for row in demo.ROWS:
        model = demo.build(row, num_classes=18, width=4, seed=5).model.eval()
        logits.append(model(torch.ones(1, 3, 32, 32)))
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    options = demo.parse(["--epochs", "1", "--width", "4", "--seed", "5", "--no-progress", "--out", str(tmp_path)])
    data = photographs.load(train_crops=10, test_crops=4)
    for row in demo.ROWS[3:]:
        one, two = (demo.train(row, data, options)[0] for _ in range(2))
        assert one.epochs == two.epochs and one.ece == two.ece


def test_each_ratio_is_shown_with_every_pair():
    data = photographs.load(train_crops=1, test_crops=4)
    trained = [(row, demo.build(row, 18, width=4, seed=0)) for row in demo.ROWS if row.sumix is not None]
    shown = demo.mixed_pairs(trained, data, seed=0, count=3)
    assert list(shown.ratios) == ["by area", "SUMix (published)", "SUMix (semantic)", "SUMix (feature)"]
    for ratios in shown.ratios.values():
        assert len(ratios) == len(shown.own_names) > 0 and all(0 <= ratio <= 1 for ratio in ratios)


def test_training_and_test_crops_share_no_pixel(monkeypatch):
    taken = []

    def crops(pixels, count, generator):
        taken.append((pixels.__array_interface__["data"][0], pixels.shape, count))
        return torch.rand(count, 3, photographs.SIZE, photographs.SIZE)

    monkeypatch.setattr(photographs, "crops", crops)
    data = photographs.load(train_crops=4, test_crops=3)
    assert data.train_images.shape == (72, 3, 32, 32) and data.test_images.shape == (54, 3, 32, 32)
    assert torch.equal(data.train_labels.bincount(), torch.full((18,), 4))
    assert torch.equal(data.test_labels.bincount(), torch.full((18,), 3))
    for (left, left_shape, _), (right, right_shape, _) in zip(taken[::2], taken[1::2], strict=True):
        assert right - left == 3 * left_shape[1]  # bytes: the test region begins where the training region ends
        assert left_shape[1] == int(0.6 * (left_shape[1] + right_shape[1]))
        assert min(*left_shape[:2], *right_shape[:2]) >= photographs.CROP


def test_crops_are_repeatable_and_standardised():
    one, two, other = photographs.load(5, 2), photographs.load(5, 2), photographs.load(5, 2, seed=1)
    assert torch.equal(one.train_images, two.train_images) and torch.equal(one.test_images, two.test_images)
    assert not torch.equal(one.train_images, other.train_images)
    assert one.train_images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (one.train_images.std((0, 2, 3)) - 1).abs().max() < 1e-4
    pixels = one.test_images * one.std + one.mean
    assert pixels.min() > -1e-4 and pixels.max() < 1 + 1e-4


def test_a_photograph_of_16_bits_gives_the_crops_of_its_8(tmp_path, monkeypatch):
    grey = np.random.default_rng(0).integers(0, 256, (100, 400), np.uint8)
    found = []
    for name, pixels in (("8.png", grey), ("16.png", grey * np.uint16(257))):
        Image.fromarray(pixels).save(tmp_path / name)
        monkeypatch.setattr(photographs, "paths", lambda name=name: {"noise": tmp_path / name})
        found.append(photographs.load(2, 2))
    assert torch.equal(found[0].train_images, found[1].train_images) and torch.equal(found[0].mean, found[1].mean)


def test_a_photograph_that_is_missing_is_named(monkeypatch):
    package, distribution, folder, files = photographs.SOURCES[0]
    monkeypatch.setattr(photographs, "SOURCES", ((package, distribution, folder, {**files, "yeti.png": "yeti"}),))
    with pytest.raises(FileNotFoundError, match=r"scikit-image \S+ lacks yeti\.png in "):
        photographs.load()
    monkeypatch.setattr(photographs, "SOURCES", (("no_such_package", "no-such-package", folder, files),))
    with pytest.raises(FileNotFoundError, match="files of no-such-package: pip install no-such-package"):
        photographs.load()


def test_expected_calibration_error_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    probabilities = (3 * torch.randn(200, 5, generator=generator)).softmax(1)
    labels = torch.randint(5, (200,), generator=generator)
    error = 0.0
    for j in range(15):
        inside = [
            (row.max().item(), row.argmax().item() == label)
            for row, label in zip(probabilities.double(), labels.tolist(), strict=True)
            if j / 15 < row.max().item() <= (j + 1) / 15
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / 200 * abs(confidence - accuracy)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(error, abs=1e-12)


def test_expected_calibration_error_of_known_cases():
    certain = torch.eye(4)
    assert expected_calibration_error(certain, torch.arange(4)) == 0.0
    assert expected_calibration_error(certain, torch.tensor([1, 2, 3, 0])) == 1.0
    even = torch.tensor([[0.75, 0.25]] * 4)
    assert expected_calibration_error(even, torch.tensor([0, 0, 0, 1])) == pytest.approx(0.0)
