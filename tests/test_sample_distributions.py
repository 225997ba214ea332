"""What the sampling operators draw has the distribution that they name."""

import numpy as np
import pytest
import torch
from scipy import stats

from sumix import ops


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0, 100.0])
def test_lam_is_beta_distributed(alpha):
    lam, beta = ops.sample_lam(40000, alpha, seed=2).double().numpy(), stats.beta(alpha, alpha)
    assert stats.binomtest(int((lam < 0.5).sum()), lam.size, 0.5).pvalue > 0.01
    # Below 1/2, where float32 is as fine as the distribution, down to where it ends.
    least = 1e-37
    small, below = lam[(lam >= least) & (lam < 0.5)], beta.cdf(least)
    assert stats.kstest(small, lambda x: (beta.cdf(x) - below) / (0.5 - below)).pvalue > 0.01
    assert stats.binomtest(int((lam < least).sum()), lam.size, below).pvalue > 0.01
    if alpha >= 1:
        assert stats.kstest(lam, beta.cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [1e-300, 1e-10, 1e-3, 1e6, 1e30])
def test_lam_of_an_extreme_alpha(alpha):
    lam = ops.sample_lam(4000, alpha, seed=0).double()
    assert ((lam >= 0) & (lam <= 1)).all()
    assert abs(lam.mean() - 0.5) < 0.05
    deviation = (4 * (2 * alpha + 1)) ** -0.5
    assert lam.std().item() == pytest.approx(deviation, rel=0.05, abs=1e-7)


def test_noise_has_its_distribution():
    normal, uniform = (draw(200, 1001, seed=3).double() for draw in (ops.sample_normal, ops.sample_uniform))
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 0.01
    assert uniform.min() >= 0 and uniform.max() < 1
    for noise in (normal - normal.mean(), uniform - uniform.mean()):
        for other in (noise.roll(1, 0), noise.roll(1, 1), noise.roll(2, 1), noise.roll(4, 1)):
            correlation = (noise * other).mean() / noise.square().mean()
            assert abs(correlation) < 4 / noise.numel() ** 0.5
    assert stats.kurtosis(normal.flatten().numpy()) == pytest.approx(0, abs=4 * (24 / normal.numel()) ** 0.5)
    # Both ends, where one word in 2^32 makes the radius.
    assert 4 < normal.abs().max() < 6.8


def permutations(count, n, partners="any", labels=None):
    return torch.stack([ops.sample_perm(n, partners=partners, labels=labels, seed=s) for s in range(count)])


def chisquare(codes, cells):
    counts = torch.bincount(codes, minlength=cells)
    assert counts.shape == (cells,)
    return stats.chisquare(counts.numpy()).pvalue


def test_permutations_are_uniform():
    code = (permutations(6000, 4) * torch.tensor([64, 16, 4, 1])).sum(1)
    values, counts = code.unique(return_counts=True)
    assert len(values) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 0.01
    many = permutations(6000, 17)
    assert torch.equal(many.sort(1).values, torch.arange(17).expand(6000, 17))
    for i in range(17):
        assert chisquare(many[:, i], 17) > 1e-4


def test_cycles_are_uniform():
    code = (permutations(3000, 4, "no_fixed_points") * torch.tensor([64, 16, 4, 1])).sum(1)
    values, counts = code.unique(return_counts=True)
    assert len(values) == 6  # (n - 1)! cycles
    assert stats.chisquare(counts.numpy()).pvalue > 0.01
    many = permutations(4000, 9, "no_fixed_points")
    at = torch.zeros(4000, 1, dtype=torch.int64)
    for _ in range(8):
        at = many.gather(1, at)
        assert (at != 0).all()
    assert (many.gather(1, at) == 0).all()
    for i in range(9):
        assert chisquare((many[:, i] - i) % 9 - 1, 8) > 1e-4
    assert ops.sample_perm(1, partners="no_fixed_points").tolist() == [0]
    assert ops.sample_perm(2, partners="no_fixed_points").tolist() == [1, 0]


@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [2],
        [5],
        [1, 1],
        [3, 3],
        [4, 3],
        [1, 9],
        [2, 3, 4],
        [5, 3, 2],
        [6, 3, 2],
        [1] * 10,
        [10, 1, 1],
        [40, 30, 30],
    ],
)
def test_nobody_meets_its_class_unless_it_must(sizes):
    labels = torch.repeat_interleave(
        torch.tensor([7, -2, 0, 2**40, 5, 6, 8, 9, 10, 11])[: len(sizes)], torch.tensor(sizes)
    )
    n, most = sum(sizes), max(sizes)
    for s in range(60):
        order = torch.randperm(n)
        y = labels[order]
        perm = ops.sample_perm(n, partners="cross_class", labels=y, seed=s)
        assert torch.equal(perm.sort().values, torch.arange(n))
        assert (y == y[perm]).sum() == max(0, 2 * most - n)
        assert n == 1 or (perm != torch.arange(n)).all()


def test_partners_of_other_classes_are_fairly_drawn():
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    many = permutations(6000, 9, "cross_class", labels)
    for i in (0, 4, 8):
        counts = torch.bincount(many[:, i], minlength=9)
        assert (counts[labels == labels[i]] == 0).all()
        assert stats.chisquare(counts[labels != labels[i]].numpy()).pvalue > 1e-3
    pairs = permutations(2000, 4, "cross_class", torch.tensor([0, 1, 2, 3]))  # every one alone: a random rotation
    for i in range(4):
        assert chisquare((pairs[:, i] - i) % 4 - 1, 3) > 1e-3


def same_distribution(ours, theirs):
    return stats.ks_2samp(ours.numpy(), theirs).pvalue > 0.001


def test_minmax_boxes_are_those_of_timm():
    """Sides as timm draws them; places are uniform among all that fit, of which timm leaves out the last."""
    rng, n, height, width = np.random.default_rng(0), 8000, 32, 50
    box, _ = ops.sample_box(n, (height, width), kind="minmax", low=0.2, high=0.7, seed=1)
    x1, y1, x2, y2 = box.unbind(1)
    assert same_distribution(x2 - x1, rng.integers(int(width * 0.2), int(width * 0.7), n))
    assert same_distribution(y2 - y1, rng.integers(int(height * 0.2), int(height * 0.7), n))
    assert same_distribution(x1, rng.integers(0, width - (x2 - x1).numpy() + 1))
    assert same_distribution(y1, rng.integers(0, height - (y2 - y1).numpy() + 1))
    assert abs(np.corrcoef(x1 / (width - x2 + x1 + 1), y1 / (height - y2 + y1 + 1))[0, 1]) < 4 / n**0.5
    fixed, _ = ops.sample_box(n, 100, kind="minmax", low=0.3, high=0.3, seed=1)
    assert ((fixed[:, 2] - fixed[:, 0]) == 30).all() and (fixed[:, 3] - fixed[:, 1] == 0).all()
    whole, lam = ops.sample_box(4, (8, 9), kind="minmax", low=1.0, high=1.0)
    assert (whole == torch.tensor([0, 0, 9, 8])).all() and (lam == 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_resize_boxes_are_those_of_the_paper(alpha):
    rng, n, height, width = np.random.default_rng(0), 8000, 32, 50
    box, _ = ops.sample_box(n, (height, width), kind="resize", alpha=alpha, seed=1)
    tau = rng.uniform(0.1, 0.8, n)
    if alpha:
        drawn = rng.beta(alpha, alpha, n)
        tau = np.where((drawn < 0.1) | (drawn > 0.8), tau, drawn)
    cx, cy = rng.integers(width, size=n), rng.integers(height, size=n)
    half_w, half_h = (width * tau).astype(int) // 2, (height * tau).astype(int) // 2
    theirs = (cx - half_w).clip(0), (cy - half_h).clip(0), (cx + half_w).clip(max=width), (cy + half_h).clip(max=height)
    assert all(same_distribution(ours, side) for ours, side in zip(box.unbind(1), theirs, strict=True))


def test_streams_are_independent():
    """One seed feeds all of them: no two ops draw the same numbers."""
    n = 4000
    box, _ = ops.sample_box(n, (1000, 1000), kind="minmax", low=0.0, high=1.0, seed=4)
    columns = [
        ops.sample_lam(n, seed=4),
        ops.sample_lam(n, 0.5, seed=4),
        ops.sample_uniform(n, 1, seed=4)[:, 0],
        ops.sample_normal(n, 1, seed=4)[:, 0],
        ops.sample_perm(n, seed=4),
        ops.sample_seed(n, seed=4).double() * 2.0**-63,
        *(box[:, 2:] - box[:, :2]).unbind(1),
    ]
    correlation = np.corrcoef(torch.stack([column.double() for column in columns]).numpy())
    correlation[0, 1] = correlation[1, 0] = 0  # both are lam
    assert np.abs(correlation - np.eye(len(columns))).max() < 4 / n**0.5
