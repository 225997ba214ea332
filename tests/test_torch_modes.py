"""The ops under torch's other modes: forward mode, vmap, dynamic shapes, batched gradients, devices, odd layouts."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from mixers import MIXERS
from torch import distributed as dist
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.autograd import forward_ad
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

from sumix import (
    CutMix,
    FMix,
    MixTarget,
    MixUp,
    RandomMix,
    ResizeMix,
    SUMixHead,
    SUMixLoss,
    SUMixOutput,
    mix_accuracy,
    ops,
    reference,
)

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


DIFFERENTIABLE_BY_ANY_NAME = [
    *DIFFERENTIABLE,
    (lambda z: SUMixLoss(gamma=0.1)(z, z, MixTarget(Y, Y[PERM], torch.full((N,), 0.5), PERM)), (N, K)),
    (
        lambda z: SUMixLoss(gamma=0.5)(*(SUMixOutput(z, z),) * 2, MixTarget(Y, Y[PERM], torch.full((N,), 0.5), PERM)),
        (N, K),
    ),
    (lambda x: FMix(max_soft=0.2)(x, Y, seed=1)[0], (N, 3, 6, 6)),
    (lambda x: ResizeMix(mode="bilinear")(x, Y, seed=1)[0], (N, 3, 6, 6)),
    (lambda x: RandomMix([CutMix(), MixUp()], per_sample=True)(x, Y, seed=1)[0], (N, 3, 6, 6)),
]


@pytest.mark.parametrize(("function", "shape"), DIFFERENTIABLE_BY_ANY_NAME)
def test_torch_func_has_the_same_gradient(function, shape):
    x = torch.randn(shape, requires_grad=True)

    def scalar(x):
        torch.manual_seed(1)
        out = function(x)
        return (out * torch.arange(1, out.numel() + 1).view(out.shape)).sum()

    (want,) = torch.autograd.grad(scalar(x), x)
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(scalar)(x), want)
    torch.testing.assert_close(torch.func.vjp(scalar, x)[1](torch.tensor(2.0))[0], 2 * want)
    torch.testing.assert_close(torch.func.jacrev(scalar)(x), want)
    if function not in (DIFFERENTIABLE[4][0], DIFFERENTIABLE[5][0]):  # vmap asks what to do with what is drawn
        both = torch.vmap(torch.func.grad(scalar))(torch.stack([x, x]))
        torch.testing.assert_close(both, torch.stack([want, want]))
    torch.testing.assert_close(torch.func.functionalize(scalar)(x), scalar(x))


@pytest.mark.parametrize("function", [ops.uncertainty, loss_of])
def test_torch_func_refuses_a_second_derivative(function):
    def slope(z):
        return torch.func.grad(lambda z: function(z).square().sum())(z).sum()

    with pytest.raises(RuntimeError, match="can be differentiated only once"):
        torch.func.grad(slope)(torch.randn(N, K))


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


def test_quantized_images_are_refused_by_every_op():
    quantized = torch.quantize_per_tensor(torch.randn(N, 4, 4), 0.1, 0, torch.qint8)
    with pytest.raises(TypeError, match="dense tensor"):
        ops.mask_top_k(quantized, Y)
    with pytest.raises(RuntimeError, match="sumix::mask_top_k takes dense tensors"):
        torch.ops.sumix.mask_top_k(quantized, Y, Y)


@pytest.mark.parametrize("name", list(MIXERS))
def test_fake_tensors_have_the_right_shapes(name):
    mix, x = MIXERS[name](), torch.randn(N, 3, 8, 8)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(x)
        mixed, target = mix(fake, Y)
        assert type(mixed) is FakeTensor and mixed.shape == x.shape and target.lam.shape == (N,)
        assert SUMixLoss(gamma=0.1)(fake[:, 0, 0], fake[:, 0, 0], target).shape == ()
        assert mix_accuracy(fake[:, 0, 0], target).shape == ()


class Network(nn.Module):
    """With everything of ours in it."""

    def __init__(self):
        super().__init__()
        self.head, self.criterion, self.mix = SUMixHead(K, K), SUMixLoss(gamma=0.5), CutMix()


def test_tracers_that_cannot_trace_are_told_apart():
    def of(method):
        return type("Traced", (Network,), {"forward": method})()

    for forward in (
        lambda self, x: self.head(x),
        lambda self, x: self.criterion(x, x, None),
        lambda self, x: self.mix(x, Y),
        lambda self, x: ops.mix_box(x, BOX, PERM),
    ):
        with pytest.raises(TypeError, match=r"Proxy of torch.fx.symbolic_trace.*torch.export can"):
            torch.fx.symbolic_trace(of(forward))
    for module in (SUMixHead(2, 2), SUMixLoss(gamma=0.5), CutMix(), Network(), RandomMix([MixUp()])):
        with pytest.raises(TypeError, match=r"torch.jit.script cannot compile \w+: use torch.compile"):
            torch.jit.script(module)


@pytest.mark.parametrize("name", [name for name in MIXERS if name != "RandomMix a batch"])
def test_traced_by_torch_jit_trace(name):
    mix, x = MIXERS[name](), torch.randn(N, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes become constants
        traced = torch.jit.trace(lambda x, seed: mix(x, Y, seed=seed)[0], (x, torch.tensor(1)), check_trace=False)
    for seed in (1, 2):
        torch.testing.assert_close(traced(x, torch.tensor(seed)), mix(x, Y, seed=seed)[0])


def test_distributed_tensors_are_refused(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        x, z, y = (distribute_tensor(t, mesh, [Shard(0)]) for t in (torch.randn(N, 3, 8, 8), torch.randn(N, K), Y))
        target = MixTarget(Y, Y[PERM], torch.rand(N), PERM)
        for call in (
            lambda: CutMix()(x, Y),
            lambda: FMix()(x, Y),
            lambda: CutMix()(x.to_local(), y),
            lambda: ops.mix_box_(x, BOX, PERM),
            lambda: ops.uncertainty(z),
            lambda: SUMixLoss(gamma=0.1)(z, z, target),
            lambda: SUMixLoss(gamma=0.1)(z.to_local(), z.to_local(), replace(target, y_a=y)),
            lambda: mix_accuracy(z, target),
        ):
            with pytest.raises(TypeError, match=r"must be an ordinary Tensor, got a DTensor: pass its to_local\(\)"):
                call()
    finally:
        dist.destroy_process_group()


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
        SUMixLoss(gamma=0.5, weight=empty)


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
