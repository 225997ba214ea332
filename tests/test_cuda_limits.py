"""On a GPU: values that are out of range, more elements than 32 bits count, and the same bits in every run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sumix import SUMixLoss, ops
from tests import gpu
from tests.gpu import CALLS, DEVICE, GRADIENTS, ON_GPU, N, bits, here, results, tensors, there
from tests.mixers import MIXERS

pytestmark = pytest.mark.cuda
ROOT = Path(__file__).parents[1]

# ---- Values that are out of range: a device-side assertion, and never a read beyond an array ----

# The call, where it is wrong, and what the message must name. Each runs in a process of its own, which it ends.
WRONG = [
    ("mix_box", "perm", 9, "perm"),
    ("mix_box", "perm", -1, "perm"),
    ("mix_box", "perm", 2**62, "perm"),
    ("mix_box", "box", 2**40, "box"),
    ("mix_box", "box", -1, "box"),
    ("mix_linear", "perm", 9, "perm"),
    ("mix_linear", "lam", 1.5, "lam"),
    ("mix_linear", "lam", float("nan"), "lam"),
    ("mix_mask", "mask", -0.5, "mask"),
    ("mix_mask", "perm", -1, "perm"),
    ("mix_resize", "box", 2**40, "box"),
    ("mix_resize", "perm", 9, "perm"),
    ("mix_box_", "box", 2**40, "box"),
    ("mix_resize_", "perm", -1, "perm"),
    ("mix_normalize, box", "perm", 9, "perm"),
    ("mix_normalize, box", "channel", float("nan"), "mean|std"),
    ("cut_box", "lam", 2.0, "lam"),
    ("sample_top_k", "lam", float("nan"), "lam"),
    ("mask_top_k", "k", 521, "k"),
    ("mask_top_k", "k", -1, "k"),
    ("evidence_mask", "mask", -0.5, "evidence"),
    ("semantic_distance", "y", 10, "masked"),
    ("semantic_distance", "y", -2, "masked"),
    ("masked_similarity", "perm", 9, "perm"),
    ("masked_similarity", "lam", -0.1, "lam"),
    ("masked_similarity, cam", "y", 10, "labels"),
    ("sumix_loss", "y", 10, "y_a|y_b"),
    ("sumix_loss", "y", -1, "y_a|y_b"),
    ("sumix_loss", "lam", 1.5, "lam"),
    ("sumix_loss, none", "lam", float("nan"), "lam"),
    ("soft_labels", "y", 10, "y_a|y_b"),
    ("soft_labels", "lam", -1.0, "lam"),
]

PROGRAM = """
import sys
import torch
from tests import gpu
name, which, value = sys.argv[1], sys.argv[2], float(sys.argv[3])
t = gpu.tensors()
for good in gpu.results(gpu.CALLS[name](t)):
    good.cpu()
print("right", flush=True)
place = t[which].view(-1)
place[-1] = int(value) if not t[which].is_floating_point() else value
if which == "y":
    t["y"][t["perm"][-1]] = t["y"][-1]
gpu.CALLS[name](t)
if gpu.ON_GPU:
    torch.cuda.synchronize()
print("accepted", flush=True)
"""


@pytest.mark.parametrize(("name", "which", "value", "named"), WRONG, ids=str)
def test_values_out_of_range_are_told(name, which, value, named):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", PROGRAM, name, which, repr(value)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["right"], done.stdout + done.stderr
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if ("Assertion" if ON_GPU else "ValueError") in line]
    assert any(re.search(rf"\b({named})\b", line) for line in told), done.stderr
    if ON_GPU:
        assert "device-side assert" in done.stderr
        assert "illegal memory access" not in done.stderr and "misaligned" not in done.stderr


# ---- Large ----


def enough(gigabytes: float) -> int:
    """How many elements to take: more than 2^31 on a GPU that has the memory free, and a few on a CPU."""
    if not ON_GPU:
        return 2**14
    free, _ = torch.cuda.mem_get_info(DEVICE)
    if free < gigabytes * 1.2e9:
        pytest.skip(f"{gigabytes} GB of GPU memory are not free, only {free / 1e9:.0f}")
    return 2**31 + 2**22


@pytest.fixture(autouse=True)
def _give_back():
    yield
    if ON_GPU:
        torch.cuda.empty_cache()


def long_images(dtype, gigabytes):
    """Images (N, 4, side, side), the last of them beyond 2^31 elements, and what mixes them with the first ones."""
    side = 1024 if ON_GPU else 16
    n = enough(gigabytes) // (4 * side * side) + 1
    x = torch.empty(n, 4, side, side, dtype=dtype, device=DEVICE)
    for i in range(n):  # in parts, because what draws numbers for all at once would need as much again
        x[i] = (torch.arange(4 * side * side, device=DEVICE).view(4, side, side) + 977 * i).remainder(251).to(dtype)
    perm = torch.arange(n, device=DEVICE).roll(1)  # the partner of the first is the last
    box = torch.tensor([side // 4, side // 8, side - 3, side - 1], device=DEVICE).repeat(n, 1)
    return x, box, perm


def check_some(x, perm, op, *how, step=-1):
    """The first and the last images of op(x, *how, perm) are what they are in a batch of them and those beside them."""
    out = op(x, *how, perm)
    some = torch.tensor([0, 1, x.shape[0] - 2, x.shape[0] - 1], device=DEVICE)
    pairs = torch.cat([x.index_select(0, at) for at in (some, (some + step) % x.shape[0])])
    few = torch.arange(8, device=DEVICE).roll(4)
    want = op(pairs, *(torch.cat([part.index_select(0, some)] * 2) for part in how), few)[:4]
    assert torch.equal(out.index_select(0, some), want)


@pytest.mark.parametrize("name", ["box", "mask", "resize"])
def test_copies_beyond_32_bits(name):
    x, box, perm = long_images(torch.uint8, 8)
    if name == "box":
        check_some(x, perm, ops.mix_box, box)
    elif name == "resize":
        check_some(x, perm, lambda x, box, perm: ops.mix_resize(x, box, perm, "nearest"), box)
    else:
        hard = (torch.arange(x.shape[2], device=DEVICE) % 3 > 0).expand(x.shape[0], *x.shape[2:]).contiguous()
        check_some(x, perm, ops.mix_mask, hard)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_blends_beyond_32_bits(dtype):
    x, _, perm = long_images(dtype, 22)
    lam = torch.linspace(0.1, 0.9, x.shape[0], device=DEVICE)
    check_some(x, perm, ops.mix_linear, lam)


def test_gradients_beyond_32_bits():
    x, box, perm = long_images(torch.float16, 14)
    check_some(x, perm, torch.ops.sumix.mix_box_backward, box, step=1)  # from the mix that it was the partner in


def test_in_place_beyond_32_bits():
    x, box, perm = long_images(torch.uint8, 8)
    some = torch.tensor([0, 1, x.shape[0] - 1], device=DEVICE)
    pairs = torch.cat([x.index_select(0, some), x.index_select(0, perm.index_select(0, some))])
    want = ops.mix_box(pairs, box[:6], torch.arange(6, device=DEVICE).roll(3))[:3]
    ops.mix_box_(x, box, perm)
    assert torch.equal(x.index_select(0, some), want)


def test_noise_beyond_32_bits():
    seed, width = torch.tensor(5, device=DEVICE), 2**20 if ON_GPU else 2**6
    n = enough(10) // width
    noise = ops.sample_normal(n, width, seed=seed)
    assert torch.equal(noise[:2], ops.sample_normal(2, width, seed=seed))
    last = ops.sample_normal(n, 4, seed=seed)  # of every row the first columns
    assert torch.equal(noise[:, :4], last)


def test_masks_beyond_32_bits():
    side = 2**12 if ON_GPU else 2**5
    n = enough(20) // side**2 + 1
    grey = torch.empty(n, side, side, device=DEVICE)
    for i in range(n):
        grey[i] = ops.sample_uniform(1, side * side, seed=i, device=DEVICE).view(side, side)
    k = torch.linspace(1, side * side, n, device=DEVICE).long()
    mask = ops.mask_top_k(grey, k)
    assert torch.equal(torch.stack([part.sum(dtype=torch.float64) for part in mask]), k.double())
    assert torch.equal(mask[-2:], ops.mask_top_k(grey[-2:], k[-2:]))


def test_a_loss_beyond_32_bits():
    classes = 100_000 if ON_GPU else 500
    n = enough(20) // classes + 1
    z = torch.empty(n, classes, dtype=torch.bfloat16, device=DEVICE)
    r = torch.empty_like(z)
    for first in range(0, n, 1000):
        z[first : first + 1000] = torch.randn(len(z[first : first + 1000]), classes, device=DEVICE)
        r[first : first + 1000] = torch.randn(len(r[first : first + 1000]), classes, device=DEVICE)
    y, perm = torch.arange(n, device=DEVICE) % classes, torch.arange(n, device=DEVICE).roll(1)
    lam = torch.linspace(0, 1, n, device=DEVICE)
    loss, _ = ops.sumix_loss(z, r, None, None, y, y[perm], perm, lam, reduction="none")
    some = torch.tensor([0, 1, n - 1], device=DEVICE)
    pairs = torch.cat([r.index_select(0, some), r.index_select(0, perm.index_select(0, some))])
    few = torch.arange(6, device=DEVICE).roll(3)
    given = (torch.cat([part.index_select(0, some)] * 2) for part in (y, y[perm]))
    doubled = torch.cat([z.index_select(0, some)] * 2)
    want, _ = ops.sumix_loss(
        doubled, pairs, None, None, *given, few, torch.cat([lam.index_select(0, some)] * 2), reduction="none"
    )
    torch.testing.assert_close(loss.index_select(0, some), want[:3], rtol=1e-6, atol=1e-6)


# ---- The same bits every time ----

RUNS = 20


@pytest.fixture(params=[False, True], ids=["as usual", "deterministic"])
def _algorithms(request):
    torch.use_deterministic_algorithms(request.param)
    yield
    torch.use_deterministic_algorithms(False)


def always_the_same(function):
    first = [bits(part) for part in results(function())]
    for _ in range(RUNS - 1):
        for got, want in zip(results(function()), first, strict=True):
            assert torch.equal(bits(got), want)


@pytest.mark.usefixtures("_algorithms")
@pytest.mark.parametrize("name", CALLS)
def test_every_run_gives_the_same_bits(name):
    t = tensors(1)
    always_the_same(lambda: CALLS[name](t))


@pytest.mark.usefixtures("_algorithms")
@pytest.mark.parametrize("name", GRADIENTS)
def test_every_backward_gives_the_same_bits(name):
    for perm in (tensors(1)["perm"], there(torch.zeros(N, dtype=torch.int64)), there(torch.arange(N) // 2)):
        t = {**tensors(1), "perm": perm}
        always_the_same(lambda t=t: gpu.gradients(name, t))


@pytest.mark.usefixtures("_algorithms")
@pytest.mark.parametrize("name", MIXERS)
def test_every_mix_of_a_seed_has_the_same_bits(name):
    images, labels = gpu.batch()
    mixer = MIXERS[name]()
    always_the_same(lambda: mixer(images, labels, seed=3))


@pytest.mark.usefixtures("_algorithms")
@pytest.mark.parametrize("k", [10, 1000, 30000])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_every_large_loss_has_the_same_bits(k, reduction):
    n = 256 if k < 30000 else 48
    rows = [torch.randn(n, k, device=DEVICE) for _ in range(4)]
    y, lam = torch.randint(k, (n,), device=DEVICE), torch.rand(n, device=DEVICE)
    leaves = [rows[0].requires_grad_(), rows[2].requires_grad_(), rows[3].requires_grad_()]
    for perm in (torch.randperm(n, device=DEVICE), torch.randint(n, (n,), device=DEVICE)):

        def step(perm=perm):
            loss, parts = ops.sumix_loss(*rows, y, y[perm], perm, lam, reduction=reduction)
            return loss.detach(), parts, *torch.autograd.grad(loss.sum(), leaves)

        always_the_same(step)


def test_evaluation_gives_the_loss_of_training():
    model, (images, mixed, target) = gpu.network(), gpu.mix()
    criterion = SUMixLoss(gamma=0.5)
    with torch.no_grad():
        quiet = criterion(model(mixed), model(images), target)
    torch.testing.assert_close(here(quiet), here(criterion(model(mixed), model(images), target)))
