import pytest
import torch
from batches import TOLERANCE, assert_near

from sumix import ops, reference

SHAPES = [(1, 1), (3, 2), (17, 257), (41, 1000), (0, 5)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", [1.0, 1e4])  # 1e4: exp(x) overflows, exp(x - max) must not
def test_value_and_gradient_match_the_float64_twin(shape, dtype, spread):
    x = (torch.randn(shape) * spread).to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    g = torch.randn(shape).to(dtype)
    u, want = ops.uncertainty(x), reference.uncertainty(exact)
    assert u.dtype == dtype
    assert_near(u, want, TOLERANCE[dtype])
    u.backward(g)
    wide = u.detach().double()  # backward is exact for the u that forward returned
    assert_near(x.grad, wide * (g.double() - wide * (wide * g.double()).sum(1, keepdim=True)), TOLERANCE[dtype])
    want.backward(g.double())
    if shape[1] > 1:
        assert_near(x.grad, exact.grad, 10 * TOLERANCE[dtype])


def test_accepts_any_stride_and_an_expanded_gradient():
    x = torch.randn(6, 10, 4)[::2, :, 1].requires_grad_()
    u = ops.uncertainty(x)
    u.sum().backward()
    torch.testing.assert_close(u, reference.uncertainty(x))
    assert x.grad.shape == x.shape


def test_nan_and_inf_propagate_row_by_row():
    x = torch.randn(4, 5)
    x[1, 2], x[2, 0], x[3, 1] = float("nan"), float("inf"), -float("inf")
    torch.testing.assert_close(ops.uncertainty(x), reference.uncertainty(x), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_computes_in_float32(dtype):
    x = torch.randn(4, 5, dtype=dtype)
    with torch.autocast("cpu", dtype):
        u = ops.uncertainty(x)
    assert u.dtype == torch.float32
    torch.testing.assert_close(u, ops.uncertainty(x.float()))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_opcheck_gradcheck_compile(backend):
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.sumix.uncertainty.default, (x,))
    assert torch.autograd.gradcheck(ops.uncertainty, (x,))
    compiled = torch.compile(ops.uncertainty, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), ops.uncertainty(x))


def test_the_form_for_devices_without_kernels():
    for dtype, tolerance in TOLERANCE.items():
        u = ops.uncertainty(torch.randn(5, 7, dtype=dtype))
        g = torch.randn(5, 7).to(dtype)
        want = torch.ops.sumix.uncertainty_backward.default(u, g)
        assert_near(reference.uncertainty_backward(u, g), want.double(), tolerance)


def test_bad_input_is_named():
    for bad, error in [
        (torch.ones(2, 2, dtype=torch.long), TypeError),
        (None, TypeError),
        (torch.randn(2, 2).to_sparse(), TypeError),
        (torch.randn(3), ValueError),
        (torch.randn(3, 0), ValueError),
    ]:
        with pytest.raises(error, match="logits"):
            ops.uncertainty(bad)
    for bad in (torch.randn(3), torch.randn(3, 0), torch.randn(3, 4).t(), torch.ones(2, 2, dtype=torch.long)):
        with pytest.raises(RuntimeError, match="sumix::uncertainty: logits"):  # past the wrapper, C checks again
            torch.ops.sumix.uncertainty(bad)
        with pytest.raises(RuntimeError, match="sumix::uncertainty_backward"):
            torch.ops.sumix.uncertainty_backward(torch.randn(5, 5), bad)


def test_a_second_derivative_is_refused_not_zero():
    x = torch.randn(3, 4, requires_grad=True)
    (g,) = torch.autograd.grad(ops.uncertainty(x).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        g.sum().backward()
