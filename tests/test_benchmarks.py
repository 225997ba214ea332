"""The benches run from end to end, report every contestant, and stop on one that computes something else."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import sumix
from benchmarks import batches, bench_transforms, common, direction, gpu, memory, peers, roofline

ROOT = Path(peers.__file__).parents[1]
COMPILED = ["compiled twin"] if shutil.which(os.environ.get("CXX", "g++")) else []


def run_bench(module, file, *arguments):
    """What one quick run writes, and its rows by (group, dtype) and name."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--quick", "--json", file, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert document["environment"]["threads"] == 1
    assert document["environment"]["sumix_cpu_isa"] == sumix._C.cpu_isa
    groups = {}
    for row in document["rows"]:
        assert 0 < row["min_us"] <= row["q1_us"] <= row["median_us"] <= row["q3_us"]
        assert row["repeats"] == 3 and row["loops"] >= 1
        groups.setdefault((row["group"], row["dtype"]), {})[row["name"]] = row
    return document, groups


@pytest.mark.package
def test_bench_loss_reports_every_contestant(tmp_path):
    arguments = ["--setting", "published", *([] if COMPILED else ["--no-compile"])]
    document, groups = run_bench("bench_loss", tmp_path / "new" / "loss.json", *arguments)

    (compared, apart) = groups.values()
    ours = ["ops.sumix_loss", "SUMixLoss"]
    assert list(compared) == [*ours, "eager twin", *COMPILED, "step-by-step port", "clone()"]
    assert all(row["ratio_to"]["ops.sumix_loss"] > 0 and row["gb_per_s"] > 0 for row in compared.values())
    assert len(apart) == 7
    (parts,) = document["parts_us"]
    measured = apart["forward and backward"]["median_us"]
    names = ("kernel", "dispatch", "wrapper", "autograd", "rest")
    assert sum(parts[name] for name in names) == pytest.approx(measured, abs=0.01)

    peaks = {row["name"]: row for row in document["peak_bytes"]}
    assert list(peaks) == ["ops.sumix_loss", "eager twin"]
    array = peaks["ops.sumix_loss"]["array"]
    assert array == 1024 * 1000 * 4
    # Outputs only: three gradients of (N, K), and what is of (N,).
    assert 3 * array <= peaks["ops.sumix_loss"]["allocated"] < 3.1 * array
    assert peaks["eager twin"]["allocated"] > 2 * peaks["ops.sumix_loss"]["allocated"]


@pytest.mark.package
def test_bench_mix_reports_every_contestant(tmp_path):
    _, groups = run_bench("bench_mix", tmp_path / "mix.json")
    for dtype in ("float32", "uint8"):
        for op in ("mix_box", "mix_linear", "mix_mask", "mix_resize"):
            in_place = [f"ops.{op}_"] if op in ("mix_box", "mix_resize") else []
            assert list(groups[op, dtype]) == ["clone()", "copy_()", f"ops.{op}", *in_place, "eager twin"]
            assert set(groups[op, dtype]["eager twin"]["ratio_to"]) == {"clone()"}
    ways = ["ops, box", "ops, lam", "ops, step by step", "eager twin"]
    assert list(groups["mix_normalize", "uint8"]) == ["clone()", "copy_()", *ways]


@pytest.mark.package
def test_bench_transforms_reports_every_contestant_that_is_installed(tmp_path):
    _, groups = run_bench("bench_transforms", tmp_path / "transforms.json")
    rows = {"torchvision": ["torchvision"], "timm": ["timm, batch", "timm, elem"], "kornia": ["kornia"]}
    rows["mixup"] = ["mixup"]
    installed = {name for name in peers.NAMES if peers.load(name) is not None}

    def of(*names):
        return [row for name in names if name in installed for row in rows[name]]

    ours, every = ["clone()", "sumix", "sumix, one a batch"], of("torchvision", "timm", "kornia", "mixup")
    expected = {kind: [*ours, *of("mixup")] for kind in ("SaliencyMix", "FMix")}
    expected |= {kind: [*ours, "sumix, MixTarget", *every] for kind in ("CutMix", "MixUp")}
    expected["ResizeMix"] = ["clone()", "sumix", "sumix, bilinear", "sumix, one a batch", *of("mixup")]
    expected |= {kind: ours for kind in ("GridMix", "SmoothMix")}
    expected["RandomMix"] = [*ours, *of("torchvision", "timm", "mixup")]
    others = {"Mixer", "SUMixCollate", "ForegroundMix"}  # the last needs evidence, and no peer has its like
    assert set(expected) == set(bench_transforms.OURS) == set(sumix.transforms.__all__) - others
    for kind, names in expected.items():
        assert list(groups[kind, "float32"]) == names
        cut = ("torchvision", "timm, batch") if kind == "CutMix" else ()
        assert list(groups[kind, "uint8"]) == [name for name in names if name not in every or name in cut]
        assert all(set(row["ratio_to"]) == {"clone()", "sumix"} for row in groups[kind, "float32"].values())
    ways = ["clone()", "sumix", "sumix, step by step", *of("torchvision")]
    assert list(groups["CutMix, normalised", "uint8"]) == ways


@pytest.mark.parametrize("kind", ["CutMix", "SaliencyMix"])
def test_labels_that_do_not_say_what_the_images_hold_are_found(kind):
    batch = batches.Batch((8, 3, 16, 16), torch.float32, 10)
    mix = bench_transforms.OURS[kind](num_classes=10, generator=torch.Generator().manual_seed(0))

    def wrong(images, labels):
        mixed, soft = mix(images, labels)
        return mixed, F.normalize(soft.square(), p=1)

    def unmixed(images, labels):
        return images, torch.eye(10)[labels]

    error = bench_transforms._label_error
    assert error(mix, batch) < 1e-5 and error(wrong, batch) > 0.01 and error(unmixed, batch) == float("inf")


@pytest.mark.package
def test_bench_sample_reports_every_contestant(tmp_path):
    _, groups = run_bench("bench_sample", tmp_path / "sample.json")
    for op, dtype in [("lam", "float32"), ("box", "int64"), ("perm", "int64"), ("normal", "float32")]:
        rows = groups[f"sample_{op}", dtype]
        assert list(rows)[:3] == [f"ops.sample_{op}", f"torch.ops.sumix.sample_{op}", "eager twin"]
        assert all(row["ratio_to"][f"ops.sample_{op}"] > 0 for row in rows.values())
    assert ("timm, elem" in groups["sample_box", "int64"]) == (peers.load("timm") is not None)


@pytest.mark.package
def test_bench_saliency_reports_every_contestant(tmp_path):
    document, groups = run_bench("bench_saliency", tmp_path / "saliency.json")

    opencv = ["OpenCV"] if peers.opencv() is not None else []
    for dtype in ("uint8", "float32"):
        assert list(groups["saliency", dtype]) == ["ops.saliency", "ops.saliency_peak", "eager twin", *opencv]
    assert [row["dtype"] for row in document["us_an_image"]] == ["uint8", "float32"]


@pytest.mark.package
def test_bench_masked_similarity_runs(tmp_path):
    arguments = [] if COMPILED else ["--no-compile"]
    _, groups = run_bench("bench_masked_similarity", tmp_path / "masked_similarity.json", *arguments)
    (rows,) = groups.values()
    assert list(rows) == ["sum()", "ops.masked_similarity", *COMPILED, "eager twin"]


@pytest.mark.package
def test_bench_foreground_runs(tmp_path):
    arguments = [] if COMPILED else ["--no-compile"]
    _, groups = run_bench("bench_foreground", tmp_path / "foreground.json", *arguments)
    (rows,) = groups.values()
    assert list(rows) == ["sum() of both", "ops.masked_similarity", "ops.foreground", *COMPILED, "eager twin"]


def run_gpu(*arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--repeats", "2", "--no-compile", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.package
def test_the_gpu_bench_runs_on_a_cpu(tmp_path):
    file = tmp_path / "gpu.json"
    done = run_gpu("--device", "cpu", "--json", str(file))
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    groups = {}
    for row in document["rows"]:
        groups.setdefault(row["group"], {})[row["name"]] = row
        for kind in ("call", "gpu"):
            assert 0 < row[f"{kind}_us"]["min"] <= row[f"{kind}_us"]["median"]
        assert row["launches"] > 0 and (row["bytes"] is None or row["of_copy"] > 0)
    wanted = {"loss, forward and backward", "mix_box", "mix_normalize", "CutMix", "FMix", "saliency", "mask_top_k"}
    assert wanted | {"sample_lam", "sample_perm", "masked_similarity", "foreground"} <= set(groups)
    assert groups["mix_box"]["eager twin"]["gpu_ratio_to"]["clone()"] > 0
    (step,) = document["launches_of_the_loss"]
    assert step["SUMixLoss"] < step["eager twin"] < step["step-by-step port"]
    assert len(document["copy_gb_per_s"]) == 2
    assert [left["name"] for left in document["left_out"] if left["name"].startswith(gpu.OURS)] == []


def test_what_counts_as_a_launch():
    kinds = torch.autograd.DeviceType
    events = [types.SimpleNamespace(device_type=kinds.CUDA, is_user_annotation=name) for name in (False, True)]
    assert [gpu.is_launch(event) for event in events] == [True, False]
    assert not gpu.is_launch(types.SimpleNamespace(device_type=kinds.CPU, is_user_annotation=False))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_bench_says_that_there_is_no_gpu(tmp_path):
    done = run_gpu("--json", str(tmp_path / "gpu.json"))
    assert done.returncode == 1 and done.stderr.startswith("no GPU: ") and done.stdout == ""
    assert not (tmp_path / "gpu.json").exists()


def test_a_gpu_bench_leaves_out_peers_that_fail_and_stops_where_ours_do(capsys):
    options = argparse.Namespace(threads=1, repeats=1, min_sample_ms=0.01, quick=True, json=None)
    report = gpu.GpuReport(options, gpu.Timer(common.CPU, True))
    wrong = contestant("wrong", torch.zeros(3))
    assert list(report.run(group_of(RIGHT, wrong))) == ["right"]
    (left,) = report.extra["left_out"]
    assert left["name"] == "wrong" and "WrongResult" in left["reason"]
    with pytest.raises(common.WrongResult):
        report.run(group_of(RIGHT, contestant("ops.wrong", torch.zeros(3))))


@pytest.mark.filterwarnings("ignore:sumix:UserWarning")  # that they may collapse is what they show
def test_every_row_of_the_plain_form_trains(monkeypatch):
    pytest.importorskip("sklearn")
    from benchmarks import plain_form

    monkeypatch.setattr(plain_form, "EPOCHS", 1)
    monkeypatch.setattr(plain_form, "TRAIN", 256)
    for _, normalized, options in plain_form.ROWS:
        assert 0 <= plain_form.accuracy(0, normalized, options) <= 100


def test_only_the_semantic_ratio_follows_what_is_visible(capsys):
    direction.main()
    rows = [line.rsplit(maxsplit=3) for line in capsys.readouterr().out.splitlines()[3:]]
    assert [name.split()[0] for name, *_ in rows] == ["area", *["published,"] * 2, *["semantic,"] * 2]
    for name, *values in rows:
        a, both, b = map(float, values)
        assert both == 0.5
        assert a == b if name == "area" else (a > both > b) == name.startswith("semantic")


@pytest.mark.package
def test_bench_mask_reports_every_contestant_that_is_installed(tmp_path):
    _, groups = run_bench("bench_mask", tmp_path / "mask.json")
    ours = "ops.mask_top_k"
    assert list(groups["mask_top_k", "float32"]) == [ours, "topk", "kthvalue", "sort"]
    assert list(groups["mask_top_k, soft edge", "float32"]) == [ours, "sort"]
    theirs = ["mixup, one a batch"] if peers.load("mixup") is not None else []
    rows = groups["FMix", "float32"]
    whole = ["ops.fmix_mask", "published spectrum", "eager twin", "... and a mix"]
    assert list(rows) == [*whole, *theirs, "normals", "image", "k", "top k"]
    assert all(row["ratio_to"]["ops.fmix_mask"] > 0 for row in rows.values())
    assert list(groups["GridMix, SmoothMix", "float32"]) == ["clone()", "grid", "smooth"]


def group_of(*contestants):
    return common.Group("copy", {"size": 3}, contestants, tolerance=1e-6, references=["right"])


def contestant(name, result, calls=None):
    x = torch.arange(3.0)

    def call():
        if calls is not None:
            calls.append(name)
        return result

    return common.Contestant(name, call, lambda: common.distance((call(),), (x,)))


RIGHT = contestant("right", torch.arange(3.0))


@pytest.mark.parametrize(
    "result",
    [
        torch.arange(3.0) + 1e-3,
        torch.full((3,), float("nan")),
        torch.tensor([0.0, 1.0, float("nan")]),
        torch.arange(2.0),
    ],
)
def test_a_wrong_contestant_stops_the_bench_before_anything_is_timed(result, tmp_path, monkeypatch, capsys):
    file = tmp_path / "result.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--json", str(file)])
    timed = []
    monkeypatch.setattr(common, "measure", lambda *_: timed.append(1))

    def bench(options):
        common.Report("test", options).run(group_of(RIGHT, contestant("wrong", result)))

    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as stop:
            common.main(common.parser("A bench."), bench)
    finally:
        torch.set_num_threads(threads)
    assert "copy: size 3: wrong is wrong" in stop.value.code
    assert not timed and not file.exists()


def test_samples_are_interleaved_and_loops_fill_the_shortest_sample(monkeypatch):
    def sample(call, loops):  # by a clock on which every call takes 10 us
        for _ in range(loops):
            call()
        return 1e-5, 1.0

    monkeypatch.setattr(common, "sample", sample)
    calls = []
    group = group_of(contestant("a", torch.arange(3.0), calls), contestant("b", torch.arange(3.0), calls))
    samples, loops = common.measure(group, repeats=4, seconds=1e-4, retakes=0)
    assert {name: len(times) for name, times in samples.items()} == {"a": 4, "b": 4}
    assert loops == {"a": 10, "b": 10}
    rounds = (["a"] * (loops["a"] + 1) + ["b"] * (loops["b"] + 1)) * 4
    assert calls[-len(rounds) :] == rounds


def test_a_ratio_is_the_median_of_the_rounds_own():
    assert common.median_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 3.0]) == 2.0
    assert common.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)
    assert common.quartiles([1.0]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "arguments", [["--threads", "0"], ["--repeats", "-1"], ["--min-sample-ms", "0"], ["--threads", "x"]]
)
def test_bad_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        common.parser("A bench.").parse_args(arguments)
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_an_interrupted_bench_keeps_what_is_done(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    options = argparse.Namespace(threads=1, repeats=2, min_sample_ms=0.01, quick=True, json=file)
    report = common.Report("test", options)
    report.run(group_of(RIGHT))
    assert [row["name"] for row in json.loads(file.read_text())["rows"]] == ["right"]


def test_allocated_peak_counts_what_lives_at_one_time():
    def call():
        a = torch.zeros(1000)
        b = a + 1
        del a
        return b + 1

    assert 2 * 4000 <= memory.allocated_peak(call) < 2 * 4000 + 100  # and a number or two


def test_peers():
    with pytest.raises(ValueError, match="name must be one of torchvision"):
        peers.load("torch")
    for name in peers.NAMES:
        assert (peers.load(name) is None) or peers.version(name) is not None
    if peers.version("torchvision") is not None:
        v2 = peers.load("torchvision").transforms.v2
        images, labels = v2.CutMix(num_classes=4)(torch.rand(4, 3, 8, 8), torch.arange(4))
        assert images.shape == (4, 3, 8, 8) and labels.shape == (4, 4)


def test_eager_traffic_counts_what_is_read_and_written():
    x, rows = torch.randn(8, 16), torch.tensor([1, 3])
    assert roofline.eager_traffic(lambda: x + 1) == (1, 2 * x.nbytes)
    assert roofline.eager_traffic(lambda: x.t().view(16, 8)[:2]) == (0, 0)
    assert roofline.eager_traffic(lambda: x[:1].expand(8, 16) + 1) == (1, x.nbytes + x.nbytes // 8)
    assert roofline.eager_traffic(lambda: x[rows]) == (1, 2 * x[rows].nbytes)
    assert roofline.eager_traffic(lambda: torch.empty(4).fill_(1)) == (1, 2 * 16)


@pytest.mark.package
def test_roofline_prints_every_kernel(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["roofline", "--quick"])
    roofline.main()
    lines = capsys.readouterr().out.splitlines()
    times = {line.split("  ")[0]: line.split() for line in lines[2:]}
    assert {
        "loss, with gradients",
        "mix_box",
        "saliency",
        "mask_top_k",
        "masked_similarity",
        "foreground",
        "sample_perm",
    } <= set(times)
    assert all(float(word) >= 0 for word in times["mix_box"][6:9])


def test_the_published_regulariser_is_next_to_nothing():
    from benchmarks import regulariser

    setting = regulariser.SETTINGS[0]
    published, area = (
        regulariser.shares(setting, regulariser.RATIOS[name], (0, 5)) for name in list(regulariser.RATIOS)[::2]
    )
    assert all(0 <= share < 1e-5 for share in published)
    assert all(1e-3 < share < 1 for share in area)


def test_every_way_to_train_takes_its_step():
    from benchmarks import passes

    for number, step in passes.ways(4, 64, 4).values():
        assert int(number) in (3, 4, 6)
        step()
        assert memory.allocated_peak(step) > 0
