import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sumix import ops, reference

SIZES = [(1, 1), (1, 5), (7, 1), (9, 14), (16, 16), (17, 5), (1,), (23,)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [0, 1, 12])
def test_grid_masks_match_the_twin_pixel_by_pixel(n, size):
    box, cells = ops.sample_grid(n, size, seed=3)
    lam = ops.sample_lam(n, 1.0, seed=4)
    lam[:2] = torch.tensor([1.0, 0.0])[:n]
    mask, exact = ops.grid_mask(box, cells, lam, size)
    assert mask.dtype == torch.bool and mask.shape == (n, *size) and exact.dtype == torch.float32
    want, mean = reference.grid_mask(box, cells, lam, size)
    assert torch.equal(mask, want)
    torch.testing.assert_close(exact, mean, rtol=1e-6, atol=1e-7)


def test_grid_masks_of_a_known_grid():
    box, cells, lam = torch.tensor([[1, 1, 9, 7]]), torch.tensor([3]), torch.tensor([0.5])  # cells of 3, holes of 2
    hole = [[int(x in (1, 2, 4, 5, 7, 8) and y in (1, 2, 4, 5)) for x in range(10)] for y in range(8)]
    mask, exact = ops.grid_mask(box, cells, lam, (8, 10))
    assert torch.equal(mask[0], torch.tensor(hole) == 0)
    assert exact.item() == pytest.approx(1 - 24 / 80)
    mask, exact = ops.grid_mask(torch.tensor([[2, 10]]), cells, lam, 12)
    assert torch.equal(mask[0], torch.tensor([x not in (2, 5, 8) for x in range(12)]))
    assert exact.item() == 0.75


def test_grid_holes_are_a_pixel_at_least_and_leave_one_at_least():
    box, cells = torch.tensor([[0, 0, 12, 12]] * 4), torch.tensor([3, 3, 3, 12])
    lam = torch.tensor([0.9999, 0.0, 1.0, 0.5])
    mask, exact = ops.grid_mask(box, cells, lam, (12, 12))
    assert torch.equal((~mask).sum(dim=(1, 2)), torch.tensor([9, 9 * 9, 0, 0]))  # a cell of one pixel has no hole
    assert exact[2] == exact[3] == 1
    mask, exact = ops.grid_mask(torch.tensor([[3, 3, 3, 3]]), torch.tensor([4]), torch.tensor([0.2]), (12, 12))
    assert mask.all() and exact.item() == 1


@pytest.mark.parametrize("size", SIZES)
def test_rectangles_lie_in_the_image(size):
    box, cells = ops.sample_grid(500, size, area=(0, 1), aspect=(0.1, 10), seed=1)
    assert box.dtype == cells.dtype == torch.int64 and box.shape == (500, 2 * len(size))
    start, end = box[:, : len(size)], box[:, len(size) :]
    assert (start >= 0).all() and (end > start).all() and (end <= torch.tensor(size).flip(0)).all()
    assert (start.amin(dim=0) == 0).all() and (end.amax(dim=0) == torch.tensor(size).flip(0)).all()
    assert set(cells.tolist()) == {2, 3, 4, 5, 6}


def test_rectangles_have_the_area_and_aspect_asked_for():
    box, cells = ops.sample_grid(2000, (400, 300), area=(0.1, 0.2), aspect=(0.5, 1.5), cells=(4, 4), seed=1)
    width, height = (box[:, 2] - box[:, 0]).double(), (box[:, 3] - box[:, 1]).double()
    area, aspect = width * height / (400 * 300), height / width
    assert 0.095 < area.min() < 0.102 and 0.198 < area.max() <= 0.2
    assert abs(area.mean() - 0.15) < 0.003
    assert 0.48 < aspect.min() < 0.51 and 1.48 < aspect.max() <= 1.5
    assert (cells == 4).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [0, 1, 12])
def test_smooth_masks_match_the_float64_twin(n, size):
    centre, sigma = ops.sample_smooth(n, size, seed=3)
    sigma[:1] = 0
    mask, exact = ops.smooth_mask(centre, sigma, size)
    assert mask.dtype == exact.dtype == torch.float32 and mask.shape == (n, *size)
    want, mean = reference.smooth_mask(centre.double(), sigma.double(), size)
    torch.testing.assert_close(mask.double(), want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(exact.double(), mean, rtol=1e-5, atol=1e-6)
    assert (mask[:1] == 1).all() and (exact[:1] == 1).all()
    assert (mask >= 0).all() and (mask <= 1).all()


def test_smooth_masks_are_gaussian_about_the_middle_of_pixels():
    mask, _ = ops.smooth_mask(torch.tensor([[2.5, 1.5]]), torch.tensor([2.0]), (4, 6))
    assert mask[0, 1, 2] == 0
    assert mask[0, 1, 4].item() == pytest.approx(1 - math.exp(-0.5))
    assert mask[0, 3, 2].item() == pytest.approx(1 - math.exp(-0.5))
    mask, exact = ops.smooth_mask(torch.tensor([[2.5, 1.5]]), torch.tensor([0.0]), (4, 6))  # on a pixel, without width
    assert (mask == 1).all() and exact.item() == 1


def test_centres_and_widths_fill_their_ranges():
    centre, sigma = ops.sample_smooth(2000, (40, 30), seed=1)
    assert (centre >= 0).all() and (centre < torch.tensor([30, 40])).all()
    torch.testing.assert_close(centre.mean(dim=0), torch.tensor([15.0, 20.0]), rtol=0.05, atol=0)
    assert 10 <= sigma.min() < 10.1 and 19.9 < sigma.max() <= 20
    centre, sigma = ops.sample_smooth(3, 30, spread=(0.1, 0.1), seed=1)
    assert centre.shape == (3, 1) and torch.equal(sigma, torch.full((3,), 3.0))


def grid(lam, seed):
    return ops.grid_mask(*ops.sample_grid(lam.shape[0], (12, 10), seed=seed), lam, (12, 10))


def smooth(lam, seed):
    return ops.smooth_mask(*ops.sample_smooth(lam.shape[0], (12, 10), seed=seed), (12, 10))


@pytest.mark.parametrize("masks", [grid, smooth])
def test_compile_and_fake_tensors(masks):
    lam, seed = torch.rand(5), torch.tensor(7)
    compiled = torch.compile(masks, fullgraph=True, backend="aot_eager")
    for got, want in zip(compiled(lam, seed), masks(lam, seed), strict=True):
        torch.testing.assert_close(got, want)
    with FakeTensorMode():  # which has no numbers to look at
        assert masks(torch.rand(5), torch.zeros((), dtype=torch.int64))[0].shape == (5, 12, 10)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n", -1, ValueError),
        ("size", (4, 0), ValueError),
        ("size", (4, 4, 4), ValueError),
        ("area", (0.5, 1.5), ValueError),
        ("area", (0.7, 0.5), ValueError),
        ("area", 0.5, TypeError),
        ("area", (0.5, 0.6, 0.7), ValueError),
        ("aspect", (0, 1), ValueError),
        ("cells", (0, 3), ValueError),
        ("cells", (3, 2), ValueError),
        ("cells", (2.0, 3), TypeError),
    ],
)
def test_bad_input_of_sample_grid_is_named(name, value, error):
    with pytest.raises(error, match=name):
        ops.sample_grid(**{"n": 3, "size": (4, 4), name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("box", torch.zeros(2, 4), TypeError),
        ("box", torch.zeros(2, 2, dtype=torch.int64), ValueError),
        ("cells", torch.tensor([2]), ValueError),
        ("cells", torch.tensor([2.0, 2.0]), TypeError),
        ("lam", torch.tensor([1, 0]), TypeError),
        ("lam", torch.tensor([0.5]), ValueError),
        ("size", 0, ValueError),
    ],
)
def test_bad_input_of_grid_mask_is_named(name, value, error):
    good = {"box": torch.tensor([[0, 0, 4, 4]] * 2), "cells": torch.tensor([2, 2]), "lam": torch.rand(2)}
    ops.grid_mask(**good, size=(4, 4))
    with pytest.raises(error, match=name):
        ops.grid_mask(**{**good, "size": (4, 4), name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("centre", torch.zeros(2, 2, dtype=torch.int64), TypeError),
        ("centre", torch.zeros(2, 1), ValueError),
        ("sigma", torch.zeros(3), ValueError),
        ("sigma", torch.zeros(2, dtype=torch.int64), TypeError),
    ],
)
def test_bad_input_of_smooth_mask_is_named(name, value, error):
    good = {"centre": torch.zeros(2, 2), "sigma": torch.ones(2)}
    ops.smooth_mask(**good, size=(4, 4))
    with pytest.raises(error, match=name):
        ops.smooth_mask(**{**good, name: value}, size=(4, 4))
    with pytest.raises(ValueError, match="spread"):
        ops.sample_smooth(2, (4, 4), spread=(0.5, 0.2))
