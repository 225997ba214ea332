"""mix_accuracy: against a loop over the samples, for classes, soft labels and several k."""

import math

import pytest
import torch

from sumix import CutMix, MixTarget, SUMixLoss, SUMixOutput, mix_accuracy

N, K = 40, 7
NAN = math.nan


def ranked(row):
    """A row's classes, the largest logit first; of equal ones the lower number, and NaN before all."""
    key = [(-math.inf if math.isnan(value) else -value, at) for at, value in enumerate(row)]
    return [at for _, at in sorted(key)]


def naive(logits, soft, k):
    """The share of all weight that lies in each row's k largest logits, NaN never."""
    hit = 0.0
    for row, weights in zip(logits.tolist(), soft.tolist(), strict=True):
        hit += sum(weights[at] for at in ranked(row)[:k] if not math.isnan(row[at]))
    return hit / soft.sum().item()


def small_target(labels=None):
    y = torch.randint(K, (N,)) if labels is None else labels
    perm = torch.randperm(N)
    return MixTarget(y, y[perm], torch.rand(N), perm)


def rough_logits():
    """With ties, and some NaN."""
    logits = torch.randint(4, (N, K)).float()
    return torch.where(torch.rand(N, K) < 0.1, NAN, logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("logits", [lambda: torch.randn(N, K), rough_logits])
def test_every_kind_of_label(logits, dtype):
    z, target = logits().to(dtype), small_target()
    soft, ks = target.soft(K), (1, 2, 5, K)
    want = [naive(z, soft, k) for k in ks]
    for given in (target, soft, target.soft(K).double()):
        assert torch.stack(mix_accuracy(z, given, topk=ks)).tolist() == pytest.approx(want)
        assert mix_accuracy(z, given, topk=2).item() == pytest.approx(want[1])
        assert mix_accuracy(z, given).item() == pytest.approx(want[0])
    many = (torch.rand(N, K) < 0.4).long()
    many[0] = 0  # a sample without a label
    _, mixed_many = CutMix()(torch.zeros(N, 3, 4, 4), many)
    for given, shares in [
        (many, many.float()),
        (many.bool(), many.float()),
        (mixed_many, mixed_many.soft(K)),
        (target.y_a, torch.nn.functional.one_hot(target.y_a, K)),
    ]:
        got = mix_accuracy(z, given, topk=[1, 3])
        assert torch.stack(got).tolist() == pytest.approx([naive(z, shares, k) for k in (1, 3)])


@pytest.mark.parametrize("ignore_index", [-100, 255, 2])
def test_ignored_labels_do_not_count(ignore_index):
    z, target = torch.randn(N, K), small_target()
    target.y_a[::3] = ignore_index
    target.y_b[::4] = ignore_index
    weights = torch.zeros(N, K)
    for labels, lam in ((target.y_a, target.lam), (target.y_b, 1 - target.lam)):
        for i in range(N):
            if labels[i] != ignore_index:
                weights[i, labels[i]] += lam[i]
    got = mix_accuracy(z, target, topk=(1, 3), ignore_index=ignore_index)
    assert torch.stack(got).tolist() == pytest.approx([naive(z, weights, k) for k in (1, 3)])
    assert SUMixLoss(gamma=0.1, ignore_index=ignore_index)(z, z, target).isfinite()  # takes the same labels


def test_a_perfect_network_is_right_whatever_is_ignored():
    target = MixTarget(torch.tensor([1, -100]), torch.tensor([-100, 2]), torch.tensor([0.3, 0.6]), torch.tensor([1, 0]))
    z = torch.tensor([[0.0, 1, 0], [0, 0, 1]])
    assert mix_accuracy(z, target) == 1 and mix_accuracy(-z, target) == 0
    nothing = MixTarget(*(torch.tensor([-100, -100]) for _ in range(2)), target.lam, target.perm)
    assert mix_accuracy(z, nothing).isnan() and mix_accuracy(z[:0], target[:0]).isnan()


def test_a_network_of_nan_hits_nothing():
    z, target = torch.full((N, K), NAN), small_target()
    assert mix_accuracy(z, target, topk=(1, K)) == (0, 0)
    assert mix_accuracy(z, target.soft(K), topk=(1, K)) == (0, 0)


@pytest.mark.parametrize("soft", [False, True])
def test_compiles_in_one_graph(soft):
    z, target = torch.randn(N, K), small_target()
    given = target.soft(K) if soft else target
    compiled = torch.compile(lambda z, t: mix_accuracy(z, t, topk=(1, 5)), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, given), mix_accuracy(z, given, topk=(1, 5)))
    grad = torch.randn(N, K, requires_grad=True)
    assert not mix_accuracy(SUMixOutput(grad), given).requires_grad


def test_bad_input_is_named():
    z, target = torch.randn(N, K), small_target()
    for topk, error in [(0, ValueError), (K + 1, ValueError), ((1, K + 1), ValueError), ((), ValueError)]:
        with pytest.raises(error, match="topk"):
            mix_accuracy(z, target, topk=topk)
    for topk in (True, 1.0, "15", None, (1, None)):
        with pytest.raises(TypeError, match="topk"):
            mix_accuracy(z, target, topk=topk)
    with pytest.raises(ValueError, match=f"topk must be at most K = {K}.*got {K + 1}"):
        mix_accuracy(z, target, topk=K + 1)
    with pytest.raises(TypeError, match="ignore_index"):
        mix_accuracy(z, target, ignore_index=None)
    for given, error, match in [
        (None, TypeError, "target must be a MixTarget or a Tensor"),
        (target.y_a + K, ValueError, "target must be from 0 to K - 1 = 6"),
        (target.y_a.float(), TypeError, "target must be an integer"),
        (target.soft(K + 1), ValueError, r"target must be \(N,\), or \(N, K\) = \(40, 7\), got \(40, 8\)"),
        (-target.soft(K), ValueError, "target must not be negative"),
        (target.soft(K) * NAN, ValueError, "target must not be negative or NaN"),
        (target.soft(K).to(torch.complex64), TypeError, "real numbers"),
        (MixTarget(target.y_a, target.y_b - K, target.lam, target.perm), ValueError, "target.y_b must be from 0"),
    ]:
        with pytest.raises(error, match=match):
            mix_accuracy(z, given)
