"""Options that change from step to step under torch.compile: one graph for a value, one for all others."""

import pytest
import torch
from mixers import MIXERS
from torch.utils import _pytree

from sumix import CutMix, FMix, MixTarget, MixUp, ResizeMix, SUMixLoss, SUMixOutput, ops

N, K = 4, 5
Y, PERM = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0])
VALUES = [0.5, 1.0, 0.0, 0.25, *(step / 41 for step in range(1, 17))]


def counted(function, backend="aot_eager"):
    """The function, compiled, and the list of the graphs that this takes."""
    torch._dynamo.reset()
    graphs = []
    compiler = torch._dynamo.lookup_backend(backend)

    def count(graph, inputs):
        graphs.append(graph)
        return compiler(graph, inputs)

    return torch.compile(function, backend=count, fullgraph=True), graphs


def rows():
    return [torch.randn(N, K, requires_grad=True) for _ in range(4)]


def small_target():
    return MixTarget(Y, Y[PERM], torch.rand(N), PERM)


@pytest.mark.parametrize("name", ["gamma", "kappa", "distance_scale", "label_smoothing"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_schedule_of_the_criterion_takes_two_graphs(name, backend):
    (z, r, v, u), target = rows(), small_target()
    criterion = SUMixLoss(gamma=0.5, ratio="published" if name == "distance_scale" else "semantic", distance_scale=3.0)

    def loss(z, r, v, u):
        return criterion(SUMixOutput(z, v), SUMixOutput(r, u), target)

    step, graphs = counted(loss, backend)
    for value in VALUES:
        setattr(criterion, name, value)
        got, want = step(z, r, v, u), loss(z, r, v, u)
        torch.testing.assert_close(got, want)
        gradients = torch.autograd.grad(got, (z, v, u), retain_graph=True)
        torch.testing.assert_close(gradients, torch.autograd.grad(want, (z, v, u)))
        torch.testing.assert_close(torch.autograd.grad(2 * got, (z, v, u)), tuple(2 * each for each in gradients))
    assert len(graphs) <= 2


@pytest.mark.parametrize("rule", ["relative", "uncertain"])
@pytest.mark.parametrize("ratio", ["foreground", "feature"])
def test_a_schedule_from_the_area_to_the_evidence_takes_two_graphs(ratio, rule):
    (z, r, v, u), maps, fine = rows(), torch.rand(N, 3, 4, 4), torch.rand(N, 2, 8, 8)
    target = MixTarget(Y, Y[PERM], torch.full((N,), 0.75), PERM, torch.tensor([[0, 0, 4, 4]] * N), image_size=(8, 8))
    criterion = SUMixLoss(gamma=0.5, ratio=ratio, rule=rule)
    step, graphs = counted(lambda: criterion(SUMixOutput(z, v), SUMixOutput(r, u), target, features=maps, fine=fine))
    for value in (1, 0, *VALUES):
        criterion.area_weight = value
        torch.testing.assert_close(
            step(), criterion(SUMixOutput(z, v), SUMixOutput(r, u), target, features=maps, fine=fine)
        )
    assert len(graphs) <= 2


def test_all_options_at_once_take_two_graphs():
    (z, r, v, u), target, criterion = rows(), small_target(), SUMixLoss(gamma=0.5)
    step, graphs = counted(lambda: criterion(SUMixOutput(z, v), SUMixOutput(r, u), target))
    for value in (1, 2, *VALUES):  # ints of a schedule are numbers, too
        criterion.gamma, criterion.kappa, criterion.label_smoothing = value, 2 * value, value / 2
        torch.testing.assert_close(step(), criterion(SUMixOutput(z, v), SUMixOutput(r, u), target))
    assert len(graphs) <= 2


def test_a_schedule_in_the_plain_form_takes_two_graphs():
    (z, r, *_), target, criterion = rows(), small_target(), SUMixLoss(gamma=0.5, reduction="none", weighting="batch")
    step, graphs = counted(lambda: criterion(z, r, target))
    for value in (0.1, 0.02, 0.5, 0.0, *VALUES):
        criterion.gamma = value
        got = step()
        torch.testing.assert_close(got, criterion(*(SUMixOutput(each, each) for each in (z, r)), target))
    assert len(graphs) <= 2


@pytest.mark.parametrize("make", [CutMix, MixUp, ResizeMix, FMix, MIXERS["RandomMix switch"], MIXERS["SmoothMix"]])
@pytest.mark.parametrize("name", ["p", "alpha", "decay", "max_soft", "label_smoothing"])
def test_a_schedule_of_a_mixer_takes_two_graphs(make, name):
    mix = make(num_classes=K) if name == "label_smoothing" else make()
    if not hasattr(mix, name):
        assert name != "p"
        return
    x = torch.randn(N, 3, 6, 6)
    step, graphs = counted(lambda seed: mix(x, Y, seed=seed))
    for at, value in enumerate(VALUES):
        value = {"alpha": value + 0.1, "decay": 4 * value, "max_soft": value / 4 + 0.1}.get(name, value)
        setattr(mix, name, value)
        seed = torch.tensor(at)
        for got, want in zip(*map(_pytree.tree_leaves, (step(seed), mix(x, Y, seed=seed))), strict=True):
            torch.testing.assert_close(got, want)
    assert len(graphs) <= 2


@pytest.mark.parametrize(
    "call",
    [
        lambda value, half, more: ops.sample_lam(9, more, p=value, seed=1),
        lambda value, half, more: ops.sample_box(9, (8, 9), kind="minmax", low=half, high=value, p=value, seed=1),
        lambda value, half, more: ops.sample_top_k(torch.full((9,), 0.5), 64, max_soft=half, seed=1),
        lambda value, half, more: ops.evidence_mask(torch.linspace(0, 1, 18).view(2, 3, 3), (7, 8), threshold=value),
        lambda value, half, more: ops.semantic_distance(torch.ones(N, K), torch.eye(N, K), Y, scale=more),
        lambda value, half, more: ops.masked_similarity(
            torch.linspace(0, 1, N * 12).view(N, 3, 2, 2), PERM, torch.full((N,), 0.5), min_contrast=value
        ),
        lambda value, half, more: ops.masked_similarity(
            *(torch.linspace(0, 1, N * 12).view(N, 3, 2, 2), PERM, torch.full((N,), 0.5)),
            box=torch.tensor([[0, 0, 2, 3]] * N),
            size=(4, 4),
            rule="uncertain",
            area_weight=value,
        ),
        lambda value, half, more: ops.foreground(
            torch.linspace(0, 1, N * 12).view(N, 3, 2, 2),
            torch.linspace(1, 0, N * 12).view(N, 3, 2, 2),
            gate=(half, more),
        ),
        lambda value, half, more: small_target().soft(K, value),
        lambda value, half, more: MixTarget(torch.eye(N, K), torch.ones(N, K), torch.rand(N), PERM).soft(K, value),
        lambda value, half, more: ops.fmix_mask(torch.full((N,), 0.5), (6, 7), decay=value, max_soft=half, seed=1),
        lambda value, half, more: ops.sumix_loss(
            *(torch.ones(N, K), torch.eye(N, K), torch.eye(N, K), torch.ones(N, K)),
            *(Y, Y[PERM], PERM, torch.full((N,), 0.5)),
            gamma=value,
            kappa=value,
            label_smoothing=value,
        ),
    ],
)
def test_every_op_takes_changing_numbers(call):
    step, graphs = counted(call)
    for value in VALUES:
        torch.manual_seed(0)
        want = call(value, value / 2, value + 0.1)
        torch.manual_seed(0)
        torch.testing.assert_close(step(value, value / 2, value + 0.1), want)
    assert len(graphs) <= 2


@pytest.mark.parametrize("name", ["FMix", "FMix soft", "FMix published", "GridMix", "CutMix"])
def test_one_graph_serves_every_image_size(name):
    mix = MIXERS[name]()
    torch._dynamo.reset()
    counter = torch._dynamo.lookup_backend("aot_eager")
    graphs = []
    step = torch.compile(
        mix, backend=lambda graph, inputs: graphs.append(0) or counter(graph, inputs), fullgraph=True, dynamic=True
    )
    for at, (height, width) in enumerate([(8, 12), (9, 13), (14, 10), (16, 16), (5, 31)]):
        x, seed = torch.randn(N, 3, height, width), torch.tensor(at)
        for got, want in zip(*map(_pytree.tree_leaves, (step(x, Y, seed=seed), mix(x, Y, seed=seed))), strict=True):
            torch.testing.assert_close(got, want)
    assert len(graphs) == 1


def test_the_numbers_of_an_op_are_its_last_tensor():
    numbers, seed = torch.tensor([0.7, 0.9], dtype=torch.float64), torch.tensor(3)
    got = torch.ops.sumix.sample_lam_numbers(seed, 9, numbers)
    assert torch.equal(got, ops.sample_lam(9, 0.7, p=0.9, seed=seed))
    torch.library.opcheck(torch.ops.sumix.sample_lam_numbers.default, (seed, 9, numbers))
    z, absent, target = torch.randn(N, K, requires_grad=True), torch.empty(0), small_target()
    call = (z, z, absent, absent, Y, Y[PERM], PERM, target.lam, absent, absent, 2, 0, 1, -100, True)
    numbers = torch.tensor([0.1, 0.6, 0.2], dtype=torch.float64)
    loss = torch.ops.sumix.sumix_loss_numbers(*call, numbers)[0]
    want, _ = ops.sumix_loss(
        *(z, z, None, None, Y, Y[PERM], PERM, target.lam),
        gamma=0.1,
        kappa=0.6 / K**0.5,
        label_smoothing=0.2,
    )
    torch.testing.assert_close(loss, want)
    for scale in (1, 2):
        (got,) = torch.autograd.grad(scale * loss, z, retain_graph=True)
        torch.testing.assert_close(got, scale * torch.autograd.grad(want, z, retain_graph=True)[0])
    torch.library.opcheck(
        torch.ops.sumix.sumix_loss_numbers.default,
        (*call, numbers),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
