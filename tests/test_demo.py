"""The demo end to end in a process of its own, Ctrl-C, what it is made of, and its calibration error."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

for needed in ("skimage", "sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(needed)

from benchmarks import demo, photographs, study  # noqa: E402
from benchmarks.calibration import expected_calibration_error  # noqa: E402
from benchmarks.step import ROWS  # noqa: E402

ROOT = Path(demo.__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


def start(*arguments, module=True, cwd=ROOT):
    how = ["-m", "benchmarks.demo"] if module else [str(ROOT / "benchmarks" / "demo.py")]
    return subprocess.Popen(
        [sys.executable, *how, "--jobs", "2", *map(str, arguments)],
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
    process = start("--seeds", 2, "--image-steps", 100, "--out", "here", module=False, cwd=tmp_path)
    code, out, err = finish(process)
    assert code == 0, err
    assert "at random places on other photographs" in " ".join(out.split())
    runs = study.read(tmp_path / "here" / "runs.jsonl")
    assert sorted((run["row"], run["seed"]) for run in runs) == sorted((k, s) for k in demo.KEYS for s in (21, 22))
    for run in runs:
        assert run["setting"]["image_steps"] == 100
        assert 0 <= run["top1"] <= 100 and 0 <= run["top1_unseen"] <= 100 and run["seconds"] > 0
        assert f"\n{ROWS[run['row']].about} " in out
    for name in demo.FIGURES:
        assert (tmp_path / "here" / name).read_bytes().startswith(PNG)


@pytest.mark.package
def test_ctrl_c_keeps_the_finished_runs(tmp_path):
    (tmp_path / "pairs.png").write_bytes(b"of an earlier run")
    process = start("--image-steps", 3000, "--out", tmp_path)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if (tmp_path / "runs.jsonl").exists() and (tmp_path / "runs.jsonl").read_text().endswith("\n"):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert 1 <= len(runs) < 28
    assert f"Interrupted: {len(runs)} of 28 runs" in out
    assert all(f"\n{ROWS[run['row']].about} " in out for run in runs)
    assert (tmp_path / "accuracy.png").read_bytes().startswith(PNG)
    assert (tmp_path / "pairs.png").exists() == (tmp_path / "fgmix-ls.pt").exists()  # none of an earlier run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "argument --seeds: must be a whole number from 1 to 100, got '0'"),
        (["--jobs", "two"], "argument --jobs: must be a whole number from 1 to 1024, got 'two'"),
        (["--image-steps", "1.5"], "argument --image-steps: must be a whole number from 50 to 2147483647, got '1.5'"),
        (["--rounds", "1"], "unrecognized arguments: --rounds 1"),
        (["--out", os.devnull], f"argument --out: cannot write to {os.devnull}: File exists"),
    ],
)
def test_bad_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        demo.parse(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_quick_is_one_seed_unless_told(tmp_path):
    out = ["--out", str(tmp_path)]
    whole, quick = demo.parse(out), demo.parse(["--quick", *out])
    assert (whole.seeds, quick.seeds, demo.parse(["--quick", "--seeds", "3", *out]).seeds) == (4, 1, 3)
    assert whole.image_steps == 5 * quick.image_steps


def test_rows_start_alike_and_repeat(tmp_path):
    setting = demo.setting_of(demo.parse(["--image-steps", "100", "--out", str(tmp_path)]))
    setting = replace(setting, images=22, tests=11)
    data = study.load(setting, 21, None)
    assert len(data.classes) == setting.classes == 11
    for key in ("cutmix", "published", "fgmix-ls"):
        (_, one), (_, two) = (study.train(ROWS[key], setting, 21, data) for _ in range(2))
        assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_a_photograph_that_is_missing_is_named(monkeypatch):
    package, distribution, folder, files = photographs.SOURCES[0]
    monkeypatch.setattr(photographs, "SOURCES", ((package, distribution, folder, {**files, "yeti.png": "yeti"}),))
    with pytest.raises(FileNotFoundError, match=r"scikit-image \S+ lacks yeti\.png in "):
        photographs.paths()
    monkeypatch.setattr(photographs, "SOURCES", (("no_such_package", "no-such-package", folder, files),))
    with pytest.raises(FileNotFoundError, match="files of no-such-package: pip install no-such-package"):
        photographs.paths()


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
