"""What ops.masked_similarity refuses: bad values, missing ones, and what the op itself finds without the wrapper."""

import itertools
import math

import pytest
import torch

from sumix import ops

N, D = 3, 4
GOOD = {
    "features": torch.rand(N, D, 2, 2),
    "perm": torch.tensor([1, 2, 0]),
    "lam": torch.rand(N),
    "box": torch.tensor([[0, 0, 2, 2]] * N),
    "mask": torch.ones(N, 4, 4),
    "resize": torch.zeros(N, dtype=torch.long),
    "gate": torch.rand(N),
    "size": (4, 4),
    "class_weight": torch.rand(5, D),
    "labels": torch.tensor([0, 1, 4]),
    "evidence": "cam",
}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("features", torch.rand(N, D), ValueError),
        ("features", torch.rand(N, D, 0, 2), ValueError),
        ("features", torch.zeros(N, D, 2, 2, dtype=torch.long), TypeError),
        ("features", None, TypeError),
        ("features", torch.rand(N, D, 2, 2).to("meta"), ValueError),
        ("perm", torch.tensor([0, 1]), ValueError),
        ("perm", torch.tensor([0, 1, 3]), ValueError),
        ("perm", torch.rand(N), TypeError),
        ("lam", torch.tensor([0.0, 1.5, 0.5]), ValueError),
        ("lam", torch.tensor([0.0, math.nan, 0.5]), ValueError),
        ("lam", torch.tensor([0, 1, 0]), TypeError),
        ("box", torch.tensor([[0, 0, 2, 5]] * N), ValueError),
        ("box", torch.tensor([[-1, 0, 2, 2]] * N), ValueError),
        ("box", torch.rand(N, 4), TypeError),
        ("box", torch.tensor([[0, 0, 2]] * N), ValueError),
        ("mask", torch.full((N, 4, 4), 1.5), ValueError),
        ("mask", torch.full((N, 4, 4), -0.1), ValueError),
        ("mask", torch.full((N, 4, 4), math.nan), ValueError),
        ("mask", torch.full((N, 1, 1), 2.0), ValueError),
        ("mask", torch.ones(N, 4, 5), ValueError),
        ("mask", torch.ones(N, 4, 4, dtype=torch.long), TypeError),
        ("mask", torch.ones(N, 1, 4, 4), ValueError),
        ("resize", torch.tensor([0, 4, 0]), ValueError),
        ("resize", torch.tensor([0, -1, 0]), ValueError),
        ("resize", torch.rand(N), TypeError),
        ("size", (4,), ValueError),
        ("size", (4, 4, 4), ValueError),
        ("size", (0, 4), ValueError),
        ("size", (4.0, 4), TypeError),
        ("grid", (2, 2), ValueError),
        ("grid", 4, ValueError),
        ("class_weight", torch.rand(5, D + 1), ValueError),
        ("class_weight", None, ValueError),
        ("class_weight", torch.ones(5, D, dtype=torch.long), TypeError),
        ("labels", torch.tensor([0, 1, 5]), ValueError),
        ("labels", torch.tensor([0, 1, -2]), ValueError),
        ("labels", None, ValueError),
        ("evidence", "saliency", ValueError),
        ("min_contrast", -1.0, ValueError),
        ("gate", torch.tensor([0.0, 1.5, 0.5]), ValueError),
        ("gate", torch.tensor([0.0, 0.5, -0.1]), ValueError),
        ("gate", torch.tensor([0, 1, 0]), TypeError),
        ("gate", torch.rand(N, 1), ValueError),
        ("gate", torch.rand(N + 1), ValueError),
        ("gate", torch.rand(N, device="meta"), ValueError),
        ("gate", 0.5, TypeError),
        ("rule", "certain", ValueError),
        ("rule", None, TypeError),
        ("area_weight", -0.1, ValueError),
        ("area_weight", 1.1, ValueError),
        ("area_weight", math.nan, ValueError),
        ("area_weight", torch.tensor(0.5), TypeError),
    ],
)
def test_bad_input_is_named(name, value, error):
    ops.masked_similarity(**GOOD)
    with pytest.raises(error, match=name):
        ops.masked_similarity(**{**GOOD, name: value})


@pytest.mark.parametrize("evidence", ["feature", "object"])
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf, -0.5, 1.5])
def test_one_value_a_mask_is_checked_as_the_whole_mask_is(value, boxed, evidence):
    """Not taken for another kind of mask: there would be nothing to read."""
    n, size = 64, (224, 224)
    how = {"size": size, "evidence": evidence}
    if boxed:
        how["box"] = torch.tensor([[0, 0, 100, 100]]).repeat(n, 1)
    maps = torch.rand(n, 7, 7) if evidence == "object" else torch.rand(n, 8, 7, 7)
    mask = torch.full((n, 1, 1), 0.5)
    ops.masked_similarity(maps, torch.arange(n), torch.rand(n), mask=mask, **how)
    mask[n - 1] = value
    with pytest.raises(ValueError, match=r"mask\[63\] has values outside 0 to 1, or NaN"):
        ops.masked_similarity(maps, torch.arange(n), torch.rand(n), mask=mask, **how)


def test_missing_input_is_named():
    features, perm, lam = (GOOD[name] for name in ("features", "perm", "lam"))
    with pytest.raises(ValueError, match="size must be given with box"):
        ops.masked_similarity(features, perm, lam, box=GOOD["box"])
    with pytest.raises(ValueError, match="resize must be None without a box"):
        ops.masked_similarity(features, perm, lam, mask=GOOD["mask"], resize=GOOD["resize"])
    for objects, error in [
        (torch.rand(N, 2, 4, 4), ValueError),
        (-torch.ones(N, 4, 4), ValueError),
        (torch.ones(N, 4, 4, dtype=torch.complex64), TypeError),
        (torch.rand(N), ValueError),
    ]:
        with pytest.raises(error, match="objects"):
            ops.masked_similarity(objects, perm, lam, evidence="object")


def test_maps_and_mixes_have_as_many_dimensions():
    """A map of one dimension would be spread over the images' rows, and give nearly the area."""
    perm, lam = GOOD["perm"], GOOD["lam"]
    images = {"box": GOOD["box"], "size": (4, 4)}
    signals = {"box": GOOD["box"][:, :2], "size": (4,)}
    maps = {count: torch.rand(N, D, *[2] * count) for count in (1, 2, 3)}
    for count, mix in [
        *itertools.product((1,), (images, {"mask": torch.ones(N, 4, 4)}, {"mask": torch.ones(N, 1, 1)})),
        *itertools.product((2, 3), (signals, {"mask": torch.ones(N, 4)}, {"mask": torch.ones(N, 1)})),
        (1, {"size": (4, 4)}),
        (2, {"box": GOOD["box"], "size": (4,)}),
        (2, {"box": GOOD["box"][:, :2], "size": (4, 4)}),
        (2, {"mask": torch.ones(N, 4), "box": GOOD["box"]}),
    ]:
        with pytest.raises(ValueError, match=r"features must have as many spatial dimensions as the mix, [12] by its"):
            ops.masked_similarity(maps[count], perm, lam, **mix)
    for count, mix in [(1, signals), (2, images), (3, images)]:
        assert ops.masked_similarity(maps[count], perm, lam, **mix).lam.isfinite().all()
    for objects, mix in [(torch.rand(N, 4), images), (torch.rand(N, 4, 4), signals)]:
        with pytest.raises(ValueError, match="objects must have as many spatial dimensions"):
            ops.masked_similarity(objects, perm, lam, evidence="object", **mix)
    for tokens, grid, mix in [((N, 4, D), (2, 2), signals), ((N, 4, D), (4,), images)]:
        with pytest.raises(ValueError, match="features must have as many spatial dimensions"):
            ops.masked_similarity(torch.rand(tokens), perm, lam, grid=grid, **mix)


def test_tokens_go_by_their_grid():
    perm, lam = GOOD["perm"], GOOD["lam"]
    for sides, mix in [
        ((3, 6), {"box": GOOD["box"], "size": (4, 4)}),
        ((18,), {"box": GOOD["box"][:, :2], "size": (4,)}),
        ((2, 3, 3), {"box": GOOD["box"], "size": (4, 4)}),
    ]:
        maps = torch.rand(N, D, *sides)
        want = ops.masked_similarity(maps, perm, lam, **mix)
        for tokens in (maps.flatten(2), maps.flatten(2).transpose(1, 2), maps.flatten(2).transpose(1, 2).contiguous()):
            torch.testing.assert_close(ops.masked_similarity(tokens, perm, lam, grid=sides, **mix), want)
    with pytest.raises(ValueError, match=r"could be \(N, D, L\): pass features.unflatten\(2, \(2, 2\)\)"):
        ops.masked_similarity(torch.rand(N, 24, 4), perm, lam, grid=(2, 2))
    for grid in [(), (1, 2, 3, 4), 4, "22"]:
        with pytest.raises(ValueError, match="grid must be"):
            ops.masked_similarity(torch.rand(N, 4, D), perm, lam, grid=grid)


def test_the_op_checks_for_itself():
    absent, maps, perm, lam = torch.empty(0), torch.rand(N, D, 4), GOOD["perm"], GOOD["lam"]
    good = [maps, absent, absent, perm, lam, *[absent] * 4, 1, 2, 2, 4, 4, False, 0, 0.0, 0, 0.0]
    torch.ops.sumix.masked_similarity(*good)
    for at, value, message in [
        (0, maps[0], "features"),
        (0, maps.long(), "features"),
        (0, torch.rand(N, 4, D).transpose(1, 2), "contiguous"),
        (3, perm.int(), "perm"),
        (3, perm[:2], "perm"),
        (4, lam.double(), "lam"),
        (5, GOOD["box"][:, :2].contiguous(), "box"),
        (6, torch.ones(N, 4, 5), "mask"),
        (6, torch.ones(N, 4, 4, dtype=torch.long), "mask"),
        (7, GOOD["resize"], "resize needs a box"),
        (8, lam.double(), "gate"),
        (8, lam[:2], "gate"),
        (9, 0, "frames"),
        (10, 3, "places"),
        (10, 2**31, "h must be"),
        (12, 0, "height"),
        (15, 3, "evidence"),
        (15, 1, "class_weight"),
        (15, 2, "objects"),
        (17, 4, "rule"),
        (17, -1, "rule"),
        (18, 1.5, "area_weight"),
        (18, math.nan, "area_weight"),
    ]:
        bad = list(good)
        bad[at] = value
        with pytest.raises(RuntimeError, match=message):
            torch.ops.sumix.masked_similarity(*bad)


def test_sizes_whose_product_overflows_are_refused():
    """2^61 + 7648 places in each of 8 frames are 61184 in 64 bits."""
    h, w, frames = 1518494220, 1518506280, 8
    places = frames * h * w % 2**64
    absent, one = torch.empty(0), torch.zeros(1, dtype=torch.long)
    how = (one, torch.rand(1), torch.tensor([[0, 0, 1, 1]]), absent, absent, absent)
    with pytest.raises(RuntimeError, match="less than 2\\^31 places"):
        torch.ops.sumix.masked_similarity(
            torch.rand(1, 1, places), absent, one, *how, frames, h, w, 4, 4, False, 0, 0.0, 0, 0.0
        )
