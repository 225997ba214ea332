"""ops.masked_similarity against its float64 twin, an integral on a fine raster, and cases worked out by hand."""

import itertools
import math

import pytest
import torch
from batches import TOLERANCE, assert_near

from sumix import ops, reference
from sumix.ops import VisibleShares

EVIDENCES = reference.EVIDENCES
GRIDS = [(4, 4), (7, 7), (1, 5), (3, 2), (14, 14)]


def boxes(n, height, width):
    """Boxes of every kind: random, empty, the whole image, a line."""
    x = torch.randint(width + 1, (n, 2)).sort(dim=1).values
    y = torch.randint(height + 1, (n, 2)).sort(dim=1).values
    box = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
    if n > 3:
        box[0], box[1] = torch.tensor([2, 1, 2, 3]), torch.tensor([0, 0, width, height])
    return box


def mix_of(kind, n, height, width):
    """Arguments that say how images of this size were mixed."""
    mix = {"perm": torch.randperm(n), "lam": torch.rand(n), "size": (height, width)}
    if kind in ("box", "both", "resize"):
        mix["box"] = boxes(n, height, width)
    if kind in ("mask", "both"):
        mix["mask"] = torch.rand(n, height, width)
    if kind == "bool":
        mix["mask"] = torch.rand(n, height, width) < 0.6
    if kind == "constant":
        mix["mask"] = torch.rand(n, 1, 1)
        mix["box"] = boxes(n, height, width)
    if kind == "resize":
        mix["resize"] = torch.randint(4, (n,))
    return mix


KINDS = ["box", "mask", "bool", "both", "constant", "resize", "lam"]


def compare(features, tolerance, **arguments):
    got = ops.masked_similarity(features, **arguments)
    wide = {k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in arguments.items()}
    wide.setdefault("min_contrast", reference.min_contrast_of(features.dtype))
    want = reference.masked_similarity(features.double(), **wide)
    for value, wanted in zip(got, want, strict=True):
        assert value.dtype == (torch.float64 if features.dtype == torch.float64 else torch.float32)
        assert value.shape == arguments["lam"].shape and not value.requires_grad
        assert ((value >= 0) & (value <= 1)).all()
        assert_near(value, wanted, tolerance)
    return got


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("evidence", EVIDENCES)
def test_matches_the_float64_twin(evidence, kind, dtype):
    for n, d, (h, w) in [
        (1, 1, (4, 4)),
        (2, 3, (1, 5)),
        (5, 17, (3, 2)),
        (6, 257, (7, 7)),
        (3, 34, (1, 1)),
        (0, 4, (2, 2)),
    ]:
        arguments = mix_of(kind, n, 23, 31) | {"evidence": evidence}
        features = torch.randn(n, d, h, w) + 0.5
        if evidence == "cam":
            arguments |= {"class_weight": torch.randn(9, d), "labels": torch.randint(-1, 9, (n,))}
        if evidence == "object":
            features = features[:, 0].clamp(min=0)
        # Products in float32, half precision or not; in shares the errors of many of them meet.
        compare(features.to(dtype), 1e-11 if dtype == torch.float64 else 5e-5, **arguments)


@pytest.mark.parametrize("evidence", ["feature", "cam"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_formats_are_the_same_map(evidence, dtype):
    n, d, h, w = 4, 70, 5, 3
    features = (torch.randn(n, d, h, w) + 0.3).to(dtype)
    arguments = mix_of("box", n, 40, 24) | {"evidence": evidence}
    arguments |= {"class_weight": torch.randn(6, d), "labels": torch.randint(6, (n,))}
    want = ops.masked_similarity(features, **arguments)
    tokens = torch.cat([torch.full((n, 2, d), 1e3, dtype=dtype), features.flatten(2).transpose(1, 2)], dim=1)
    many = torch.stack([features, torch.zeros_like(features)], dim=1)
    ways = [
        (features.contiguous(memory_format=torch.channels_last), None),
        (tokens, (h, w)),
        (tokens[:, 2:], (h, w)),
        (tokens[:, 2:].transpose(1, 2).unflatten(2, (h, w)), None),  # a view of tokens as a map
        (many[:, 0], None),  # a step from sample to sample
        (features.transpose(2, 3).contiguous().transpose(2, 3), None),
        (features[:1].expand(n, d, h, w), None),
    ]
    for x, grid in ways[:-1]:
        for got, wanted in zip(ops.masked_similarity(x, grid=grid, **arguments), want, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    same = features[:1].repeat(n, 1, 1, 1)
    for got, wanted in zip(*(ops.masked_similarity(x, **arguments) for x in (ways[-1][0], same)), strict=True):
        torch.testing.assert_close(got, wanted)


def test_maps_of_several_formats_are_not_copied():
    n, d, h, w = 3, 8, 4, 5
    x = torch.randn(n, d, h, w)
    last, tokens = x.contiguous(memory_format=torch.channels_last), torch.randn(n, h * w + 1, d)
    for features, grid in [(x, None), (last, None), (tokens, (h, w)), (tokens[:, 1:], (h, w)), (x[::2], None)]:
        maps = ops.masked_similarity.__globals__["_places"](features, grid)[0]
        assert maps.data_ptr() == features.data_ptr()


def test_videos_and_signals():
    n, d = 3, 6
    video = torch.randn(n, d, 4, 5, 3, dtype=torch.float64)
    arguments = mix_of("both", n, 10, 12)
    compare(video, 1e-11, **arguments)
    want = ops.masked_similarity(video, **arguments)
    for got, wanted in zip(
        ops.masked_similarity(video.contiguous(memory_format=torch.channels_last_3d), **arguments), want, strict=True
    ):
        torch.testing.assert_close(got, wanted)

    signal, span = torch.randn(n, d, 7, dtype=torch.float64), torch.tensor([[2, 9], [0, 50], [4, 4]])
    lam, perm = torch.rand(n, dtype=torch.float64), torch.tensor([1, 2, 0])
    got = ops.masked_similarity(signal, perm, lam, box=span, size=(50,))
    box = torch.stack([span[:, 0], torch.zeros(n).long(), span[:, 1], torch.ones(n).long()], dim=1)
    want = reference.masked_similarity(signal.unsqueeze(2), perm, lam, box=box, size=(1, 50))
    mask = ((torch.arange(50) < span[:, :1]) | (torch.arange(50) >= span[:, 1:])).float()
    for other in (want, ops.masked_similarity(signal, perm, lam, mask=mask)):
        for value, wanted in zip(got, other, strict=True):
            torch.testing.assert_close(value, wanted)
    objects = torch.rand(n, 50, dtype=torch.float64)
    got = ops.masked_similarity(objects, perm, lam, box=span, size=(50,), evidence="object")
    torch.testing.assert_close(got.own, (objects * mask).sum(dim=1) / objects.sum(dim=1))


def test_kept_shares_are_the_integral_of_the_mask():
    """M of single cells, read off through object masks with one cell set, against a raster that all edges fall on."""
    for (h, w), (height, width) in [((3, 4), (7, 5)), ((2, 3), (9, 6)), ((5, 7), (3, 2)), ((1, 1), (6, 5))]:
        cells = h * w
        box = boxes(1, height, width).expand(cells, 4).contiguous()
        mask = (torch.rand(1, height, width) < 0.5).expand(cells, height, width)
        soft = torch.rand(1, height, width, dtype=torch.float64).float().expand(cells, height, width)
        objects = torch.eye(cells, dtype=torch.float64).view(cells, h, w)
        inside = torch.zeros(height, width, dtype=torch.bool)
        x1, y1, x2, y2 = box[0].tolist()
        inside[y1:y2, x1:x2] = True
        fine = {"rows": h, "columns": w}

        def integral(pixels, fine=fine, h=h, w=w, height=height, width=width):
            raster = pixels.double().repeat_interleave(fine["rows"], 0).repeat_interleave(fine["columns"], 1)
            return raster.unflatten(0, (h, height)).unflatten(2, (w, width)).mean(dim=(1, 3)).flatten()

        for given, pixels in [
            ({"box": box, "size": (height, width)}, ~inside),
            ({"mask": mask}, mask[0]),
            ({"mask": soft}, soft[0]),
            ({"mask": soft, "box": box}, soft[0].double() * ~inside),
        ]:
            lam = torch.zeros(cells, dtype=torch.float64)
            got = ops.masked_similarity(objects, torch.arange(cells), lam, evidence="object", **given)
            torch.testing.assert_close(got.own, integral(pixels), rtol=0, atol=1e-15)
            torch.testing.assert_close(got.partner, 1 - integral(pixels), rtol=0, atol=1e-15)
            twin = reference.kept_share(lam, given.get("box"), given.get("mask"), (height, width), (h, w))
            torch.testing.assert_close(twin[0].flatten(), integral(pixels), rtol=0, atol=1e-14)


def test_a_hidden_object_takes_its_label_along():
    """Two places stand out in each map; worked out by hand."""
    features = torch.zeros(2, 2, 2, 2)
    features[0, :, 0, 0] = torch.tensor([4.0, 0.0])  # g = (1, 0), f.g - mean = 3, -1, -1, -1
    features[1, :, 1, 1] = torch.tensor([0.0, 4.0])
    perm, lam = torch.tensor([1, 0]), torch.tensor([0.75, 0.75])

    def shares(box):
        return ops.masked_similarity(features, perm, lam, box=torch.tensor([box, box]), size=(8, 8))

    for box, own, partner in [
        ([0, 0, 4, 4], [0, 1], [0, 1]),  # hides image 0's object, shows nothing of image 1's; and the reverse
        ([4, 4, 8, 8], [1, 0], [1, 0]),
        ([2, 2, 6, 6], [0.75, 0.75], [0.25, 0.25]),
        ([4, 0, 8, 4], [1, 1], [0, 0]),  # hides and shows nothing
    ]:
        got = shares(box)
        torch.testing.assert_close(got.own, torch.tensor(own, dtype=torch.float32))
        torch.testing.assert_close(got.partner, torch.tensor(partner, dtype=torch.float32))
    assert shares([0, 0, 4, 4]).lam.tolist() == [0.75, 0.5]  # neither is visible: lam; both are, all of them: a half
    assert shares([4, 0, 8, 4]).lam.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("evidence", EVIDENCES)
def test_a_box_is_the_mask_that_it_means(evidence):
    n, d, height, width = 6, 20, 13, 11
    features = torch.rand(n, d, 4, 3, dtype=torch.float64) if evidence != "object" else torch.rand(n, 13, 11).double()
    arguments = mix_of("box", n, height, width) | {"evidence": evidence}
    arguments |= {"class_weight": torch.randn(5, d), "labels": torch.randint(5, (n,))}
    box = arguments.pop("box")
    x1, y1, x2, y2 = box.view(n, 4, 1, 1).unbind(1)
    x, y = torch.arange(width), torch.arange(height).unsqueeze(1)
    outside = (x < x1) | (x >= x2) | (y < y1) | (y >= y2)
    none = torch.zeros_like(box)
    want = ops.masked_similarity(features, box=box, **arguments)
    for given in (
        {"mask": outside},
        {"mask": outside.float()},
        {"mask": outside, "box": none},
        {"mask": torch.ones(n, 1, 1), "box": box},
        {"mask": torch.ones(n, height, width), "box": box},
        {"box": box, "resize": torch.zeros(n, dtype=torch.long)},
    ):
        for got, wanted in zip(ops.masked_similarity(features, **given, **arguments), want, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)


def test_a_blend_keeps_its_ratio_exactly():
    lam = torch.cat([torch.rand(500), torch.tensor([0.0, 1.0, 1e-30, 0.5])])
    n = len(lam)
    features, perm = torch.randn(n, 3, 2, 2), torch.randperm(n)
    for given in ({}, {"size": (9, 9)}, {"mask": lam.view(n, 1, 1)}):
        shares = ops.masked_similarity(features, perm, lam, **given)
        assert torch.equal(shares.lam, lam) and torch.equal(shares.own, lam) and torch.equal(shares.partner, 1 - lam)


def test_a_resized_partner_is_all_there():
    n, box = 3, torch.tensor([[0, 0, 4, 4], [2, 2, 6, 8], [3, 3, 3, 5]])
    features, perm, lam = torch.randn(n, 5, 4, 4), torch.tensor([1, 2, 0]), torch.rand(n)
    plain = ops.masked_similarity(features, perm, lam, box=box, size=(8, 8))
    whole = ops.masked_similarity(features, perm, lam, box=box, size=(8, 8), resize=torch.tensor([1, 2, 3]))
    assert torch.equal(whole.own, plain.own) and whole.partner.tolist() == [1, 1, 0] and whole.lam[2] == 1
    for mask in torch.zeros(n, 1, 1), torch.rand(n, 8, 8):  # an empty box shows nothing, however it would be filled
        mix = {"box": torch.zeros_like(box), "mask": mask, "size": (8, 8)}
        for left, right in zip(
            ops.masked_similarity(features, perm, lam, **mix),
            ops.masked_similarity(features, perm, lam, **mix, resize=torch.tensor([1, 2, 3])),
            strict=True,
        ):
            assert torch.equal(left, right)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_flat_maps_fall_back_to_the_area(dtype, layout):
    """Constant maps, and maps that rounding alone makes uneven, are evidence everywhere alike."""
    n, d, h, w = 4, 301, 7, 7
    constant = torch.randn(n, d, 1, 1).expand(n, d, h, w)
    noise = torch.randn(n, d, h, w).sign() * torch.finfo(dtype).eps / 4
    arguments = mix_of("box", n, 14, 14)
    x1, y1, x2, y2 = arguments["box"].unbind(1)
    area = 1 - (x2 - x1) * (y2 - y1) / 196
    for features in (constant, constant * (1 + noise), torch.zeros(n, d, h, w)):
        features = features.to(dtype).contiguous()
        if layout == "channels last":
            features = features.contiguous(memory_format=torch.channels_last)
        shares = ops.masked_similarity(features, **arguments)
        torch.testing.assert_close(shares.own.double(), area.double(), rtol=0, atol=1e-6)
        torch.testing.assert_close(shares.lam.double(), area.double(), rtol=0, atol=1e-6)


def test_faint_contrast_counts_until_it_is_forbidden():
    features = torch.full((2, 16, 2, 2), 3.0)
    features[:, :, 0, 0] *= 1 + 1e-3
    perm, lam, box = torch.tensor([1, 0]), torch.tensor([0.75, 0.75]), torch.tensor([[0, 0, 4, 4]] * 2)
    arguments = {"perm": perm, "lam": lam, "box": box, "size": (8, 8)}
    assert ops.masked_similarity(features, **arguments).own.tolist() == [0, 0]
    assert ops.masked_similarity(features, **arguments, min_contrast=1e-2).own.tolist() == [0.75, 0.75]


def test_no_evidence_means_area():
    objects, perm, lam = torch.zeros(2, 8, 8), torch.tensor([1, 0]), torch.tensor([0.75, 0.75])
    arguments = {"perm": perm, "lam": lam, "box": torch.tensor([[0, 0, 4, 4]] * 2), "size": (8, 8)}
    assert ops.masked_similarity(objects, **arguments, evidence="object").lam.tolist() == [0.75, 0.75]
    objects[0, 0, 0] = 1  # hidden, and the partner's evidence is everywhere alike: 0 of a, a quarter of b
    shares = ops.masked_similarity(objects.bool(), **arguments, evidence="object")
    assert shares.own.tolist() == [0, 0.75] and shares.partner.tolist() == [0.25, 1.0]
    classes = {"class_weight": torch.ones(3, 4), "labels": torch.tensor([-1, -1]), "evidence": "cam"}
    assert ops.masked_similarity(torch.rand(2, 4, 2, 2), **arguments, **classes).lam.tolist() == [0.75, 0.75]


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("evidence", EVIDENCES)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_what_is_not_finite_becomes_nan(value, evidence, layout):
    n, d = 4, 6
    features = torch.rand(n, d, 3, 3) if evidence != "object" else torch.rand(n, 3, 3)
    features.view(n, -1)[1, 3] = value
    if layout == "channels last" and evidence != "object":
        features = features.contiguous(memory_format=torch.channels_last)
    perm, lam = torch.tensor([1, 2, 3, 0]), torch.rand(n)
    box = torch.tensor([[1, 1, 5, 5], [1, 1, 5, 5], [1, 1, 5, 5], [0, 0, 0, 0]])
    classes = {"class_weight": 100 * torch.ones(2, d), "labels": torch.tensor([0, 1, 0, 1])}
    shares = ops.masked_similarity(features, perm, lam, box=box, size=(6, 6), evidence=evidence, **classes)
    spoilt = not (evidence == "object" and value == 1e38)
    assert shares.own.isnan().tolist() == [False, spoilt, False, False]
    assert shares.partner.isnan().tolist() == [spoilt, False, False, False]
    assert shares.lam.isnan().tolist() == [spoilt, spoilt, False, False]
    box[:2] = 0  # nothing pasted, nothing taken
    shares = ops.masked_similarity(features, perm, lam, box=box, size=(6, 6), evidence=evidence, **classes)
    assert shares.lam[:2].tolist() == [1, 1]


def test_threads_change_nothing():
    n, d = 40, 500
    for features in (torch.randn(n, d, 7, 7), torch.randn(n, d, 7, 7).contiguous(memory_format=torch.channels_last)):
        arguments = mix_of("both", n, 32, 32)
        one = ops.masked_similarity(features, **arguments)
        try:
            torch.set_num_threads(2)
            two = ops.masked_similarity(features, **arguments)
        finally:
            torch.set_num_threads(1)
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_repeated_partners():
    features, perm = torch.randn(5, 4, 3, 3, dtype=torch.float64), torch.tensor([2, 2, 2, 2, 0])
    compare(features, 1e-11, **(mix_of("both", 5, 9, 9) | {"perm": perm}))


OP_CASES = list(itertools.product(["box", "mask", "lam"], EVIDENCES, [False, True]))


@pytest.mark.parametrize(("kind", "evidence", "tokens"), OP_CASES)
def test_op_and_its_fallback(kind, evidence, tokens):
    if evidence == "object" and tokens:
        pytest.skip("objects have no channels")
    n, d, h, w = 4, 6, 3, 5
    mix = mix_of(kind, n, 12, 20)
    absent = torch.empty(0)
    d = 1 if evidence == "object" else d
    maps = torch.rand(n, h * w + 2, d) if tokens else torch.rand(n, d, h * w)
    kind_number = EVIDENCES.index(evidence)
    classes = (torch.randn(3, d), torch.tensor([0, 2, -1, 1])) if evidence == "cam" else (absent, absent)
    mask = mix.get("mask", absent)
    call = (maps, *classes, mix["perm"], mix["lam"], mix.get("box", absent), mask, absent)
    call = (*call, 1, h, w, 12, 20, tokens, kind_number, 1e-6)
    torch.library.opcheck(torch.ops.sumix.masked_similarity.default, call)
    for got, want in zip(
        torch.ops.sumix.masked_similarity(*call), reference.masked_similarity_explicit(*call), strict=True
    ):
        torch.testing.assert_close(got, want)
    shapes = torch.ops.sumix.masked_similarity(*(t.to("meta") if isinstance(t, torch.Tensor) else t for t in call))
    assert [tuple(t.shape) for t in shapes] == [(n,)] * 3


def test_compiled_for_every_batch_size():
    def shares(features, perm, lam, box, mask):
        by_box = ops.masked_similarity(features, perm, lam, box=box, size=(8, 8))
        return (*by_box, *ops.masked_similarity(features.flatten(2).transpose(1, 2), perm, lam, mask=mask, grid=(4, 4)))

    torch._dynamo.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(shares, backend=count, fullgraph=True, dynamic=True)
    for n in (5, 7, 9):
        arguments = (
            torch.rand(n, 6, 4, 4),
            torch.randperm(n),
            torch.rand(n),
            boxes(n, 8, 8),
            torch.rand(n, 8, 8) < 0.5,
        )
        for got, want in zip(compiled(*arguments), shares(*arguments), strict=True):
            torch.testing.assert_close(got, want)
    assert len(graphs) == 1


def test_the_twin_compiles_to_the_same():
    features, arguments = torch.rand(5, 40, 7, 7), mix_of("both", 5, 32, 32)
    want = ops.masked_similarity(features, **arguments)
    twin = torch.compile(reference.masked_similarity, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(twin(features, **arguments), want, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_there_is_no_gradient():
    features = torch.randn(2, 3, 2, 2, requires_grad=True)
    perm, lam = torch.tensor([1, 0]), torch.rand(2)
    shares = ops.masked_similarity(features, perm, lam)
    assert isinstance(shares, VisibleShares) and not shares.lam.requires_grad
    absent = torch.empty(0)
    call = (features.flatten(2), absent, absent, perm, lam, absent, absent, absent, 1, 2, 2, 1, 1, False, 0, 0.0)
    with pytest.raises(RuntimeError, match="no gradient"):
        torch.ops.sumix.masked_similarity(*call)[0].sum().backward()
