"""Boxes with a depth: sampled, mixed, repeated, and weighed by what is visible."""

import pytest
import torch
from scipy import stats

from sumix import CutMix, FMix, MixUp, RandomMix, ResizeMix, SUMixLoss, SUMixOutput, ops, reference
from sumix.ops.sample_box import _root
from tests.mixers import naive_mix

SIZE = (6, 9, 8)
FORMATS = [torch.contiguous_format, torch.channels_last_3d]


def batch(n=7, channels=2):
    return torch.randn(n, channels, *SIZE), torch.arange(n)


def volume(target):
    low, high = target.box.tensor_split(2, dim=1)
    return (high - low).prod(dim=1)


@pytest.mark.parametrize("options", [{}, {"minmax": (0.3, 0.7)}, {"p": 0.5}, {"per_sample": False}])
@pytest.mark.parametrize("layout", FORMATS)
def test_volumes_are_what_the_target_says(layout, options):
    mix = CutMix(volume=True, **options)
    for channels in (1, 2):
        images, labels = batch(channels=channels)
        images = images.contiguous(memory_format=layout)
        mixed, target = mix(images, labels, seed=3)
        assert target.box.shape == (7, 6) and target.image_size == SIZE
        assert torch.equal(mixed, naive_mix(images, target)) and mixed.stride() == images.stride()
        assert torch.equal(target.lam, (1 - volume(target).double() / (6 * 9 * 8)).float())
        assert torch.equal(target.mix(images), mixed)
        own = images.clone(memory_format=torch.preserve_format)
        assert CutMix(volume=True, inplace=True, **options)(own, labels, seed=3)[0].data_ptr() == own.data_ptr()
        assert torch.equal(own, mixed)
        organs = torch.randint(0, 5, (7, *SIZE))
        assert torch.equal(mix(images, labels, organs, seed=3)[2], naive_mix(organs.unsqueeze(1), target).squeeze(1))


@pytest.mark.parametrize("shape", [(0, 2, 3, 4, 5), (4, 3, 4, 5), (4, 0, 3, 4, 5), (4, 2, 0, 4, 5), (4, 1, 2, 3, 4, 5)])
def test_boxes_of_any_volume(shape):
    x, n = torch.randn(shape), shape[0]
    sides = torch.tensor(shape[:-4:-1])
    box = (torch.rand(n, 2, 3) * (sides + 1)).long().sort(1).values.flatten(1)
    perm = torch.randint(0, max(n, 1), (n,))
    want = reference.mix_box(x, box, perm)
    for given in (x, x.transpose(-1, -2).contiguous().transpose(-1, -2)):
        assert torch.equal(ops.mix_box(given, box.int(), perm), want)
    assert torch.equal(ops.mix_box_(x, box, perm), want) and torch.equal(x, want)


def test_gradients_are_those_of_the_copies():
    images, labels = batch()
    leaf = images.double().requires_grad_()
    mixed, target = CutMix(volume=True)(leaf, labels, seed=3)
    weights = torch.rand_like(mixed)
    (got,) = torch.autograd.grad((mixed * weights).sum(), leaf)
    (want,) = torch.autograd.grad((naive_mix(leaf, target) * weights).sum(), leaf)
    assert torch.equal(got, want)


def test_compiles_without_a_break():
    torch._dynamo.reset()
    images, labels = batch()
    mix = CutMix(volume=True)
    compiled = torch.compile(mix, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images, labels, seed=torch.tensor(3))[0], mix(images, labels, seed=3)[0])


def test_boxes_take_their_share():
    n, size = 6000, (40, 50, 60)
    box, _ = ops.sample_box(n, size, alpha=1.0, seed=1)
    low, high = box.tensor_split(2, dim=1)
    assert (low >= 0).all() and (high <= torch.tensor(size[::-1])).all()
    drawn = 1 - ops.sample_lam(n, 1.0, seed=1).double()
    inside = ((low > 0) & (high < torch.tensor(size[::-1]))).all(dim=1)
    sides = torch.stack([2 * ((drawn ** (1 / 3) * side).long() // 2) for side in size[::-1]], dim=1)
    assert inside.sum() > 200 and torch.equal((high - low)[inside], sides[inside])
    small = drawn < 0.001  # whose centre is hardly ever cut off
    for axis, side in enumerate(size[::-1]):
        centre = ((low + high) / 2)[small & inside, axis] / side
        assert stats.kstest(centre.numpy(), "uniform", args=(0.02, 0.96)).pvalue > 0.001
    box, _ = ops.sample_box(n, size, kind="minmax", low=0.2, high=0.5, seed=1)
    depth = box[:, 5] - box[:, 2]
    assert sorted({*depth.tolist()}) == list(range(8, 20)) and box[:, 5].max() == 40 and box[:, 2].min() == 0


def test_cube_roots_are_exact():
    for length in (1, 7, 100, 4096):
        share = torch.rand(1000, dtype=torch.float64)
        root = _root(share, length)
        assert (root**3 <= share * float(length**3)).all() and ((root + 1) ** 3 > share * float(length**3)).all()


def test_beside_a_blend():
    images, labels = batch(60, 1)
    mix = RandomMix([CutMix(volume=True), MixUp()], per_sample=True)
    mixed, target = mix(images, labels, seed=2)
    assert target.mask.shape == (60, 1, 1, 1) and (volume(target) > 0).any() and (target.mask < 1).any()
    torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)
    assert torch.equal(target.mix(images), mixed)
    with pytest.raises(ValueError, match="mixers must have a kind of images in common"):
        RandomMix([CutMix(volume=True), FMix()])


def shares(maps, target):
    """S_a and S_b in float64: the mask at a resolution that voxels and cells divide, then averaged over cells."""
    kept = torch.ones(len(target), *SIZE, dtype=torch.float64)
    if target.mask is not None:
        kept *= target.mask
    for i, (x1, y1, z1, x2, y2, z2) in enumerate(target.box.tolist()):
        kept[i, z1:z2, y1:y2, x1:x2] = 0
    for axis, (cells, side) in enumerate(zip(maps.shape[2:], SIZE, strict=True)):
        kept = kept.repeat_interleave(cells, dim=1 + axis).unflatten(1 + axis, (cells, side)).mean(2 + axis)
    f, kept = maps.double().flatten(2), kept.flatten(1)
    contrast = (f.mean(2, keepdim=True) * f).sum(1)
    s = (contrast - contrast.mean(1, keepdim=True)).clamp(min=0)
    visible = [(m * e).sum(1) / e.sum(1) for m, e in ((kept, s), (1 - kept, s[target.perm]))]
    return visible[0], visible[1], visible[0] / (visible[0] + visible[1])


@pytest.mark.parametrize("grid", [(6, 3, 4), (2, 3, 2), (4, 9, 3)])
@pytest.mark.parametrize("layout", FORMATS)
def test_the_ratio_from_what_is_visible(layout, grid):
    images, labels = batch()
    maps = torch.rand(7, 5, *grid).contiguous(memory_format=layout)
    for mix in (CutMix(volume=True, minmax=(0.3, 0.8)), RandomMix([CutMix(volume=True), MixUp()], per_sample=True)):
        _, target = mix(images, labels, seed=4)
        where = {"box": target.box, "mask": target.mask, "size": target.image_size}
        found = ops.masked_similarity(maps, target.perm, target.lam, **where)
        for got, want in zip(found[:3], shares(maps, target), strict=True):
            torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)
    z, raw = torch.randn(7, 9), SUMixOutput(torch.randn(7, 9), None, maps, None)
    _, parts = SUMixLoss(gamma=0.1, ratio="feature", return_parts=True)(z, raw, target)
    torch.testing.assert_close(parts.lam, found.lam)


X, BOX, PERM = torch.zeros(2, 1, 3, 4, 5), torch.tensor([[0, 0, 0, 5, 4, 3]] * 2), torch.tensor([1, 0])


def visible(box):
    """Of maps of the volumes X, the second of which has this box."""
    boxes = torch.stack([BOX[0], box])
    return ops.masked_similarity(torch.rand(2, 3, 2, 2, 2), PERM, torch.rand(2), box=boxes, size=(3, 4, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.mix_box(X, BOX + torch.tensor([0, 0, 0, 0, 0, 1]), PERM), ValueError, r"box\[0\] is .* z2 <= 3"),
        (lambda: ops.mix_box(X, BOX - torch.tensor([0, 0, 1, 0, 0, 0]), PERM), ValueError, r"box\[0\] is"),
        (lambda: ops.mix_box(X, BOX + torch.tensor([0, 0, 0, 1, 0, 0]), PERM), ValueError, r"box\[0\] is"),
        (lambda: ops.mix_box(X, BOX, PERM + 1), ValueError, r"perm\[0\] is 2, expected 0 to 1"),
        (lambda: ops.mix_box(X[0, 0], BOX[:1].expand(3, 6), PERM), ValueError, r"x must be \(N, \.\.\., D, H, W\)"),
        (lambda: ops.mix_box(X, BOX[:, :5], PERM), ValueError, r"box must be \(N, 4\) .* or \(N, 6\) for volumes"),
        (lambda: ops.mix_box_(X.transpose(3, 4), BOX, PERM), ValueError, "x must be contiguous or channels_last"),
        (lambda: ops.mix_resize(X, BOX, PERM), ValueError, r"box must be \(N, 4\)"),
        (lambda: ops.sample_box(3, (4, 5, 6), kind="resize"), ValueError, 'kind must be "cut" or "minmax" for volumes'),
        (lambda: ops.sample_box(3, (4, 5, -1)), ValueError, "size must be from 0"),
        (lambda: CutMix(volume=1), TypeError, "volume must be a bool"),
        (lambda: CutMix(volume=True)(X[:, 0], PERM), ValueError, r"images must be \(N, C, D, H, W\), got"),
        (lambda: ResizeMix(volume=True), TypeError, "volume"),
        (
            lambda: ops.masked_similarity(torch.rand(2, 3, 2, 2, 2), PERM, torch.rand(2), box=BOX, size=(4, 5)),
            ValueError,
            r"size must be \(D, H, W\) of the volumes",
        ),
        *[
            (lambda box=box: visible(torch.tensor(box)), ValueError, r"box\[1\] is .* z2 <= 3")
            for box in ([0, 0, 0, 6, 4, 3], [0, -1, 0, 5, 4, 3], [0, 0, 2, 5, 4, 1], [5, 0, 0, 0, 4, 3])
        ],
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_depth_that_cannot_be_looked_at_is_a_box_of_no_image():
    """As on a GPU, where the kernel asserts, and in compiled code."""
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match=r"box\[0\] is \(-1"):
        torch.compile(ops.mix_box, backend="eager")(X, BOX + torch.tensor([0, 0, 0, 0, 0, 1]), PERM)


def test_what_a_box_of_no_volume_shows_cannot_be_said():
    """Where the box cannot be looked at, in compiled code say."""
    torch._dynamo.reset()
    compiled = torch.compile(visible, backend="eager", fullgraph=True)
    assert compiled(BOX[1]).lam.isfinite().all()
    for box in (BOX[1] + torch.tensor([0, 0, 0, 0, 0, 1]), BOX[1].roll(3)):
        with pytest.raises(RuntimeError, match=r"mask\[1\] has values outside 0 to 1, or NaN"):
            compiled(box)
