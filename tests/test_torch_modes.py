"""The ops under torch's other modes: forward mode, vmap, dynamic shapes, batched gradients, devices, odd layouts."""

import math

import pytest
import torch
from torch.autograd import forward_ad

from sumix import CutMix, MixTarget, MixUp, SUMixHead, SUMixLoss, SUMixOutput, mix_accuracy, ops, reference

N, K = 4, 5
Y, PERM = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0])
BOX = torch.tensor([[0, 0, 2, 2]] * N)


def loss_of(z):
    lam = torch.full((N,), 0.5, dtype=torch.float64 if z.dtype == torch.float64 else torch.float32)
    return ops.sumix_loss(z, z.detach(), None, None, Y, Y[PERM], PERM, lam)[0]


DIFFERENTIABLE = [
    (lambda x: ops.mix_box(x, BOX, PERM), (N, 3, 4, 4)),
    (lambda x: ops.mix_linear(x, torch.full((N,), 0.25), PERM), (N, 3)),
    (lambda x: ops.mix_mask(x, torch.full((N, 4, 4), 0.25), PERM), (N, 3, 4, 4)),
    (lambda x: ops.mix_resize(x, BOX, PERM), (N, 3, 4, 4)),
    (lambda x: CutMix()(x, Y)[0], (N, 3, 4, 4)),
    (lambda x: MixUp()(x, Y)[0], (N, 3)),
    (ops.uncertainty, (N, K)),
    (loss_of, (N, K)),
]


@pytest.mark.parametrize(("function", "shape"), DIFFERENTIABLE)
def test_forward_mode_is_refused_not_zero(function, shape):
    x = torch.randn(shape)
    with forward_ad.dual_level():
        function(x)  # without a tangent nothing is lost
        with pytest.raises(RuntimeError, match="no forward-mode derivative"):
            function(forward_ad.make_dual(x, torch.ones_like(x)))
    with pytest.raises(RuntimeError, match="no forward-mode derivative"):
        torch.func.jvp(function, (x,), (torch.ones_like(x),))


@pytest.mark.parametrize(("function", "shape"), [*DIFFERENTIABLE[:4], DIFFERENTIABLE[-1]])
def test_vmap_keeps_the_gradient(function, shape):
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    got, want = torch.vmap(function)(x), torch.stack([function(part) for part in x])
    torch.testing.assert_close(got, want)
    g = torch.rand_like(want)
    torch.testing.assert_close(torch.autograd.grad(got, x, g), torch.autograd.grad(want, x, g))


def test_batched_gradients():
    z = torch.randn(N, K, dtype=torch.float64, requires_grad=True)
    (want,) = torch.autograd.grad(loss_of(z), z)
    (got,) = torch.autograd.grad(loss_of(z), z, torch.tensor([1.0, 2.0], dtype=torch.float64), is_grads_batched=True)
    torch.testing.assert_close(got, torch.stack((want, 2 * want)))


def test_gradients_do_not_outlive_backward():
    for scale in (1.0, 2.0):
        loss = loss_of(torch.randn(N, K, requires_grad=True))
        assert len(loss.grad_fn.gradients) == 4
        (loss * scale).backward()
        assert loss.grad_fn.gradients is None


def compiled(function):
    """The function, compiled for any batch size, and the list of graphs that this takes."""
    torch._dynamo.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    return torch.compile(function, backend=count, fullgraph=True, dynamic=True), graphs


@pytest.mark.parametrize("ratio", reference.RATIOS)
def test_one_compiled_graph_serves_every_batch_size(ratio):
    def loss(z, r, y, perm, lam):
        return ops.sumix_loss(z, r, None, None, y, y[perm], perm, lam, ratio=ratio)[0]

    step, graphs = compiled(loss)
    for n in (4, 7, 9, 12):
        z, r, y, perm, lam = (
            torch.randn(n, K),
            torch.randn(n, K),
            torch.randint(K, (n,)),
            torch.randperm(n),
            torch.rand(n),
        )
        torch.testing.assert_close(step(z, r, y, perm, lam), loss(z, r, y, perm, lam))
    assert len(graphs) == 1


@pytest.mark.parametrize("mixer", [CutMix, MixUp])
def test_one_compiled_transform_serves_every_batch_size(mixer):
    mix, graphs = compiled(mixer())
    for n in (4, 7, 9, 12):
        mixed, target = mix(torch.randn(n, 3, 8, 8), torch.randint(K, (n,)))
        assert mixed.shape == (n, 3, 8, 8) and target.lam.shape == (n,)
    assert len(graphs) == 1


def test_tensors_of_several_devices_are_refused():
    meta = PERM.to("meta")
    x, z = torch.randn(N, 3, 4, 4), torch.randn(N, K)
    for call in (
        lambda: torch.ops.sumix.mix_box(x, BOX, meta),
        lambda: torch.ops.sumix.mix_linear(x, torch.rand(N), meta),
        lambda: torch.ops.sumix.semantic_distance(z, z, meta, 1.0, False),
        lambda: torch.ops.sumix.uncertainty_backward(z, z.to("meta")),
        lambda: torch.ops.sumix.sumix_loss(
            *(z, z, torch.empty(0), torch.empty(0), Y, Y, meta, torch.rand(N), torch.empty(0), torch.empty(0)),
            *(2, 0, 1, 0.5, 1.0, 0.0, -100, False),
        ),
    ):
        with pytest.raises(RuntimeError, match="must be on the device of"):
            call()
    with pytest.raises(ValueError, match="perm must be on the device"):
        ops.mix_box(x, BOX, meta)


def test_layouts_that_are_not_dense_are_refused():
    nested = torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(2, 3)])
    quantized = torch.quantize_per_tensor(torch.randn(N, 3, 4, 4), 0.1, 0, torch.quint8)
    for call in (
        lambda: ops.uncertainty(nested),
        lambda: ops.mix_box(nested, BOX, PERM),
        lambda: ops.mix_box(quantized, BOX, PERM),
        lambda: CutMix()(quantized, Y),
        lambda: ops.mix_box(torch.randn(N, 4, 4).to_sparse(), BOX, PERM),
        lambda: ops.sumix_loss(torch.randn(N, K).to_sparse(), torch.randn(N, K), None, None, Y, Y, PERM, torch.rand(N)),
    ):
        with pytest.raises(TypeError, match="dense tensor"):
            call()


def test_lazily_conjugated_images_are_read_right():
    x = torch.randn(N, 2, 4, 4, dtype=torch.complex64)
    want = reference.mix_box(x.conj().resolve_conj(), BOX, PERM)
    assert torch.equal(ops.mix_box(x.conj(), BOX, PERM), want)


def test_the_semantic_distance_has_no_gradient():
    z = torch.randn(N, K, requires_grad=True)
    assert not ops.semantic_distance(z, z, Y).requires_grad
    with pytest.raises(RuntimeError, match="no gradient"):
        torch.ops.sumix.semantic_distance(z, z, Y, 1.0, False).sum().backward()


def test_an_empty_tensor_is_not_an_absent_one():
    z, lam, empty = torch.randn(N, K), torch.rand(N), torch.empty(0)
    for name in ("uncertainty", "raw_uncertainty", "weight"):
        given = {"uncertainty": z, "raw_uncertainty": z, "weight": torch.ones(K), name: empty}
        with pytest.raises(ValueError, match=name):
            ops.sumix_loss(z, z, y_a=Y, y_b=Y, perm=PERM, lam=lam, **given)
    with pytest.raises(ValueError, match="weight"):
        SUMixLoss(weight=empty)


def test_numbers_that_are_too_large_are_named():
    z, target = torch.randn(N, K), MixTarget(Y, Y[PERM], torch.rand(N), PERM)
    for name in ("gamma", "kappa", "distance_scale"):
        for value in (10**400, 1e300, math.inf, math.nan):
            with pytest.raises(ValueError, match=name):
                SUMixLoss(**{name: value})
        assert torch.isfinite(SUMixLoss(ratio="published", **{name: 1e30})(z, z, target))
    with pytest.raises(ValueError, match="ignore_index"):
        SUMixLoss(ignore_index=2**63)
    with pytest.raises(ValueError, match="num_classes"):
        target.soft(2**63)
    with pytest.raises(ValueError, match="in_features"):
        SUMixHead(2**63, 2)
    with pytest.raises(ValueError, match="scale"):
        ops.semantic_distance(z, z, Y, scale=1e39)
    with pytest.raises(RuntimeError, match="out of memory") as error:
        target.soft(10**12)
    assert not isinstance(error.value, ValueError)  # nothing is wrong with the argument


def test_labels_that_do_not_fit_in_int64_are_refused():
    z, huge = torch.randn(N, K), torch.tensor([2**64 - 100, 1, 2, 3], dtype=torch.uint64)
    with pytest.raises(TypeError, match="y_a"):
        ops.sumix_loss(z, z, None, None, huge, Y, PERM, torch.rand(N))
    with pytest.raises(TypeError, match="masked"):
        ops.semantic_distance(z, z, huge)


def test_attributes_may_change_and_are_checked():
    z, target = torch.randn(N, K), MixTarget(Y, Y[PERM], torch.rand(N), PERM)
    criterion = SUMixLoss(1.0)
    for value, error in [(True, TypeError), (-1.0, ValueError), (torch.tensor([0.5, 0.5]), TypeError)]:
        criterion.gamma = value
        with pytest.raises(error, match="gamma"):
            criterion(z, z, target)
    mix = CutMix()
    mix.alpha = -1.0
    with pytest.raises(ValueError, match="alpha"):
        mix(torch.randn(N, 3, 4, 4), Y)


def test_a_generator_cannot_be_compiled():
    for arguments in ({"generator": torch.Generator()}, {}):
        mix = CutMix(**({} if arguments else {"generator": torch.Generator()}))
        with pytest.raises(Exception, match="generator"):
            compiled(mix)[0](torch.randn(N, 3, 4, 4), Y, **arguments)


def test_accuracy_refuses_ratios_that_are_none():
    z = torch.randn(N, K)
    target = MixTarget(Y, Y[PERM], torch.rand(N), PERM)
    assert torch.equal(mix_accuracy(SUMixOutput(z, z), target), mix_accuracy(z, target))
    for lam in (7.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="lam"):
            mix_accuracy(z, MixTarget(Y, Y[PERM], torch.full((N,), lam), PERM))
