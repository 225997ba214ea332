"""SUMixHead and SUMixLoss as they are used: in training, under autocast, compiled, copied, and in two processes."""

import copy
import io
import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from sumix import MixTarget, SUMixHead, SUMixLoss, SUMixOutput, SUMixParts, SUMixWarning, ops, reference, warn

N, D, K = 8, 6, 5


def small_net(normalized=True, dtype=torch.float32):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, D), nn.Tanh())
    return nn.Sequential(body, SUMixHead(D, K, normalized=normalized)).to(dtype)


def small_target(n=N, lam=None):
    y, perm = torch.randint(K, (n,)), torch.randperm(n)
    return MixTarget(y, y[perm], torch.rand(n) if lam is None else lam, perm)


def test_head_in_training_and_evaluation():
    head = SUMixHead(D, K)
    features = torch.randn(N, D, 3, 2, requires_grad=True)
    output = head(features)
    assert isinstance(output, SUMixOutput)
    assert output.logits.shape == output.uncertainty.shape == (N, K)
    torch.testing.assert_close(output.uncertainty.norm(dim=1), torch.ones(N))
    assert output.features.shape == features.shape and not output.features.requires_grad
    pooled = head(features.mean(dim=(2, 3)))
    torch.testing.assert_close(pooled.logits, output.logits)
    assert pooled.features is None
    torch.testing.assert_close(head.eval()(features), output.logits)
    plain = SUMixHead(D, K, normalized=False, bias=False)
    assert plain(features).uncertainty is None
    assert [name for name, _ in plain.named_parameters()] == ["classifier.weight"]


def test_modules_are_copied_pickled_and_saved():
    head, criterion = SUMixHead(D, K), SUMixLoss(0.7, weight=torch.rand(K), return_parts=True)
    x, target = torch.randn(N, D), small_target()
    want = criterion(head(x), head(x), target)
    for copied in (copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(copied(criterion)(copied(head)(x), head(x), target), want)
    buffer = io.BytesIO()
    torch.save({"head": head.state_dict(), "criterion": criterion.state_dict()}, buffer)
    buffer.seek(0)
    state = torch.load(buffer)
    fresh, fresh_criterion = SUMixHead(D, K), SUMixLoss(0.7, weight=torch.zeros(K), return_parts=True)
    fresh.load_state_dict(state["head"])
    fresh_criterion.load_state_dict(state["criterion"])
    torch.testing.assert_close(fresh_criterion(fresh(x), fresh(x), target), want)
    assert "kappa=0.3" in repr(criterion) and "num_classes=5" in repr(head)


def test_criterion_is_the_op():
    z, r, v, u = (torch.randn(N, K) for _ in range(4))
    v, u, target = ops.uncertainty(v), ops.uncertainty(u), small_target()
    labels = (target.y_a, target.y_b, target.perm, target.lam)
    want, want_parts = ops.sumix_loss(z, r, v, u, *labels, gamma=0.7, kappa=0.5)
    criterion = SUMixLoss(0.7, kappa=0.5, return_parts=True)
    loss, parts = criterion(SUMixOutput(z, v), SUMixOutput(r, u), target)
    assert isinstance(parts, SUMixParts)
    torch.testing.assert_close((loss, parts), (want, want_parts))
    plain, _ = ops.sumix_loss(z, r, None, None, *labels, gamma=0.1, kappa=0.5)
    criterion.gamma = 0.1
    for mixed, raw in [(z, r), (SUMixOutput(z), SUMixOutput(r))]:
        torch.testing.assert_close(criterion(mixed, raw, target)[0], plain)
    criterion.gamma, criterion.ratio = 0.0, "area"  # attributes may change, in a schedule say, and are checked
    area, _ = ops.sumix_loss(z, r, v, u, *labels, gamma=0.0, ratio="area")
    torch.testing.assert_close(criterion(SUMixOutput(z, v), SUMixOutput(r, u), target)[0], area)
    criterion.gamma = -1
    with pytest.raises(ValueError, match="gamma"):
        criterion(z, r, target)


def test_fifty_steps_as_the_authors_loss():
    """Training a small net in float64 with ratio="published", weighting="batch" follows the authors' loss to 1e-9."""

    def train(loss_of):
        net = small_net(dtype=torch.float64)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-4)
        generator = torch.Generator().manual_seed(1)
        curve = []
        for _ in range(50):
            x = torch.randn(N, 4, dtype=torch.float64, generator=generator)
            y = torch.randint(K, (N,), generator=generator)
            perm = torch.randperm(N, generator=generator)
            lam = torch.rand((), generator=generator).item()
            mixed, raw = net(lam * x + (1 - lam) * x[perm]), net(x)
            loss = loss_of(mixed, raw, y, perm, lam)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        return curve

    criterion = SUMixLoss(0.5, ratio="published", weighting="batch")

    def ours(mixed, raw, y, perm, lam):
        return criterion(mixed, raw, MixTarget(y, y[perm], torch.full((N,), lam, dtype=torch.float64), perm))

    def theirs(mixed, raw, y, perm, lam):
        rows = (mixed.logits, raw.logits, mixed.uncertainty, raw.uncertainty)
        return reference.published_loss(*rows, y, y[perm], perm, lam, gamma=0.5)

    curve, want = train(ours), train(theirs)
    assert max(abs(a - b) for a, b in zip(curve, want, strict=True)) < 1e-9
    assert len(set(curve)) == 50 and all(math.isfinite(value) for value in curve)


@pytest.mark.parametrize("normalized", [True, False])
def test_autocast_computes_in_float32(normalized):
    net, target, x = small_net(normalized), small_target(), torch.randn(N, 4)
    criterion = SUMixLoss(gamma=0.5 if normalized else 0.1, return_parts=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, raw = net(x), net(x.flip(0))
        loss, parts = criterion(mixed, raw, target)
    assert mixed.logits.dtype == torch.bfloat16
    assert loss.dtype == parts.lam.dtype == torch.float32
    wide = [
        SUMixOutput(o.logits.float(), o.uncertainty if o.uncertainty is None else o.uncertainty.float())
        for o in (mixed, raw)
    ]
    torch.testing.assert_close(criterion(*wide, target)[0], loss)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


def test_scaled_gradients_of_half_precision_do_not_flush_to_zero():
    """A loss scale multiplies the gradient before it is rounded to half, where most of it would be 0 by itself."""
    z = torch.zeros(64, 1000, dtype=torch.float16, requires_grad=True)
    y, perm = torch.arange(64), torch.arange(64).roll(1)
    loss = SUMixLoss(gamma=0.0)(z, z.detach(), MixTarget(y, y[perm], torch.full((64,), 0.5), perm))
    scale = 2.0**16
    (grad,) = torch.autograd.grad(loss * scale, z)
    want = scale / 64 / 1000  # softmax / N, wherever no label is
    torch.testing.assert_close(grad[0, 500:].double(), torch.full((500,), want, dtype=torch.float64), rtol=1e-3, atol=0)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_training_step_compiles_in_one_graph(backend):
    net, criterion, target, x = small_net(), SUMixLoss(gamma=0.5), small_target(), torch.randn(N, 4)

    def step(x, target):
        return criterion(net(x.flip(0)), net(x), target)

    want = torch.autograd.grad(step(x, target), list(net.parameters()))
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x, target), step(x, target))
    torch.testing.assert_close(torch.autograd.grad(compiled(x, target), list(net.parameters())), want)


def test_bad_input_is_named():
    criterion, z, target = SUMixLoss(gamma=0.1), torch.zeros(N, K), small_target()
    for arguments, name, error in [
        ((None, z, target), "mixed", TypeError),
        ((z, (z, z), target), "raw", TypeError),
        ((SUMixOutput(z, z), z, target), "uncertainty", TypeError),
        ((z, z, target.y_a), "target", TypeError),
        ((z, z, None), "target", TypeError),
        ((z, z[:3], target), "raw_logits", ValueError),
        ((z, z, replace(target, lam=target.lam + 1)), "lam", ValueError),
        ((z, z, replace(target, y_a=target.y_a + K)), "y_a", ValueError),
    ]:
        with pytest.raises(error, match=name):
            criterion(*arguments)
    for options, name, error in [
        ({"gamma": -1.0}, "gamma", ValueError),
        ({"gamma": True}, "gamma", TypeError),
        ({"ratio": "visible"}, "ratio", ValueError),
        ({"weighting": None}, "weighting", TypeError),
        ({"kappa": math.nan}, "kappa", ValueError),
        ({"distance_scale": "N"}, "distance_scale", TypeError),
        ({"reduction": "batchmean"}, "reduction", ValueError),
        ({"weight": [1.0]}, "weight", TypeError),
        ({"weight": torch.ones(2, 2)}, "weight", ValueError),
        ({"label_smoothing": -0.1}, "label_smoothing", ValueError),
        ({"ignore_index": None}, "ignore_index", TypeError),
        ({"return_parts": 1}, "return_parts", TypeError),
    ]:
        with pytest.raises(error, match=name):
            SUMixLoss(**options)
    with pytest.raises(ValueError, match="weight"):
        SUMixLoss(gamma=0.1, weight=torch.ones(K + 1))(z, z, target)
    for arguments, name, error in [
        ((0, K), "in_features", ValueError),
        ((D, 2.0), "num_classes", TypeError),
        ((True, K), "in_features", TypeError),
    ]:
        with pytest.raises(error, match=name):
            SUMixHead(*arguments)
    with pytest.raises(TypeError, match="normalized"):
        SUMixHead(D, K, normalized=None)
    for features, error in [(torch.zeros(N, D + 1), ValueError), (torch.zeros(N, D, 2), ValueError), (None, TypeError)]:
        with pytest.raises(error, match="features"):
            SUMixHead(D, K)(features)


COLLAPSES = [
    {},
    {"ratio": "area"},
    {"ratio": "object"},
    {"gamma": 0.11},
    {"kappa": 1.0, "gamma": 1.0},
    {"ratio": "area", "kappa": 1.0},
    {"ratio": "published", "weighting": "batch", "distance_scale": 1.0},
]
TRAINS = [
    {"gamma": SUMixLoss().gamma},
    {"gamma": SUMixLoss().gamma, "ratio": "area"},
    {"gamma": 0.1},
    {"gamma": 0.1, "ratio": "area"},
    {"kappa": 1.0},
    {"ratio": "published", "weighting": "batch"},
    {"ratio": "published", "gamma": 1.0, "distance_scale": 64.0},
]


@pytest.mark.parametrize("options", COLLAPSES)
def test_the_plain_form_warns_once_where_it_may_collapse(monkeypatch, options):
    monkeypatch.setattr(warn, "_said", set())
    z, target, objects = torch.randn(N, K), small_target(), torch.rand(N, 3, 3)
    criterion, masks = (
        SUMixLoss(**{"gamma": 0.5, **options}),
        {"objects": objects} if options.get("ratio") == "object" else {},
    )
    with pytest.warns(SUMixWarning, match=r"sumix: SUMixLoss\(gamma=.*can collapse.*gamma=0.1") as told:
        for _ in range(3):
            criterion(z, z, target, **masks)
        SUMixLoss(**{"gamma": 0.5, **options})(SUMixOutput(z), SUMixOutput(z), target, **masks)
    assert len(told) == 1 and told[0].filename == __file__  # it points here
    monkeypatch.setattr(warn, "_said", set())
    criterion(SUMixOutput(z, z), SUMixOutput(z, z), target, **masks)  # with uncertainties: an error if it warned
    torch._dynamo.reset()
    torch.compile(criterion, backend="eager", fullgraph=True)(z, z, target, **masks)


@pytest.mark.parametrize("options", TRAINS)
def test_the_plain_form_is_silent_where_it_trains(monkeypatch, options):
    monkeypatch.setattr(warn, "_said", set())
    z = torch.randn(N, K)
    assert SUMixLoss(**{"gamma": 0.5, **options})(z, z, small_target()).isfinite()  # an error if it warned


def test_a_schedule_is_watched(monkeypatch):
    monkeypatch.setattr(warn, "_said", set())
    z, target, criterion = torch.randn(N, K), small_target(), SUMixLoss(gamma=0.0)
    criterion(z, z, target)
    criterion.gamma = 0.3
    with pytest.raises(SUMixWarning):  # as errors, warnings come every time
        criterion(z, z, target)
    with pytest.raises(SUMixWarning):
        criterion(z, z, target)


def test_unknown_options_are_refused():
    criterion = SUMixLoss(gamma=0.5)
    for name in ("gama", "ratios", "labels_smoothing"):
        with pytest.raises(AttributeError, match=f"no option '{name}'; it has gamma, ratio,.*return_parts, cross_rank"):
            setattr(criterion, name, 0.1)
    criterion.gamma, criterion.return_parts, criterion.training, criterion._mine = 1, True, False, 3
    criterion.weight = torch.ones(K)
    criterion.forward = criterion.forward  # as accelerate wraps it
    assert type(criterion.gamma) is float and "gamma=1.0" in repr(criterion)

    class Mine(SUMixLoss):
        def __init__(self):
            super().__init__()
            self.temperature = 2.0

    assert Mine().temperature == 2


@pytest.mark.parametrize(("option", "value"), [("return_parts", 1), ("cross_rank", None), ("cross_rank", 0)])
def test_what_is_no_number_is_checked_again_too(option, value):
    z, target = (
        torch.randn(2, K),
        MixTarget(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.rand(2), torch.tensor([1, 0])),
    )
    with pytest.raises(TypeError, match=f"{option} must be a bool"):
        SUMixLoss(**{option: value})
    criterion = SUMixLoss(gamma=0)
    criterion(z, z, target)
    setattr(criterion, option, value)
    with pytest.raises(TypeError, match=f"{option} must be a bool"):
        criterion(z, z, target)
    setattr(criterion, option, False)
    assert criterion(z, z, target).isfinite()
