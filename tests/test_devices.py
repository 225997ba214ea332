"""Where tensors are: what importing under torch's modes leaves behind, default devices, and tensors on two devices."""

import contextlib
import dataclasses
import functools
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sumix import CutMix, SUMixHead, SUMixLoss, ops
from tests import gpu
from tests.fuzz import SCHEMAS, Generator, on_meta
from tests.mixers import MIXERS

# ---- Importing ----

NO_TENSOR = """
import importlib, pkgutil, torch
from torch.utils._python_dispatch import TorchDispatchMode

class NoTensor(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} was called while sumix was imported")

with NoTensor():
    import sumix
    for module in pkgutil.walk_packages(sumix.__path__, "sumix."):
        if not module.name.startswith("sumix.integrations."):  # which import frameworks, and what these make
            importlib.import_module(module.name)
"""

IMPORTS = [
    "import sumix",
    'with torch.device("meta"): import sumix',
    'torch.set_default_device("meta"); import sumix; torch.set_default_device("cpu")',
    "with FakeTensorMode(): import sumix",
    "with torch.inference_mode(): import sumix",
    "torch.set_default_dtype(torch.float64); import sumix; torch.set_default_dtype(torch.float32)",
]

USE = """
torch.manual_seed(0)
z, r = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
images, labels = torch.rand(6, 3, 16, 16), torch.arange(6) % 5
mixed, target = sumix.SaliencyMix()(images, labels, seed=3)
loss = sumix.SUMixLoss(gamma=0.1)(sumix.SUMixOutput(z, None), sumix.SUMixOutput(r, None), target)
loss.backward()
found = [loss, z.grad, mixed, target.lam, target.box, sumix.ops.saliency_peak(images)]
for mix in (sumix.FMix(), sumix.RandomMix([sumix.CutMix(), sumix.MixUp()])):
    found.append(mix(images, labels, seed=5)[0])
print([(str(x.device), str(x.dtype), x.tolist()) for x in found])
"""


# One process for each, of a common parent, which has imported torch.
EACH = """
import os, sys, torch
from torch._subclasses.fake_tensor import FakeTensorMode
for how in IMPORTS:
    if os.fork() == 0:
        exec(how)
        exec(USE)
        sys.stdout.flush()
        os._exit(0)
    if os.wait()[1] != 0:
        sys.exit(how)
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_tensor_is_made_at_import():
    pytest.importorskip("matplotlib")  # for sumix.visualize
    run(NO_TENSOR)


def test_how_it_was_imported_changes_nothing():
    results = run(f"IMPORTS, USE = {IMPORTS!r}, {USE!r}\n{EACH}").splitlines()
    assert len(results) == len(IMPORTS) and "'cpu'" in results[0]
    for how, found in zip(IMPORTS, results, strict=True):
        assert found == results[0], how


# ---- The default device while it is used ----


@pytest.fixture(params=["device", "set_default_device"])
def elsewhere(request):
    """Call a function while tensors that name no device are made on the meta device."""

    def call(function):
        if request.param == "device":
            with torch.device("meta"):
                return function()
        torch.set_default_device("meta")
        try:
            return function()
        finally:
            torch.set_default_device(None)

    return call


def assert_same(got, want):
    assert [x.device for x in got] == [x.device for x in want]
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", gpu.CALLS)
def test_ops_use_the_device_of_their_tensors(name, elsewhere, monkeypatch):
    monkeypatch.setattr(gpu, "DEVICE", torch.device("cpu"))
    want, tensors = gpu.results(gpu.CALLS[name](gpu.tensors())), gpu.tensors()
    assert_same(gpu.results(elsewhere(lambda: gpu.CALLS[name](tensors))), want)


@pytest.mark.parametrize("name", MIXERS)
def test_mixers_use_the_device_of_their_images(name, elsewhere):
    images, labels = torch.rand(6, 3, 12, 14), torch.arange(6)

    def parts():
        """The mixer is made there as well, and remembers numbers."""
        mix = MIXERS[name]()
        mixed, target = mix(images, labels, seed=1)
        bytes_too = MIXERS[name](normalize=((0.4, 0.5, 0.6), 0.25), num_classes=6)
        pixels = (images * 255).to(torch.uint8)
        normalized, soft = bytes_too(pixels, labels, seed=2)
        kept = [x for x in vars(target).values() if isinstance(x, torch.Tensor)]
        return [mixed, *kept, normalized, soft, bytes_too.unmixed(pixels), target.mix(images), target[[0, 2]].lam]

    want = parts()
    assert_same(elsewhere(parts), want)


@pytest.mark.parametrize("ratio", ["semantic", "published", "area", "feature"])
@pytest.mark.parametrize("plain", [False, True])
def test_the_loss_uses_the_device_of_its_rows(ratio, plain, elsewhere):
    images, labels = torch.rand(6, 3, 12, 14), torch.arange(6)
    _, target = CutMix()(images, labels, seed=1)
    head = SUMixHead(8, 6)
    maps = torch.rand(6, 8, 3, 3), torch.rand(6, 8, 3, 3)

    def parts():
        head.zero_grad()
        mixed, raw = (head(x) for x in maps)
        if plain:
            mixed, raw = (dataclasses.replace(output, uncertainty=None) for output in (mixed, raw))
        loss, parts = SUMixLoss(gamma=0.1, ratio=ratio, return_parts=True)(mixed, raw, target)
        loss.backward()
        return [loss, *parts, *(p.grad.clone() for p in head.parameters() if p.grad is not None)]

    want = parts()
    assert_same(elsewhere(parts), want)


# ---- Tensors on several devices ----


def spread_out():
    """Every op with each of its tensors in turn on another device than the others, good calls otherwise."""
    for op, schema in SCHEMAS.items():
        tensors = [at for at, argument in enumerate(schema.arguments) if str(argument.type) == "Tensor"]
        if len(tensors) > 1:
            yield from (pytest.param(op, at, id=f"{op} {schema.arguments[at].name}") for at in tensors)


@functools.cache
def good_calls(op):
    """Calls that succeed, some of an empty batch."""
    generator, found = Generator(0), []
    for n in (0, 0, 3, 4):
        call = generator.good(op, n=n)
        while not call.check():
            call = generator.good(op, n=n)
        found.append(call)
    return found


@pytest.mark.parametrize("fake", [False, True], ids=["eager", "fake"])
@pytest.mark.parametrize(("op", "at"), list(spread_out()))
def test_an_op_refuses_tensors_of_two_devices(op, at, fake):
    message = rf"sumix::{op}: \w+ must be on the device of \w+, (cpu, got meta|meta, got cpu)"
    for call in good_calls(op):
        arguments = call.make()
        with FakeTensorMode() if fake else contextlib.nullcontext() as mode:
            if fake:
                arguments = [mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in arguments]
            call.run(arguments)
            arguments[at] = on_meta(arguments[at])
            with pytest.raises(RuntimeError, match=message):
                call.run(arguments)


def test_wrappers_name_what_is_elsewhere():
    z, y, perm, lam = torch.randn(4, 5), torch.arange(4), torch.arange(4), torch.rand(4)
    images = torch.rand(4, 3, 8, 8)
    for name, call in {
        "weight": lambda: ops.sumix_loss(z, z, None, None, y, y, perm, lam, weight=torch.ones(5, device="meta")),
        "uncertainty": lambda: ops.sumix_loss(z, z, z.to("meta"), z, y, y, perm, lam),
        "mean": lambda: ops.saliency_peak(images, mean=torch.ones(3, device="meta"), std=torch.ones(3)),
        "soft": lambda: ops.mask_top_k(images[:, 0], perm, perm.to("meta")),
    }.items():
        with pytest.raises(ValueError, match=f"{name} must be on the device of"):
            call()
