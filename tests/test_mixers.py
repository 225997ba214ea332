"""Every mixer: its images are those that its target describes, pixel for pixel, and its target says it exactly."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import peers
from sumix import (
    CutMix,
    FMix,
    GridMix,
    MixTarget,
    MixUp,
    RandomMix,
    ResizeMix,
    SaliencyMix,
    SmoothMix,
    SUMixLoss,
    ops,
)
from tests.mixers import MIXERS, naive_mix

SEED = torch.tensor(7)


def batch(n=9, shape=(3, 20, 26), classes=10, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    pixels = torch.randint(0, 256, (n, *shape), generator=generator)
    images = pixels.to(dtype) if dtype == torch.uint8 else (pixels / 255).to(dtype)
    return images, torch.randint(0, classes, (n,), generator=generator)


def shown(target: MixTarget) -> torch.Tensor:
    """How much of each image is its own, from box and mask (N,)."""
    if target.box is None and target.mask is None:
        return target.lam
    share = torch.ones_like(target.lam)
    if target.mask is not None:
        share = target.mask.float().flatten(1).mean(1)
    if target.box is not None:
        low, high = target.box.tensor_split(2, dim=1)
        share = share - (high - low).prod(1) / torch.tensor(target.image_size).prod()
    return share


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float64])
def test_images_are_what_the_target_says(name, dtype):
    mixer = MIXERS[name]()
    for n, shape, seed in itertools.product((0, 1, 9), ((3, 20, 26), (1, 17, 5)), (1, 2)):
        images, labels = batch(n, shape, dtype=dtype)
        mixed, target = mixer(images, labels, seed=seed)
        expected = naive_mix(images, target)
        if dtype == torch.uint8:
            assert ((mixed.int() - expected.int()).abs() <= (1 if "all" in name or "bilinear" in name else 0)).all()
        else:
            torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-6)
        if target.mask is None and target.resize is None and target.box is not None:
            assert torch.equal(mixed, expected)
        assert torch.equal(target.mix(images), mixed)  # and so it can be repeated
        assert torch.equal(target.y_b, labels[target.perm])
        assert (target.lam.dtype, target.lam.shape) == (torch.float32, (n,))
        torch.testing.assert_close(target.lam, shown(target), rtol=0, atol=2e-6)
        if target.image_size is not None:
            assert target.image_size == shape[1:]


@pytest.mark.parametrize("name", MIXERS)
def test_formats_and_gradients(name):
    mixer = MIXERS[name]()
    images, labels = batch()
    last = images.contiguous(memory_format=torch.channels_last)
    mixed, target = mixer(last, labels, seed=SEED)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mixed.contiguous(), mixer(images, labels, seed=SEED)[0], rtol=0, atol=1e-6)
    leaf = images.double().requires_grad_()
    mixed, target = mixer(leaf, labels, seed=SEED)
    weights = torch.rand_like(mixed)
    (got,) = torch.autograd.grad((mixed * weights).sum(), leaf)
    (want,) = torch.autograd.grad((naive_mix(leaf, target) * weights).sum(), leaf)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    for dtype in (torch.float16, torch.bfloat16):
        half, _ = mixer(images.to(dtype), labels, seed=SEED)
        assert half.dtype == dtype


@pytest.mark.parametrize("name", MIXERS)
def test_one_seed_one_mix(name):
    images, labels = batch()
    mixer = MIXERS[name]()
    mixed, _ = mixer(images, labels, seed=SEED)
    assert torch.equal(mixed, mixer(images, labels, seed=7)[0])
    assert torch.equal(mixed, mixer(images, labels, seed=torch.tensor([7]))[0])
    others = [mixer(images, labels, seed=seed)[0] for seed in range(8, 12)]
    assert not any(torch.equal(mixed, other) for other in others)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(mixed, mixer(images, labels, seed=SEED)[0])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [name for name in MIXERS if "RandomMix" not in name])
def test_one_recipe_a_batch(name):
    images, labels = batch()
    mixed, target = MIXERS[name](per_sample=False)(images, labels, seed=3)
    for part in (target.lam, target.box, target.mask):
        assert part is None or (part == part[:1]).all()
    torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MIXERS)
def test_p(name):
    images, labels = batch(200, (3, 8, 8))
    mixed, target = MIXERS[name](p=0.0)(images, labels)
    assert torch.equal(mixed, images) and (target.lam == 1).all()
    if name == "RandomMix a batch":
        return
    mixed, target = MIXERS[name](p=0.3)(images, labels, seed=1)
    whole = target.lam == 1
    assert torch.equal(mixed[whole], images[whole])
    assert 0.5 < whole.float().mean() < 0.9


# What differs to inductor; to the tracer before it, all do.
INDUCTOR = ("CutMix", "SaliencyMix", "FMix", "ResizeMix", "RandomMix all")


@pytest.mark.parametrize(
    ("name", "backend"), [*((name, "aot_eager") for name in MIXERS), *((name, "inductor") for name in INDUCTOR)]
)
def test_compiles_without_a_break(name, backend):
    torch._dynamo.reset()
    images, labels = batch()
    mixer = MIXERS[name]()
    compiled = torch.compile(mixer, fullgraph=True, backend=backend)
    mixed, target = compiled(images, labels, seed=SEED)
    want, expected = mixer(images, labels, seed=SEED)
    if name == "RandomMix a batch":  # which looks at the choice only in eager mode
        torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)
    torch.testing.assert_close(mixed, want, rtol=0, atol=1e-6)
    assert torch.equal(target.perm, expected.perm)
    if backend == "aot_eager":
        first, _ = compiled(images, labels)
        assert not torch.equal(first, compiled(images, labels)[0])  # fresh numbers at every call


@pytest.mark.parametrize("name", MIXERS)
def test_nothing_looks_at_a_value(name):
    """A fake tensor has none: what would wait for a device, `.item()` or a branch on data, fails here."""
    mixer = MIXERS[name](num_classes=10)
    with FakeTensorMode():
        images, labels, masks = torch.empty(6, 3, 16, 16), torch.zeros(6, dtype=torch.int64), torch.empty(6, 16, 16)
        mixed, soft, extra = mixer(images, labels, masks)
        assert (mixed.shape, soft.shape, extra.shape) == (images.shape, (6, 10), masks.shape)
        assert mixer(images, labels, seed=torch.zeros((), dtype=torch.int64))[0].shape == images.shape


# ---- Other shapes ----


# These look for peaks, which takes images (N, C, H, W); what resizes takes videos too.
OF_IMAGES = {"RandomMix boxes", "RandomMix nested", "RandomMix all", "SaliencyMix"}


@pytest.mark.parametrize("name", [name for name in MIXERS if name not in OF_IMAGES and "Resize" not in name])
def test_signals(name):
    signals, labels = torch.randn(7, 2, 50), torch.arange(7)
    mixed, target = MIXERS[name]()(signals, labels, seed=4)
    torch.testing.assert_close(mixed, naive_mix(signals, target), rtol=0, atol=1e-6)
    torch.testing.assert_close(target.lam, shown(target), rtol=0, atol=1e-6)
    assert (target.lam < 1).any()
    assert torch.equal(target.mix(signals), mixed)


@pytest.mark.parametrize("name", [name for name in MIXERS if name not in OF_IMAGES])
def test_videos(name):
    videos, labels = torch.randn(5, 2, 3, 12, 10), torch.arange(5)
    mixed, target = MIXERS[name]()(videos, labels, seed=5)
    torch.testing.assert_close(mixed, naive_mix(videos, target), rtol=0, atol=1e-6)
    torch.testing.assert_close(target.lam, shown(target), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mixer", [SaliencyMix, ResizeMix, RandomMix])
def test_shapes_that_do_not_fit_are_named(mixer):
    mix = mixer() if mixer is not RandomMix else RandomMix([CutMix(), SaliencyMix()])
    with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\).*got \(4, 2, 30\)"):
        mix(torch.zeros(4, 2, 30), torch.arange(4))


# ---- Labels ----


@pytest.mark.parametrize("name", ["CutMix", "MixUp", "FMix", "RandomMix all"])
def test_soft_and_multi_hot_labels(name):
    images, hard = batch()
    soft = torch.rand(9, 10)
    mixed, target = MIXERS[name]()(images, soft, seed=2)
    assert torch.equal(target.y_a, soft) and torch.equal(target.y_b, soft[target.perm])
    lam = target.lam.unsqueeze(1)
    expected = lam * soft + (1 - lam) * soft[target.perm]
    torch.testing.assert_close(target.soft(10), expected)
    same, given = MIXERS[name](num_classes=10, label_smoothing=0.1)(images, soft, seed=2)
    assert torch.equal(same, mixed)
    torch.testing.assert_close(given, 0.9 * expected + 0.01)
    one_hot = torch.nn.functional.one_hot(hard, 10)
    for labels in (one_hot, one_hot.bool(), one_hot.double(), hard):
        _, given = MIXERS[name](num_classes=10, label_smoothing=0.2)(images, labels, seed=2)
        assert given.dtype == torch.float32
        torch.testing.assert_close(given, MIXERS[name](num_classes=10, label_smoothing=0.2)(images, hard, seed=2)[1])
    with pytest.raises(ValueError, match=r"labels must be \(N,\) or \(N, K\) = \(9, 7\), got \(9, 10\)"):
        MIXERS[name](num_classes=7)(images, soft)
    with pytest.raises(ValueError, match=r"labels must be \(N,\), integer, for partners of another class"):
        MIXERS[name](partners="cross_class")(images, soft)
    with pytest.raises(ValueError, match="y_a must be"):
        target.soft(11)
    with pytest.raises(ValueError, match=r"labels \(N, K\) of integers must be multi-hot"):
        MIXERS[name]()(images, torch.full((9, 3), 2))


@pytest.mark.parametrize("name", ["CutMix", "MixUp", "RandomMix all"])
def test_each_of_several_labels_is_smoothed_by_itself(name):
    images, _ = batch()
    labels = torch.randint(0, 2, (9, 5))
    mixed, target = MIXERS[name]()(images, labels, seed=2)
    assert torch.equal(target.soft(5, multi_label=True), target.soft(5))
    lam, smooth = target.lam.unsqueeze(1), lambda labels: labels * 0.8 + 0.1
    want = lam * smooth(labels) + (1 - lam) * smooth(labels[target.perm])
    torch.testing.assert_close(target.soft(5, 0.2, multi_label=True), want)
    mix = MIXERS[name](num_classes=5, label_smoothing=0.2, multi_label=True)
    for given in (labels, labels.bool(), labels.double()):
        same, soft = mix(images, given, seed=2)
        assert torch.equal(same, mixed) and torch.equal(soft, target.soft(5, 0.2, multi_label=True))
    mix = MIXERS[name](num_classes=1, multi_label=True)
    assert mix(images, labels[:, :1])[1].shape == (9, 1)  # yes or no, one question


@pytest.mark.skipif(peers.load("timm") is None, reason="timm is not installed")
def test_several_labels_are_smoothed_as_timm_does():
    mixup_target = peers.load("timm").data.mixup.mixup_target
    labels = torch.randint(0, 2, (9, 5))
    target = MixTarget(labels.float(), labels.flip(0).float(), torch.full((9,), 0.3), torch.arange(9).flip(0))
    theirs = mixup_target(labels, 5, 0.3, smoothing=0.2, multi_label=True)
    torch.testing.assert_close(target.soft(5, 0.2, multi_label=True), theirs)


@pytest.mark.parametrize("name", ["CutMix", "MixUp", "RandomMix all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_numbers_to_be_predicted(name, dtype):
    images, _ = batch()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for numbers in (torch.randn(9).to(dtype), torch.randn(9, 3).to(torch.float32)):
        mixed, target = MIXERS[name]()(images, numbers, seed=2)
        assert torch.equal(mixed, MIXERS[name]()(images, torch.arange(9), seed=2)[0])
        assert target.y_a.dtype == (wide if numbers.ndim == 1 else torch.float32)
        lam = target.lam.to(target.y_a.dtype).view(-1, *[1] * (numbers.ndim - 1))
        torch.testing.assert_close(target.blend(), lam * target.y_a + (1 - lam) * target.y_b)
    missing = replace(target, lam=torch.tensor([0.0, 1.0] + [0.5] * 7), y_a=target.y_a.clone(), y_b=target.y_b.clone())
    missing.y_a[0], missing.y_b[1] = torch.nan, torch.nan
    assert missing.blend().isfinite().all()
    with pytest.raises(TypeError, match=r"y_a must be an integer tensor, got torch\.float32"):
        SUMixLoss(gamma=0.5)(
            torch.randn(9, 4), torch.randn(9, 4), replace(target, y_a=torch.rand(9), y_b=torch.rand(9))
        )


@pytest.mark.parametrize("name", ["CutMix", "SaliencyMix", "RandomMix all"])
def test_partners(name):
    images, labels = batch(60, (3, 8, 8), classes=3)
    perm = MIXERS[name](partners="no_fixed_points")(images, labels, seed=1)[1].perm
    assert (perm != torch.arange(60)).all() and torch.equal(perm.sort().values, torch.arange(60))
    target = MIXERS[name](partners="cross_class")(images, labels, seed=1)[1]
    assert (target.y_a != target.y_b).all()
    with pytest.raises(ValueError, match="partners must be one of"):
        MIXERS[name](partners="other")


@pytest.mark.parametrize(
    ("mixer", "option", "value"),
    [
        (CutMix, "alpha", -1.0),
        (CutMix, "partners", "other"),
        (MixUp, "p", 2.0),
        (SmoothMix, "p", 2.0),
        (ResizeMix, "mode", "cubic"),
        (FMix, "spectrum", "other"),
    ],
)
def test_options_that_are_changed_later_are_checked_again(mixer, option, value):
    images, labels = batch()
    mix = mixer()
    setattr(mix, option, value)
    with pytest.raises(ValueError, match=f"{option} must be"):
        mix(images, labels)


# ---- What is mixed along ----


@pytest.mark.parametrize("name", MIXERS)
def test_extras_are_mixed_alike(name):
    images, labels = batch()
    depth, classes = torch.rand(9, 1, 20, 26), torch.randint(0, 5, (9, 20, 26))
    mix = MIXERS[name](ignore_index=255)
    mixed, target, deep, marked = mix(images, labels, depth, classes, seed=6)
    assert torch.equal(mixed, mix(images, labels, seed=6)[0])
    torch.testing.assert_close(deep, naive_mix(depth, target), rtol=0, atol=1e-6)
    assert torch.equal(deep, target.mix(depth))
    assert torch.equal(marked, target.mix(classes, ignore_index=255))
    partner = classes[target.perm]
    known = marked != 255
    if target.resize is None:
        assert ((marked == classes) | (marked == partner))[known].all()
        # Where both images show through and disagree, no label is right.
        weight = target.lam if target.mask is None and target.box is None else target.mask
        if weight is not None:
            weight = weight.float().view(9, *weight.shape[1:], *[1] * (3 - weight.ndim)).expand(9, 20, 26)
            both = (weight > 0) & (weight < 1) & (classes != partner)
            assert torch.equal(~known, both)
        else:
            assert known.all()
    same = torch.full((9, 20, 26), 3, dtype=torch.uint8)
    assert torch.equal(mix(images, labels, same)[2], same)


def test_label_maps_in_a_resized_box_take_the_nearest():
    images, labels = batch()
    maps = torch.randint(0, 200, (9, 20, 26))
    _, target, marked = ResizeMix(mode="bilinear")(images, labels, maps, seed=2)
    exact = replace(target, resize=torch.full((9,), 2))
    assert torch.equal(marked, naive_mix(maps.double(), exact).long())


def test_maps_of_bools_stay_bools():
    images, labels = batch()
    maps = images[:, 0] > 0.5
    for mix in (MixUp(ignore_index=0), RandomMix([CutMix(), MixUp()], per_sample=True, ignore_index=1)):
        _, target, mixed = mix(images, labels, maps, seed=SEED)
        assert mixed.dtype == torch.bool
        agree = maps == maps[target.perm]
        assert agree.any() and torch.equal(mixed[agree], maps[agree])


def test_extras_that_do_not_fit_are_named():
    images, labels = batch()
    maps = torch.zeros(9, 20, 26, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"ignore_index must be given to mix extras\[0\], which is torch.int64"):
        MixUp()(images, labels, maps)
    assert CutMix()(images, labels, maps)[2].dtype == torch.int64  # no label meets another
    with pytest.raises(ValueError, match=r"extras\[1\] must be \(N, \.\.\., 20, 26\)"):
        CutMix()(images, labels, maps, maps[:, :10])
    with pytest.raises(ValueError, match=r"extras\[0\] must be \(N, \.\.\.\) with N = 9, got \(3, 20, 26\)"):
        MixUp()(images, labels, maps[:3])
    for mix in (CutMix(), MixUp(), FMix(max_soft=0.2)):  # what is no map must not be averaged as if it were one
        for boxes in (torch.rand(9, 5, 4), torch.randint(0, 20, (9, 5, 4)), torch.rand(9), torch.rand(9, 3, 26, 20)):
            with pytest.raises(ValueError, match=r"extras\[1\] must be .*got \(9.*target.mix\(x\)"):
                mix(images, labels, images, boxes)
    with pytest.raises(ValueError, match=r"extras\[0\] must be \(N, \.\.\., 7\) as the images are, got \(9, 5, 4\)"):
        MixUp()(images[:, 0, 0, :7], labels, torch.rand(9, 5, 4))
    with pytest.raises(ValueError, match=r"extras\[0\] must be \(N\) as the images are, got \(9, 4\)"):
        MixUp()(images[:, 0, 0, 0], labels, torch.rand(9, 4))
    hidden = torch.randn(9, 5, 4)
    target = MixUp()(images, labels, seed=1)[1]
    torch.testing.assert_close(target.mix(hidden), naive_mix(hidden, target), rtol=0, atol=1e-6)  # manifold mixup
    with pytest.raises(TypeError, match=r"extras\[0\] must be a Tensor, got list"):
        CutMix()(images, labels, [1])
    with pytest.raises(ValueError, match=r"ignore_index must fit in extras\[0\]'s torch.uint8, 0 to 255, got -100"):
        MixUp(ignore_index=-100)(images, labels, maps.byte())
    _, target = MixUp()(images, labels)
    with pytest.raises(TypeError, match="x must be an integer tensor where ignore_index is given"):
        target.mix(images, ignore_index=0)
    _, target = CutMix()(images, labels)
    with pytest.raises(ValueError, match=r"x must be \(N, \.\.\., 20, 26\) as the images were, got \(9, 3, 10, 26\)"):
        target.mix(images[:, :, :10])


# ---- Options of one mixer ----


@pytest.mark.parametrize(
    ("mixer", "images", "error", "message"),
    [
        (CutMix(normalize=(0.5, 0.5)), torch.rand(2, 3, 8, 8), TypeError, "images must be uint8 with normalize"),
        (MixUp(normalize=(0.5, 0.5)), torch.zeros(2, 9).byte(), ValueError, r"images must be \(N, C, H, W\) with norm"),
        (CutMix(normalize=([0.5] * 3, 1)), torch.zeros(2, 1, 8, 8).byte(), ValueError, "normalize's mean must be"),
        (SaliencyMix(), torch.rand(2, 4, 8, 8), ValueError, r"images must be \(N, 1, H, W\) or \(N, 3, H, W\)"),
        (SaliencyMix(), torch.zeros(2, 3, 8, 8).int(), TypeError, "images must be uint8 or floating point"),
        (RandomMix([CutMix(), SaliencyMix()], [1, 0]), torch.rand(2, 4, 8, 8), ValueError, "images must be"),
        (ResizeMix(mode="bilinear"), torch.ones(2, 3, 8, 8).bool(), TypeError, r'images must be .* mode="bilinear"'),
        (CutMix(inplace=True), torch.rand(2, 3, 8, 8).requires_grad_(), ValueError, "images must not require grad"),
        (CutMix(inplace=True), torch.rand(2, 3, 8, 9)[..., 1:], ValueError, "images must be contiguous"),
    ],
)
def test_images_that_do_not_fit_are_named(mixer, images, error, message):
    with pytest.raises(error, match=message):
        mixer(images, torch.tensor([0, 1]))


@pytest.mark.parametrize("mixer", [CutMix, GridMix, FMix, lambda: RandomMix([CutMix(), FMix()], per_sample=True)])
def test_mixers_that_choose_take_any_dtype(mixer):
    images, labels = batch()
    numbers = (images * 4).to(torch.int64)
    for dtype in (torch.bool, torch.uint16, torch.complex64):
        mixed, target = mixer()(numbers.to(dtype), labels, seed=SEED)
        assert torch.equal(mixed, naive_mix(numbers, target).to(dtype))


def test_lam_as_it_was_drawn():
    images, labels = batch(300, (3, 8, 8))
    for mixer in (CutMix, SaliencyMix, FMix):
        _, target = mixer(alpha=0.7, correct_lam=False)(images, labels, seed=5)
        assert torch.equal(target.lam, ops.sample_lam(300, 0.7, seed=5))
        _, exact = mixer(alpha=0.7)(images, labels, seed=5)
        assert not torch.equal(exact.lam, target.lam)
    with pytest.raises(ValueError, match="correct_lam must be True with minmax"):
        CutMix(minmax=(0.2, 0.8), correct_lam=False)


def test_sides_within_limits():
    images, labels = batch(500, (3, 20, 30))
    _, target = CutMix(minmax=(0.2, 0.8))(images, labels, seed=1)
    x1, y1, x2, y2 = target.box.unbind(1)
    assert sorted({*(x2 - x1).tolist()}) == list(range(6, 24)) and sorted({*(y2 - y1).tolist()}) == list(range(4, 16))
    for pair, error in (((0.8, 0.2), ValueError), ((-1, 0.5), ValueError), (0.5, TypeError)):
        with pytest.raises(error, match="minmax"):
            CutMix(minmax=pair)


@pytest.mark.parametrize("mixer", [CutMix, SaliencyMix, ResizeMix])
def test_in_place(mixer):
    images, labels = batch()
    want, expected = mixer()(images, labels, seed=3)
    own = images.clone()
    mixed, target = mixer(inplace=True)(own, labels, seed=3)
    assert mixed.data_ptr() == own.data_ptr()
    torch.testing.assert_close(own, want, rtol=0, atol=1e-6)
    assert torch.equal(target.box, expected.box)
    with pytest.raises(ValueError, match="inplace must be False with normalize"):
        mixer(inplace=True, normalize=([0.5] * 3, [0.5] * 3))
    with pytest.raises(ValueError, match="grad"):
        mixer(inplace=True)(images.clone().requires_grad_(), labels)


@pytest.mark.parametrize("name", MIXERS)
def test_normalised_in_the_same_pass(name):
    images, labels = batch(dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    wide = lambda value: torch.tensor(value).view(3, 1, 1)  # noqa: E731
    mixed, target = MIXERS[name](normalize=(mean, std))(images, labels, seed=8)
    expected = (naive_mix(images.float(), target) / 255 - wide(mean)) / wide(std)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)
    half, _ = MIXERS[name](normalize=(mean, std), dtype=torch.bfloat16)(images, labels, seed=8)
    torch.testing.assert_close(half, expected.bfloat16(), rtol=0.01, atol=0.01)


def test_means_survive_half_and_compile():
    torch._dynamo.reset()
    images, labels = batch(dtype=torch.uint8)
    mix = CutMix(normalize=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    want, _ = mix(images, labels, seed=SEED)
    assert torch.equal(mix.half()(images, labels, seed=SEED)[0], want)
    compiled = torch.compile(mix, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images, labels, seed=SEED)[0], want)


def test_saliencymix_centres_on_the_partners_peak():
    images, _ = batch(4, (3, 64, 64), dtype=torch.uint8)
    peaks = ops.saliency_peak(images)
    for images_of_a_kind, options in ((images, {}), ((images / 255 - 0.5) / 0.25, {"mean": 0.5, "std": 0.25})):
        _, target = SaliencyMix(**options)(images_of_a_kind, torch.arange(4), seed=9)
        drawn = ops.sample_lam(4, 1.0, seed=9)
        box, lam = ops.cut_box(drawn, peaks[target.perm], (64, 64))
        assert torch.equal(target.box, box) and torch.equal(target.lam, lam)
    _, target = SaliencyMix(per_sample=False)(images, torch.arange(4), seed=9)
    box, _ = ops.cut_box(ops.sample_lam(1, 1.0, seed=9), peaks[target.perm[:1]], (64, 64))
    assert torch.equal(target.box, box.expand(4, 4))


def test_soft_edges_may_be_switched_on_later():
    images, labels = batch()
    mix = FMix()
    mix.max_soft = 0.2
    mixed, target = mix(images, labels, seed=SEED)
    assert torch.equal(target.mask, FMix(max_soft=0.2)(images, labels, seed=SEED)[1].mask)
    torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)
