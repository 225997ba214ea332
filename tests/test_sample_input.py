"""The sampling operators name what is wrong with their arguments."""

import pytest
import torch

from sumix import ops

sumix = torch.ops.sumix
SEED, NONE = torch.tensor(5), torch.empty(0, dtype=torch.int64)
LAM, CENTRE, LABELS = torch.rand(3), torch.ones(3, 2, dtype=torch.int64), torch.arange(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.sample_lam(-1), ValueError, "n must be from 0 to .*, got -1"),
        (lambda: ops.sample_lam(2.0), TypeError, "n must be an int, got float"),
        (lambda: ops.sample_lam(2, 0), ValueError, "alpha must be above 0, got 0"),
        (lambda: ops.sample_lam(2, float("nan")), ValueError, "alpha must be from 0"),
        (lambda: ops.sample_lam(2, "1"), TypeError, "alpha must be a number"),
        (lambda: ops.sample_lam(2, p=1.5), ValueError, "p must be from 0 to 1, got 1.5"),
        (lambda: ops.sample_lam(2, seed=1.5), TypeError, "seed must be an int, got float"),
        (lambda: ops.sample_lam(2, seed=2**63), ValueError, "seed must be from"),
        (lambda: ops.sample_lam(2, seed=torch.tensor(1.5)), TypeError, "seed must be an integer tensor"),
        (lambda: ops.sample_lam(2, seed=LABELS), ValueError, r"seed must have one element, got \(3,\)"),
        (lambda: ops.sample_lam(2, seed=LABELS[:1].to_sparse()), TypeError, "seed must be a dense tensor"),
        (lambda: ops.sample_lam(2, seed=SEED, device="meta"), ValueError, "seed must be on meta, got cpu"),
        (lambda: ops.sample_lam(2, seed=1, generator=torch.Generator()), ValueError, "generator must be None"),
        (lambda: ops.sample_lam(2, generator=3), TypeError, "generator must be a torch.Generator, got int"),
        (
            lambda: ops.sample_lam(2, generator=torch.Generator(), device="meta"),
            ValueError,
            "generator must be on meta",
        ),
        (lambda: ops.sample_perm(2**31), ValueError, r"n must be below 2\^31, got 2147483648"),
        (lambda: ops.sample_perm(3, partners="all"), ValueError, "partners must be one of 'any', 'no_fixed_points'"),
        (lambda: ops.sample_perm(3, partners=1), TypeError, "partners must be a string"),
        (lambda: ops.sample_perm(3, partners="cross_class"), ValueError, "labels must be given"),
        (lambda: ops.sample_perm(3, labels=LABELS), ValueError, "labels must be None unless"),
        (
            lambda: ops.sample_perm(4, partners="cross_class", labels=LABELS),
            ValueError,
            r"labels must be \(n,\) = \(4,\)",
        ),
        (lambda: ops.sample_perm(3, partners="cross_class", labels=LAM), TypeError, "labels must be an integer tensor"),
        (
            lambda: ops.sample_perm(3, partners="cross_class", labels=LABELS, device="meta"),
            ValueError,
            "labels must be on the device of the seed, meta",
        ),
        (lambda: ops.sample_box(3, (4,)), ValueError, r"size must be \(height, width\) or a length, got \(4,\)"),
        (lambda: ops.sample_box(3, (4, -1)), ValueError, "size must be from 0"),
        (lambda: ops.sample_box(3, (4, 2**31)), ValueError, "size must be below 2.31"),
        (lambda: ops.sample_box(3, 2.5), TypeError, "size must be"),
        (lambda: ops.sample_box(3, (4, 2.5)), TypeError, "size must be an int"),
        (lambda: ops.sample_box(3, (4, 4), kind="round"), ValueError, "kind must be one of 'cut', 'span'"),
        (lambda: ops.sample_box(3, (4, 4), alpha=0), ValueError, "alpha must be above 0"),
        (lambda: ops.sample_box(3, (4, 4), kind="resize", alpha=-1), ValueError, "alpha must be from 0"),
        (lambda: ops.sample_box(3, (4, 4), low=0.5, high=0.4), ValueError, "low must be at most high"),
        (lambda: ops.sample_box(3, (4, 4), high=1.4), ValueError, "high must be from 0 to 1"),
        (lambda: ops.cut_box(LABELS, CENTRE, 4), TypeError, "lam must be float16"),
        (lambda: ops.cut_box(LAM, LAM, 4), TypeError, "centre must be an integer tensor"),
        (lambda: ops.cut_box(LAM[:2], CENTRE, (4, 4)), ValueError, r"centre must be \(N, 2\) = \(2, 2\)"),
        (lambda: ops.cut_box(LAM[:, None], CENTRE, (4, 4)), ValueError, r"lam must be \(N,\)"),
        (lambda: ops.cut_box(LAM, CENTRE.to("meta"), (4, 4)), ValueError, "centre must be on the device of lam"),
        (lambda: ops.cut_box(LAM + 2, CENTRE, (4, 4)), ValueError, r"lam\[0\] is .*, expected 0 to 1"),
        (lambda: ops.cut_box(LAM * float("nan"), CENTRE, (4, 4)), ValueError, r"lam\[0\] is -?nan, expected 0 to 1"),
        (lambda: ops.cut_box(LAM, CENTRE * 4, (5, 4)), ValueError, r"centre\[0\] is \(4, 4\), expected x from 0 to 3"),
        (lambda: ops.cut_box(LAM, -CENTRE, (4, 4)), ValueError, r"centre\[0\] is \(-1, -1\)"),
        (lambda: ops.cut_box(LAM, CENTRE, 4), ValueError, r"y from 0 to 0"),
        (lambda: ops.sample_normal(2, -1), ValueError, "size must be from 0"),
        (lambda: ops.sample_uniform(2, 2.0), TypeError, "size must be an int"),
        (lambda: ops.sample_normal(1, 2**34 + 1), ValueError, "size must be at most 2.34"),
        (lambda: ops.sample_seed(None), TypeError, "n must be an int"),
        (lambda: sumix.sample_lam(SEED.int(), 3, 1.0, 1.0), RuntimeError, "seed must be int64, got int32"),
        (lambda: sumix.sample_lam(LABELS, 3, 1.0, 1.0), RuntimeError, "seed must have one element, got 3"),
        (lambda: sumix.sample_lam(SEED, -3, 1.0, 1.0), RuntimeError, "n must be at least 0, got -3"),
        (lambda: sumix.sample_lam(SEED, 3, 0.0, 1.0), RuntimeError, "alpha must be above 0 and finite, got 0"),
        (lambda: sumix.sample_lam(SEED, 3, float("inf"), 1.0), RuntimeError, "alpha must be above 0 and finite"),
        (lambda: sumix.sample_lam(SEED, 3, 1.0, float("nan")), RuntimeError, "p must be from 0 to 1, got -?nan"),
        (lambda: sumix.sample_perm(SEED, NONE, 2**31, 0), RuntimeError, r"n must be below 2\^31, got 2147483648"),
        (lambda: sumix.sample_perm(SEED, NONE, 3, 3), RuntimeError, "partners must be 0 to 2, got 3"),
        (lambda: sumix.sample_perm(SEED, NONE, 3, 2), RuntimeError, "labels must have size 3 in dimension 0, got 0"),
        (lambda: sumix.sample_perm(SEED, LAM, 3, 2), RuntimeError, "labels must be int64"),
        (lambda: sumix.sample_box(SEED, 3, 4, 4, 4, 1.0, 1.0, 0.1, 0.8), RuntimeError, "kind must be 0 to 3, got 4"),
        (lambda: sumix.sample_box(SEED, 3, -4, 4, 0, 1.0, 1.0, 0.1, 0.8), RuntimeError, "no image is -4 x 4"),
        (lambda: sumix.sample_box(SEED, 3, 4, 4, 0, 0.0, 1.0, 0.1, 0.8), RuntimeError, "alpha must be above 0"),
        (lambda: sumix.sample_box(SEED, 3, 4, 4, 2, 0.0, 1.0, 0.9, 0.8), RuntimeError, "low must be at most high"),
        (lambda: sumix.sample_box(SEED, 3, 4, 4, 3, 0.0, 1.0, 0.1, 1.8), RuntimeError, "high must be from 0 to 1"),
        (lambda: sumix.cut_box(LAM.double(), CENTRE, 4, 4), RuntimeError, "lam must be float32, got float64"),
        (lambda: sumix.cut_box(LAM, CENTRE[:2], 4, 4), RuntimeError, "centre must have size 3 in dimension 0"),
        (lambda: sumix.sample_uniform(SEED, 3, -1), RuntimeError, "size must be at least 0"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
