"""ops.sumix_loss: values and gradients against the float64 twin, the authors' loss, autograd's rules, bad input."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from batches import TOLERANCE, assert_near, batch, leaves, widened

from sumix import ops, reference

RATIOS, WEIGHTINGS, REDUCTIONS = reference.RATIOS, reference.WEIGHTINGS, reference.REDUCTIONS
GRID = list(itertools.product(RATIOS, WEIGHTINGS, REDUCTIONS))


def compare(arguments, tolerance, gradient_tolerance=None, **options):
    """Loss, parts and every gradient of the op against the twin in float64."""
    exact = widened(arguments)
    loss, parts = ops.sumix_loss(*arguments, **options)
    want, *want_parts = reference.sumix_loss(*exact, **options)
    assert_near(loss, want, tolerance)
    for got, wanted in zip(parts, want_parts, strict=True):
        assert got.shape == wanted.shape and not got.requires_grad
        assert_near(got, wanted, tolerance)
    incoming = torch.rand(loss.shape, dtype=torch.float64).to(loss.dtype)
    got_grads = torch.autograd.grad(loss, leaves(arguments), incoming)
    want_grads = torch.autograd.grad(want, leaves(exact), incoming.double())
    for leaf, got, wanted in zip(leaves(arguments), got_grads, want_grads, strict=True):
        assert got.dtype == leaf.dtype and got.shape == leaf.shape
        assert_near(got, wanted, gradient_tolerance or tolerance)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 2), (17, 257), (8, 100)])
@pytest.mark.parametrize(("ratio", "weighting", "reduction"), GRID)
def test_matches_the_float64_twin(shape, plain, ratio, weighting, reduction):
    for dtype in (torch.float64, torch.float32):
        arguments = batch(*shape, dtype, plain=plain)
        compare(arguments, TOLERANCE[dtype], ratio=ratio, weighting=weighting, reduction=reduction)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("ratio", "reduction"), [("semantic", "mean"), ("published", "none"), ("area", "sum")])
def test_half_precision_is_computed_in_float32(dtype, plain, ratio, reduction):
    for shape in [(1, 1), (17, 257)]:
        arguments = batch(*shape, dtype, plain=plain)
        assert ops.sumix_loss(*arguments, reduction=reduction)[0].dtype == torch.float32
        compare(arguments, TOLERANCE[torch.float32], TOLERANCE[dtype], ratio=ratio, reduction=reduction)


@pytest.mark.parametrize(
    ("weighted", "smoothing", "ignoring"), list(itertools.product([0, 1], [0.0, 0.1, 1.0], [0, 1]))
)
@pytest.mark.parametrize(("ratio", "weighting", "reduction"), GRID)
def test_options_of_cross_entropy_loss(ratio, weighting, reduction, weighted, smoothing, ignoring):
    n, k = 12, 7
    for plain in (False, True):
        arguments = batch(n, k, torch.float64, plain=plain)
        if ignoring:  # own label, partner's label, both
            arguments[4] = arguments[4].index_fill(0, torch.tensor([0, 2]), -1)
            arguments[5] = arguments[5].index_fill(0, torch.tensor([1, 2]), -1)
        weight = torch.rand(k, dtype=torch.float64) + 0.5 if weighted else None
        compare(
            arguments,
            TOLERANCE[torch.float64],
            **{"ratio": ratio, "weighting": weighting, "reduction": reduction},
            **{"weight": weight, "label_smoothing": smoothing, "ignore_index": -1},
        )


def test_lam_of_one_without_regulariser_is_cross_entropy_loss():
    z, r, v, u, y_a, y_b, perm, _ = batch(9, 5, torch.float64)
    weight = torch.rand(5, dtype=torch.float64)
    y_a[3] = -100
    for reduction in REDUCTIONS:
        for smoothing in (0.0, 0.2):
            loss, _ = ops.sumix_loss(
                *(z, r, v, u, y_a, y_b, perm, torch.ones(9)),
                **{"gamma": 0, "reduction": reduction, "weight": weight, "label_smoothing": smoothing},
            )
            want = F.cross_entropy(z, y_a, weight, reduction=reduction, label_smoothing=smoothing)
            torch.testing.assert_close(loss, want, atol=1e-14, rtol=1e-14)


def test_samples_with_both_labels_ignored_count_for_nothing():
    n, k = 6, 4
    z, r, v, u, y_a, y_b, perm, lam = batch(n, k, torch.float64, perm=torch.arange(6).roll(1))
    padding = torch.randn(3, k, dtype=torch.float64)
    more = [torch.cat((t, padding)) for t in (z, r, v, u)]
    ignored = torch.full((3,), -100)
    labels = [torch.cat((y, ignored)) for y in (y_a, y_b)]
    long = [*more, *labels, torch.cat((perm, torch.arange(6, 9))), torch.cat((lam, torch.rand(3)))]
    for ratio, weighting in itertools.product(RATIOS, WEIGHTINGS):
        options = {"ratio": ratio, "weighting": weighting, "distance_scale": 6.0}
        loss, _ = ops.sumix_loss(z, r, v, u, y_a, y_b, perm, lam, **options)
        torch.testing.assert_close(ops.sumix_loss(*long, **options)[0], loss)


@pytest.mark.parametrize("ratio", RATIOS)
def test_extremes_of_lam_labels_and_partners(ratio):
    n, k = 17, 5
    lams = (torch.zeros(n), torch.ones(n), torch.tensor([0.0, 1.0, 0.5]).repeat(6)[:n])
    perms = (torch.arange(n), torch.zeros(n, dtype=torch.long), torch.randint(n, (n,)))
    for lam, perm, reduction in itertools.product(lams, perms, REDUCTIONS):
        arguments = batch(n, k, torch.float64, lam=lam, perm=perm)
        compare(arguments, TOLERANCE[torch.float64], ratio=ratio, reduction=reduction)
        arguments[5] = arguments[4]  # y_a == y_b
        compare(arguments, TOLERANCE[torch.float64], ratio=ratio, reduction=reduction)


@pytest.mark.parametrize("ratio", RATIOS)
def test_many_classes(ratio):
    compare(batch(3, 21843), TOLERANCE[torch.float32], ratio=ratio)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("spread", [30.0, 1e4])
def test_finite_for_any_finite_logits(ratio, plain, dtype, spread):
    arguments = batch(17, 33, dtype, plain=plain, spread=spread)
    loss, parts = ops.sumix_loss(*arguments, ratio=ratio)
    assert torch.isfinite(loss) and all(torch.isfinite(part).all() for part in parts)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(loss, leaves(arguments)))
    # exp(x) turns an absolute error of x, up to 80 here, into a relative one.
    compare(arguments, {torch.float64: 1e-11, torch.float32: 1e-4}[dtype], ratio=ratio)


def at_the_cap(dtype, plain, below):
    """Exponents -(u + v) of 80 in column 1, of less in column 2, and of 0."""
    sums = torch.tensor([[0, -80, -below]] * 2, dtype=dtype)
    rows = [sums / 2, sums / 2, None, None] if plain else [sums, sums, sums, torch.zeros_like(sums)]
    y, perm = torch.tensor([1, 2]), torch.tensor([1, 0])
    rows = [None if t is None else t.clone().requires_grad_() for t in rows]
    return [*rows, y, y[perm], perm, torch.full((2,), 0.5)]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_cap_itself_has_no_gradient(reduction, dtype, plain):
    arguments = at_the_cap(dtype, plain, 79.0)
    compare(arguments, 10 * TOLERANCE[dtype], ratio="area", reduction=reduction)

    absent = torch.empty(0, dtype=dtype)
    rows = [absent if t is None else t.detach() for t in arguments[:4]]
    numbers = (RATIOS.index("area"), 0, REDUCTIONS.index(reduction), 0.5, 1.0, 0.0, -100, True)
    call = (*rows, *arguments[4:7], arguments[7].to(dtype), absent, absent, *numbers)
    for mine, wanted in zip(reference.sumix_loss_explicit(*call), torch.ops.sumix.sumix_loss(*call), strict=True):
        assert_near(mine.double(), wanted.double(), 10 * TOLERANCE[dtype])

    for form in (ops.sumix_loss, reference.sumix_loss):  # the next number has one
        arguments = at_the_cap(dtype, plain, math.nextafter(80, 0) if dtype is torch.float64 else 80 - 2**-17)
        loss = form(*arguments, ratio="area", reduction=reduction)[0].sum()
        (grad,) = torch.autograd.grad(loss, leaves(arguments)[-1])
        assert (grad[:, 1] == 0).all() and grad[1, 2].abs() > 1e34


def test_the_published_loss_overflows_where_ours_does_not():
    z = torch.full((2, 3), -50.0)
    y, perm = torch.tensor([0, 1]), torch.tensor([1, 0])
    assert not torch.isfinite(reference.published_loss(z, z, z, z, y, y[perm], perm, 0.5))
    loss, _ = ops.sumix_loss(z, z, None, None, y, y[perm], perm, torch.full((2,), 0.5), ratio="published")
    assert torch.isfinite(loss)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_confident_logits_cancel_nothing(ratio, weighting):
    for spread in (50.0, 1e4):
        z, r, v, u, _, y_b, perm, lam = batch(16, 10, spread=spread)
        for y_a in (z.argmax(1), z.argmin(1)):
            for ratios in (lam, torch.ones(16)):
                arguments = [z, r, v, u, y_a, y_b, perm, ratios]
                compare(arguments, TOLERANCE[torch.float32], ratio=ratio, weighting=weighting, gamma=0.0)


def test_a_batch_without_any_label_moves_no_weight():
    """As torch's cross entropy: the mean of nothing is NaN, its gradient 0."""
    ignored = torch.full((4,), -100)
    for ratio, weighting, plain in itertools.product(RATIOS, WEIGHTINGS, (False, True)):
        arguments = batch(4, 3, torch.float64, plain=plain)
        arguments[4:6] = ignored, ignored
        loss, _ = ops.sumix_loss(*arguments, ratio=ratio, weighting=weighting)
        assert torch.isnan(loss)
        assert all((grad == 0).all() for grad in torch.autograd.grad(loss, leaves(arguments)))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_propagate_as_in_torch(ratio, weighting, place, value):
    arguments = batch(5, 4, torch.float64, perm=torch.tensor([1, 2, 3, 4, 0]), grad=False)
    arguments[place][2, 1] = value
    arguments = [
        t.requires_grad_() if t is not None and t.is_floating_point() and t.ndim == 2 else t for t in arguments
    ]
    exact = widened(arguments)
    loss, parts = ops.sumix_loss(*arguments, ratio=ratio, weighting=weighting)
    want, *want_parts = reference.sumix_loss(*exact, ratio=ratio, weighting=weighting)
    assert torch.equal(torch.isnan(loss), torch.isnan(want))
    for got, wanted in zip(parts, want_parts, strict=True):
        assert torch.equal(torch.isnan(got), torch.isnan(wanted))


@pytest.mark.parametrize("plain", [False, True])
def test_published_and_batch_is_the_authors_loss(plain):
    for n, k in [(1, 2), (5, 3), (16, 100), (33, 7)]:
        z, r, v, u, y_a, y_b, perm, _ = batch(n, k, torch.float64, plain=plain)
        lam = torch.rand(()).item()
        got, _ = ops.sumix_loss(
            *(z, r, v, u, y_a, y_b, perm, torch.full((n,), lam, dtype=torch.float64)),
            **{"ratio": "published", "weighting": "batch", "gamma": 1.0},
        )
        rows = (z, r, z, r) if plain else (z, r, v, u)
        want = reference.published_loss(*rows, y_a, y_b, perm, lam, gamma=1.0)
        torch.testing.assert_close(got, want, atol=1e-13, rtol=1e-13)
        inputs = leaves([z, r, v, u])
        for a, b in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(want, inputs), strict=True):
            torch.testing.assert_close(a, b, atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("plain", [False, True])
def test_gradcheck(plain):
    arguments = batch(5, 4, torch.float64, plain=plain, perm=torch.tensor([1, 0, 0, 4, 3]))

    def loss(*inputs, **options):
        rows = [inputs[0], inputs[1], None, None] if plain else [inputs[0], arguments[1].detach(), inputs[1], inputs[2]]
        return ops.sumix_loss(*rows, *arguments[4:], **options)[0]

    for (
        reduction
    ) in REDUCTIONS:  # "area": there the ratio is no function of the logits, as elsewhere the gradient assumes
        assert torch.autograd.gradcheck(lambda *x: loss(*x, ratio="area", reduction=reduction), leaves(arguments))  # noqa: B023


def test_gradients_stop_at_the_ratio():
    arguments = batch(6, 5, torch.float64)
    loss, parts = ops.sumix_loss(*arguments, gamma=0.0)
    z, _, v, u = arguments[:4]
    grad_z, grad_v, grad_u = torch.autograd.grad(loss, (z, v, u))
    ratio = parts.lam.unsqueeze(1)
    target = ratio * F.one_hot(arguments[4], 5) + (1 - ratio) * F.one_hot(arguments[5], 5)
    torch.testing.assert_close(grad_z, (z.softmax(1) - target) / 6)
    assert not grad_v.any() and not grad_u.any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("plain", [False, True])
def test_opcheck(plain, reduction):
    arguments = batch(5, 7, torch.float64, plain=plain)
    absent = torch.empty(0)
    tensors = [absent if t is None else t for t in arguments[:7]]
    number = REDUCTIONS.index(reduction)
    op = torch.ops.sumix.sumix_loss.default
    torch.library.opcheck(
        op, (*tensors, arguments[7].double(), absent, absent, 2, 0, number, 0.5, 1.0, 0.0, -100, True)
    )


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_in_one_graph(backend):
    arguments = batch(6, 9, torch.float32)

    def step(*arguments):
        loss, parts = ops.sumix_loss(*arguments, label_smoothing=0.1)
        return loss * 2, parts.lam

    want, want_lam = step(*arguments)
    want_grads = torch.autograd.grad(want, leaves(arguments))
    got, got_lam = torch.compile(step, fullgraph=True, backend=backend)(*arguments)
    torch.testing.assert_close((got, got_lam), (want, want_lam))
    torch.testing.assert_close(torch.autograd.grad(got, leaves(arguments)), want_grads)


def test_strided_and_expanded_inputs():
    n, k = 6, 5
    arguments = batch(n, k, torch.float64)
    loss, _ = ops.sumix_loss(*arguments)
    strange = [torch.stack((t, t), t.ndim)[..., 1] for t in arguments]
    assert not any(t.is_contiguous() for t in strange)
    torch.testing.assert_close(ops.sumix_loss(*strange[:7], arguments[7].expand(n))[0], loss)
    strange[4] = strange[4].to(torch.uint8)
    strange[6] = strange[6].to(torch.int32)
    half = arguments[7].to(torch.float16).double()
    want, _ = ops.sumix_loss(*arguments[:7], half)
    torch.testing.assert_close(ops.sumix_loss(*strange[:7], half.half())[0], want)
    constant = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    expanded = constant.expand(n, k)
    loss, _ = ops.sumix_loss(expanded, expanded, None, None, *arguments[4:])
    loss.backward()
    assert constant.grad.shape == (1, 1)


def test_a_retained_graph_gives_the_same_gradient_again():
    for plain, factor in itertools.product((False, True), (1.0, 0.5)):
        arguments = batch(6, 5, torch.float32, plain=plain)
        loss, _ = ops.sumix_loss(*arguments)
        loss = loss * factor
        want = torch.autograd.grad(loss, leaves(arguments), retain_graph=True)
        for leaf in leaves(arguments):
            leaf.grad = None
        for times in (1, 2, 3):  # the leaves own what the first backward handed over, and add to it
            loss.backward(retain_graph=True)
            for leaf, grad in zip(leaves(arguments), want, strict=True):
                torch.testing.assert_close(leaf.grad, times * grad)


def test_a_second_derivative_is_refused_not_zero():
    for reduction in REDUCTIONS:
        arguments = batch(4, 3, torch.float64)
        loss, _ = ops.sumix_loss(*arguments, reduction=reduction)
        grads = torch.autograd.grad(loss.sum(), leaves(arguments), create_graph=True)
        for grad in grads:
            with pytest.raises(RuntimeError, match="only once"):
                torch.autograd.grad(grad.pow(2).sum(), leaves(arguments), retain_graph=True)


def test_no_gradients_are_computed_where_none_is_wanted():
    arguments = batch(4, 3, grad=False)
    op = torch.ops.sumix.sumix_loss.default
    outputs = op(*arguments, torch.empty(0), torch.empty(0), 2, 0, 1, 0.5, 1.0, 0.0, -100, False)
    assert [tuple(t.shape) for t in outputs] == [(), (3, 4), (0,), (0,), (0,), (0,)]
    torch.testing.assert_close(
        outputs[0], op(*arguments, torch.empty(0), torch.empty(0), 2, 0, 1, 0.5, 1.0, 0.0, -100, True)[0]
    )
    assert not ops.sumix_loss(*arguments)[0].requires_grad


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("perm", ["permutation", "repeats"])
@pytest.mark.parametrize(("n", "k"), [(301, 300), (40000, 3)])
def test_the_number_of_threads_does_not_change_a_bit(n, k, reduction, perm):
    arguments = batch(n, k, perm=torch.randperm(n) if perm == "permutation" else torch.randint(n, (n,)))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            loss, _ = ops.sumix_loss(*arguments, reduction=reduction)
            results.append((loss, *torch.autograd.grad(loss.sum(), leaves(arguments))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("ratio", "weighting", "reduction"), GRID)
def test_the_form_for_devices_without_kernels(plain, ratio, weighting, reduction):
    n, k = 7, 5
    for weighted, smoothing, needs_grad in [(False, 0.0, True), (True, 0.1, True), (False, 0.0, False)]:
        arguments = batch(n, k, torch.float64, plain=plain, perm=torch.randint(n, (n,)), grad=False, spread=20.0)
        arguments[4] = arguments[4].index_fill(0, torch.tensor([0, 2]), -100)
        absent = torch.empty(0, dtype=torch.float64)
        weight = torch.rand(k, dtype=torch.float64) if weighted else absent
        tensors = [absent if t is None else t for t in arguments[:7]]
        numbers = (RATIOS.index(ratio), WEIGHTINGS.index(weighting), REDUCTIONS.index(reduction))
        call = (*tensors, arguments[7].double(), weight, absent, *numbers, 0.7, 2.0, smoothing, -100, needs_grad)
        got, want = reference.sumix_loss_explicit(*call), torch.ops.sumix.sumix_loss.default(*call)
        for mine, wanted in zip(got, want, strict=True):
            assert_near(mine, wanted, TOLERANCE[torch.float64])
        if needs_grad:
            incoming = torch.rand(want[0].shape, dtype=torch.float64)
            call = (incoming, *tensors[:4], *want[2:], arguments[6])
            torch.testing.assert_close(
                reference.sumix_loss_backward(*call), torch.ops.sumix.sumix_loss_backward.default(*call)
            )


def test_an_empty_batch():
    arguments = batch(0, 3)
    loss, parts = ops.sumix_loss(*arguments)
    assert torch.isnan(loss) and parts.lam.shape == (0,)  # as torch's cross entropy
    assert ops.sumix_loss(*arguments, reduction="sum")[0] == 0


Y = torch.tensor([0, 1, 2])
GOOD = {
    "logits": torch.zeros(3, 4),
    "raw_logits": torch.zeros(3, 4),
    "uncertainty": torch.zeros(3, 4),
    "raw_uncertainty": torch.zeros(3, 4),
    "y_a": Y,
    "y_b": Y,
    "perm": Y,
    "lam": torch.full((3,), 0.5),
}
BAD = [
    ("logits", None, TypeError),
    ("logits", [[0.0] * 4] * 3, TypeError),
    ("logits", torch.zeros(3, 4, dtype=torch.long), TypeError),
    ("logits", torch.zeros(3, 4, dtype=torch.complex64), TypeError),
    ("logits", torch.zeros(3, 4).to_sparse(), TypeError),
    ("logits", torch.zeros(3), ValueError),
    ("logits", torch.zeros(3, 0), ValueError),
    ("raw_logits", torch.zeros(2, 4), ValueError),
    ("raw_logits", torch.zeros(3, 4, device="meta"), ValueError),
    ("raw_logits", 3, TypeError),
    ("uncertainty", None, ValueError),
    ("uncertainty", torch.zeros(3, 5), ValueError),
    ("raw_uncertainty", None, ValueError),
    ("raw_uncertainty", torch.zeros(4, 4), ValueError),
    ("y_a", torch.zeros(3), TypeError),
    ("y_a", torch.zeros(3, 4, dtype=torch.long), ValueError),
    ("y_a", torch.tensor([0, 4, 0]), ValueError),
    ("y_b", torch.tensor([0, -1, 0]), ValueError),
    ("y_b", torch.tensor([0, 0]), ValueError),
    ("y_b", torch.tensor([True, False, True]), TypeError),
    ("perm", torch.tensor([0, 1, 3]), ValueError),
    ("perm", torch.tensor([0, 1, -1]), ValueError),
    ("perm", [0, 1, 2], TypeError),
    ("lam", torch.tensor([0.5, 0.5, 1.5]), ValueError),
    ("lam", torch.tensor([0.5, -0.1, 0.5]), ValueError),
    ("lam", torch.tensor([0.5, math.nan, 0.5]), ValueError),
    ("lam", torch.tensor(0.5), ValueError),
    ("lam", 0.5, TypeError),
    ("gamma", -1.0, ValueError),
    ("gamma", math.nan, ValueError),
    ("gamma", "0.5", TypeError),
    ("ratio", "feature", ValueError),
    ("ratio", 1, TypeError),
    ("weighting", "mean", ValueError),
    ("kappa", -0.1, ValueError),
    ("kappa", math.inf, ValueError),
    ("distance_scale", -1.0, ValueError),
    ("reduction", "avg", ValueError),
    ("weight", torch.ones(3), ValueError),
    ("weight", torch.ones(4, dtype=torch.long), TypeError),
    ("label_smoothing", 1.5, ValueError),
    ("ignore_index", 0.5, TypeError),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD)
def test_bad_input_is_named(name, value, error):
    ops.sumix_loss(**GOOD)
    with pytest.raises(error, match=rf"\b{name}\b"):
        ops.sumix_loss(**{**GOOD, name: value})


def test_the_op_itself_survives_bad_input():
    op = torch.ops.sumix.sumix_loss.default
    good = [*GOOD.values(), torch.empty(0), torch.empty(0)]
    options = [2, 0, 1, 0.5, 1.0, 0.0, -100, True]
    op(*good, *options)
    bad = [
        torch.zeros(3, 4, dtype=torch.long),
        torch.zeros(2),
        torch.zeros(0, 0),
        torch.zeros(3, 4).t(),
        torch.zeros(()),
    ]
    for place, tensor in itertools.product(range(10), bad):
        if place >= 8 and tensor.shape == (0,):
            continue
        with pytest.raises(RuntimeError, match="sumix::sumix_loss"):
            op(*good[:place], tensor, *good[place + 1 :], *options)
    for place in range(3):
        for number in (-1, 9, 2**40):
            with pytest.raises(RuntimeError, match="must be 0 to"):
                op(*good, *options[:place], number, *options[place + 1 :])
    outputs = op(*good, *options)
    backward = torch.ops.sumix.sumix_loss_backward.default
    arguments = [torch.ones(()), *good[:4], *outputs[2:], Y]
    backward(*arguments)
    for place, tensor in itertools.product((0, 5, 6, 7, 9), bad):
        if (place, tensor.ndim) == (0, 0):
            continue
        with pytest.raises(RuntimeError, match="sumix::sumix_loss_backward"):
            backward(*arguments[:place], tensor, *arguments[place + 1 :])
