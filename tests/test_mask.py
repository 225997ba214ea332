import math

import pytest
import torch

from sumix import ops, reference

ABSENT = torch.empty(0, dtype=torch.int64)


def drawn(n, pixels, generator=None):
    """k and soft, ends included."""
    k = torch.randint(pixels + 1, (n,), generator=generator)
    k[: min(n, 2)] = torch.tensor([0, pixels])[: min(n, 2)]
    room = torch.minimum(k, pixels - k)
    return k, (torch.rand(n, generator=generator) * (room + 1)).long().clamp(max=room)


def grey_images(kind, n, shape):
    grey = torch.randn(n, *shape)
    special = torch.tensor([math.nan, -math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-39, 3.4e38, -3.4e38])
    return {
        "normal": lambda: grey,
        "wide": lambda: grey * 10 ** (grey.flip(0) * 12),
        "ties": lambda: grey.round(),
        "equal": lambda: torch.full_like(grey, -2.5),
        "special": lambda: special[torch.randint(len(special), grey.shape)],
    }[kind]()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", ["normal", "wide", "ties", "equal", "special"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (17, 1), (5, 7), (17, 257), (32, 32), (2, 3, 4), (0,)])
@pytest.mark.parametrize("n", [0, 1, 2, 17])
def test_the_k_largest_of_each_image(n, shape, kind, soft):
    grey = grey_images(kind, n, shape)
    k, s = drawn(n, math.prod(shape))
    mask = ops.mask_top_k(grey, k, s if soft else None)
    assert mask.dtype == torch.float32 and mask.shape == grey.shape and mask.is_contiguous()
    assert torch.equal(mask, reference.mask_top_k(grey, k, s if soft else None))
    if n and mask.numel():
        mean = mask.flatten(1).double().mean(dim=1) if shape else mask.double()
        torch.testing.assert_close(mean, k.double() / math.prod(shape), rtol=1e-6, atol=1e-9)


def test_the_order_is_by_value_then_index():
    grey = torch.tensor([[0.0, -0.0, 1.0, math.nan, math.inf, -math.nan, 0.0]])
    order = [3, 5, 4, 2, 0, 1, 6]  # NaN above infinity, whatever its sign; -0 equals 0; the lower index first
    for k in range(len(order) + 1):
        kept = ops.mask_top_k(grey, torch.tensor([k]))[0].nonzero().flatten().tolist()
        assert kept == sorted(order[:k])


def test_the_soft_edge_is_a_ramp_with_both_ends():
    grey = torch.arange(10.0).flip(0).unsqueeze(0)
    mask = ops.mask_top_k(grey, torch.tensor([5]), torch.tensor([3]))
    torch.testing.assert_close(mask[0], torch.tensor([1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0]))
    mask = ops.mask_top_k(grey, torch.tensor([5]), torch.tensor([1]))  # a ramp of two ranks is the hard edge
    assert torch.equal(mask, ops.mask_top_k(grey, torch.tensor([5])))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_compared_in_float32(dtype):
    grey, (k, soft) = torch.randn(5, 9, 9).to(dtype), drawn(5, 81)
    want = reference.mask_top_k(grey.float(), k, soft)
    assert torch.equal(ops.mask_top_k(grey, k.to(torch.int32), soft.to(torch.int16)), want)


def test_strided_and_differentiable_inputs():
    base, (k, soft) = torch.randn(9, 5, 8, requires_grad=True), drawn(4, 45)
    for grey in (base.permute(2, 0, 1)[::2], base[:, :, 0].expand(4, 9, 5), base.permute(2, 1, 0)[::2]):
        mask = ops.mask_top_k(grey, k.repeat_interleave(2)[::2], soft)
        assert not mask.requires_grad
        assert torch.equal(mask, reference.mask_top_k(grey, k, soft))
    with pytest.raises(RuntimeError, match="no gradient"):
        torch.ops.sumix.mask_top_k(base, torch.zeros(9, dtype=torch.int64), ABSENT).sum().backward()


def test_the_number_of_threads_changes_nothing():
    grey, (k, soft) = torch.randn(40, 64, 64), drawn(40, 64 * 64)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(ops.mask_top_k(grey, k, soft))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_opcheck_compile_meta():
    grey, (k, soft) = torch.randn(3, 4, 5), drawn(3, 20)
    torch.library.opcheck(torch.ops.sumix.mask_top_k.default, (grey, k, soft))
    torch.library.opcheck(torch.ops.sumix.mask_top_k.default, (grey, k, ABSENT))
    torch.library.opcheck(torch.ops.sumix.sample_top_k.default, (torch.tensor(3), torch.rand(3), 20, 0.1))
    compiled = torch.compile(ops.mask_top_k, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(grey, k, soft), reference.mask_top_k(grey, k, soft))
    assert torch.equal(compiled(grey.double(), k, None), reference.mask_top_k(grey, k))
    assert ops.mask_top_k(grey.to("meta"), k.to("meta")).shape == grey.shape
    sample = torch.compile(ops.sample_top_k, fullgraph=True, backend="aot_eager")
    lam, seed = torch.rand(5), torch.tensor(7)
    eager = ops.sample_top_k(lam, 99, max_soft=0.2, seed=seed)
    for got, want in zip(sample(lam, 99, max_soft=0.2, seed=seed), eager, strict=True):
        assert torch.equal(got, want)


def test_devices_without_kernels_use_the_twins():
    grey, (k, soft) = torch.randn(3, 4, 5), drawn(3, 20)
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
    for s in (soft, ABSENT):
        want = torch.ops.sumix.mask_top_k.default(grey, k, s)
        assert torch.equal(torch.ops.sumix.mask_top_k.default.redispatch(keys, grey, k, s), want)
    sample, arguments = torch.ops.sumix.sample_top_k.default, (torch.tensor(3), torch.rand(50), 777, 0.1)
    for got, want in zip(sample.redispatch(keys, *arguments), sample(*arguments), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("max_soft", [0, 0.1, 0.5])
@pytest.mark.parametrize("size", [1, 2, 7, 1024, 224 * 224])
@pytest.mark.parametrize("seed", [0, -5, 2**62])
def test_sample_top_k_matches_its_twin(seed, size, max_soft):
    lam = torch.cat([torch.rand(300), torch.tensor([0.0, 1.0, 0.5, 1e-8])])
    k, soft, exact = got = ops.sample_top_k(lam, size, max_soft=max_soft, seed=seed)
    for value, want in zip(got, reference.sample_top_k(torch.tensor(seed), lam, size, max_soft), strict=True):
        assert value.dtype == want.dtype and torch.equal(value, want)
    assert ((k - lam.double() * size).abs() < 1).all()
    assert (soft <= torch.minimum(k, size - k)).all() and (soft >= 0).all() and (soft <= max_soft * size).all()
    assert torch.equal(exact, (k.double() / size).float())
    if max_soft == 0.5:  # one rank less at most, where k was rounded towards the nearer end
        assert (soft >= torch.minimum(k, size - k) - 1).all()


def test_sample_top_k_rounds_either_way_equally_often():
    k, _, _ = ops.sample_top_k(torch.full((10000,), 0.3), 11, seed=1)  # 3.3, so never by its fraction
    assert set(k.tolist()) == {3, 4}
    assert abs((k == 4).sum().item() - 5000) < 4 * 50
    other, _, _ = ops.sample_top_k(torch.full((10000,), 0.3), 11, seed=2)
    assert abs((k == other).sum().item() - 5000) < 4 * 50


def test_generators_and_seeds():
    lam = torch.rand(50)
    one, two = (ops.sample_top_k(lam, 99, generator=torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(one, two)
    torch.manual_seed(4)
    one = ops.sample_top_k(lam, 99)[0]
    torch.manual_seed(4)
    assert torch.equal(one, ops.sample_top_k(lam, 99)[0])
    assert torch.equal(ops.sample_top_k(lam[:7], 99, seed=9)[0], ops.sample_top_k(lam, 99, seed=9)[0][:7])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("grey", torch.zeros(2, 3, dtype=torch.int64), TypeError),
        ("grey", [0.0], TypeError),
        ("grey", torch.tensor(1.0), ValueError),
        ("k", torch.tensor([0.0, 1.0]), TypeError),
        ("k", torch.tensor([0]), ValueError),
        ("k", torch.tensor([0, -1]), ValueError),
        ("k", torch.tensor([4, 0]), ValueError),
        ("k", torch.zeros(2, dtype=torch.int64, device="meta"), ValueError),
        ("soft", torch.tensor([1.0, 1.0]), TypeError),
        ("soft", torch.tensor([[0, 0]]), ValueError),
        ("soft", torch.tensor([2, 0]), ValueError),
        ("soft", torch.tensor([0, -1]), ValueError),
    ],
)
def test_bad_input_of_mask_top_k_is_named(name, value, error):
    good = {"grey": torch.zeros(2, 3), "k": torch.tensor([1, 2]), "soft": torch.tensor([1, 1])}
    ops.mask_top_k(**good)
    with pytest.raises(error, match=name):
        ops.mask_top_k(**{**good, name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lam", torch.tensor([0, 1]), TypeError),
        ("lam", torch.tensor([[0.5]]), ValueError),
        ("lam", torch.tensor([0.5, math.nan]), ValueError),
        ("lam", torch.tensor([0.5, 1.5]), ValueError),
        ("lam", torch.tensor([-0.5, 0.5]), ValueError),
        ("size", 0, ValueError),
        ("size", 2**31, ValueError),
        ("size", 1.5, TypeError),
        ("max_soft", 0.6, ValueError),
        ("max_soft", -0.1, ValueError),
        ("max_soft", "0", TypeError),
        ("seed", torch.tensor([1, 2]), ValueError),
        ("seed", 1.5, TypeError),
    ],
)
def test_bad_input_of_sample_top_k_is_named(name, value, error):
    good = {"lam": torch.tensor([0.2, 0.7]), "size": 9, "max_soft": 0.1, "seed": 0}
    ops.sample_top_k(**good)
    with pytest.raises(error, match=name):
        ops.sample_top_k(**{**good, name: value})


def test_the_op_itself_checks_what_the_wrapper_would_have():
    op, grey, k = torch.ops.sumix.mask_top_k, torch.zeros(2, 3), torch.tensor([1, 2])
    for arguments in (
        (grey.double(), k, ABSENT),
        (grey.t(), k, ABSENT),
        (grey, k.int(), ABSENT),
        (grey, k[:1], ABSENT),
        (grey, k, k[:1]),
        (grey, k, k.double()),
        (torch.tensor(1.0), k, ABSENT),
    ):
        with pytest.raises(RuntimeError, match="sumix::mask_top_k"):
            op(*arguments)
    lam, seed = torch.rand(2), torch.tensor(0)
    for arguments in (
        (seed.int(), lam, 9, 0.0),
        (k, lam, 9, 0.0),
        (seed, lam.double(), 9, 0.0),
        (seed, lam, 0, 0.0),
        (seed, lam, 9, 0.7),
    ):
        with pytest.raises(RuntimeError, match="sumix::sample_top_k"):
            torch.ops.sumix.sample_top_k(*arguments)
