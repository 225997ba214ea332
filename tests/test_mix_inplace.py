"""mix_box_ and mix_resize_ write to the batch what mix_box and mix_resize return, and torch knows of it."""

import pytest
import torch
from mixing import BYTES, FLOATS, images, some_boxes, some_resize

from sumix import CutMix, ops

sumix = torch.ops.sumix
SHAPES = [(5, 3, 16, 16), (0, 3, 4, 4), (1, 3, 17, 57), (3, 2, 3, 9, 11), (6, 8, 13), (70, 1, 6, 5)]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_writes_what_the_others_return(shape, layout):
    n = shape[0]
    for perm in (torch.arange(n).roll(1), torch.randint(0, max(n, 1), (n,)), torch.zeros(n, dtype=torch.int64)):
        box, resize = some_boxes(n, *shape[-2:]), some_resize(n)
        for dtype in BYTES + FLOATS:
            x = images(shape, dtype, layout)
            codes = resize if dtype not in (torch.bool, torch.uint16, torch.complex64) else resize % 3
            for write, mix, how in (ops.mix_box_, ops.mix_box, ()), (ops.mix_resize_, ops.mix_resize, (codes,)):
                own, expected = x.clone(), mix(x, box, perm, *how)
                assert write(own, box, perm, *how) is own
                assert own.stride() == x.stride()
                assert torch.equal(own, expected), dtype


def test_signals_and_modes():
    x, perm, box = torch.randn(6, 2, 50), torch.randint(0, 6, (6,)), torch.randint(0, 51, (6, 2)).sort(1).values
    assert torch.equal(ops.mix_box_(x.clone(), box, perm), ops.mix_box(x, box, perm))
    for mode in "nearest", "nearest-exact", "bilinear":
        assert torch.equal(ops.mix_resize_(x.clone(), box, perm, mode), ops.mix_resize(x, box, perm, mode))


def test_threads_give_equal_bits():
    x, before = torch.randn(16, 3, 64, 65), torch.get_num_threads()
    how, results = (some_boxes(16, 64, 65), torch.randint(0, 16, (16,)), some_resize(16)), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(ops.mix_resize_(x.clone(), *how))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


BOX, PERM = torch.tensor([[0, 0, 3, 4], [1, 1, 5, 4], [0, 0, 0, 0]]), torch.tensor([1, 2, 0])
RESIZE = torch.tensor([0, 3, 2])


def test_autograd_notices_the_write():
    w = torch.randn(3, 2, 4, 5, requires_grad=True)
    for write in (
        lambda x: ops.mix_box_(x, BOX, PERM),
        lambda x: ops.mix_resize_(x, BOX, PERM),
        lambda x: ops.mix_box_(x.view(3, 40), torch.tensor([[0, 3]] * 3), PERM),
        lambda x: sumix.mix_box_(x, BOX, PERM),
        lambda x: sumix.mix_resize_(x, BOX, RESIZE, PERM),
    ):
        x = torch.randn(3, 2, 4, 5)
        loss, version = (x * w).sum(), x._version
        write(x)
        assert x._version == version + 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_a_tensor_that_requires_a_gradient_is_refused():
    leaf = torch.randn(3, 2, 4, 5, requires_grad=True)
    for x in leaf, leaf * 2:
        with pytest.raises(ValueError, match="x requires a gradient, which mixing in place does not have"):
            ops.mix_box_(x, BOX, PERM)
        with pytest.raises(ValueError, match="x requires a gradient"):
            ops.mix_resize_(x, BOX, PERM)
        with pytest.raises(RuntimeError, match="x requires a gradient"):
            sumix.mix_box_(x, BOX, PERM)
    before = leaf.detach().clone()
    with torch.no_grad():
        ops.mix_box_(leaf, BOX, PERM)
    assert torch.equal(leaf, ops.mix_box(before, BOX, PERM))
    with torch.inference_mode():
        x = before.clone()
        assert torch.equal(ops.mix_box_(x, BOX, PERM), leaf)


def test_opcheck():
    for x in (torch.randn(3, 2, 4, 5), images((3, 2, 4, 5), torch.uint8, "channels_last")):
        torch.library.opcheck(sumix.mix_box_.default, (x, BOX, PERM))
        torch.library.opcheck(sumix.mix_resize_.default, (x, BOX, RESIZE, PERM))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(backend):
    def mix(given, box, perm):
        x = given * 2
        before = x.sum()
        ops.mix_box_(x, box, perm)
        return before, x.sum(), ops.mix_resize_(x, box, perm, "nearest") + 1, ops.mix_box_(given, box, perm)

    torch._dynamo.reset()
    compiled = torch.compile(mix, fullgraph=True, backend=backend)
    x = torch.randn(3, 2, 4, 5)
    a, b = x.clone(), x.clone()
    for ours, theirs in zip(mix(a, BOX, PERM), compiled(b, BOX, PERM), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(a, b) and not torch.equal(a, x)


X = torch.zeros(3, 2, 4, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ops.mix_box_(X[:1].expand(3, 2, 4, 5), BOX, PERM),
            ValueError,
            "x must be contiguous or channels",
        ),
        (lambda: ops.mix_box_(X[..., ::2], BOX % 3, PERM), ValueError, r"got shape \(3, 2, 4, 3\), strides"),
        (lambda: ops.mix_box_(X.mT, BOX, PERM), ValueError, "x must be contiguous or channels"),
        (lambda: ops.mix_box_([1], BOX, PERM), TypeError, "x must be a Tensor"),
        (lambda: ops.mix_box_(X, BOX * 6, PERM), ValueError, r"box\[0\] is \(0, 0, 18, 24\)"),
        (lambda: ops.mix_box_(X, BOX, PERM + 1), ValueError, r"perm\[1\] is 3, expected 0 to 2"),
        (lambda: ops.mix_resize_(X, BOX, PERM, RESIZE + 1), ValueError, r"mode\[1\] is 4, expected 0 to 3"),
        (lambda: ops.mix_resize_(X.bool(), BOX, PERM), TypeError, 'x must be floating point.*mode="bilinear"'),
        (lambda: sumix.mix_box_(X.mT, BOX, PERM), RuntimeError, "x must be contiguous or channels"),
        (lambda: sumix.mix_resize_(X, BOX, RESIZE.int(), PERM), RuntimeError, "resize must be int64"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_memory_shared_with_the_arguments_is_refused():
    """Else a write would change a box or a partner after it was checked."""
    memory = torch.zeros(16, dtype=torch.int64)
    for at, shared in enumerate((memory[3:15].view(3, 4), memory[5:8], memory[13:16])):
        how = [torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), torch.arange(3)]
        how[at] = shared
        with pytest.raises(RuntimeError, match="must not share memory with"):
            sumix.mix_resize_(memory[2:14].view(3, 2, 2), *how)
    with pytest.raises(ValueError, match="x must not share memory with perm"):
        ops.mix_box_(memory[2:14].view(3, 2, 2), torch.zeros(3, 4, dtype=torch.int64), memory[13:16])
    beside = ops.mix_box_(memory[:12].view(3, 2, 2), torch.zeros(3, 4, dtype=torch.int64), memory[12:15])
    assert torch.equal(beside, torch.zeros(3, 2, 2, dtype=torch.int64))


def test_lazily_conjugated_and_negated_views():
    """Their memory holds something else than they show."""
    base, real = torch.randn(3, 2, 4, 5, dtype=torch.complex64), torch.randn(3, 2, 4, 5)
    for x in (base.conj(), torch._neg_view(base), torch._neg_view(base.conj()), torch._neg_view(real)):
        want = ops.mix_box(x.resolve_conj().resolve_neg(), BOX, PERM)
        version = x._version
        assert ops.mix_box_(x, BOX, PERM) is x and x._version > version
        assert torch.equal(x, want)
        with pytest.raises(RuntimeError, match="lazily conjugated or negated"):
            sumix.mix_box_(x, BOX, PERM)
        assert torch.equal(x, want)
    for mode in ("nearest", "bilinear"):
        x = torch._neg_view(real)
        want = ops.mix_resize(x.resolve_neg(), BOX, PERM, mode)
        torch.testing.assert_close(ops.mix_resize_(x, BOX, PERM, mode), want)
        assert CutMix(inplace=True)(x, PERM)[0] is x
