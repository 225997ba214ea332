"""Every example runs, and what it trains learns."""

import ast
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import peers
from sumix import (
    CutMix,
    ForegroundMix,
    MixUp,
    PairedMix,
    RandomMix,
    SUMixLoss,
    SUMixOutput,
    capture_features,
    mix_accuracy,
)
from sumix.integrations.timm import mixer_of

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SHARED = ["digits.py"]  # what the others import
# What is not one process with no arguments, and the least accuracy in percent that shows learning.
# Frameworks import torchvision where there is one, which may be built for another torch: benchmarks/peers.py.
GET_PAST_TORCHVISION = """
import runpy, sys
from benchmarks import peers
peers.load("torchvision")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LEAST = {
    "accelerate_loop.py": 80,
    "audio.py": 80,
    "ddp.py": 80,
    "fsdp2.py": 80,
    "huggingface_trainer.py": 80,
    "lightning_module.py": 80,
    "plain_loop.py": 80,
    "segmentation.py": 40,
    "video.py": 70,
}


def run(name: str, *arguments: str) -> str:
    launcher = TORCHRUN if name in ("ddp.py", "fsdp2.py") else ["-c", GET_PAST_TORCHVISION]
    path = os.pathsep.join([str(ROOT), str(EXAMPLES)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *launcher, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def accuracies(printed: str) -> list[float]:
    return [float(number) for number in re.findall(r"validation:? ([0-9.]+)%", printed)]


def test_every_example_is_run():
    assert sorted([*LEAST, *SHARED]) == sorted(path.name for path in EXAMPLES.glob("*.py"))
    table = (EXAMPLES / "README.md").read_text()
    assert all(f"[{path.name}]({path.name})" in table for path in EXAMPLES.iterdir() if path.name in LEAST)


@pytest.mark.package
@pytest.mark.parametrize("name", [name for name in LEAST if name != "plain_loop.py"])
def test_an_example_learns(name):
    assert accuracies(run(name))[-1] >= LEAST[name]


@pytest.mark.package
def test_the_plain_loop_learns_and_resumes(tmp_path):
    whole = run("plain_loop.py", "--epochs", "3", "--checkpoint", str(tmp_path / "whole.pt"))
    assert accuracies(whole)[-1] >= LEAST["plain_loop.py"]
    first = run("plain_loop.py", "--epochs", "1", "--checkpoint", str(tmp_path / "parts.pt"))
    rest = run("plain_loop.py", "--epochs", "3", "--checkpoint", str(tmp_path / "parts.pt"))
    assert first + rest == whole


def arguments(**changes):
    given = {
        "mixup": 0.8, "cutmix": 1.0, "cutmix_minmax": None, "mixup_prob": 0.5, "mixup_switch_prob": 0.25,
        "mixup_mode": "batch",
    }  # fmt: skip
    return SimpleNamespace(**{**given, **changes})


def test_timms_arguments():
    both = mixer_of(arguments())
    assert isinstance(both, RandomMix) and both.weights == (0.75, 0.25) and not both.per_sample
    assert [type(mixer) for mixer in both.mixers] == [MixUp, CutMix]
    assert [mixer.alpha for mixer in both.mixers] == [0.8, 1.0] and [mixer.p for mixer in both.mixers] == [0.5, 0.5]
    one = mixer_of(arguments(mixup=0.0, mixup_mode="elem"), partners="cross_class")
    assert isinstance(one, CutMix) and one.per_sample and one.partners == "cross_class" and one.p == 0.5
    assert mixer_of(arguments(mixup=0, cutmix=0, cutmix_minmax=[0.2, 0.8])).minmax == (0.2, 0.8)
    assert isinstance(mixer_of(arguments(cutmix=0)), MixUp)
    with pytest.raises(ValueError, match='--mixup-mode must be "batch" or "elem", got \'pair\''):
        mixer_of(arguments(mixup_mode="pair"))
    with pytest.raises(ValueError, match="nothing to mix"):
        mixer_of(arguments(mixup=0, cutmix=0))


def test_a_metric_over_batches():
    peers.load("torchvision")
    from sumix.integrations.torchmetrics import MixAccuracy

    torch.manual_seed(0)
    metric, weights, found = MixAccuracy(topk=2, ignore_index=4), [], []
    assert metric.compute().isnan()
    for n in (6, 3, 1):
        logits, labels = torch.randn(n, 5), torch.randint(5, (n,))
        target = CutMix()(torch.rand(n, 1, 8, 8), labels)[1]
        metric.update(SUMixOutput(logits), target)
        kept = (target.lam * (target.y_a != 4) + (1 - target.lam) * (target.y_b != 4)).sum()
        weights.append(kept), found.append(mix_accuracy(logits, target, topk=2, ignore_index=4))
    want = sum(w * f for w, f in zip(weights, found, strict=True) if w > 0) / sum(weights)
    torch.testing.assert_close(metric.compute(), want)
    metric.reset()
    assert metric.compute().isnan()
    with pytest.raises(ValueError, match="topk"):
        MixAccuracy(topk=0)
    with pytest.raises(TypeError, match="target must be a MixTarget or a Tensor"):
        metric.update(logits, None)


def hunks(name: str) -> list[tuple[int, list[str]]]:
    """Where a patch inserts, and what."""
    found, patch = [], (EXAMPLES / name).read_text()
    for head, body in re.findall(r"^@@ -(\d+),0 \+\d+(?:,\d+)? @@\n((?:\+.*\n)+)", patch, re.MULTILINE):
        found.append((int(head), [line[1:] for line in body.splitlines()]))
    changed = [line for line in patch.splitlines() if not line.startswith(("---", "+++", "@@"))]
    assert changed and sum(len(lines) for _, lines in found) == len(changed)  # insertions alone
    return found


@pytest.mark.parametrize("name", ["timm_train.patch", "torchvision_train.patch"])
def test_patches_insert_what_works(name):
    """What a reference script does with the inserted lines: an epoch in their order, between stand-ins for its own."""
    script = [line for _, lines in hunks(name) for line in lines]
    ast.parse("\n".join(line.strip() if not line.strip().endswith(":") else line.strip() + " pass" for line in script))
    imports = [line for line in script if line.startswith(("from ", "import "))]
    exec("\n".join(imports), names := {})
    assert {"SUMixLoss", "PairedMix", "capture_features"} <= names.keys()


def test_a_loop_with_one_batch_and_one_criterion():
    """timm's and torchvision's: the output of the pair goes to the criterion as it is."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 5),
    )  # fmt: skip
    capture_features(model)
    mix, criterion = PairedMix(mixer_of(arguments(mixup_prob=1.0))), SUMixLoss(gamma=0.1, ratio="feature")
    images, labels = torch.rand(6, 3, 16, 16), torch.arange(6) % 5
    both, target = mix(images, labels)
    assert both.shape == (12, 3, 16, 16) and torch.equal(both[6:], images) and torch.equal(both[:6], target.mix(images))
    output = model(both)
    loss = criterion(output, target)
    torch.testing.assert_close(loss, criterion(output[:6], output[6:], target), rtol=0, atol=0)
    assert mix.mixup_enabled
    mix.mixup_enabled = False
    both, target = mix(images, labels)
    assert torch.equal(both[:6], images) and (target.lam == 1).all() and not mix.mixup_enabled
    for bad in (model(both)[:11], output.logits[:5]):
        with pytest.raises(ValueError, match=r"both must have a row for each of the 12 images"):
            criterion(bad, target)
    with pytest.raises(TypeError, match=r"target must be given: .*got SUMixOutput"):
        criterion(output, output)
    with pytest.raises(TypeError, match="both must be a SUMixOutput or a Tensor of logits, got list"):
        criterion([output], target)


def test_the_trainer_looks_at_the_unmixed_images():
    peers.load("torchvision")  # which transformers imports
    huggingface = pytest.importorskip("sumix.integrations.huggingface", exc_type=ImportError)
    for mix, message in (CutMix(inplace=True), "not work in place"), (CutMix(num_classes=3), "have no num_classes"):
        with pytest.raises(ValueError, match=f"mix must {message}"):
            huggingface.SUMixTrainer(mix=mix)
    model, seen = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mix, criterion = CutMix(minmax=(0.4, 0.6), normalize=(0.5, 0.25)), SUMixLoss(ratio="area")
    trainer = SimpleNamespace(mix=mix, criterion=criterion, model=model, evidence=None)
    pixels = torch.randint(256, (4, 3, 4, 4), dtype=torch.uint8)
    inputs = {"pixel_values": pixels, "labels": torch.arange(4) % 3}
    assert huggingface.SUMixTrainer.compute_loss(trainer, model, inputs).isfinite()
    torch.testing.assert_close(seen[0][4:], (pixels / 255 - 0.5) / 0.25)
    trainer.mix.rule, trainer.evidence = "visible", lambda images: torch.full((len(images), 2, 2), math.nan)
    assert huggingface.SUMixTrainer.compute_loss(trainer, model, inputs).isnan()  # by the weights of the rule
    with pytest.raises(ValueError, match="evidence must be given for a mix with rule"):
        huggingface.SUMixTrainer(mix=ForegroundMix())
    trainer.mix.inplace, trainer.mix.normalize = True, None
    with pytest.raises(ValueError, match="mix must not work in place"):
        huggingface.SUMixTrainer.compute_loss(trainer, model, inputs)
