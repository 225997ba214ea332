"""mix_mask against its twin, in every dtype, layout and direction."""

import pytest
import torch
from mixing import BYTES, FLOATS, INTEGERS, SHAPES, TOLERANCE, images, some_mask

from sumix import ops, reference
from sumix.ops.mix import dense, fallback

sumix = torch.ops.sumix
LAYOUTS = ["contiguous", "channels_last", "strided", "expanded"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 5, 9, 31), (3, 2100, 2, 3)])
def test_against_float64(shape, layout):
    n = shape[0]
    for dtype in FLOATS + INTEGERS:
        x, perm = images(shape, dtype, layout), torch.randint(0, n, (n,))
        for mask in some_mask(n, *shape[-2:]), torch.rand(n, 1, 1):
            out = ops.mix_mask(x, mask, perm)
            assert out.dtype == dtype
            assert out.stride() == dense(x).stride()
            expected = reference.mix_mask(x.double(), mask, perm)
            tolerance = 8 * TOLERANCE[dtype] if dtype.is_floating_point else 0.5 + 1e-4
            assert (out.double() - expected).abs().max() <= tolerance, dtype
            rounded = reference.mix_mask(x, mask, perm)
            torch.testing.assert_close(out, rounded, rtol=TOLERANCE.get(dtype, 0), atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 5, 9, 31), (3, 2100, 2, 3)])
def test_a_bool_mask_copies_any_bytes(shape, layout):
    n = shape[0]
    for dtype in [*BYTES, *FLOATS, torch.complex128]:
        x, perm = images(shape, dtype, layout), torch.randint(0, n, (n,))
        for mask in some_mask(n, *shape[-2:]) > 0.5, torch.rand(n, 1, 1) > 0.5:
            out = ops.mix_mask(x, mask, perm)
            assert out.stride() == dense(x).stride()
            same = x.to(torch.int32) if dtype == torch.uint16 else x  # which torch.where does not know
            assert torch.equal(out.to(same.dtype), reference.mix_mask(same, mask, perm)), dtype


@pytest.mark.parametrize("n", [0, 1, 2])
def test_small_batches_and_masks_of_any_float(n):
    x, perm = torch.randn(n, 3, 4, 5), torch.arange(n).flip(0)
    for dtype in FLOATS:
        mask = torch.rand(n, 4, 5).to(dtype)
        expected = reference.mix_mask(x, mask.float(), perm)
        torch.testing.assert_close(ops.mix_mask(x, mask, perm.int()), expected)
        torch.testing.assert_close(ops.mix_mask(x, mask.mT.contiguous().mT, perm), expected)
    assert ops.mix_mask(torch.zeros(n, 3, 0, 5), torch.zeros(n, 0, 5), perm).shape == (n, 3, 0, 5)


def test_signals():
    x, perm = torch.randn(6, 2, 3, 50), torch.randint(0, 6, (6,))
    mask = some_mask(6, 1, 50)[:, 0]
    for batch in x, x.contiguous(memory_format=torch.channels_last), x[:, 0], x[:, 0, 0]:
        torch.testing.assert_close(ops.mix_mask(batch, mask, perm), reference.mix_mask(batch, mask, perm))
        assert torch.equal(ops.mix_mask(batch, mask > 0.5, perm), reference.mix_mask(batch, mask > 0.5, perm))
        torch.testing.assert_close(ops.mix_mask(batch, mask[:, :1], perm), ops.mix_linear(batch, mask[:, 0], perm))


def test_a_weight_of_zero_takes_nothing():
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[nan, inf, 1.0, nan], [2.0, 3.0, nan, 4.0]]).view(2, 1, 1, 4).requires_grad_()
    swap, mask = torch.tensor([1, 0]), torch.tensor([[0.0, 0.0, 1.0, 0.5], [1.0, 1.0, 0.0, 0.5]]).view(2, 1, 4)
    for cast in (torch.float32, torch.float64, torch.float16):
        batch = x.detach().to(cast)
        out = ops.mix_mask(batch, mask, swap).flatten(1)[:, :3]
        expected = torch.tensor([[2.0, 3.0, 1.0], [2.0, 3.0, 1.0]], dtype=cast)
        assert torch.equal(out, expected)
        chosen = ops.mix_mask(batch, mask > 0.5, swap).flatten(1)[:, :3]
        assert torch.equal(chosen, expected)
    ops.mix_mask(x, mask, swap).backward(torch.full((2, 1, 1, 4), inf))
    assert torch.equal(x.grad.flatten(1), torch.tensor([[0.0, 0.0, inf, inf], [inf, inf, 0.0, inf]]))
    large = torch.tensor([[2**62 + 1, 5], [7, 2**62 + 3]]).view(2, 1, 2)
    taken = ops.mix_mask(large, torch.tensor([[1.0, 0.0], [0.0, 0.5]]).view(2, 1, 2), swap)
    assert taken.flatten()[:3].tolist() == [2**62 + 1, 2**62 + 3, 2**62 + 1]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "expanded"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_against_float64(shape, layout):
    n = shape[0]
    for perm in torch.randperm(n), torch.randint(0, n, (n,)), torch.full((n,), n - 1):
        for mask in some_mask(n, *shape[-2:]), some_mask(n, *shape[-2:]) > 0.5, torch.rand(n, 1, 1):
            for dtype in FLOATS:
                grad = images(shape, dtype, layout)
                x = torch.zeros(shape, dtype=dtype, requires_grad=True)
                ops.mix_mask(x, mask, perm).backward(grad)
                expected = reference.mix_mask_backward(grad.double(), mask, perm)
                bound = TOLERANCE[dtype] * (1 + expected.abs().max()) * (1 if dtype.itemsize == 2 else n)
                assert x.grad.dtype == dtype
                assert (x.grad.double() - expected).abs().max() <= bound, dtype


def test_gradcheck_and_no_second_derivative():
    perm, mask = torch.tensor([2, 0, 0, 3]), some_mask(4, 5, 6)
    x = torch.randn(4, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    for weight in mask, mask > 0.5, mask[:, :1, :1]:
        assert torch.autograd.gradcheck(lambda x, w=weight: ops.mix_mask(x, w, perm), x)
    z = torch.randn(4, 1, 5, 6, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.mix_mask(x, mask > 0.5, perm), z)
    wanted = mask.clone().requires_grad_()  # but not given: the mask has no gradient
    out = ops.mix_mask(x, wanted, perm)
    (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="mix_mask can be differentiated only once"):
        grad.sum().backward()
    assert not ops.mix_mask(x.detach(), wanted, perm).requires_grad


def test_opcheck_and_fallback():
    perm, mask = torch.tensor([1, 2, 2]), some_mask(3, 4, 5)
    for layout in "contiguous", "channels_last":
        for weight in mask, mask > 0.5, mask[:, :1, :1].contiguous():
            x = images((3, 2, 4, 5), torch.float32, layout)
            for leaf in x, x.detach().requires_grad_():
                torch.library.opcheck(sumix.mix_mask.default, (leaf, weight, perm))
            torch.library.opcheck(sumix.mix_mask_backward.default, (x, weight, perm))
            for name in "mix_mask", "mix_mask_backward":
                ours, theirs = getattr(sumix, name)(x, weight, perm), fallback(name)(x, weight, perm)
                assert ours.stride() == theirs.stride() == x.stride()
                torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(backend):
    def mix(x, mask, perm):
        return ops.mix_mask(x * 2, mask, perm).square()

    torch._dynamo.reset()
    compiled = torch.compile(mix, fullgraph=True, backend=backend)
    mask, perm = torch.rand(3, 4, 5), torch.tensor([1, 2, 2])
    a, b = (torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    mix(a, mask, perm).sum().backward()
    compiled(b, mask, perm).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_threads_give_equal_bits():
    shape, before = (16, 3, 64, 65), torch.get_num_threads()
    mask, perm = some_mask(16, 64, 65), torch.randint(0, 16, (16,))
    batches, results = [images(shape, dtype) for dtype in FLOATS], []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append([op(x, mask, perm) for x in batches for op in (sumix.mix_mask, sumix.mix_mask_backward)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


X, PERM, MASK = torch.zeros(2, 1, 4, 5), torch.tensor([1, 0]), torch.zeros(2, 4, 5)


def wrong(value):
    mask = MASK.clone()
    mask[1, 2, 3] = value
    return mask


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.mix_mask([1], MASK, PERM), TypeError, "x must be a Tensor"),
        (lambda: ops.mix_mask(torch.tensor(1.0), MASK, PERM), ValueError, "x must have a batch dimension"),
        (lambda: ops.mix_mask(X, 3, PERM), TypeError, "mask must be a Tensor"),
        (lambda: ops.mix_mask(X, MASK.int(), PERM), TypeError, "mask must be bool or floating point, got torch.int32"),
        (lambda: ops.mix_mask(X, MASK[:1], PERM), ValueError, r"mask must be \(2, 4, 5\) or \(2, 1, 1\).*got \(1, 4"),
        (lambda: ops.mix_mask(X, MASK[:, :3], PERM), ValueError, r"mask must be .* as x is \(2, 1, 4, 5\)"),
        (lambda: ops.mix_mask(X, MASK[:, 0, :4], PERM), ValueError, r"mask must be \(2, 5\) or \(2, 1\)"),
        (lambda: ops.mix_mask(X, MASK[0, 0], PERM), ValueError, r"mask must be \(N, H, W\) for x \(N, ..., H, W\)"),
        (lambda: ops.mix_mask(X[:, 0, 0], MASK, PERM), ValueError, r"mask must be \(N, H, W\) for x"),
        (lambda: ops.mix_mask(X, MASK.to("meta"), PERM), ValueError, "mask must be on the device of x"),
        (lambda: ops.mix_mask(X.bool(), MASK, PERM), TypeError, "x must be floating point.*unless the mask is bool"),
        (lambda: ops.mix_mask(X, wrong(1.5), PERM), ValueError, r"mask\[1, 2, 3\] is 1.5, expected 0 to 1"),
        (lambda: ops.mix_mask(X, wrong(-0.5), PERM), ValueError, r"mask\[1, 2, 3\] is -0.5"),
        (lambda: ops.mix_mask(X, wrong(float("nan")), PERM), ValueError, r"mask\[1, 2, 3\] is -?nan"),
        (lambda: ops.mix_mask(X, MASK[:, :1, :1] + 2, PERM), ValueError, r"mask\[0, 0, 0\] is 2"),
        (lambda: ops.mix_mask(X, MASK, PERM + 1), ValueError, r"perm\[0\] is 2, expected 0 to 1"),
        (lambda: ops.mix_mask(X, MASK, PERM.float()), TypeError, "perm must be an integer tensor"),
        (lambda: sumix.mix_mask(X[..., ::2], MASK, PERM), RuntimeError, "x must be contiguous or channels_last"),
        (lambda: sumix.mix_mask(X, MASK.double(), PERM), RuntimeError, "mask must be float32, got float64"),
        (lambda: sumix.mix_mask(X, MASK.mT, PERM), RuntimeError, "mask must be contiguous"),
        (lambda: sumix.mix_mask(X.bool(), MASK, PERM), RuntimeError, "x must be floating point or an integer unless"),
        (lambda: sumix.mix_mask_backward(X.int(), MASK, PERM), RuntimeError, "grad_out must be float16"),
        (lambda: sumix.mix_mask_backward(X, wrong(2), PERM), RuntimeError, r"mask\[1, 2, 3\] is 2"),
        (lambda: sumix.mix_mask_backward(X, MASK, PERM - 1), RuntimeError, r"perm\[1\] is -1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
