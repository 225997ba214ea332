"""CutMix, MixUp, MixTarget and mix_accuracy: what is drawn, what comes back, and how they are used."""

import copy
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, TensorDataset, default_collate

from sumix import CutMix, MixTarget, MixUp, mix_accuracy, ops, reference

MIXERS = [CutMix, MixUp]


def batch(n=8, shape=(3, 16, 20), classes=10):
    return torch.randn(n, *shape), torch.randint(0, classes, (n,))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- What comes back ----


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 17, 257), (2, 3, 9, 11), (2, 50), (1, 1, 1)])
def test_cutmix_pastes_the_box_and_counts_it_exactly(shape, per_sample):
    for n in (0, 1, 2, 33):
        images, labels = batch(n, shape)
        mixed, target = CutMix(per_sample=per_sample)(images, labels)
        assert torch.equal(target.y_a, labels)
        assert torch.equal(target.y_b, labels[target.perm])
        assert torch.equal(target.perm.sort().values, torch.arange(n))
        bounds = 2 if len(shape) == 2 else 4
        assert (target.lam.dtype, target.box.dtype, target.box.shape) == (torch.float32, torch.int64, (n, bounds))
        assert torch.equal(mixed, reference.mix_box(images, target.box, target.perm))
        assert torch.equal(mixed, ops.mix_box(images, target.box, target.perm))  # which repeats the mix
        low, high = target.box.double().tensor_split(2, dim=1)
        sides = shape[-bounds // 2 :]
        assert torch.equal(target.lam, (1 - (high - low).prod(dim=1) / math.prod(sides)).float())
        if not per_sample:
            assert len(target.box.unique(dim=0)) <= 1


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("shape", [(3, 8, 8), (5,), ()])
def test_mixup_blends_with_the_weights_that_it_returns(shape, per_sample):
    for n in (0, 1, 2, 33):
        images, labels = batch(n, shape)
        mixed, target = MixUp(alpha=0.7, per_sample=per_sample)(images, labels)
        assert target.box is None
        assert target.lam.dtype == torch.float32 and target.lam.shape == (n,)
        torch.testing.assert_close(mixed, reference.mix_linear(images, target.lam, target.perm))
        assert len(target.lam.unique()) == (min(n, 1) if not per_sample else n)


@pytest.mark.parametrize("mixer", MIXERS)
def test_memory_format_dtype_and_gradient_are_kept(mixer):
    images, labels = batch()
    last = images.contiguous(memory_format=torch.channels_last)
    assert mixer()(last, labels)[0].is_contiguous(memory_format=torch.channels_last)
    assert mixer()(images[..., ::2], labels)[0].shape == (8, 3, 16, 10)
    for dtype in (torch.float16, torch.float64, torch.uint8):
        assert mixer()(images.to(dtype), labels)[0].dtype == dtype
    leaf = images.clone().requires_grad_()
    mixed, _ = mixer()(leaf, labels)
    mixed.sum().backward()
    torch.testing.assert_close(leaf.grad.sum(), torch.tensor(float(images.numel())))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8, torch.uint16])
def test_labels_of_any_integer_type(dtype):
    images, labels = batch()
    _, target = CutMix()(images, labels.to(dtype))
    assert target.y_a.dtype == target.y_b.dtype == torch.int64
    assert torch.equal(target.y_a, labels)


@pytest.mark.parametrize("mixer", MIXERS)
def test_soft_labels_are_those_of_the_target(mixer):
    images, labels = batch()
    mixed, target = mixer(generator=seeded())(images, labels)
    same, soft = mixer(num_classes=10, generator=seeded())(images, labels)
    assert torch.equal(mixed, same)
    assert torch.equal(soft, target.soft(10))
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft.sum(1), torch.ones(8))
    expected = torch.zeros(8, 10)
    for i in range(8):
        expected[i, target.y_a[i]] += target.lam[i]
        expected[i, target.y_b[i]] += 1 - target.lam[i]
    torch.testing.assert_close(soft, expected)


def test_soft_labels_smooth_as_cross_entropy_does():
    logits, (_, y) = torch.randn(8, 10), batch()
    target = MixTarget(y_a=y, y_b=y.flip(0), lam=torch.rand(8), perm=torch.arange(8))
    loss = torch.nn.functional.cross_entropy
    expected = loss(logits, target.soft(10), label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, target.soft(10, label_smoothing=0.1)), expected)


# ---- What is drawn ----


def published_box(rng, height, width, alpha):
    """The sampler of the CutMix authors, in the words of their paper: a ratio, a centre, sides cut at the border."""
    cut = np.sqrt(1.0 - rng.beta(alpha, alpha))
    cut_h, cut_w = int(height * cut), int(width * cut)
    cy, cx = rng.integers(height), rng.integers(width)
    y1, y2 = np.clip([cy - cut_h // 2, cy + cut_h // 2], 0, height)
    x1, x2 = np.clip([cx - cut_w // 2, cx + cut_w // 2], 0, width)
    return x1, y1, x2, y2


@pytest.mark.parametrize(("height", "width", "alpha"), [(32, 32, 1.0), (17, 40, 0.2)])
def test_boxes_are_those_of_the_published_sampler(height, width, alpha):
    rng, n = np.random.default_rng(0), 8000
    theirs = np.array([published_box(rng, height, width, alpha) for _ in range(n)])
    images = torch.empty(n, 1, height, width, dtype=torch.uint8)
    _, target = CutMix(alpha=alpha, generator=seeded())(images, torch.zeros(n, dtype=torch.int64))
    ours = target.box.numpy()
    for side in range(4):
        assert stats.ks_2samp(ours[:, side], theirs[:, side]).pvalue > 0.001
    area = (theirs[:, 2] - theirs[:, 0]) * (theirs[:, 3] - theirs[:, 1])
    lam = (1 - area / (height * width)).astype(np.float32)
    assert stats.ks_2samp(target.lam.numpy(), lam).pvalue > 0.001
    error = lam.std() * (2 / n) ** 0.5
    assert abs(target.lam.mean() - lam.mean()) < 4 * error
    assert target.lam.var().item() == pytest.approx(lam.var(), rel=0.06)


def test_signals_are_cut_by_their_share():
    _, target = CutMix(generator=seeded())(torch.zeros(4000, 1, 1000), torch.zeros(4000, dtype=torch.int64))
    x1, x2 = target.box.unbind(1)
    inside = (x1 > 0) & (x2 < 1000)
    # Not clipped, a box of share s is where s / 2 <= centre <= 1 - s / 2: density 2 (1 - s).
    assert stats.kstest((x2 - x1)[inside].numpy() / 1000, lambda s: 2 * s - s * s).pvalue > 0.001


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("per_sample", [True, False])
def test_p_is_the_share_that_is_mixed(mixer, per_sample):
    images, labels = torch.randn(400, 1, 4, 4), torch.zeros(400, dtype=torch.int64)
    mixed, target = mixer(p=0.0, per_sample=per_sample)(images, labels)
    assert torch.equal(mixed, images)
    assert (target.lam == 1).all()
    transform, generator = mixer(alpha=5.0, p=0.3, per_sample=per_sample), seeded()
    if per_sample:
        mixed, target = transform(images, labels, generator=generator)
        untouched = target.lam == 1
        assert torch.equal(mixed[untouched], images[untouched])
        assert 0.6 < untouched.float().mean() < 0.9
    else:
        small = [transform(images[:2], labels[:2], generator=generator)[1].lam for _ in range(400)]
        assert 0.6 < sum(bool((lam == 1).all()) for lam in small) / 400 < 0.9
        assert all(lam[0] == lam[1] for lam in small)


# ---- How they are used ----


@pytest.mark.parametrize("mixer", MIXERS)
def test_generators_reproduce(mixer):
    images, labels = batch()
    for options in {}, {"alpha": 0.3}, {"p": 0.5}, {"per_sample": False}:
        first = mixer(generator=seeded(1), **options)
        a = first(images, labels)
        assert torch.equal(a[0], mixer(generator=seeded(1), **options)(images, labels)[0])
        assert torch.equal(a[0], mixer(**options)(images, labels, generator=seeded(1))[0])
        assert torch.equal(a[0], first(images, labels, generator=seeded(1))[0])  # the call wins
        torch.manual_seed(7)
        b = mixer(**options)(images, labels)
        state = torch.get_rng_state()
        torch.manual_seed(7)
        assert torch.equal(b[0], mixer(**options)(images, labels)[0])
        first(images, labels)
        assert torch.equal(state, torch.get_rng_state())  # a generator given, the default one is left alone


@pytest.mark.parametrize("mixer", MIXERS)
def test_copies_continue_alike(mixer):
    images, labels = batch()
    original = mixer(alpha=0.4, num_classes=10, p=0.8, per_sample=False, generator=seeded(2))
    original(images, labels)
    copies = copy.deepcopy(original), pickle.loads(pickle.dumps(original))
    expected = original(images, labels)
    for other in copies:
        assert repr(other) == repr(original) == f"{mixer.__name__}(alpha=0.4, num_classes=10, p=0.8, per_sample=False)"
        assert all(torch.equal(a, b) for a, b in zip(other(images, labels), expected, strict=True))
    assert original.state_dict() == {}


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(mixer, backend):
    torch._dynamo.reset()
    images, labels = batch()
    compiled = torch.compile(mixer(alpha=0.4, p=0.9), fullgraph=True, backend=backend)
    mixed, target = compiled(images, labels)
    twin = reference.mix_box if mixer is CutMix else reference.mix_linear
    torch.testing.assert_close(mixed, twin(images, target.box if mixer is CutMix else target.lam, target.perm))
    assert not torch.equal(mixed, compiled(images, labels)[0])
    if backend == "aot_eager":
        _, soft = torch.compile(mixer(num_classes=10), fullgraph=True, backend=backend)(images, labels)
        torch.testing.assert_close(soft.sum(1), torch.ones(8))


class Collate:
    def __init__(self, mix):
        self.mix = mix

    def __call__(self, samples):
        return self.mix(*default_collate(samples))


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
@pytest.mark.parametrize("mixer", MIXERS)
def test_in_the_workers_of_a_loader(mixer):
    images, labels = batch(24)
    loader = DataLoader(
        TensorDataset(images, labels), batch_size=6, num_workers=2, pin_memory=True, collate_fn=Collate(mixer())
    )
    targets = [target for _, target in loader]
    assert [type(target) for target in targets] == [MixTarget] * 4  # a named tuple, as what pins memory expects
    assert torch.equal(torch.cat([target.y_a for target in targets]), labels)
    assert len(torch.cat([target.lam for target in targets]).unique()) > 12  # workers draw different numbers


def test_as_one_of_several_transforms():
    """As torchvision's v2.RandomChoice calls its transforms: all inputs in a row."""
    images, labels = batch()
    for transform in (CutMix(num_classes=10), MixUp(num_classes=10)):
        inputs = (images, labels)
        outputs = transform(*inputs)
        assert outputs[0].shape == images.shape and outputs[1].shape == (8, 10)
    assert isinstance(torch.nn.Sequential(CutMix()), torch.nn.Module)


def test_mix_accuracy():
    logits = torch.eye(4)[[0, 1, 2, 3]]
    target = MixTarget(
        y_a=torch.tensor([0, 1, 0, 0]),
        y_b=torch.tensor([0, 0, 2, 1]),
        lam=torch.tensor([0.3, 0.7, 0.9, 0.5]),
        perm=None,
    )
    assert mix_accuracy(logits, target).item() == pytest.approx((1.0 + 0.7 + 0.1 + 0.0) / 4)
    assert mix_accuracy(logits.half(), target).dtype == torch.float32
    everything = replace(target, lam=torch.ones(4))
    assert mix_accuracy(logits, everything).item() == 0.5


# ---- Bad input ----

IMAGES, LABELS = torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
TARGET = MixTarget(LABELS, LABELS, torch.ones(4), LABELS)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 0}, ValueError, "alpha must be above 0, got 0"),
        ({"alpha": -1.0}, ValueError, "alpha must be from 0 to .*, got -1.0"),
        ({"alpha": float("nan")}, ValueError, "alpha must be from 0 to"),
        ({"alpha": float("inf")}, ValueError, "alpha must be from 0 to"),
        ({"alpha": "1"}, TypeError, "alpha must be a number, got str"),
        ({"alpha": True}, TypeError, "alpha must be a number, got bool"),
        ({"p": -0.1}, ValueError, "p must be from 0 to 1, got -0.1"),
        ({"p": 1.1}, ValueError, "p must be from 0 to 1"),
        ({"p": float("nan")}, ValueError, "p must be from 0 to 1"),
        ({"p": None}, TypeError, "p must be a number, got NoneType"),
        ({"num_classes": 0}, ValueError, "num_classes must be from 1 to"),
        ({"num_classes": -3}, ValueError, "num_classes must be from 1 to"),
        ({"num_classes": 2.0}, TypeError, "num_classes must be an int, got float"),
        ({"per_sample": 1}, TypeError, "per_sample must be a bool, got int"),
        ({"generator": 1}, TypeError, "generator must be a torch.Generator, got int"),
    ],
)
def test_bad_options_are_named(mixer, options, error, message):
    with pytest.raises(error, match=message):
        mixer(**options)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize(
    ("images", "labels", "options", "error", "message"),
    [
        (IMAGES.tolist(), LABELS, {}, TypeError, "images must be a Tensor, got list"),
        (torch.tensor(1.0), LABELS, {}, ValueError, "images must have a batch dimension"),
        (IMAGES.to_sparse(), LABELS, {}, TypeError, "images must be a dense tensor"),
        (IMAGES[0], LABELS, {}, ValueError, r"labels must be \(N,\) = \(3,\)"),
        (IMAGES, 3, {}, TypeError, "labels must be a Tensor"),
        (IMAGES, LABELS.float()[:3], {}, ValueError, r"labels must be \(N,\) = \(4,\), got \(3,\)"),
        (IMAGES, LABELS.to(torch.complex64), {}, TypeError, r"labels must be an integer tensor \(N,\).* got torch.com"),
        (IMAGES, LABELS.bool(), {}, TypeError, r"labels must be an integer tensor \(N,\).* got torch.bool \(4,\)"),
        (IMAGES, LABELS[:3], {}, ValueError, r"labels must be \(N,\) = \(4,\) .* got \(3,\)"),
        (IMAGES, LABELS[:, None], {}, ValueError, r"got \(4, 1\)"),
        (IMAGES, LABELS.to("meta"), {}, ValueError, "labels must be on the device of images"),
        (IMAGES, LABELS, {"generator": 0}, TypeError, "generator must be a torch.Generator"),
    ],
)
def test_bad_batches_are_named(mixer, images, labels, options, error, message):
    with pytest.raises(error, match=message):
        mixer()(images, labels, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: CutMix()(IMAGES[:, 0, 0], LABELS),
            ValueError,
            r"images must be \(N, C, L\) or \(N, C, H, W\) or \(N, C, T, H, W\), got \(4, 8\)",
        ),
        (lambda: MixUp()(IMAGES.bool(), LABELS), TypeError, "images must be floating point.*got torch.bool"),
        (lambda: CutMix(num_classes=10)(IMAGES, LABELS + 10), ValueError, r"labels\[0\] is 10, expected 0 to 9"),
        (lambda: MixUp(num_classes=10)(IMAGES, LABELS - 1), ValueError, r"labels\[0\] is -1, expected 0 to 9"),
        (
            lambda: CutMix()(IMAGES.to("meta"), LABELS.to("meta"), generator=seeded()),
            ValueError,
            "generator must be on",
        ),
        (
            lambda: CutMix(num_classes=10)(IMAGES, LABELS.float()),
            TypeError,
            r"labels must be an integer tensor \(N,\).* got torch.float32 \(4,\)",
        ),
        (
            lambda: CutMix(partners="cross_class")(IMAGES, LABELS.float()),
            ValueError,
            r"labels must be \(N,\), integer, for partners of another class",
        ),
        (
            lambda: CutMix(num_classes=10, multi_label=True)(IMAGES, LABELS),
            ValueError,
            r"labels must be \(N, K\), multi-hot or soft, with multi_label, got \(4,\)",
        ),
        (lambda: CutMix(multi_label=True), ValueError, "multi_label must be False where num_classes is not given"),
        (lambda: TARGET.soft(2, multi_label=True), ValueError, r"y_a must be \(N, num_classes\), multi-hot or soft"),
        (lambda: TARGET.soft(2, multi_label=1), TypeError, "multi_label must be a bool"),
        (lambda: TARGET.blend(), TypeError, r"y_a must be floating point, got torch.int64: target.soft\(num_classes\)"),
        (lambda: replace(TARGET, y_a=LABELS.float()).soft(3), TypeError, r"y_a must be classes.*target.blend\(\)"),
        (lambda: TARGET.soft(0), ValueError, "num_classes must be from 1 to"),
        (lambda: TARGET.soft(2.5), TypeError, "num_classes must be an int"),
        (lambda: TARGET.soft(3, label_smoothing=1.5), ValueError, "label_smoothing must be from 0 to 1"),
        (lambda: replace(TARGET, y_b=LABELS + 3).soft(3), ValueError, r"y_b\[0\] is 3, expected 0 to 2"),
        (lambda: replace(TARGET, lam=torch.ones(4) + 1).soft(3), ValueError, r"lam\[0\] is 2, expected 0 to 1"),
        (lambda: replace(TARGET, y_a=LABELS[:2]).soft(3), ValueError, "y_a must be"),
        (lambda: replace(TARGET, lam=0.5).soft(3), TypeError, "lam must be a Tensor"),
        (lambda: mix_accuracy([1], TARGET), TypeError, "output must be a Tensor"),
        (lambda: mix_accuracy(torch.zeros(4, 0), TARGET), ValueError, r"output must be \(N, K\)"),
        (lambda: mix_accuracy(torch.zeros(4, 2), [0]), TypeError, "target must be a MixTarget or a Tensor, got list"),
        (lambda: mix_accuracy(torch.zeros(3, 2), TARGET), ValueError, r"target.lam must be \(N,\) = \(3,\)"),
        (lambda: mix_accuracy(torch.zeros(4, 2), replace(TARGET, lam=LABELS)), TypeError, "target.lam must be float16"),
    ],
)
def test_other_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
