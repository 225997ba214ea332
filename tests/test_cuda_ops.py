"""Every operator on a GPU against the same on the CPU: values, gradients, layouts, dtypes."""

import importlib
import pathlib

import pytest
import torch
from torch.library import opcheck

from sumix import ops
from tests import gpu
from tests.gpu import CALLS, DEVICE, GRADIENTS, K, N, bits, here, results, tensors, there

pytestmark = pytest.mark.cuda

# Of a gradient or a value that is summed up in another order, relative to its largest element.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}

# What differs from the CPU by rounding; everything else is equal bit for bit.
ROUNDED = {
    "smooth_mask": 1e-5,
    "uncertainty": 2e-6,
    "semantic_distance": 2e-6,
    "masked_similarity": 1e-5,
    "masked_similarity, cam": 1e-5,
    "foreground": 1e-5,
    "foreground, a mean": 1e-5,
    "masked_similarity, gate": 1e-5,
    "sumix_loss": 1e-5,
    "sumix_loss, none": 1e-5,
    "sumix_loss, weights": 1e-5,
}

# Equal too, but for what is in a NaN that they compute.
BLENDS = ["mix_linear", "mix_mask", "mix_resize", "mix_resize_"]

STEMS = sorted(path.stem for path in (pathlib.Path(__file__).parent / "emulation").glob("[a-z]*.py"))
CASES = [case for stem in STEMS for case in importlib.import_module(f"emulation.{stem}").CASES]


def near(got, want, tolerance):
    got, want = here(got), here(want)
    assert (got.dtype, got.shape, got.stride()) == (want.dtype, want.shape, want.stride())
    if tolerance is None:
        assert torch.equal(bits(got), bits(want))
        return
    scale = want.double().abs().nan_to_num(0, 0, 0).max().item() if want.numel() else 0.0
    torch.testing.assert_close(
        got.double(), want.double(), rtol=tolerance, atol=tolerance * max(scale, 0.01), equal_nan=True
    )


def call(case, arguments):
    """The results, and after them the arguments, which an op in place has changed."""
    made = getattr(torch.ops.sumix, case.op)(*arguments)
    return [*results(made), *results(arguments)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cases_of_the_emulator(case):
    want = call(case, case.make())
    got = call(case, tuple(there(argument) for argument in case.make()))
    for one, other in zip(got, want, strict=True):
        assert one.device == DEVICE
        assert one.stride() == other.stride()
        torch.testing.assert_close(here(one), other, equal_nan=True, **(case.tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("seed", [1, 2])
def test_values(name, seed):
    t = tensors(seed)
    want = results(CALLS[name]({k: here(v) for k, v in t.items()}))
    got = results(CALLS[name](t))
    assert all(part.device == DEVICE for part in got)
    if name == "fmix_mask":  # its image is from an FFT, of which pixels at the threshold may be rounded differently
        mask, exact = want
        assert torch.equal(here(got[1]), exact)
        torch.testing.assert_close(here(got[0]).mean((1, 2)), mask.mean((1, 2)), rtol=0, atol=1e-6)
        assert ((here(got[0]) - mask).abs() > 1e-3).double().mean() < 0.02
        return
    for one, other in zip(got, want, strict=True):
        near(one, other, ROUNDED.get(name) if one.is_floating_point() else None)


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gradients(name, dtype):
    t = tensors(3)
    # The kernels' gradients of halves are those of the same halves.
    want = gpu.gradients(name, {k: here(v) for k, v in t.items()}, dtype)
    got = gpu.gradients(name, t, dtype)
    for one, other in zip(got, want, strict=True):
        near(one, other, TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["mix_box", "mix_linear", "mix_mask", "mix_resize", "sumix_loss", "sumix_loss, none"])
def test_gradients_of_repeated_partners(name):
    for partner in (0, N - 1):
        t = {**tensors(4), "perm": there(torch.full((N,), partner))}
        for one, other in zip(
            gpu.gradients(name, t), gpu.gradients(name, {k: here(v) for k, v in t.items()}), strict=True
        ):
            near(one, other, 1e-5)


@pytest.mark.parametrize("name", GRADIENTS)
def test_second_derivatives_are_refused(name):
    call, (into, *_) = GRADIENTS[name]
    t = tensors()
    t[into] = t[into].requires_grad_()
    out = call(t)
    with pytest.raises(RuntimeError, match="only once"):
        (grad,) = torch.autograd.grad(out.square().sum(), t[into], create_graph=True)
        grad.square().sum().backward()


def test_the_gradient_of_a_scaled_loss_is_scaled():
    t = tensors(5)
    z = t["z"].requires_grad_()
    loss = gpu.loss(t)[0]
    (one,) = torch.autograd.grad(loss, z, retain_graph=True)
    (many,) = torch.autograd.grad(loss * 2.0**16, z)
    assert torch.equal(one * 2.0**16, many)


@pytest.mark.parametrize("name", ["mix_box", "mix_linear", "mix_mask", "mix_mask, bool", "mix_resize", "mix_box_"])
def test_channels_last(name):
    t = tensors(6)
    last = {**t, "x": t["x"].contiguous(memory_format=torch.channels_last)}
    (want,), (got,) = results(CALLS[name](t)), results(CALLS[name](last))
    assert got.is_contiguous(memory_format=torch.channels_last) and not got.is_contiguous()
    near(got.contiguous(), want, None)
    if name in GRADIENTS:
        grad = gpu.gradients(name, last)[1]
        near(grad.contiguous(), gpu.gradients(name, t)[1].contiguous(), 2e-6)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.complex64, torch.float64])
@pytest.mark.parametrize("width", [1, 7, 16, 33])
def test_copies_of_any_dtype_width_and_alignment(dtype, width):
    pixels = torch.randn(N, 3, 5, width + 1, dtype=torch.float64).mul(50).to(dtype)
    perm, box = torch.randperm(N), torch.tensor([[0, 1, max(width - 1, 1), 4]]).repeat(N, 1)
    hard = torch.rand(N, 5, width) < 0.5
    for x in (pixels[..., :width].contiguous(), pixels.flatten()[1 : 1 + N * 3 * 5 * width].view(N, 3, 5, width)):
        moved = there(x)
        assert moved.storage_offset() == x.storage_offset()
        for got, want in (
            (ops.mix_box(moved, there(box), there(perm)), ops.mix_box(x, box, perm)),
            (ops.mix_mask(moved, there(hard), there(perm)), ops.mix_mask(x, hard, perm)),
            (
                ops.mix_resize(moved, there(box), there(perm), "nearest"),
                ops.mix_resize(x, box, perm, "nearest"),
            ),
        ):
            assert torch.equal(bits(got), bits(want))


@pytest.mark.parametrize(("n", "k"), [(0, 5), (1, 2), (3, 33), (5, 1000), (2, 20001), (300, 7)])
def test_losses_of_any_size(n, k):
    rows = [torch.randn(n, k) for _ in range(4)]
    y, perm, lam = torch.randint(k, (n,)), torch.randperm(n), torch.rand(n)
    want = results(ops.sumix_loss(*rows, y, y[perm], perm, lam, reduction="none"))
    got = results(ops.sumix_loss(*(there(t) for t in (*rows, y, y[perm], perm, lam)), reduction="none"))
    for one, other in zip(got, want, strict=True):
        near(one, other, 2e-5)


def test_not_a_number_and_infinity_go_the_same_way_as_on_the_cpu():
    t = tensors(7)
    for name in ("x", "grey", "z", "r", "maps"):
        for first, value in enumerate((torch.nan, torch.inf, -torch.inf)):
            t[name].view(-1)[7 * first :: 31] = value
    for name in (*ROUNDED, *BLENDS, "mix_box", "saliency", "mask_top_k"):
        want = results(CALLS[name]({k: here(v) for k, v in t.items()}))
        for one, other in zip(results(CALLS[name](t)), want, strict=True):
            near(one, other, 0 if name in BLENDS else ROUNDED.get(name))


OPCHECKED = {
    "mix_box": lambda t: (t["x"].requires_grad_(), t["box"], t["perm"]),
    "mix_linear": lambda t: (t["x"].requires_grad_(), t["lam"], t["perm"]),
    "mix_mask": lambda t: (t["x"].requires_grad_(), t["mask"], t["perm"]),
    "mix_resize": lambda t: (t["x"].requires_grad_(), t["box"], t["k"] % 4, t["perm"]),
    "mix_box_": lambda t: (t["x"].clone(), t["box"], t["perm"]),
    "saliency": lambda t: (t["bytes"], t["lam"][:0], t["lam"][:0], True),
    "sample_perm": lambda t: (t["seed"], t["y"], N, 2),
    "sample_top_k": lambda t: (t["seed"], t["lam"], 520, 0.1),
    "mask_top_k": lambda t: (t["grey"], t["k"], t["k"][:0]),
    "evidence_mask": lambda t: (t["mask"], t["y"].to(torch.uint8) % 2, 9, 20, False, 0.3, 0.2),
    "uncertainty": lambda t: (t["z"].requires_grad_(),),
    "semantic_distance": lambda t: (t["z"], t["r"], t["y"], 1.0, False),
    "soft_labels": lambda t: (t["y"], t["y"], t["lam"], K, 0.1),
}


@pytest.mark.parametrize("name", OPCHECKED)
def test_registered_well(name):
    opcheck(getattr(torch.ops.sumix, name).default, OPCHECKED[name](tensors()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: ops.mix_box(t["x"], t["lam"], t["perm"]), TypeError, "box must be an integer tensor"),
        (lambda t: ops.mix_box(t["x"], t["box"], t["perm"][1:]), ValueError, r"perm must be \(N,\) = \(9,\)"),
        (lambda t: ops.mix_linear(t["x"] > 0, t["lam"], t["perm"]), TypeError, "x must be floating point, uint8"),
        (lambda t: ops.mix_mask(t["x"], t["mask"][:, 1:], t["perm"]), ValueError, "mask must be"),
        (lambda t: ops.uncertainty(t["y"]), TypeError, "logits must be float16"),
        (lambda t: ops.mask_top_k(t["grey"], t["lam"]), TypeError, "k must be an integer tensor"),
        (lambda t: ops.semantic_distance(t["z"], t["r"][1:], t["y"]), ValueError, "raw_logits must have the shape"),
        (lambda t: gpu.loss({**t, "r": t["r"][:, 1:]}), ValueError, "raw_logits must have the shape"),
        (lambda t: gpu.loss({**t, "lam": t["lam"].long()}), TypeError, "lam must be float16"),
        (lambda t: ops.saliency(t["x"][:, :2]), ValueError, "x must have 1 or 3 channels"),
        (lambda t: ops.cut_box(t["lam"], t["box"], (4, 4)), ValueError, r"centre must be \(N, 2\)"),
        (lambda t: torch.ops.sumix.mix_box(t["x"], t["box"].int(), t["perm"]), RuntimeError, "box must be int64"),
        (lambda t: torch.ops.sumix.uncertainty(t["z"].t()), RuntimeError, "must be contiguous"),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(tensors())
