"""ops.sumix_loss with label weights (N, 3): against the twin, a step-by-step form, and torch's loss of soft targets."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from batches import TOLERANCE, assert_near, batch, leaves, widened

from sumix import ops, reference

WEIGHTINGS, REDUCTIONS = reference.WEIGHTINGS, reference.REDUCTIONS
GRID = list(itertools.product(WEIGHTINGS, REDUCTIONS))
N, K = 12, 7


def label_weights(kind, n, dtype=torch.float64):
    """As the rules make them: summing to 1, to 1 without a rest, or the two labels' to 0 to 2."""
    weights = torch.rand(n, 3, dtype=torch.float64)
    if kind == "visible":
        weights[:, 2] = 0
        weights[: n // 4] = 0
    elif kind == "relative":
        weights = torch.stack([weights[:, 0], 1 - weights[:, 0], torch.zeros(n, dtype=torch.float64)], dim=1)
    else:
        weights = weights / weights.sum(dim=1, keepdim=True)
    return weights.to(torch.float64 if dtype == torch.float64 else torch.float32)


KINDS = ["uncertain", "visible", "relative"]


def ignoring(arguments):
    """Some samples without the own label, the partner's, or both."""
    arguments[4] = arguments[4].index_fill(0, torch.tensor([0, 2]), -1)
    arguments[5] = arguments[5].index_fill(0, torch.tensor([1, 2]), -1)
    return arguments


def compare(arguments, learned, tolerance, gradient_tolerance=None, **options):
    exact = widened(arguments)
    loss, parts = ops.sumix_loss(*arguments, learned=learned, **options)
    want, *want_parts = reference.sumix_loss(*exact, learned=learned.double(), **options)
    assert_near(loss, want, tolerance)
    for got, wanted in zip(parts, want_parts, strict=True):
        assert_near(got, wanted, tolerance)
    incoming = torch.rand(loss.shape, dtype=torch.float64).to(loss.dtype)
    got_grads = torch.autograd.grad(loss, leaves(arguments), incoming)
    want_grads = torch.autograd.grad(want, leaves(exact), incoming.double())
    for got, wanted in zip(got_grads, want_grads, strict=True):
        assert_near(got, wanted, gradient_tolerance or tolerance)


@pytest.mark.parametrize(("weighted", "smoothing", "ignore"), list(itertools.product([0, 1], [0.0, 0.1, 1.0], [0, 1])))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("weighting", "reduction"), GRID)
def test_matches_the_float64_twin(weighting, reduction, kind, weighted, smoothing, ignore):
    for plain, dtype in itertools.product((False, True), TOLERANCE):
        arguments = batch(N, K, dtype, plain=plain)
        arguments = ignoring(arguments) if ignore else arguments
        weight = torch.rand(K, dtype=torch.float64) + 0.5 if weighted else None
        compare(
            arguments,
            label_weights(kind, N, dtype),
            TOLERANCE[torch.float64 if dtype == torch.float64 else torch.float32],
            TOLERANCE[dtype],
            **{"weighting": weighting, "reduction": reduction, "weight": weight},
            **{"label_smoothing": smoothing, "ignore_index": -1, "gamma": 0.3},
        )


def step_by_step(arguments, weights, weighting, reduction, weight, smoothing):
    """The classification term, a sample after another."""
    z, _, _, _, y_a, y_b, _, lam = arguments
    n, k = z.shape
    w = torch.ones(k, dtype=z.dtype) if weight is None else weight
    own = [weights[i].tolist() for i in range(n)]
    for i in range(n):
        if y_a[i] == -1 or y_b[i] == -1:
            own[i] = [lam[i].item(), 1 - lam[i].item(), 0.0]
    kept = [i for i in range(n) if y_a[i] != -1 or y_b[i] != -1]
    if weighting == "batch":
        own = [[sum(own[i][t] for i in kept) / len(kept) for t in range(3)]] * n
    terms, total = [], 0.0
    for i in range(n):
        ce = -z[i].log_softmax(0) * w
        of_all = ce.mean()
        a, b, rest = own[i]
        if y_a[i] != -1 and y_b[i] != -1:
            term = (1 - smoothing) * (a * ce[y_a[i]] + b * ce[y_b[i]] + rest * of_all) + smoothing * of_all
            total += 1 if weight is None else (a * w[y_a[i]] + b * w[y_b[i]] + rest * w.mean()).item()
        elif y_a[i] != -1:
            term, total = a * ((1 - smoothing) * ce[y_a[i]] + smoothing * of_all), total + a * w[y_a[i]].item()
        elif y_b[i] != -1:
            term, total = b * ((1 - smoothing) * ce[y_b[i]] + smoothing * of_all), total + b * w[y_b[i]].item()
        else:
            term = 0 * of_all
        terms.append(term)
    terms = torch.stack(terms)
    return {"none": terms, "sum": terms.sum(), "mean": terms.sum() / total}[reduction]


@pytest.mark.parametrize(("weighted", "smoothing"), list(itertools.product([0, 1], [0.0, 0.1, 1.0])))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("weighting", "reduction"), GRID)
def test_step_by_step(weighting, reduction, kind, weighted, smoothing):
    arguments, weights = ignoring(batch(N, K, torch.float64)), label_weights(kind, N)
    arguments[7] = arguments[7].double()
    weight = torch.rand(K, dtype=torch.float64) + 0.5 if weighted else None
    options = {"weighting": weighting, "reduction": reduction, "weight": weight, "label_smoothing": smoothing}
    loss, parts = ops.sumix_loss(*arguments, learned=weights, gamma=0.0, ignore_index=-1, **options)
    want = step_by_step(arguments, weights, weighting, reduction, weight, smoothing)
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=1e-13)
    assert torch.equal(parts.lam, torch.cat([arguments[7][:3], weights[3:, 0]]))
    incoming = torch.rand(loss.shape, dtype=torch.float64)
    grads = [torch.autograd.grad(value, arguments[0], incoming)[0] for value in (loss, want)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_without_regulariser_it_is_the_cross_entropy_of_soft_targets(reduction, kind, smoothing):
    arguments, weights = batch(N, K, torch.float64), label_weights(kind, N)
    own, partner, rest = weights.unsqueeze(1).unbind(2)
    soft = own * F.one_hot(arguments[4], K) + partner * F.one_hot(arguments[5], K) + rest / K
    options = {"reduction": reduction, "label_smoothing": smoothing}
    for weight in (None, torch.rand(K, dtype=torch.float64)):
        if weight is not None and reduction == "mean":
            continue  # there torch divides soft targets by N
        loss, _ = ops.sumix_loss(*arguments, learned=weights, gamma=0.0, weight=weight, **options)
        want = F.cross_entropy(arguments[0], soft, weight, **options)
        torch.testing.assert_close(loss, want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("weighting", "reduction"), GRID)
def test_weights_without_a_rest_are_a_ratio(weighting, reduction):
    arguments, weights = ignoring(batch(N, K, torch.float64)), label_weights("relative", N)
    weight = torch.rand(K, dtype=torch.float64)
    options = {"weighting": weighting, "reduction": reduction, "ignore_index": -1, "label_smoothing": 0.1}
    for more in ({}, {"weight": weight}):
        by_weights, by_ratio = (
            ops.sumix_loss(*arguments, learned=learned, **options, **more) for learned in (weights, weights[:, 0])
        )
        torch.testing.assert_close(by_weights, by_ratio, rtol=1e-13, atol=1e-13)
        grads = [torch.autograd.grad(loss.sum(), leaves(arguments)) for loss, _ in (by_weights, by_ratio)]
        torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)


def test_a_sample_that_shows_nothing():
    """Without a rest it moves nothing in the classification term; all of it rest, its target is uniform."""
    arguments = batch(2, 4, torch.float64)
    weights = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    loss, parts = ops.sumix_loss(*arguments, learned=weights, gamma=0.0)
    z = arguments[0]
    uniform = -z[1].log_softmax(0).mean()
    torch.testing.assert_close(parts.classification, torch.stack([0 * uniform, uniform]))
    (grad,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(grad, torch.stack([0 * z[0], (z[1].softmax(0) - 0.25) / 2]))


@pytest.mark.parametrize(("weighting", "reduction"), GRID)
def test_the_form_for_devices_without_kernels(weighting, reduction):
    for weighted, smoothing, needs_grad, plain in itertools.product([0, 1], [0.0, 0.1], [True, False], [True, False]):
        arguments = ignoring(batch(N, K, torch.float64, plain=plain, grad=False, spread=20.0))
        absent = torch.empty(0, dtype=torch.float64)
        weight = torch.rand(K, dtype=torch.float64) if weighted else absent
        tensors = [absent if t is None else t for t in arguments[:7]]
        numbers = (0, WEIGHTINGS.index(weighting), REDUCTIONS.index(reduction), 0.7, 2.0, smoothing, -1, needs_grad)
        call = (*tensors, arguments[7].double(), weight, label_weights("uncertain", N), *numbers)
        got, want = reference.sumix_loss_explicit(*call), torch.ops.sumix.sumix_loss.default(*call)
        for mine, wanted in zip(got, want, strict=True):
            assert_near(mine, wanted, TOLERANCE[torch.float64])
    torch.library.opcheck(torch.ops.sumix.sumix_loss.default, call)


@pytest.mark.parametrize(("weighting", "reduction"), GRID)
def test_nan_weights_make_the_loss_nan(weighting, reduction):
    """What evidence that is not finite leaves: as with a ratio, a GradScaler may skip the step."""
    arguments, weights = batch(4, 3), label_weights("uncertain", 4, torch.float32)
    weights[1] = math.nan
    loss, parts = ops.sumix_loss(*arguments, learned=weights, weighting=weighting, reduction=reduction)
    assert parts.lam.isnan().tolist() == [False, True, False, False]
    spoilt = [weighting == "batch" or i == 1 for i in range(4)]
    assert parts.classification.isnan().tolist() == spoilt
    assert (loss.isnan().tolist() == spoilt) if reduction == "none" else loss.isnan()


def test_compiled_and_converted():
    arguments, weights = batch(N, K), label_weights("uncertain", N, torch.float32)
    want, parts = ops.sumix_loss(*arguments, learned=weights, label_smoothing=0.1)
    want_grads = torch.autograd.grad(want, leaves(arguments))
    compiled = torch.compile(ops.sumix_loss, fullgraph=True, backend="aot_eager")
    got, got_parts = compiled(*arguments, learned=weights, label_smoothing=0.1)
    torch.testing.assert_close((got, got_parts), (want, parts))
    torch.testing.assert_close(torch.autograd.grad(got, leaves(arguments)), want_grads)
    strange = torch.stack([weights.double()] * 2, dim=2)[..., 1].requires_grad_()
    assert not strange.is_contiguous()
    got, got_parts = ops.sumix_loss(*arguments, learned=strange, label_smoothing=0.1)
    torch.testing.assert_close((got, got_parts), (want, parts))
    loss, parts = ops.sumix_loss(*batch(0, 3), learned=torch.empty(0, 3))
    assert loss.isnan() and parts.lam.shape == (0,)


@pytest.mark.parametrize(
    ("learned", "error", "message"),
    [
        (torch.rand(4, 2), ValueError, r"learned must be \(N, 3\) = \(4, 3\)"),
        (torch.rand(3, 3), ValueError, r"learned must be \(N, 3\) = \(4, 3\)"),
        (torch.rand(4, 3, 1), ValueError, r"learned must be \(N,\) = \(4,\)"),
        (torch.zeros(4, 3, dtype=torch.long), TypeError, "learned must be float16"),
        ([[0.5, 0.5, 0.0]] * 4, TypeError, "learned must be a Tensor"),
        (torch.rand(4, 3, device="meta"), ValueError, "learned must be on the device"),
        (torch.full((4, 3), 1.1), ValueError, r"learned\[0, 0\] is 1.1, expected 0 to 1, or NaN"),
        (torch.tensor([[0.0, 0.0, 0.0]] * 3 + [[0, 0, -0.1]]), ValueError, r"learned\[3, 2\] is -0.1"),
        (torch.tensor([[0.0, math.inf, 0.0]] * 4), ValueError, r"learned\[0, 1\] is inf"),
    ],
)
def test_bad_weights_are_named(learned, error, message):
    with pytest.raises(error, match=message):
        ops.sumix_loss(*batch(4, 5), learned=learned)


def test_the_op_checks_the_weights_for_itself():
    arguments = [*batch(4, 5, grad=False), torch.empty(0)]
    options = (0, 0, 1, 0.5, 1.0, 0.0, -100, True)
    for bad in (
        torch.rand(4, 2),
        torch.rand(5, 3),
        torch.rand(4, 3).double(),
        torch.rand(3, 4).t(),
        torch.rand(4, 3, 1),
    ):
        with pytest.raises(RuntimeError, match="sumix::sumix_loss: learned"):
            torch.ops.sumix.sumix_loss(*arguments, bad, *options)


def test_threads_change_nothing():
    n, k = 301, 300
    arguments, weights = batch(n, k), label_weights("uncertain", n, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            loss, _ = ops.sumix_loss(*arguments, learned=weights, weighting="batch")
            results.append((loss, *torch.autograd.grad(loss, leaves(arguments))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
