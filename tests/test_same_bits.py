"""One seed gives the same mix, bit for bit, with every instruction set of our kernels, and of torch where we say so.

Every mixer runs in processes of their own, one for each value of SUMIX_CPU_ISA, and of torch's ATEN_CPU_CAPABILITY,
that this processor has. FMix's and SmoothMix's masks are made by functions of torch (exp, pow, FFT, mean), which give
other bits with other instruction sets, so they are left out where torch's instruction set changes.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from sumix import _C, MixTarget
from sumix.ops import mix_box_, mix_resize_
from tests.mixers import MIXERS

ROOT = pathlib.Path(__file__).resolve().parents[1]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)  # which those that look at images do not take
SHAPE = (6, 3, 20, 27)
TAKE_INTEGERS = ("MixUp", "FMix soft", "ResizeMix bilinear", "SmoothMix")
MASKS_BY_TORCH = ("FMix", "SmoothMix", "RandomMix a batch", "RandomMix masks", "RandomMix nested", "RandomMix all")


def mixes() -> Iterator[tuple[str, list[torch.Tensor]]]:
    """What must be the same, by name: images, targets and gradients."""
    for name, make in MIXERS.items():
        for dtype in DTYPES + (INTEGERS if name in TAKE_INTEGERS else ()):
            for last in (False, True):
                yield f"{name}, {dtype}{', channels_last' * last}", mixed_by(make, SHAPE, dtype, last)
        for dtype in (torch.float32, torch.float16):
            yield f"{name}, normalised to {dtype}", normalised_by(make, dtype)
    for mode in ("nearest", "bilinear"):
        yield f"in place, {mode}", in_place(mode)


def batch(shape: tuple[int, ...], dtype: torch.dtype, last: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    # Whole numbers, whose conversion and division every torch rounds alike.
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(len(shape)))
    images = pixels.to(dtype) / 255 if dtype.is_floating_point else pixels.to(dtype)
    labels = torch.arange(shape[0]) % 3
    return images.contiguous(memory_format=torch.channels_last) if last else images, labels


def mixed_by(make: Callable, shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> list[torch.Tensor]:
    images, labels = batch(shape, dtype, last)
    found = []
    for seed in (1, 2):
        leaf = images.clone().requires_grad_(dtype.is_floating_point)
        mixed, target = make()(leaf, labels, seed=seed)
        found += [mixed.detach(), *parts(target), target.soft(3, 0.1)]
        if leaf.requires_grad:
            found += torch.autograd.grad(mixed, leaf, images.flip(0))
    return found


def parts(target: MixTarget) -> list[torch.Tensor]:
    return [part for part in (target.lam, target.perm, target.box, target.mask, target.resize) if part is not None]


def normalised_by(make: Callable, dtype: torch.dtype) -> list[torch.Tensor]:
    images, labels = batch(SHAPE, torch.uint8)
    mix = make(normalize=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), dtype=dtype)
    last = images.contiguous(memory_format=torch.channels_last)
    return [mix(images, labels, seed=3)[0], mix(last, labels, seed=4)[0], mix.unmixed(images)]


def in_place(mode: str) -> list[torch.Tensor]:
    images, _ = batch(SHAPE, torch.float32)
    box = torch.tensor([[0, 0, 27, 20], [3, 4, 20, 15], [5, 5, 6, 6], [0, 0, 0, 0], [1, 2, 9, 20], [13, 0, 27, 9]])
    perm = torch.arange(6).roll(1)
    pasted = images.clone()
    mix_box_(pasted, box, perm)
    mix_resize_(images, box, perm, mode)
    return [pasted, images]


def digests() -> dict[str, str]:
    torch.set_num_threads(1)
    found = {}
    for name, tensors in mixes():
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        found[name] = digest.hexdigest()
    return found


def digests_with(variables: dict[str, str]) -> dict[str, str]:
    code = "import json; from tests.test_same_bits import digests; print(json.dumps(digests()))"
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    if "does not have it" in done.stderr:
        pytest.skip(f"no {variables} here")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return digests_with({})


@pytest.mark.parametrize("isa", sorted({"baseline", "v3", "v4"} - {_C.cpu_isa}))
def test_every_instruction_set_gives_these_bits(isa, here):
    assert digests_with({"SUMIX_CPU_ISA": isa}) == here


@pytest.mark.parametrize("level", ["default", "avx2"])
def test_every_instruction_set_of_torch_gives_these_bits(level, here):
    found = digests_with({"ATEN_CPU_CAPABILITY": level})
    assert len(found) > 200
    assert {name: bits for name, bits in found.items() if not name.startswith(MASKS_BY_TORCH)} == {
        name: bits for name, bits in here.items() if not name.startswith(MASKS_BY_TORCH)
    }
