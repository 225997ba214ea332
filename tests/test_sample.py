"""The sampling operators: against their twins, against the distributions that they name, and bit by bit everywhere."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from scipy import stats

from sumix import _C, ops, reference
from sumix.ops.sample_box import KINDS

sumix = torch.ops.sumix
SEEDS = [0, 5, -7, 2**63 - 1]
NONE = torch.empty(0, dtype=torch.int64)


def seed(value=5):
    return torch.tensor(value)


# ---- The generator ----


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_vectors(counter, key, words):
    def signed(low, high):
        return torch.tensor([low | (high << 32) if high < 2**31 else (low | (high << 32)) - 2**64])

    got = reference.philox(signed(*key), signed(*counter[:2]), counter[2], counter[3])
    assert " ".join(f"{word.item():08x}" for word in got) == words


@pytest.mark.parametrize("value", SEEDS)
@pytest.mark.parametrize("n", [0, 1, 2, 17, 257])
def test_kernels_are_their_twins(value, n):
    s, labels = seed(value), torch.randint(-3, 3, (n,))
    assert torch.equal(sumix.sample_seed(s, n), reference.sample_seed(s, n))
    for partners in range(3):
        assert torch.equal(sumix.sample_perm(s, labels, n, partners), reference.sample_perm(s, labels, n, partners))
    for size in (0, 1, 4, 5, 513, 1088):
        assert torch.equal(sumix.sample_uniform(s, n, size), reference.sample_uniform(s, n, size))
        ours, theirs = sumix.sample_normal(s, n, size), reference.sample_normal(s, n, size)
        torch.testing.assert_close(ours, theirs, rtol=4e-7, atol=0)


@pytest.mark.skipif(
    os.environ.get("SUMIX_TEST_EMULATED") == "1", reason="CUDA compares all pairs: minutes for an emulator"
)
def test_a_permutation_in_which_half_keys_are_not_enough():
    """The upper halves of the keys that samples are sorted by, and with which the kernel begins, are equal for some."""
    n = 300000
    _, upper, _, _ = reference.philox(seed(), torch.arange(n), 0, reference.sample.PERM)
    assert len(upper.unique()) < n
    assert torch.equal(sumix.sample_perm(seed(), NONE, n, 0), reference.sample_perm(seed(), NONE, n, 0))


@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 0.05, 0.2, 1.0, 2.0, 100.0, 1e6, 1e30])
@pytest.mark.parametrize("p", [1.0, 0.4])
def test_lam_is_its_twin(alpha, p):
    for value in SEEDS:
        ours, theirs = (ns.sample_lam(seed(value), 500, alpha, p) for ns in (sumix, reference))
        torch.testing.assert_close(ours, theirs, rtol=1.2e-7, atol=1e-38)  # one unit in the last place


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 257), (0, 3), (3, 0), (1, 1), (2**31 - 1, 7)])
def test_boxes_are_their_twin(kind, height, width):
    """For seeds with which no side is a unit in the last place from a whole number: torch's sqrt is not exact."""
    alphas = {2: (1.0,), 3: (0.0, 0.2, 1.0)}.get(kind, (0.2, 1.0))
    for value, alpha in itertools.product(SEEDS, alphas):
        for low, high, p in ((0.1, 0.8, 1.0), (0.0, 1.0, 0.6), (0.5, 0.5, 1.0), (1.0, 1.0, 0.6))[
            : 4 if kind > 1 else 2
        ]:
            arguments = (seed(value), 100, height, width, kind, alpha, p, low, high)
            (box, lam), twin = sumix.sample_box(*arguments), reference.sample_box(*arguments)
            assert torch.equal(box, twin[0]) and torch.equal(lam, twin[1])
            x1, y1, x2, y2 = box.unbind(1)
            assert ((x1 >= 0) & (x1 <= x2) & (x2 <= width) & (y1 >= 0) & (y1 <= y2) & (y2 <= height)).all()
            area = (x2 - x1).double() * (y2 - y1) / max(height * width, 1)
            assert torch.equal(lam, (1 - area).float())


def test_cut_box_is_its_twin():
    for dtype in (torch.float32, torch.float64, torch.float16):
        lam = torch.cat([torch.rand(500), torch.tensor([0.0, 1.0])]).to(dtype).requires_grad_()
        for height, width in [(32, 32), (17, 257), (1, 1), (50, 1)]:
            centre = torch.stack([torch.randint(width, (502,)), torch.randint(height, (502,))], 1)
            box, exact = ops.cut_box(lam, centre, (height, width))
            twin = reference.cut_box(lam.detach().float(), centre, height, width)
            assert torch.equal(box, twin[0]) and torch.equal(exact, twin[1])
            assert not exact.requires_grad
            assert exact[-1] == 1 and box[-1, 0] == box[-1, 2]
    strided = torch.rand(6, 2)[:, 0], torch.randint(5, (6, 3), dtype=torch.int32)[:, :2]
    assert torch.equal(ops.cut_box(*strided, (5, 5))[0], reference.cut_box(*strided, 5, 5)[0])


def test_a_box_is_the_cut_of_the_lam_of_the_same_seed():
    """Which lets SaliencyMix use sample_lam and cut_box for what CutMix has from sample_box."""
    box, lam = ops.sample_box(300, (32, 40), alpha=0.5, seed=3)
    drawn = ops.sample_lam(300, 0.5, seed=3)
    side_x, side_y = ((40, 32) * (1 - drawn.double()).sqrt().unsqueeze(1).numpy()).astype(int).T
    free = (box[:, 0] > 0) & (box[:, 2] < 40)
    assert free.sum() > 20
    assert torch.equal((box[:, 2] - box[:, 0])[free], torch.from_numpy(side_x // 2 * 2)[free])
    assert (lam >= drawn - 1e-6).all()
    whole = (box[:, 3] - box[:, 1]) == torch.from_numpy(side_y // 2 * 2)
    centre = torch.stack([(box[:, 0] + box[:, 2]) // 2, (box[:, 1] + box[:, 3]) // 2], 1)[free & whole]
    again, exact = ops.cut_box(drawn[free & whole], centre, (32, 40))
    assert torch.equal(again, box[free & whole]) and torch.equal(exact, lam[free & whole])


# ---- The same everywhere ----

DRAW = """
import hashlib, torch
from sumix import ops
parts = [ops.sample_seed(500, seed=11), ops.sample_uniform(3, 1500, seed=11), ops.sample_normal(64, 1500, seed=11)]
parts += [ops.sample_lam(5000, alpha, p=0.9, seed=11) for alpha in (0.05, 0.2, 1.0, 2.0, 100.0)]
parts += [ops.sample_perm(999, partners="any", seed=11), ops.sample_perm(999, partners="no_fixed_points", seed=11)]
parts += [ops.sample_perm(999, partners="cross_class", labels=torch.arange(999) % 7, seed=11)]
for kind in ("cut", "span", "minmax", "resize"):
    parts += ops.sample_box(3000, (224, 217), kind=kind, alpha=0.3, p=0.9, seed=11)
digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
"""
DIGEST = "ffcb4916ad3d6a4ad7e01318c608111f4d270d3be5134c50feceb64fe1cba1d8"


def digest():
    found = {}
    exec(DRAW, found)
    return found["digest"]


def test_every_bit_is_known():
    """On whatever processor and compiler. What a seed means is part of the interface: this number never changes."""
    assert digest() == DIGEST


@pytest.mark.parametrize("isa", sorted({"baseline", "v3", "v4"} - {_C.cpu_isa}))  # whose bits are known already
def test_every_instruction_set_gives_these_bits(isa):
    run = subprocess.run(
        [sys.executable, "-c", DRAW + "print(digest)"],
        env={**os.environ, "SUMIX_CPU_ISA": isa},
        capture_output=True,
        text=True,
    )
    if "does not have it" in run.stderr:
        pytest.skip(f"no {isa} here")
    assert run.stdout.strip() == DIGEST, run.stderr


@pytest.mark.parametrize("threads", [2, 3])
def test_every_number_of_threads_gives_these_bits(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert digest() == DIGEST
    finally:
        torch.set_num_threads(before)


def test_some_values():
    """A few such bits in clear: where they differ, the tests above say no more than that something does."""
    assert ops.sample_seed(2, seed=1).tolist() == [-1942724084816673168, -2322224913537559525]
    assert ops.sample_uniform(1, 2, seed=1).tolist() == [[0.7839781045913696, 0.7251775860786438]]
    normal = ["-0x1.a843200000000p-7", "-0x1.ebf45c0000000p+0", "0x1.e999bc0000000p-4"]
    assert [value.hex() for value in ops.sample_normal(1, 3, seed=1)[0].tolist()] == normal
    lam = ["0x1.c4cac60000000p-2", "0x1.ff69ce0000000p-1", "0x1.98ae0e0000000p-7"]
    assert [value.hex() for value in ops.sample_lam(3, 0.2, seed=1).tolist()] == lam
    assert ops.sample_perm(8, seed=1).tolist() == [6, 2, 1, 0, 5, 3, 4, 7]
    assert ops.sample_perm(8, partners="no_fixed_points", seed=1).tolist() == [5, 0, 1, 4, 7, 3, 2, 6]
    crossed = ops.sample_perm(8, partners="cross_class", labels=torch.arange(8) % 3, seed=1)
    assert crossed.tolist() == [2, 6, 1, 5, 0, 4, 7, 3]
    boxes = {
        "cut": [[0, 0, 19, 29], [9, 14, 27, 32]],
        "span": [[0, 0, 18, 32], [13, 0, 23, 32]],
        "minmax": [[12, 14, 17, 27], [3, 7, 18, 26]],
        "resize": [[3, 13, 5, 15], [8, 13, 28, 32]],
    }
    for kind, box in boxes.items():
        assert ops.sample_box(2, (32, 32), kind=kind, seed=1)[0].tolist() == box


def test_a_sample_depends_on_its_own_number():
    for n in (1, 7, 128, 129):
        assert torch.equal(ops.sample_lam(300, 0.2, seed=1)[:n], ops.sample_lam(n, 0.2, seed=1))
        for kind in KINDS:
            many, few = (ops.sample_box(k, (30, 40), kind=kind, seed=1) for k in (300, n))
            assert torch.equal(many[0][:n], few[0]) and torch.equal(many[1][:n], few[1])
        assert torch.equal(ops.sample_normal(300, 9, seed=1)[:n], ops.sample_normal(n, 9, seed=1))
        assert torch.equal(ops.sample_normal(2, 300, seed=1)[:, :n], ops.sample_normal(2, n, seed=1))


def test_p_changes_no_other_number():
    every, some = ops.sample_lam(2000, 0.7, seed=1), ops.sample_lam(2000, 0.7, p=0.3, seed=1)
    mixed = some != 1
    assert torch.equal(some[mixed], every[mixed])
    assert stats.binomtest(int(mixed.sum()), 2000, 0.3).pvalue > 0.01
    for kind in KINDS:
        (box, lam), (boxes, lams) = (ops.sample_box(2000, (16, 16), kind=kind, seed=1, p=p) for p in (0.3, 1.0))
        assert torch.equal(box[mixed], boxes[mixed]) and torch.equal(lam[mixed], lams[mixed])
        assert (box[~mixed] == 0).all() and (lam[~mixed] == 1).all()
    assert (ops.sample_lam(100, p=0.0) == 1).all() and (ops.sample_box(100, (9, 9), p=0.0)[0] == 0).all()


# ---- Seeds ----


def test_seeds_are_as_given():
    want = ops.sample_lam(9, 0.4, seed=-3)
    for given in (torch.tensor(-3), torch.tensor([-3]), torch.tensor([[-3]], dtype=torch.int8)):
        assert torch.equal(ops.sample_lam(9, 0.4, seed=given), want)
    assert not torch.equal(ops.sample_lam(9, 0.4, seed=-4), want)
    assert not torch.equal(ops.sample_lam(9, 0.4, seed=-3 + 2**32), want)  # all 64 bits count


def test_generators_and_the_default_one():
    draws = [
        lambda **how: ops.sample_lam(5, **how),
        lambda **how: ops.sample_perm(50, **how),
        lambda **how: ops.sample_perm(50, partners="cross_class", labels=torch.arange(50), **how),
        lambda **how: ops.sample_box(5, (32, 32), **how)[0],
        lambda **how: ops.sample_uniform(2, 3, **how),
        lambda **how: ops.sample_normal(2, 3, **how),
        lambda **how: ops.sample_seed(5, **how),
        lambda **how: ops.draw_seed(**how),
    ]
    for draw in draws:
        a, b = (draw(generator=torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(a, b)
        torch.manual_seed(1)
        first, second = draw(), draw()
        torch.manual_seed(1)
        assert torch.equal(draw(), first) and not torch.equal(first, second)
        state = torch.get_rng_state()
        draw(generator=torch.Generator())
        assert torch.equal(torch.get_rng_state(), state)


def test_drawn_seeds_fill_64_bits():
    seeds = torch.stack([ops.draw_seed() for _ in range(2000)])
    assert seeds.shape == (2000,) and seeds.dtype == torch.int64
    for bit in range(64):
        assert stats.binomtest(int((seeds >> bit & 1).sum()), 2000, 0.5).pvalue > 1e-5


# ---- Under torch ----


def calls(s=None):
    s = seed() if s is None else s
    labels, lam, centre = torch.tensor([0, 1, 1], device=s.device), torch.rand(3, device=s.device), torch.ones(3, 2)
    none = torch.empty(0, dtype=torch.int64, device=s.device)
    return [
        (sumix.sample_lam.default, (s, 3, 0.5, 0.9)),
        *((sumix.sample_perm.default, (s, labels if k == 2 else none, 3, k)) for k in range(3)),
        *((sumix.sample_box.default, (s, 3, 8, 9, k, 0.5, 0.9, 0.1, 0.8)) for k in range(4)),
        (sumix.cut_box.default, (lam, centre.to(s.device, torch.int64), 8, 9)),
        (sumix.sample_uniform.default, (s, 3, 5)),
        (sumix.sample_normal.default, (s, 3, 5)),
        (sumix.sample_seed.default, (s, 3)),
    ]


def test_opcheck():
    for op, arguments in calls():
        torch.library.opcheck(op, arguments)


def test_meta():
    for (op, real), (_, fake) in zip(calls(), calls(seed().to("meta")), strict=True):
        wants, gots = op(*real), op(*fake)
        for want, got in zip(*((r,) if torch.is_tensor(r) else r for r in (wants, gots)), strict=True):
            assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())
            assert got.device.type == "meta"


def test_fallbacks_are_the_twins():
    for op, _ in calls():
        assert torch._C._dispatch_has_kernel_for_dispatch_key(op.name().split(".")[0], "CompositeExplicitAutograd")


def everything(x, s):
    n, (height, width) = x.shape[0], x.shape[-2:]
    labels = torch.arange(n, device=x.device) % 3
    box, lam = ops.sample_box(n, (height, width), kind="resize", seed=s)
    return (
        x + lam.view(-1, 1, 1),
        box,
        ops.sample_perm(n, seed=s),
        ops.sample_perm(n, partners="cross_class", labels=labels, seed=s),
        ops.cut_box(ops.sample_lam(n, 0.3, seed=s), torch.ones_like(box[:, :2]), (height, width))[0],
        ops.sample_normal(n, height, seed=s),
        ops.sample_uniform(n, height, seed=s),
        ops.sample_seed(n, seed=s),
    )


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(backend):
    torch._dynamo.reset()
    x, step = torch.randn(4, 5, 6), torch.compile(everything, fullgraph=True, backend=backend)
    for value in (1, 2):
        for got, want in zip(step(x, seed(value)), everything(x, seed(value)), strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_seeds_are_drawn_anew_in_a_compiled_graph(backend):
    torch._dynamo.reset()
    draw = torch.compile(lambda: ops.draw_seed(), fullgraph=True, backend=backend)
    seeds = torch.stack([draw() for _ in range(200)])
    assert len(seeds.unique()) == 200 and 60 < (seeds < 0).sum() < 140
    torch.manual_seed(0)
    first = draw()
    torch.manual_seed(0)
    assert torch.equal(draw(), first)
    compiled = torch.compile(lambda: ops.sample_perm(40), fullgraph=True, backend=backend)
    assert not torch.equal(compiled(), compiled())


def test_one_compiled_graph_serves_every_batch_size():
    torch._dynamo.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    step = torch.compile(everything, backend=count, fullgraph=True, dynamic=True)
    for n in (4, 7, 9):
        x, s = torch.randn(n, 5, 6), seed(n)
        for got, want in zip(step(x, s), everything(x, s), strict=True):
            torch.testing.assert_close(got, want)
    assert len(graphs) == 1


def test_a_generator_cannot_be_compiled():
    torch._dynamo.reset()
    draw = torch.compile(lambda g: ops.sample_perm(5, generator=g), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="generator"):
        draw(torch.Generator())


def test_the_cut_has_no_gradient():
    lam = torch.rand(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="no gradient"):
        sumix.cut_box(lam, torch.ones(3, 2, dtype=torch.int64), 4, 4)[1].sum().backward()


def test_what_is_drawn_is_on_the_device_asked_for():
    for device in ("meta", torch.device("meta")):
        assert ops.draw_seed(device).device.type == "meta"
        assert ops.sample_lam(3, device=device).device.type == "meta"
        assert ops.sample_lam(3, seed=3, device=device).device.type == "meta"
    assert ops.sample_perm(3, partners="cross_class", labels=torch.arange(3, device="meta")).device.type == "meta"
    assert ops.sample_lam(3, seed=seed().to("meta")).device.type == "meta"
