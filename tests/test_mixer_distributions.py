"""Boxes, masks and ratios of every mixer are distributed as those of a sampler written in NumPy from its paper."""

import numpy as np
import pytest
import torch
from scipy import stats

from sumix import CutMix, FMix, GridMix, MixTarget, MixUp, RandomMix, ResizeMix, SaliencyMix, SmoothMix, ops

N, H, W = 5000, 24, 30


def drawn(mixer, n=N, size=(H, W), seed=1) -> MixTarget:
    """The target of a batch of n black images."""
    return mixer(torch.zeros(n, 1, *size, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64), seed=seed)[1]


def same(ours, theirs):
    assert ours.shape == theirs.shape
    ours, theirs = (np.asarray(values, dtype=np.float64).round(6) for values in (ours, theirs))  # equal ones tie
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001


def same_boxes(target, box, height=H, width=W):
    """Each end of the boxes, their sides, and the ratio."""
    x1, y1, x2, y2 = box
    for ours, theirs in zip(target.box.T, box, strict=True):
        same(ours, theirs)
    same(target.box[:, 2] - target.box[:, 0], x2 - x1)
    same(target.box[:, 3] - target.box[:, 1], y2 - y1)
    same(target.lam, 1 - (x2 - x1) * (y2 - y1) / (height * width))


def about(x, y, side_x, side_y):
    """Boxes about pixels, their half sides rounded down, clipped to the image."""
    half_x, half_y = side_x.astype(int) // 2, side_y.astype(int) // 2
    return (x - half_x).clip(0), (y - half_y).clip(0), (x + half_x).clip(max=W), (y + half_y).clip(max=H)


def same_masks(target, masks):
    """The ratio, and how often each pixel is the own image's."""
    same(target.lam, masks.mean(axis=(1, 2)))
    shares = target.mask.double().mean(dim=0).numpy(), masks.mean(axis=0)
    assert np.abs(shares[0] - shares[1]).max() < 5 * masks.std() * (2 / N) ** 0.5


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup(alpha):
    assert stats.kstest(drawn(MixUp(alpha=alpha)).lam, stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_cutmix_with_limits():
    """As timm's rand_bbox_minmax, but for the last place on either axis, which timm leaves out."""
    low, high, rng = 0.2, 0.7, np.random.default_rng(0)
    target = drawn(CutMix(minmax=(low, high)))
    side_x, side_y = (rng.integers(int(side * low), int(side * high), N) for side in (W, H))
    x1, y1 = rng.integers(0, W - side_x + 1), rng.integers(0, H - side_y + 1)
    same_boxes(target, (x1, y1, x1 + side_x, y1 + side_y))
    for first, last in ((target.box[:, 0] == 0, target.box[:, 2] == W), (target.box[:, 1] == 0, target.box[:, 3] == H)):
        assert stats.binomtest(int(last.sum()), int(first.sum() + last.sum()), 0.5).pvalue > 0.001


@pytest.mark.parametrize("scope", [(0.1, 0.8), (0.3, 0.5)])
@pytest.mark.parametrize("alpha", [None, 1.0, 0.5])
def test_resizemix(alpha, scope):
    """tau from the uniform distribution, or from Beta, and then again from the uniform one if it leaves its scope."""
    rng = np.random.default_rng(0)
    tau = rng.uniform(*scope, N)
    if alpha is not None:
        beta = rng.beta(alpha, alpha, N)
        tau = np.where((beta < scope[0]) | (beta > scope[1]), tau, beta)
    box = about(rng.integers(W, size=N), rng.integers(H, size=N), W * tau, H * tau)
    same_boxes(drawn(ResizeMix(alpha=alpha, scope=scope)), box)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_saliencymix_given_the_peaks(alpha):
    rng = np.random.default_rng(0)
    images = torch.randint(256, (N, 3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    target = SaliencyMix(alpha=alpha)(images, torch.zeros(N, dtype=torch.int64), seed=1)[1]
    x, y = ops.saliency_peak(images)[target.perm].numpy().T
    side = np.sqrt(1 - rng.beta(alpha, alpha, N))
    box = about(x, y, W * side, H * side)
    same_boxes(target, box)
    # Where a box is not clipped, the peak is its middle.
    x1, y1, x2, y2 = target.box.numpy().T
    inside = (x1 > 0) & (x2 < W) & (y1 > 0) & (y2 < H) & (x2 > x1)
    assert inside.sum() > 100
    assert (x1 + x2 == 2 * x)[inside].all() and (y1 + y2 == 2 * y)[inside].all()


@pytest.mark.parametrize("spectrum", ["paper", "published"])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_fmix(alpha, spectrum):
    """lam H W pixels, rounded up or down with equal chance."""
    height, width = 5, 7
    pixels = height * width
    target = drawn(FMix(alpha=alpha, spectrum=spectrum), size=(height, width))
    assert target.mask.dtype == torch.bool
    torch.testing.assert_close(target.mask.float().mean(dim=(1, 2)), target.lam, rtol=0, atol=1e-6)
    assert abs(target.lam.mean() - 0.5) < 4 * target.lam.std() / N**0.5
    k = (target.lam * pixels).round().long()
    at = stats.beta(alpha, alpha).cdf(np.arange(pixels + 2).clip(max=pixels) / pixels)
    up_to = (at[:-1] + at[1:]) / 2  # P(k <= m), m = 0 .. pixels: of what was rounded up, and down
    counts = torch.bincount(k, minlength=pixels + 1).numpy()
    assert stats.chisquare(counts, N * np.diff(up_to, prepend=0)).pvalue > 0.001


def test_fmix_with_a_soft_edge():
    target = drawn(FMix(max_soft=0.3))
    assert ((target.mask > 0) & (target.mask < 1)).double().mean() > 0.1
    torch.testing.assert_close(target.mask.double().mean(dim=(1, 2)), target.lam.double(), rtol=0, atol=1e-6)
    assert abs(target.lam.mean() - 0.5) < 4 * target.lam.std() / N**0.5
    same(target.lam, np.random.default_rng(0).beta(1, 1, N))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_gridmix(alpha):
    rng = np.random.default_rng(0)
    masks = np.ones((N, H, W), dtype=bool)
    for mask in masks:
        area, aspect, cells = H * W * rng.uniform(0.5, 1), rng.uniform(0.5, 2), rng.integers(2, 7)
        width = int(np.sqrt(area / aspect))
        height = min(int(aspect * width), H)
        width = min(width, W)
        x, y = rng.integers(W - width + 1), rng.integers(H - height + 1)
        cell = -(-width // cells)
        hole = np.clip(int(cell * np.sqrt(1 - rng.beta(alpha, alpha))), 1, cell - 1)
        rows, columns = np.arange(height) % cell < hole, np.arange(width) % cell < hole
        mask[y : y + height, x : x + width] = ~(rows[:, None] & columns)
    same_masks(drawn(GridMix(alpha=alpha)), masks)


def test_smoothmix():
    rng = np.random.default_rng(0)
    x, y, sigma = (
        value[:, None, None] for value in (rng.uniform(0, W, N), rng.uniform(0, H, N), H * rng.uniform(0.25, 0.5, N))
    )
    square = (np.arange(W) + 0.5 - x) ** 2 + (np.arange(H)[:, None] + 0.5 - y) ** 2
    same_masks(drawn(SmoothMix()), 1 - np.exp(-square / (2 * sigma**2)))


def test_randommix():
    target = drawn(RandomMix([CutMix(), MixUp(alpha=0.2)], [2, 1], per_sample=True))
    theirs = drawn(CutMix(), seed=2).lam, drawn(MixUp(alpha=0.2), seed=3).lam
    chosen = np.random.default_rng(0).random(N) < 2 / 3
    same(target.lam, np.where(chosen, *theirs))


@pytest.mark.parametrize("mixer", [CutMix, MixUp, SaliencyMix, FMix, ResizeMix, GridMix, SmoothMix])
def test_one_recipe_a_batch_is_drawn_as_one_a_sample_is(mixer):
    image = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0))  # one for all: all have the same peak
    labels = torch.zeros(N, dtype=torch.int64)
    each = mixer()(image.expand(N, 3, H, W), labels, seed=1)[1].lam
    one, pair = mixer(per_sample=False), image.expand(2, 3, H, W)
    batches = torch.stack([one(pair, labels[:2], seed=seed)[1].lam for seed in range(600)])
    assert torch.equal(batches[:, 0], batches[:, 1])
    assert stats.ks_2samp(batches[:, 0].numpy(), each.numpy()).pvalue > 0.001
