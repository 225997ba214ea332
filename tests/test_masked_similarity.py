"""ops.masked_similarity against its float64 twin, an integral on a fine raster, and cases worked out by hand."""

import itertools
import math

import pytest
import torch
from batches import TOLERANCE, assert_near

from sumix import ops, reference
from sumix.ops import VisibleShares
from sumix.ops.maps import places

EVIDENCES, RULES = reference.EVIDENCES, reference.RULES
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
        assert value.shape == wanted.shape and not value.requires_grad
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
        maps = places(features, grid)[0]
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


def labels_by_hand(m, s, gates, lam, pasted, rule, t):
    """Shares, ratio and label weights of one sample in floats: m (cells), both images' evidence, and their gates."""
    m, (s_a, s_b), area = m.tolist(), (e.tolist() for e in s), m.mean().item()
    uniform = min(m) == max(m)
    own = sum(x * e for x, e in zip(m, s_a, strict=True)) / sum(s_a) if not uniform and sum(s_a) else area
    partner = sum((1 - x) * e for x, e in zip(m, s_b, strict=True)) / sum(s_b) if not uniform and sum(s_b) else 1 - area
    own, partner = gates[0] * own + (1 - gates[0]) * area, gates[1] * partner + (1 - gates[1]) * (1 - area)
    partner = 1.0 if pasted else partner
    total = own + partner
    if rule == "absolute":
        masses = sum(s_a) * own, sum(s_b) * partner
        ratio = masses[0] / sum(masses) if sum(masses) else lam
    else:
        ratio = own / total if total else lam
    weights = {
        "relative": (ratio, 1 - ratio, 0.0),
        "absolute": (ratio, 1 - ratio, 0.0),
        "visible": (own, partner, 0.0),
        "uncertain": (own, partner, 1 - total) if total < 1 else (own / total, partner / total, 0.0),
    }[rule]
    a, b, rest = ((1 - t) * w + t * by_area for w, by_area in zip(weights, (area, 1 - area, 0.0), strict=True))
    return own, partner, a / (a + b) if a + b else lam, (a, b, rest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("evidence", EVIDENCES)
@pytest.mark.parametrize("rule", RULES)
def test_rules_and_gates_step_by_step(rule, evidence, kind, dtype):
    n, d, h, w = 6, 9, 3, 4
    how = mix_of(kind, n, 23, 31) | {"lam": torch.rand(n, dtype=torch.float64)}
    features = torch.randn(n, d, h, w, dtype=torch.float64) + 0.5
    classes = {}
    if evidence == "cam":
        classes = {"class_weight": torch.randn(9, d, dtype=torch.float64), "labels": torch.randint(-1, 9, (n,))}
    if evidence == "object":
        features = features[:, :1].clamp(min=0)
        features[2] = 0
    features = features.to(dtype)
    s = reference.evidence_map(
        features.double().flatten(2), evidence, *(classes.get(name) for name in ("class_weight", "labels")), 1e-6
    )
    m = reference.kept_share(how["lam"], how.get("box"), how.get("mask"), (23, 31), (h, w)).flatten(1)
    box = how.get("box", torch.zeros(n, 4)).tolist()
    resize = how.get("resize", torch.zeros(n)).tolist()
    gates = torch.tensor([0.0, 1.0, 0.5, 0.25, 1.0, 0.7], dtype=torch.float64)
    for gate, t in itertools.product([None, torch.zeros(n).double(), torch.ones(n).double(), gates], [0.0, 0.3, 1.0]):
        got = ops.masked_similarity(
            features, evidence=evidence, min_contrast=1e-6, gate=gate, rule=rule, area_weight=t, **how, **classes
        )
        given = torch.ones(n) if gate is None else gate
        for i, j in enumerate(how["perm"].tolist()):
            pasted = resize[i] != 0 and box[i][0] < box[i][2] and box[i][1] < box[i][3]
            pair = given[i].item(), given[j].item()
            want = labels_by_hand(m[i], (s[i], s[j]), pair, how["lam"][i].item(), pasted, rule, t)
            for value, wanted in zip(got, want, strict=True):
                wanted = torch.tensor(wanted, dtype=torch.float64)
                torch.testing.assert_close(value[i].double(), wanted, rtol=0, atol=5e-5 if s.dtype != dtype else 1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("evidence", EVIDENCES)
def test_an_open_gate_changes_no_bit(evidence, kind):
    """Nor does asking for the label weights change the ratio: what there was before gates and rules is still there."""
    n, d = 6, 40
    features = torch.rand(n, 7, 7) if evidence == "object" else torch.randn(n, d, 7, 7)
    how = mix_of(kind, n, 23, 31) | {"evidence": evidence}
    how |= {"class_weight": torch.randn(9, d), "labels": torch.randint(9, (n,))}
    plain = ops.masked_similarity(features, **how)
    assert torch.equal(plain.weights[:, 0], plain.lam) and plain.weights[:, 2].tolist() == [0] * n
    torch.testing.assert_close(plain.weights.sum(dim=1), torch.ones(n))
    opened = ops.masked_similarity(features, gate=torch.ones(n), **how)
    assert all(torch.equal(a, b) for a, b in zip(opened, plain, strict=True))
    visible = ops.masked_similarity(features, rule="visible", **how)
    assert torch.equal(visible.weights[:, 0], visible.own) and torch.equal(visible.weights[:, 1], visible.partner)
    for rule in ("visible", "uncertain"):
        assert torch.equal(ops.masked_similarity(features, rule=rule, **how).lam, plain.lam)


@pytest.mark.parametrize("rule", RULES)
def test_a_gate_of_nan_makes_the_shares_of_its_image_nan(rule):
    """But not where M is the same in all cells: a mix that shows all of an image, or nothing, needs no gate."""
    n, gate = 6, torch.tensor([1.0, 0.5, math.nan, 1.0, 0.0, 0.5])
    objects, how = torch.rand(n, 5, 5), {"evidence": "object", "gate": gate, "rule": rule}
    perm, box = torch.tensor([1, 2, 3, 2, 4, 0]), torch.tensor([[3, 2, 9, 8]] * n)
    box[3] = 0
    mix = {"perm": perm, "lam": torch.full((n,), 0.5), "box": box, "size": (11, 13)}
    got = ops.masked_similarity(objects, **mix, **how)
    for part, want in zip(got, reference.masked_similarity(objects, **mix, **how), strict=True):
        torch.testing.assert_close(part, want, equal_nan=True)
    assert got.own.isnan().tolist() == [False, False, True, False, False, False]
    assert got.partner.isnan().tolist() == [False, True, False, False, False, False]
    assert got.lam.isnan().tolist() == [False, True, True, False, False, False]


def test_an_absolute_rule_reads_the_maps_in_every_mix():
    """Of a blend, two images' evidence as 1 to 3; nothing of one that is not there at all, whatever its map holds."""
    objects, perm = torch.ones(2, 4, 4), torch.tensor([1, 0])
    objects[1] *= 3
    how = {"evidence": "object", "rule": "absolute"}
    got = ops.masked_similarity(objects, perm, torch.tensor([0.5, 0.5]), **how)
    assert got.lam.tolist() == [0.25, 0.75] and got.own.tolist() == got.partner.tolist() == [0.5, 0.5]
    maps = objects.view(2, 1, 4, 4) * torch.linspace(0, 1, 16).view(4, 4)
    for evidence, classes in ("feature", {}), ("cam", {"class_weight": torch.ones(1, 1), "labels": perm * 0}):
        blend = {"lam": torch.tensor([0.5, 0.5]), "evidence": evidence, "rule": "absolute", **classes}
        ratio = 1 / 10 if evidence == "feature" else 1 / 4  # the direction g is three times as long, too
        assert ops.masked_similarity(maps, perm, **blend).lam.tolist() == pytest.approx([ratio, 1 - ratio])
    objects[1, 0, 0] = math.nan
    whole = ops.masked_similarity(objects, perm, torch.ones(2), **how)
    assert whole.lam.isnan().tolist() == [False, True] and whole.lam[0] == 1 and whole.own.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"objects.* has values below 0"):
        ops.masked_similarity(-objects.nan_to_num(1), perm, torch.ones(2), **how)


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


@pytest.mark.parametrize(
    ("kind", "evidence", "tokens", "rule"), [(*case, number % 4) for number, case in enumerate(OP_CASES)]
)
def test_op_and_its_fallback(kind, evidence, tokens, rule):
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
    call = (maps, *classes, mix["perm"], mix["lam"], mix.get("box", absent), mask, absent, torch.rand(n))
    call = (*call, 1, h, w, 12, 20, tokens, kind_number, 1e-6, rule, 0.25)
    torch.library.opcheck(torch.ops.sumix.masked_similarity.default, call)
    for got, want in zip(
        torch.ops.sumix.masked_similarity(*call), reference.masked_similarity_explicit(*call), strict=True
    ):
        torch.testing.assert_close(got, want)
    shapes = torch.ops.sumix.masked_similarity(*(t.to("meta") if isinstance(t, torch.Tensor) else t for t in call))
    assert [tuple(t.shape) for t in shapes] == [(n,), (n,), (n,), (n, 3)]


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
    call = (features.flatten(2), absent, absent, perm, lam, *[absent] * 4, 1, 2, 2, 1, 1, False, 0, 0.0, 0, 0.0)
    with pytest.raises(RuntimeError, match="no gradient"):
        torch.ops.sumix.masked_similarity(*call)[0].sum().backward()
