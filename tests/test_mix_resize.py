"""mix_resize against torch.nn.functional.interpolate, its twin, in every dtype, layout and direction; and in place."""

import pytest
import torch
import torch.nn.functional as F
from mixing import BYTES, FLOATS, INTEGERS, images, is_integer, some_boxes, some_resize

from sumix import ops, reference
from sumix.ops.mix import dense, fallback

sumix = torch.ops.sumix
MODES = ("nearest", "nearest-exact", "bilinear")
SHAPES = [(5, 3, 16, 16), (10, 2, 17, 57), (6, 1, 1, 9), (6, 2, 9, 1), (5, 2, 3, 9, 11), (6, 8, 13), (3, 1, 224, 226)]
# Relative to the largest value: a few roundings.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def interpolated(x, box, resize, perm):
    """Sample by sample, by torch itself; bilinear integers not rounded yet."""
    out = x.clone() if x.dtype.is_floating_point or (resize != 3).all() else x.double()
    for i, (x1, y1, x2, y2) in enumerate(box.tolist()):
        code, partner = resize[i].item(), x[perm[i]]
        if x1 == x2 or y1 == y2:
            continue
        if code == 0:
            out[i, ..., y1:y2, x1:x2] = partner[..., y1:y2, x1:x2]
            continue
        planes = partner.reshape(1, -1, *x.shape[-2:])
        if code == 3 and x.dtype in (torch.int32, torch.int64):
            planes = planes.double()
        elif is_integer(x.dtype) or code != 3:  # nearest: its indices for float32, whatever the dtype
            planes = planes.float()
        new = F.interpolate(planes, size=(y2 - y1, x2 - x1), mode=MODES[code - 1])
        out[i, ..., y1:y2, x1:x2] = new.reshape(*partner.shape[:-2], y2 - y1, x2 - x1).to(out.dtype)
    return out


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_interpolate(shape, layout):
    n = shape[0]
    for dtype in FLOATS + INTEGERS:
        x, perm = images(shape, torch.float32).to(dtype), torch.randint(0, n, (n,))
        if not dtype.is_floating_point:
            x = images(shape, dtype)
        x = x if layout == "contiguous" else images_in(layout, x)
        box, resize = some_boxes(n, *shape[-2:]), some_resize(n)
        box[-1] = torch.tensor([shape[-1] // 2, shape[-2] // 2, shape[-1] // 2 + 1, shape[-2] // 2 + 1])
        out, expected = ops.mix_resize(x, box, perm, resize), interpolated(x, box, resize, perm)
        assert out.dtype == dtype
        assert out.stride() == dense(x).stride()
        scale = expected.double().abs().max()
        bound = TOLERANCE[dtype] * scale if dtype.is_floating_point else 0.5 + 1e-4
        assert (out.double() - expected.double()).abs().max() <= bound, dtype
        twin = reference.mix_resize(x, box, resize, perm)
        assert (twin.double() - expected.double()).abs().max() <= bound, dtype
        exact = (resize != 3).nonzero().flatten()
        assert torch.equal(out[exact], expected[exact].to(dtype))
        assert torch.equal(twin[exact], out[exact])


def images_in(layout, x):
    if layout == "channels_last":
        last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim, torch.contiguous_format)
        return x.contiguous(memory_format=last)
    return torch.stack([x, x], -1)[..., 0]


def test_every_size_of_box():
    """The index arithmetic of each mode, along one axis, against torch's."""
    for size in (1, 2, 3, 7, 26, 52, 65):
        box = torch.stack([torch.tensor([0, 0, to, 1]) for to in range(1, size + 1)])
        x, perm = torch.randn(size, 1, 1, size), torch.arange(size)
        for code in (1, 2, 3):
            resize = torch.full((size,), code)
            out, expected = ops.mix_resize(x, box, perm, MODES[code - 1]), interpolated(x, box, resize, perm)
            assert (out - expected).abs().max() <= (0 if code < 3 else 4e-7), (size, code)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_nearest_copies_any_bytes(code):
    for dtype in [*BYTES, torch.complex128]:
        for layout in "contiguous", "channels_last":
            x, perm, box = images((6, 5, 7, 9), dtype, layout), torch.randint(0, 6, (6,)), some_boxes(6, 7, 9)
            resize = torch.full((6,), code)
            number = torch.arange(x.numel()).view(6, 5, 7, 9)
            expected = x.contiguous().flatten()[reference.mix_resize(number, box, resize, perm).flatten()]
            assert torch.equal(ops.mix_resize(x, box, perm, resize).flatten(), expected), dtype
    x = images((6, 5, 7, 9), torch.float32)
    assert torch.equal(ops.mix_resize(x, box, perm, torch.zeros(6, dtype=torch.int32)), ops.mix_box(x, box, perm))


def test_signals():
    x, perm = torch.randn(6, 2, 50), torch.randint(0, 6, (6,))
    box = torch.randint(0, 51, (6, 2)).sort(1).values
    for mode in MODES:
        out = ops.mix_resize(x, box, perm, mode)
        for i, (a, b) in enumerate(box.tolist()):
            expected = x[i].clone()
            if a < b:
                how = "linear" if mode == "bilinear" else mode
                expected[:, a:b] = F.interpolate(x[perm[i]][None], size=b - a, mode=how)[0]
            torch.testing.assert_close(out[i], expected)
        torch.testing.assert_close(ops.mix_resize(x[:, 0], box, perm, mode), out[:, 0])
        resize = torch.full((6,), 1 + MODES.index(mode))
        torch.testing.assert_close(reference.mix_resize(x, box, resize, perm), out)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "expanded"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_against_float64(shape, layout):
    n = shape[0]
    for perm in torch.randperm(n), torch.randint(0, n, (n,)), torch.full((n,), n - 1):
        box, resize = some_boxes(n, *shape[-2:]), some_resize(n)
        for dtype in FLOATS:
            grad = images(shape, dtype, layout)
            x = torch.zeros(shape, dtype=dtype, requires_grad=True)
            ops.mix_resize(x, box, perm, resize).backward(grad)
            wide = grad.double() if dtype is torch.float64 else grad.float()  # as the weights of bilinear are
            expected = reference.mix_resize_backward(wide, box, resize, perm).double()
            bound = TOLERANCE[dtype] * (1 + expected.abs().max()) * (1 if dtype.itemsize == 2 else n)
            assert (x.grad.double() - expected).abs().max() <= bound, dtype


def test_gradcheck_and_no_second_derivative():
    perm, box = torch.tensor([2, 0, 0, 3]), torch.tensor([[0, 0, 6, 5], [1, 2, 4, 3], [2, 0, 6, 4], [0, 1, 3, 5]])
    x = torch.randn(4, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    for mode in (*MODES, torch.tensor([3, 0, 1, 2])):
        assert torch.autograd.gradcheck(lambda x, mode=mode: ops.mix_resize(x, box, perm, mode), x)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.mix_resize(x, box, perm), last)
    assert torch.autograd.gradcheck(lambda x: ops.mix_resize(x, box[:, ::2].contiguous(), perm), x)
    z = torch.randn(4, 1, 5, 6, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ops.mix_resize(x, box, perm, "nearest"), z)
    (grad,) = torch.autograd.grad(ops.mix_resize(x, box, perm).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="mix_resize can be differentiated only once"):
        grad.sum().backward()


def test_opcheck_and_fallback():
    perm, box, resize = torch.tensor([1, 2, 2, 0]), some_boxes(4, 4, 5), torch.arange(4)
    for layout in "contiguous", "channels_last":
        x = images((4, 2, 4, 5), torch.float32, layout)
        for leaf in x, x.detach().requires_grad_():
            torch.library.opcheck(sumix.mix_resize.default, (leaf, box, resize, perm))
        torch.library.opcheck(sumix.mix_resize_backward.default, (x, box, resize, perm))
        for name in "mix_resize", "mix_resize_backward":
            ours, theirs = getattr(sumix, name)(x, box, resize, perm), fallback(name)(x, box, resize, perm)
            assert ours.stride() == theirs.stride() == x.stride()
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(backend):
    def mix(x, box, perm):
        return ops.mix_resize(x * 2, box, perm, "bilinear").square()

    torch._dynamo.reset()
    compiled = torch.compile(mix, fullgraph=True, backend=backend)
    box, perm = some_boxes(5, 4, 5), torch.tensor([1, 2, 2, 0, 4])
    a, b = (torch.randn(5, 2, 4, 5, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    mix(a, box, perm).sum().backward()
    compiled(b, box, perm).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_threads_give_equal_bits():
    shape, before = (16, 3, 64, 65), torch.get_num_threads()
    how = some_boxes(16, 64, 65), some_resize(16), torch.randint(0, 16, (16,))
    batches, results = [images(shape, dtype) for dtype in FLOATS], []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append([op(x, *how) for x in batches for op in (sumix.mix_resize, sumix.mix_resize_backward)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


X, PERM, BOX, RESIZE = (
    torch.zeros(2, 1, 4, 5),
    torch.tensor([1, 0]),
    torch.tensor([[0, 0, 1, 1]] * 2),
    torch.ones(2).long(),
)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.mix_resize([1], BOX, PERM), TypeError, "x must be a Tensor"),
        (lambda: ops.mix_resize(X, BOX, PERM, "cubic"), ValueError, "mode must be one of 'nearest', .*got 'cubic'"),
        (lambda: ops.mix_resize(X, BOX, PERM, 3), TypeError, "mode must be a string"),
        (lambda: ops.mix_resize(X, BOX, PERM, RESIZE.float()), TypeError, "mode must be an integer tensor"),
        (lambda: ops.mix_resize(X, BOX, PERM, RESIZE[:1]), ValueError, r"mode must be \(N,\) = \(2,\)"),
        (lambda: ops.mix_resize(X, BOX, PERM, RESIZE + 3), ValueError, r"mode\[0\] is 4, expected 0 to 3"),
        (lambda: ops.mix_resize(X, BOX, PERM, RESIZE - 2), ValueError, r"mode\[0\] is -1, expected 0 to 3"),
        (lambda: ops.mix_resize(X.bool(), BOX, PERM), TypeError, 'x must be floating point.*mode="bilinear"'),
        (lambda: ops.mix_resize(X.bool(), BOX, PERM, RESIZE + 2), ValueError, r"mode\[0\] is bilinear, and x neither"),
        (lambda: ops.mix_resize(X, BOX * 6, PERM), ValueError, r"box\[0\].* <= x2 <= 5 and 0 <= y1 <= y2 <= 4"),
        (lambda: ops.mix_resize(X, BOX.float(), PERM), TypeError, "box must be an integer tensor"),
        (lambda: ops.mix_resize(X, BOX, PERM + 1), ValueError, r"perm\[0\] is 2, expected 0 to 1"),
        (
            lambda: sumix.mix_resize(X[..., ::2], BOX, RESIZE, PERM),
            RuntimeError,
            "x must be contiguous or channels",
        ),
        (lambda: sumix.mix_resize(X, BOX, RESIZE.int(), PERM), RuntimeError, "resize must be int64, got int32"),
        (lambda: sumix.mix_resize_backward(X.int(), BOX, RESIZE, PERM), RuntimeError, "grad_out must be float16"),
        (lambda: sumix.mix_resize_backward(X, BOX * 6, RESIZE, PERM), RuntimeError, r"box\[0\]"),
        (lambda: sumix.mix_resize_backward(X, BOX, RESIZE + 3, PERM), RuntimeError, r"resize\[0\] is 4"),
        (lambda: sumix.mix_resize_backward(X, BOX, RESIZE, PERM - 1), RuntimeError, r"perm\[1\] is -1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
