"""The mixing operators against their twins, in every dtype, layout and direction."""

import pytest
import torch
from mixing import BYTES, FLOATS, INTEGERS, SHAPES, TOLERANCE, images, some_boxes, some_lam

from sumix import ops, reference
from sumix.ops.mix import dense

sumix = torch.ops.sumix


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "expanded"])
@pytest.mark.parametrize("shape", SHAPES)
def test_box_copies_the_right_bytes(shape, layout):
    n = shape[0]
    for dtype in BYTES + FLOATS:
        x, perm = images(shape, dtype, layout), torch.randint(0, n, (n,))
        box = some_boxes(n, *shape[-2:])
        out = ops.mix_box(x, box, perm)
        assert out.dtype == dtype
        assert out.stride() == dense(x).stride()
        same = x.to(torch.int32) if dtype == torch.uint16 else x  # which torch.where does not know
        assert torch.equal(out.to(same.dtype), reference.mix_box(same, box, perm)), dtype


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_box_of_short_rows_at_every_width(n):
    """A CIFAR batch, whose rows are copied vector by vector and a little beyond their ends; and rows of a few bytes."""
    for width in [1, 2, 5, 8, 9, 31, 32, 33]:
        for dtype in [torch.uint8, torch.float32]:
            x, box, perm = images((n, 3, 4, width), dtype), some_boxes(n, 4, width), torch.randperm(n)
            assert torch.equal(ops.mix_box(x, box, perm), reference.mix_box(x, box, perm)), (width, dtype)


def test_box_of_signals():
    x, perm = torch.randn(6, 2, 3, 50), torch.randint(0, 6, (6,))
    box = torch.randint(0, 51, (6, 2)).sort(1).values
    assert torch.equal(ops.mix_box(x, box, perm), reference.mix_box(x, box, perm))
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(ops.mix_box(last, box, perm), reference.mix_box(x, box, perm))
    assert torch.equal(ops.mix_box(x[:, 0, 0], box, perm), reference.mix_box(x[:, 0, 0], box, perm))
    assert torch.equal(ops.mix_box(x.unsqueeze(1), box, perm), reference.mix_box(x.unsqueeze(1), box, perm))


def test_box_of_a_conjugate_view():
    x, box, perm = images((4, 2, 5, 6), torch.complex64).conj(), some_boxes(4, 5, 6), torch.randperm(4)
    assert torch.equal(ops.mix_box(x, box, perm), reference.mix_box(x.resolve_conj(), box, perm))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_indices_of_any_integer_type(dtype):
    x, box, perm = torch.randn(4, 1, 5, 6), some_boxes(4, 5, 6), torch.randperm(4)
    assert torch.equal(ops.mix_box(x, box.to(dtype), perm.to(dtype)), reference.mix_box(x, box, perm))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "expanded"])
@pytest.mark.parametrize("shape", [*SHAPES, (9,), (3, 5000), (2, 1, 1, 1, 1, 1, 1, 1, 1, 3)])
def test_linear_against_float64(shape, layout):
    n = shape[0]
    for dtype in FLOATS + INTEGERS:
        x, lam, perm = images(shape, dtype, layout), some_lam(n), torch.randint(0, n, (n,))
        out = ops.mix_linear(x, lam, perm)
        expected = reference.mix_linear(x.double(), lam, perm)
        assert out.dtype == dtype
        assert out.stride() == dense(x).stride()
        # The exact mean lies within half a unit of a rounded one.
        tolerance = 8 * TOLERANCE[dtype] if dtype.is_floating_point else 0.5 + 1e-4
        assert (out.double() - expected).abs().max() <= tolerance, dtype
        torch.testing.assert_close(
            out, reference.mix_linear(x, lam, perm), rtol=TOLERANCE.get(dtype, 0), atol=tolerance
        )


def test_linear_rounds_ties_to_even_and_keeps_extremes():
    half, swap = torch.full((2,), 0.5), torch.tensor([1, 0])
    for dtype in INTEGERS:
        top, bottom = torch.iinfo(dtype).max, torch.iinfo(dtype).min
        x = torch.tensor([[0, 2, 4, top, bottom], [1, 1, 1, top, bottom]], dtype=dtype)
        expected = torch.tensor([[0, 2, 2, top, bottom]] * 2, dtype=dtype)
        assert torch.equal(ops.mix_linear(x, half, swap), expected), dtype
        assert torch.equal(reference.mix_linear(x, half, swap), expected), dtype


def test_a_weight_of_zero_takes_nothing():
    x = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0]], requires_grad=True)
    swap = torch.tensor([1, 0])
    out = ops.mix_linear(x, torch.tensor([1.0, 0.0]), swap)
    torch.testing.assert_close(out, x[[0, 0]], equal_nan=True)
    out.backward(torch.tensor([[1.0, 2.0], [float("inf"), float("nan")]]))
    expected = torch.tensor([[float("inf"), float("nan")], [0.0, 0.0]])
    torch.testing.assert_close(x.grad, expected, equal_nan=True)
    tiny = ops.mix_linear(torch.tensor([[1e20], [0.0]]), torch.tensor([1e-9, 1.0]), swap)  # 1 - lam rounds to 1
    torch.testing.assert_close(tiny, torch.tensor([[1e11], [0.0]]))
    mixed = ops.mix_linear(x, torch.tensor([0.5, 0.5]), swap)  # otherwise NaN and infinity pass on
    torch.testing.assert_close(mixed, x.detach().flip(0) + x.detach(), equal_nan=True)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "expanded"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("partners", ["permutation", "any", "one"])
def test_gradients_against_float64(shape, layout, partners):
    n = shape[0]
    perm = {"permutation": torch.randperm(n), "any": torch.randint(0, n, (n,)), "one": torch.full((n,), n - 1)}[
        partners
    ]
    box, lam = some_boxes(n, *shape[-2:]), some_lam(n)
    for dtype in FLOATS:
        grad = images(shape, dtype, layout)
        for name, how in ("mix_box", box), ("mix_linear", lam):
            x = torch.zeros(shape, dtype=dtype, requires_grad=True)
            getattr(ops, name)(x, how, perm).backward(grad)
            expected = getattr(reference, f"{name}_backward")(grad.double(), how, perm)
            bound = TOLERANCE[dtype] * (1 + expected.abs().max()) * (1 if dtype.itemsize == 2 else n)
            assert x.grad.dtype == dtype
            assert (x.grad.double() - expected).abs().max() <= bound, (name, dtype)


def test_half_gradients_are_rounded_once():
    """1 + 2^-11 + 2^-11 is 1 + 2^-10 in float16 only if both small terms are added before rounding."""
    grad = torch.tensor([1.0, 2.0**-11, 2.0**-11], dtype=torch.float16).view(3, 1, 1, 1)
    box = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    out = sumix.mix_box_backward(grad, box, torch.tensor([0, 0, 0]))
    assert out.flatten().tolist() == [1 + 2.0**-10, 0, 0]


def test_gradients_agree_with_autograd_of_the_twins():
    perm, box, lam = torch.randint(0, 5, (5,)), some_boxes(5, 6, 7), some_lam(5)
    grad = torch.randn(5, 2, 6, 7, dtype=torch.float64)
    for name, how in ("mix_box", box), ("mix_linear", lam):
        a, b = (torch.randn(5, 2, 6, 7, dtype=torch.float64).requires_grad_() for _ in range(2))
        getattr(ops, name)(a, how, perm).backward(grad)
        getattr(reference, name)(b, how, perm).backward(grad)
        torch.testing.assert_close(a.grad, b.grad)


def test_gradcheck():
    perm, box, lam = torch.tensor([2, 0, 0, 3]), some_boxes(4, 5, 6), torch.tensor([0.3, 1.0, 0.0, 0.9])
    x = torch.randn(4, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.mix_box(x, box, perm), x)
    assert torch.autograd.gradcheck(lambda x: ops.mix_linear(x, lam, perm), x)
    signals = box[:, ::2].contiguous()
    assert torch.autograd.gradcheck(lambda x: ops.mix_box(x, signals, perm), x)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.mix_box(x, box, perm), last)
    z = torch.randn(4, 1, 5, 6, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.mix_box(x, box, perm), z)


@pytest.mark.parametrize("name", ["mix_box", "mix_linear"])
def test_second_derivative_is_refused(name):
    x = torch.randn(3, 1, 4, 5, requires_grad=True)
    how = some_boxes(3, 4, 5) if name == "mix_box" else torch.rand(3)
    out = getattr(ops, name)(x, how, torch.tensor([1, 2, 0]))
    (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=f"{name} can be differentiated only once"):
        grad.sum().backward()


def test_opcheck():
    x, perm, box, lam = torch.randn(3, 2, 4, 5), torch.tensor([1, 2, 2]), some_boxes(3, 4, 5), torch.rand(3)
    for batch in (x, x.contiguous(memory_format=torch.channels_last)):
        for leaf in (batch, batch.detach().requires_grad_()):
            torch.library.opcheck(sumix.mix_box.default, (leaf, box, perm))
            torch.library.opcheck(sumix.mix_linear.default, (leaf, lam, perm))
        torch.library.opcheck(sumix.mix_box_backward.default, (batch, box, perm))
        torch.library.opcheck(sumix.mix_linear_backward.default, (batch, lam, perm))
    torch.library.opcheck(sumix.soft_labels.default, (perm, perm, lam, 4, 0.1))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(backend):
    def mix(x, box, lam, perm):
        return ops.mix_linear(ops.mix_box(x * 2, box, perm), lam, perm).square()

    torch._dynamo.reset()
    compiled = torch.compile(mix, fullgraph=True, backend=backend)
    x, box, lam, perm = torch.randn(3, 2, 4, 5), some_boxes(3, 4, 5), torch.rand(3), torch.tensor([1, 2, 2])
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    mix(a, box, lam, perm).sum().backward()
    compiled(b, box, lam, perm).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_threads_give_equal_bits():
    shape = (16, 3, 64, 65)
    box, lam, perm = some_boxes(16, 64, 65), some_lam(16), torch.randint(0, 16, (16,))
    cases = [(op, images(shape, dtype)) for dtype in FLOATS for op in ("mix_box", "mix_linear")]
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(
                [
                    getattr(sumix, op + way)(x, box if "box" in op else lam, perm)
                    for op, x in cases
                    for way in ("", "_backward")
                ]
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_large_results():
    """Above 32 MiB memory is asked for in huge pages."""
    x, perm = torch.randn(9, 1024, 1025), torch.randperm(9)
    box = some_boxes(9, 1024, 1025)
    assert torch.equal(ops.mix_box(x, box, perm), reference.mix_box(x, box, perm))


@pytest.mark.parametrize("name", ["mix_box", "mix_linear"])
def test_fallbacks_give_what_the_kernels_give(name):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sumix::{name}", "CompositeExplicitAutograd")
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sumix::{name}_backward", "CompositeExplicitAutograd")
    from sumix.ops.mix import fallback

    perm, how = torch.tensor([1, 2, 2]), some_boxes(3, 4, 5) if name == "mix_box" else some_lam(3)
    for layout in "contiguous", "channels_last":
        for dtype in FLOATS:
            x = images((3, 2, 4, 5), dtype, layout)
            for op in name, f"{name}_backward":
                ours, theirs = getattr(sumix, op)(x, how, perm), fallback(op)(x, how, perm)
                assert ours.stride() == theirs.stride() == x.stride()
                torch.testing.assert_close(ours, theirs)


def test_soft_labels_are_their_twin():
    y_a, y_b, lam = torch.randint(0, 7, (50,)), torch.randint(0, 7, (50,)), torch.rand(50)
    for smoothing in 0.0, 0.1, 1.0:
        expected = reference.soft_labels(y_a, y_b, lam.double(), 7, smoothing).float()
        torch.testing.assert_close(sumix.soft_labels(y_a, y_b, lam, 7, smoothing), expected, rtol=1e-6, atol=1e-7)


X, PERM, BOX, LAM = torch.zeros(2, 1, 4, 5), torch.tensor([1, 0]), torch.tensor([[0, 0, 1, 1]] * 2), torch.zeros(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.mix_box([1], BOX, PERM), TypeError, "x must be a Tensor"),
        (lambda: ops.mix_box(X.to_sparse(), BOX, PERM), TypeError, "x must be a dense tensor"),
        (lambda: ops.mix_box(torch.tensor(1.0), BOX, PERM), ValueError, "x must have a batch dimension"),
        (lambda: ops.mix_box(torch.zeros(2, 3), BOX, PERM), ValueError, r"x must be \(N, ..., H, W\)"),
        (lambda: ops.mix_box(torch.zeros(2), BOX[:, :2], PERM), ValueError, r"x must be \(N, ..., L\)"),
        (lambda: ops.mix_box(X, 3, PERM), TypeError, "box must be a Tensor"),
        (lambda: ops.mix_box(X, BOX.float(), PERM), TypeError, "box must be an integer tensor, got torch.float32"),
        (lambda: ops.mix_box(X, BOX[:1], PERM), ValueError, r"box must be \(N, 4\) = \(2, 4\).*got \(1, 4\)"),
        (lambda: ops.mix_box(X, BOX[:, :3], PERM), ValueError, "box must be"),
        (lambda: ops.mix_box(X, BOX - 1, PERM), ValueError, r"box\[0\] is \(-1, -1, 0, 0\), expected 0 <= x1"),
        (lambda: ops.mix_box(X, BOX * 6, PERM), ValueError, r"box\[0\].* <= x2 <= 5 and 0 <= y1 <= y2 <= 4"),
        (lambda: ops.mix_box(X, BOX.flip(1), PERM), ValueError, r"box\[0\] is \(1, 1, 0, 0\)"),
        (lambda: ops.mix_box(X, BOX, PERM + 1), ValueError, r"perm\[0\] is 2, expected 0 to 1"),
        (lambda: ops.mix_box(X, BOX, PERM - 1), ValueError, r"perm\[1\] is -1, expected 0 to 1"),
        (lambda: ops.mix_box(X, BOX, PERM.float()), TypeError, "perm must be an integer tensor"),
        (lambda: ops.mix_box(X, BOX, PERM[:1]), ValueError, r"perm must be \(N,\) = \(2,\)"),
        (lambda: ops.mix_box(X, BOX.to("meta"), PERM), ValueError, "box must be on the device of x"),
        (lambda: ops.mix_linear(X.bool(), LAM, PERM), TypeError, "x must be floating point.*got torch.bool"),
        (lambda: ops.mix_linear(X, 0.5, PERM), TypeError, "lam must be a Tensor"),
        (lambda: ops.mix_linear(X, PERM, PERM), TypeError, "lam must be float16"),
        (lambda: ops.mix_linear(X, LAM[:1], PERM), ValueError, r"lam must be \(N,\) = \(2,\)"),
        (lambda: ops.mix_linear(X, LAM + 1.5, PERM), ValueError, r"lam\[0\] is 1.5, expected 0 to 1"),
        (lambda: ops.mix_linear(X, LAM - 0.5, PERM), ValueError, r"lam\[0\] is -0.5, expected 0 to 1"),
        (lambda: ops.mix_linear(X, LAM * float("nan"), PERM), ValueError, r"lam\[0\] is -?nan, expected 0 to 1"),
        (lambda: ops.mix_linear(X, LAM, PERM + 1), ValueError, r"perm\[0\] is 2, expected 0 to 1"),
        (lambda: sumix.mix_box(X[..., ::2], BOX, PERM), RuntimeError, "x must be contiguous or channels_last"),
        (lambda: sumix.mix_box(X, BOX[:, :2].contiguous(), PERM), RuntimeError, "box must have size 4 in dimension 1"),
        (lambda: sumix.mix_box(X, BOX, PERM.int()), RuntimeError, "perm must be int64, got int32"),
        (lambda: sumix.mix_box_backward(X.int(), BOX, PERM), RuntimeError, "grad_out must be float16"),
        (lambda: sumix.mix_box_backward(X, BOX * 6, PERM), RuntimeError, r"box\[0\]"),
        (lambda: sumix.mix_box_backward(X, BOX, PERM + 1), RuntimeError, r"perm\[0\]"),
        (lambda: sumix.mix_linear(X.bool(), LAM, PERM), RuntimeError, "x must be floating point or an integer"),
        (lambda: sumix.mix_linear(X, LAM.double(), PERM), RuntimeError, "lam must be float32, got float64"),
        (lambda: sumix.mix_linear_backward(X, LAM + 2, PERM), RuntimeError, r"lam\[0\] is 2"),
        (lambda: sumix.mix_linear_backward(X, LAM, PERM - 1), RuntimeError, r"perm\[1\] is -1"),
        (lambda: sumix.soft_labels(PERM, PERM, LAM, 1, 0.0), RuntimeError, r"y_a\[0\] is 1, expected 0 to 0"),
        (lambda: sumix.soft_labels(PERM, PERM, LAM, 0, 0.0), RuntimeError, "num_classes must be at least 1"),
        (lambda: sumix.soft_labels(PERM, PERM, LAM, 2, 1.5), RuntimeError, "label_smoothing must be 0 to 1, got 1.5"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
