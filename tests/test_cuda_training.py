"""What a training script does on a GPU: mixed precision, torch.compile, channels_last, loaders, gradients."""

import copy
import importlib.util

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sumix import CutMix, FMix, MixTarget, MixUp, SaliencyMix, SUMixCollate, SUMixLoss, capture_features, ops
from tests import gpu
from tests.gpu import DEVICE, ON_GPU, K, N, bits, here, only_gpu, results, tensors
from tests.mixers import MIXERS, naive_mix

pytestmark = pytest.mark.cuda
compiles = pytest.mark.skipif(
    ON_GPU and importlib.util.find_spec("triton") is None, reason="torch.compile needs triton on a GPU"
)


def step_of(model, criterion, mixer, images, labels, seed):
    """One forward pass of the mixed and the raw images, and their loss."""
    mixed, target = mixer(images, labels, seed=seed)
    return criterion(model(mixed), model(images), target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ratio", ["semantic", "feature", "cam"])
def test_mixed_precision(dtype, ratio):
    model, (images, labels) = gpu.network(), gpu.batch()
    criterion, optimizer = SUMixLoss(gamma=0.5, ratio=ratio), torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**14, enabled=dtype == torch.float16)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, dtype):
            output = model(images)
            assert output.uncertainty.dtype == torch.float32
            loss = step_of(model, criterion, CutMix(), images, labels, seed=3)
        assert loss.dtype == torch.float32
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    losses = torch.stack(losses).tolist()
    assert all(value == value for value in losses) and losses[-1] < losses[0]


def test_gradients_of_halves_survive_where_their_loss_is_scaled():
    t = tensors()
    z = t["z"].half().requires_grad_()
    given = {**t, "z": z, **{name: t[name].half() for name in "rvu"}}
    (plain,) = torch.autograd.grad(gpu.loss(given)[0] * 2.0**-20, z)
    (scaled,) = torch.autograd.grad(gpu.loss(given)[0] * 2.0**10, z)
    assert scaled.dtype == torch.float16 and scaled.isfinite().all()
    assert (scaled != 0).all() and (plain == 0).any()  # which a gradient that was rounded to half first would show, too


@compiles
@pytest.mark.parametrize("name", ["CutMix", "MixUp", "SaliencyMix", "FMix", "ResizeMix bilinear", "RandomMix all"])
def test_compiled_mixers(name):
    torch.compiler.reset()
    images, labels = gpu.batch()
    seed, mixer = torch.tensor(7, device=DEVICE), MIXERS[name]()
    compiled = torch.compile(mixer, fullgraph=True)
    mixed, target = compiled(images, labels, seed=seed)
    want, expected = mixer(images, labels, seed=seed)
    assert torch.equal(target.perm, expected.perm)
    torch.testing.assert_close(mixed, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(target.lam, expected.lam, rtol=0, atol=1e-5)
    drawn = [compiled(images, labels)[0].clone() for _ in range(4)]
    assert not any(torch.equal(drawn[i], drawn[j]) for i in range(4) for j in range(i))


@compiles
def test_seeds_of_a_compiled_graph_are_of_62_bits():
    torch.compiler.reset()
    draw = torch.compile(lambda: ops.draw_seed(DEVICE), fullgraph=True)
    seeds = torch.stack([draw().clone() for _ in range(200)])
    assert seeds.unique().numel() == 200
    assert (seeds >> 62).unique().numel() == 4 and (seeds & 3).unique().numel() == 4


@compiles
@pytest.mark.parametrize("ratio", ["semantic", "published", "area"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_loss(ratio, reduction):
    torch.compiler.reset()
    t = tensors()

    def loss(z, v, u):
        return gpu.loss({**t, "z": z, "v": v, "u": u}, ratio=ratio, reduction=reduction)[0]

    leaves = [t[name].requires_grad_() for name in ("z", "v", "u")]
    got, want = torch.compile(loss, fullgraph=True)(*leaves), loss(*leaves)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    pairs = zip(torch.autograd.grad(got.sum(), leaves), torch.autograd.grad(want.sum(), leaves), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@compiles
def test_compiled_to_cuda_graphs():
    torch.compiler.reset()
    model, criterion, images = gpu.network(), SUMixLoss(gamma=0.5), gpu.batch()[0]
    twin, mixer = copy.deepcopy(model), CutMix(normalize=((0.4, 0.5, 0.6), 0.25)).to(DEVICE)
    step = torch.compile(step_of, fullgraph=True, mode="reduce-overhead")
    for at in range(5):
        pixels, labels = gpu.batch(torch.uint8, seed=at)
        seed = torch.tensor(at, device=DEVICE)
        mixed, target = mixer(pixels, labels, seed=seed)
        raw = mixer.unmixed(pixels)
        torch.compiler.cudagraph_mark_step_begin()
        got = step(model, criterion, MixUp(), images, labels, seed)
        want = step_of(twin, criterion, MixUp(), images, labels, seed)
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
        got.backward()
        want.backward()
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-2, atol=1e-3)
        model.zero_grad(), twin.zero_grad()
        assert mixed.shape == raw.shape and isinstance(target, MixTarget)


@compiles
@only_gpu
def test_a_compiled_mixer_is_one_cuda_graph():
    torch.compiler.reset()
    images, labels = gpu.batch(torch.uint8)
    mixer = CutMix(normalize=((0.4, 0.5, 0.6), 0.25)).to(DEVICE)
    compiled = torch.compile(mixer, fullgraph=True, mode="reduce-overhead")
    skipped = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
    for at in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        seed = torch.tensor(at, device=DEVICE)
        mixed, target = compiled(images, labels, seed=seed)
        want, expected = mixer(images, labels, seed=seed)
        torch.testing.assert_close(mixed, want)
        assert torch.equal(target.box, expected.box)
    assert torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] == skipped


@pytest.mark.parametrize("name", MIXERS)
def test_channels_last_mixers(name):
    images, labels = gpu.batch()
    last = images.contiguous(memory_format=torch.channels_last)
    want, target = MIXERS[name]()(images, labels, seed=5)
    mixed, expected = MIXERS[name]()(last, labels, seed=5)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mixed.contiguous(), want, rtol=0, atol=1e-6)
    assert torch.equal(target.perm, expected.perm)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_images_are_what_the_target_says(name, dtype):
    images, labels = gpu.batch(dtype)
    mixed, target = MIXERS[name]()(images, labels, seed=6)
    want = naive_mix(here(images), here(target))
    got = here(mixed)
    tolerance = {torch.float32: 1e-6, torch.float16: 2e-3, torch.uint8: 1}[dtype]
    assert (got.double() - want.double()).abs().max() <= tolerance
    assert torch.equal(target.mix(images), mixed)


@pytest.mark.parametrize("name", [name for name in MIXERS if "FMix" not in name and "all" not in name])
def test_one_seed_one_mix_on_every_device(name):
    """But for FMix, whose images are from an FFT."""
    if name in ("RandomMix a batch", "RandomMix masks", "RandomMix nested"):
        pytest.skip("FMix is one of them")
    images, labels = gpu.batch()
    mixed, target = MIXERS[name]()(images, labels, seed=8)
    want, expected = MIXERS[name]()(here(images), here(labels), seed=8)
    torch.testing.assert_close(here(mixed), want, rtol=0, atol=1e-5)
    for got, one in zip(target, expected, strict=True):
        if isinstance(one, torch.Tensor) and not one.is_floating_point():
            assert torch.equal(here(got), one)


def test_fmix_keeps_as_many_pixels_on_every_device():
    images, labels = gpu.batch()
    _, target = FMix()(images, labels, seed=8)
    _, expected = FMix()(here(images), here(labels), seed=8)
    assert torch.equal(here(target.lam), expected.lam) and torch.equal(here(target.perm), expected.perm)
    assert torch.equal(here(target.mask).sum((1, 2)), expected.mask.sum((1, 2)))
    assert (here(target.mask) != expected.mask).double().mean() < 0.02


@pytest.mark.parametrize("workers", [0, 2])
def test_mixed_in_a_loader_and_sent_to_the_gpu(workers):
    images, labels = gpu.batch()
    data = TensorDataset(here(images), here(labels))
    collate = SUMixCollate(CutMix(generator=None), raw=True)
    loader = DataLoader(data, batch_size=3, num_workers=workers, collate_fn=collate, pin_memory=ON_GPU)
    model, criterion = gpu.network(), SUMixLoss(gamma=0.5)
    for raw, mixed, target in loader:
        assert isinstance(target, MixTarget)
        if ON_GPU:
            assert all(part.is_pinned() for part in (raw, mixed, target.lam, target.perm, target.box))
        sent = target.to(DEVICE, non_blocking=True)
        assert sent.image_size == target.image_size and sent.box.device == DEVICE
        loss = criterion(model(mixed.to(DEVICE, non_blocking=True)), model(raw.to(DEVICE, non_blocking=True)), sent)
        assert loss.isfinite()
        for part, other in zip(results(sent), results(target), strict=True):
            assert torch.equal(bits(part), bits(other))


def test_the_loss_of_a_model_is_that_of_the_cpu():
    model, (images, mixed, target) = gpu.network(torch.float64), gpu.mix()
    twin = copy.deepcopy(model).cpu()
    for ratio in ("semantic", "published", "feature", "cam"):
        criterion = SUMixLoss(gamma=0.5, ratio=ratio, weight=torch.rand(K), label_smoothing=0.1)
        want = criterion(twin(here(mixed).double()), twin(here(images).double()), here(target))
        got = criterion.to(DEVICE)(model(mixed.double()), model(images.double()), target)
        torch.testing.assert_close(here(got), want.detach(), rtol=1e-9, atol=1e-11)
        got.backward()
        want.backward()
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad.cpu(), other.grad, rtol=1e-8, atol=1e-10)
        model.zero_grad(), twin.zero_grad()


def test_captured_features_on_the_gpu():
    layers = torch.nn.Conv2d(3, 6, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    model = torch.nn.Sequential(*layers, torch.nn.Linear(6, K)).to(DEVICE)
    capture_features(model)
    images, labels = gpu.batch()
    for ratio in ("feature", "cam"):
        loss = step_of(model, SUMixLoss(gamma=0.1, ratio=ratio), SaliencyMix(), images, labels, seed=1)
        loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_autograd_through_a_mix():
    images, labels = gpu.batch(torch.float64)
    for name in ("CutMix", "MixUp", "ResizeMix bilinear", "SmoothMix"):
        leaf = images.clone().requires_grad_()
        mixed, target = MIXERS[name]()(leaf, labels, seed=4)
        weights = torch.rand(mixed.shape, dtype=torch.float64, device=DEVICE)
        (got,) = torch.autograd.grad((mixed * weights).sum(), leaf)
        own = here(images).requires_grad_()
        twin = naive_mix(own, here(target))
        (want,) = torch.autograd.grad((twin * here(weights)).sum(), own)
        torch.testing.assert_close(here(got), want, rtol=1e-6, atol=1e-6)
    assert got.shape == (N, 3, *gpu.SIDE)
