"""ops.foreground against its float64 twin, cases worked out by hand, and what it refuses."""

import math

import pytest
import torch
from batches import TOLERANCE, assert_near
from torch._subclasses import FakeTensorMode

from sumix import ops, reference
from sumix.ops import Foreground

SHAPES = [  # n, D, (h, w), d, (H, W)
    (1, 1, (3, 2), 1, (3, 2)),
    (3, 17, (1, 3), 3, (17, 3)),
    (2, 3, (3, 3), 33, (7, 17)),
    (5, 34, (7, 7), 17, (14, 14)),
    (2, 5, (2, 3), 6, (17, 17)),
    (3, 4, (1, 1), 5, (3, 1)),
    (0, 4, (2, 2), 3, (4, 4)),
]
LAYOUTS = ["contiguous", "channels_last", "tokens"]


def maps(shape, dtype=torch.float32):
    n, coarse, sides, d, fine_sides = shape
    return (torch.randn(n, coarse, *sides) + 0.5).to(dtype), (torch.randn(n, d, *fine_sides) + 1).to(dtype)


def laid_out(x, layout, name="grid"):
    """The same map elsewhere in memory, and the grid that it then needs."""
    if layout == "tokens":
        return torch.cat([x.flatten(2).transpose(1, 2)[:, :1] + 1e3, x.flatten(2).transpose(1, 2)], dim=1), {
            name: tuple(x.shape[2:])
        }
    return (x.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else x), {}


def compare(features, fine, **how):
    """With the twin in float64; 5e-5: float32 products, of which many are summed."""
    got = ops.foreground(features, fine, **how)
    contrast = reference.min_contrast_of(features.dtype)
    want = reference.foreground(features.double(), fine.double(), min_contrast=contrast, **how)
    wide = torch.float64 in (features.dtype, fine.dtype)
    for value, wanted in zip(got, want, strict=True):
        assert value.dtype == (torch.float64 if wide else torch.float32) and value.is_contiguous()
        assert_near(value, wanted, 1e-11 if wide else 5e-5)
    return got


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_matches_the_float64_twin(rounds, dtype):
    for shape in SHAPES:
        features, fine = maps(shape, dtype)
        for mean in (None, torch.randn(fine.shape[1])):
            got = compare(features, fine, rounds=rounds, mean=mean, gate=(0.1, 0.7))
            assert isinstance(got, Foreground) and (got.map >= 0).all()
            assert ((got.gate >= 0) & (got.gate <= 1)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fine_layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_layouts_are_the_same_map(layout, fine_layout, dtype):
    features, fine = maps((4, 35, (5, 3), 41, (17, 9)), dtype)
    want = ops.foreground(features, fine, rounds=2)
    features, grid = laid_out(features, layout)
    fine, fine_grid = laid_out(fine, fine_layout, "fine_grid")
    got = ops.foreground(features, fine, rounds=2, **grid, **fine_grid)
    for value, wanted in zip(got, want, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5 * wanted.max().item())


def test_slices_and_odd_strides():
    features, fine = maps((4, 8, (3, 5), 7, (6, 10)), torch.float64)
    want = ops.foreground(features, fine)
    for change in (
        lambda x: torch.stack([x, torch.zeros_like(x)], dim=1)[:, 0],
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
    ):
        for value, wanted in zip(ops.foreground(change(features), change(fine)), want, strict=True):
            torch.testing.assert_close(value, wanted)
    expanded, repeated = (
        [x[:1].expand(4, -1, -1, -1) if many else x[:1].repeat(4, 1, 1, 1) for x in (features, fine)]
        for many in (True, False)
    )
    for value, wanted in zip(ops.foreground(*expanded), ops.foreground(*repeated), strict=True):
        assert torch.equal(value, wanted)


def test_signals_are_images_of_one_row():
    features, fine = maps((3, 6, (1, 5), 4, (1, 17)), torch.float64)
    want = compare(features, fine)
    got = compare(features.squeeze(2), fine.squeeze(2))
    tokens = fine.squeeze(2).transpose(1, 2).contiguous()
    for other in (got, ops.foreground(features.squeeze(2), tokens, fine_grid=(17,))):
        torch.testing.assert_close(other.map, want.map.squeeze(1))
        torch.testing.assert_close(other.gate, want.gate)


def test_one_map_may_be_both():
    features, _ = maps((4, 20, (7, 7), 1, (7, 7)), torch.float64)
    want = compare(features, features.clone(), rounds=2)
    tokens, grid = laid_out(features, "tokens")
    for got in (ops.foreground(features, features, rounds=2), ops.foreground(tokens, tokens, rounds=2, **grid)):
        for value, wanted in zip(got, want, strict=True):
            torch.testing.assert_close(value, wanted)


@pytest.mark.parametrize(("left", "right"), [("bfloat16", "float32"), ("float64", "float16"), ("float16", "bfloat16")])
def test_dtypes_may_differ(left, right):
    features, fine = maps((3, 8, (3, 3), 5, (6, 6)))
    compare(features.to(getattr(torch, left)), fine.to(getattr(torch, right)))


def test_two_kinds_of_places_worked_out_by_hand():
    """Image 0: a bright corner before a dark ground; image 1: two coarse places that the finer map sees alike."""
    features = torch.tensor([[[4.0, 0], [0, 0]], [[0, 0], [0, 4.0]]]).unsqueeze(1)
    fine = torch.zeros(2, 2, 2, 2)
    fine[0, :, 0, 0] = torch.tensor([1.0, 3.0])
    fine[1] = 5
    got = ops.foreground(features, fine, mean=torch.tensor([1.0, 0.0]))
    # w is 1 in the corner and 0 elsewhere: a = (1, 3), b = (0, 0), |a - b|^2 = 10; at a: half of that
    torch.testing.assert_close(got.map[0], torch.tensor([[5.0, 0], [0, 0]]))
    assert got.map[1].tolist() == [[0, 0], [0, 0]] and got.gate[1] == 0
    torch.testing.assert_close(got.means, torch.tensor([[0.25, 0.75], [5, 5]]))
    for (low, high), gate in [((0.25, 0.5), 1), ((0.5, 1.5), 0.5), ((1.0, 2.0), 0), ((0, 4), 0.25)]:  # q = 10 / (9 + 1)
        got = ops.foreground(features, fine, mean=torch.tensor([1.0, 0.0]), gate=(low, high))
        torch.testing.assert_close(got.gate, torch.tensor([gate, 0.0]))


def test_the_finer_map_says_where_the_object_ends():
    """An object of 5 x 4 places, whose outline the coarse cells of 4 x 4 do not have."""
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[5:10, 6:10] = True
    ground, thing = torch.randn(2, 40, 1, 1).abs()
    fine = torch.where(inside, thing, ground) + 0.05 * torch.randn(3, 40, 16, 16)
    features = torch.nn.functional.avg_pool2d(inside.float().expand(3, 8, 16, 16), 4).contiguous() + 0.1
    got = ops.foreground(features, fine, mean=fine[0].mean(dim=(1, 2)))
    assert torch.equal(got.map > 0, inside.expand(3, 16, 16)) and (got.gate == 1).all()
    flat = 0.05 * torch.randn(3, 40, 16, 16) + ground
    assert (ops.foreground(features, flat, mean=fine[0].mean(dim=(1, 2))).gate == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rounds", [1, 2])
def test_flat_maps_have_no_object(rounds, layout, dtype):
    n, d = 3, 37
    constant = torch.randn(n, d, 1, 1).expand(n, d, 3, 3)
    rounded = constant * (1 + torch.randn(n, d, 3, 3).sign() * torch.finfo(dtype).eps / 4)
    _, fine = maps((n, 1, (3, 3), 5, (7, 7)), dtype)
    for features in (constant, rounded, torch.zeros(n, d, 3, 3)):
        features, grid = laid_out(features.to(dtype).contiguous(), layout)
        got = ops.foreground(features, fine, rounds=rounds, **grid)
        assert (got.map == 0).all() and (got.gate == 0).all()
        assert_near(got.means, fine.double().mean(dim=(2, 3)), 1e-5)
    features, _ = maps((n, d, (3, 3), 5, (7, 7)), dtype)
    got = ops.foreground(features, fine[:, :, :1, :1].expand(n, 5, 7, 7), rounds=rounds)
    assert (got.map == 0).all() and (got.gate == 0).all()
    got = ops.foreground(features[:1, :, :1, :1], fine[:1], rounds=rounds)  # one place, and one image
    assert (got.map == 0).all() and (got.gate == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("offset", [0, 3e4])
def test_large_and_small_values(offset, scale, layout):
    """The means of maps that lie far from 0 differ by little, which their sums keep."""
    features, fine = maps((4, 33, (7, 7), 17, (14, 14)))
    fine = (fine + offset) * scale
    got = ops.foreground(features * scale, laid_out(fine, layout)[0], fine_grid=laid_out(fine, layout, "g")[1].get("g"))
    want = reference.foreground(features.double() * scale, fine.double())
    tolerance = 1e-4 if offset == 0 else 1e-2
    assert_near(got.map / want[0].max().float(), want[0] / want[0].max(), tolerance)
    assert_near(got.gate, want[1], tolerance)
    assert_near(got.means / scale, want[2] / scale, 1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("which", ["features", "fine"])
@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_what_is_not_finite_stays_in_its_image(value, rounds, which, layout):
    features, fine = maps((3, 6, (3, 3), 5, (6, 6)))
    (features if which == "features" else fine)[1, 2, 1, 1] = value
    features, grid = laid_out(features, layout)
    fine, fine_grid = laid_out(fine, layout, "fine_grid")
    got = ops.foreground(features, fine, rounds=rounds, mean=torch.zeros(5), **grid, **fine_grid)
    assert got.map.isfinite().all(dim=(1, 2)).tolist() == [True, False, True]
    assert got.gate[[0, 2]].isfinite().all() and got.means[[0, 2]].isfinite().all()
    if value != 3e38:
        assert got.map[1].isnan().all() and got.gate[1].isnan()
        assert got.means[1].isfinite().tolist() == [which == "features" or c != 2 for c in range(5)]


def test_a_nan_mean_reaches_every_gate():
    features, fine = maps((2, 6, (3, 3), 5, (6, 6)))
    got = ops.foreground(features, fine, mean=torch.full((5,), math.nan))
    assert got.gate.isnan().all() and got.map.isfinite().all()


def test_threads_change_nothing():
    for layout in ("contiguous", "channels_last"):
        features, fine = (laid_out(x, layout)[0] for x in maps((37, 100, (7, 7), 70, (14, 14))))
        one = ops.foreground(features, fine, rounds=2)
        try:
            torch.set_num_threads(2)
            two = ops.foreground(features, fine, rounds=2)
        finally:
            torch.set_num_threads(1)
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("fine_tokens", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_op_and_its_fallback(given, fine_tokens, tokens):
    features, fine = maps((3, 6, (2, 3), 5, (4, 5)))
    features, fine = features.flatten(2), fine.flatten(2)
    features = features.transpose(1, 2).contiguous() if tokens else features
    fine = fine.transpose(1, 2).contiguous() if fine_tokens else fine
    mean = torch.randn(5) if given else torch.empty(0)
    call = (features, fine, mean, 2, 3, 4, 5, tokens, fine_tokens, 2, 0.25, 0.5, 1e-6)
    torch.library.opcheck(torch.ops.sumix.foreground.default, call)
    for got, want in zip(torch.ops.sumix.foreground(*call), reference.foreground_explicit(*call), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    shapes = torch.ops.sumix.foreground(*(t.to("meta") if isinstance(t, torch.Tensor) else t for t in call))
    assert [tuple(t.shape) for t in shapes] == [(3, 4, 5), (3,), (3, 5)]


def test_compiled_for_every_batch_size():
    def found(features, fine, mean):
        whole = ops.foreground(features, fine, mean=mean)
        tokens = ops.foreground(features.flatten(2).transpose(1, 2), fine, grid=(3, 3), rounds=2)
        return (*whole, *tokens, *ops.foreground(fine, fine))

    torch._dynamo.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(found, backend=count, fullgraph=True, dynamic=True)
    for n in (5, 7, 9):
        arguments = (*maps((n, 6, (3, 3), 4, (6, 6))), torch.rand(4))
        for got, want in zip(compiled(*arguments), found(*arguments), strict=True):
            torch.testing.assert_close(got, want)
    assert len(graphs) == 1


def test_fake_tensors_have_the_shapes():
    with FakeTensorMode():
        for dtype, real in [(torch.float16, torch.float32), (torch.float64, torch.float64)]:
            features, fine = maps((3, 6, (3, 3), 5, (6, 7)), dtype)
            found = ops.foreground(features, fine)
            assert [tuple(x.shape) for x in found] == [(3, 6, 7), (3,), (3, 5)]
            assert {x.dtype for x in found} == {real}


def test_there_is_no_gradient():
    features, fine = (x.requires_grad_() for x in maps((2, 3, (2, 2), 4, (3, 3))))
    assert not any(x.requires_grad for x in ops.foreground(features, fine))
    call = (features.flatten(2), fine.flatten(2), torch.empty(0), 2, 2, 3, 3, False, False, 1, 0.25, 0.5, 0.0)
    with pytest.raises(RuntimeError, match="no gradient"):
        torch.ops.sumix.foreground(*call)[0].sum().backward()


GOOD = {"features": torch.rand(3, 6, 3, 3), "fine": torch.rand(3, 5, 6, 6), "mean": torch.zeros(5)}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("features", torch.rand(3, 6), ValueError),
        ("features", torch.rand(3, 6, 2, 3, 3), ValueError),
        ("features", torch.rand(3, 6, 0, 3), ValueError),
        ("features", torch.ones(3, 6, 3, 3, dtype=torch.long), TypeError),
        ("features", None, TypeError),
        ("fine", torch.rand(2, 5, 6, 6), ValueError),
        ("fine", torch.rand(3, 5, 2, 6), ValueError),
        ("fine", torch.rand(3, 5, 6, 2), ValueError),
        ("fine", torch.rand(3, 5, 36), ValueError),
        ("fine", torch.rand(3, 5, 2, 6, 6), ValueError),
        ("fine", torch.rand(3, 5, 6, 6, dtype=torch.complex64), TypeError),
        ("fine", torch.rand(3, 5, 6, 6, device="meta"), ValueError),
        ("fine", [1.0], TypeError),
        ("mean", torch.zeros(6), ValueError),
        ("mean", torch.zeros(1, 5), ValueError),
        ("mean", torch.zeros(5, dtype=torch.long), TypeError),
        ("mean", torch.zeros(5, device="meta"), ValueError),
        ("mean", 0.0, TypeError),
        ("rounds", 0, ValueError),
        ("rounds", -1, ValueError),
        ("rounds", 101, ValueError),
        ("rounds", 1.0, TypeError),
        ("rounds", True, TypeError),
        ("gate", (0.5, 0.5), ValueError),
        ("gate", (0.5, 0.25), ValueError),
        ("gate", (-0.1, 0.5), ValueError),
        ("gate", (math.nan, 0.5), ValueError),
        ("gate", (0.0, math.inf), ValueError),
        ("gate", 0.5, TypeError),
        ("gate", (0.1, 0.2, 0.3), TypeError),
        ("gate", ("0", "1"), TypeError),
        ("grid", (3, 3), ValueError),
        ("grid", 3, ValueError),
        ("fine_grid", (7, 7), ValueError),
        ("fine_grid", (6.0, 6), TypeError),
    ],
)
def test_bad_input_is_named(name, value, error):
    ops.foreground(**GOOD)
    with pytest.raises(error, match=name):
        ops.foreground(**{**GOOD, name: value})


def test_the_op_checks_for_itself():
    absent, features, fine = torch.empty(0), torch.rand(3, 6, 4), torch.rand(3, 5, 9)
    good = [features, fine, absent, 2, 2, 3, 3, False, False, 1, 0.25, 0.5, 0.0]
    torch.ops.sumix.foreground(*good)
    for at, value, message in [
        (0, features[0], "features"),
        (0, features.long(), "features"),
        (0, features.double(), "fine must have the dtype of features"),
        (0, torch.rand(3, 4, 6).transpose(1, 2), "features must be contiguous"),
        (0, torch.rand(2, 6, 4), "as many samples"),
        (1, torch.rand(3, 9, 5).transpose(1, 2), "fine must be contiguous"),
        (1, torch.rand(3, 5, 8), "fine must have 9 places"),
        (1, torch.rand(3, 0, 9), "fine must have channels"),
        (2, torch.zeros(4), "mean"),
        (2, torch.zeros(5, dtype=torch.float64), "mean"),
        (3, 0, "h must be"),
        (3, 3, "features must have 6 places"),
        (3, 4, "must be at least h = 4"),
        (5, 2**31, "fine_h must be"),
        (9, 0, "rounds must be 1 to 100"),
        (9, 2**62, "rounds must be 1 to 100"),
        (10, 0.5, "low must be below high"),
        (10, math.nan, "low must be below high"),
        (11, math.inf, "low must be below high"),
    ]:
        bad = list(good)
        bad[at] = value
        with pytest.raises(RuntimeError, match=message):
            torch.ops.sumix.foreground(*bad)
