"""RandomMix: which mixer a batch or a sample gets, and whose options count."""

import pytest
import torch
from scipy import stats

from sumix import CutMix, FMix, GridMix, MixUp, RandomMix, ResizeMix, SaliencyMix
from tests.mixers import naive_mix


def kinds(target):
    """0 where a box was pasted, 1 where images were blended, by lam or by mask (N,)."""
    if target.box is None:
        return torch.ones_like(target.lam)
    return (target.box[:, 2] <= target.box[:, 0]).float()


def test_rows_are_chosen_by_weight():
    images, labels = torch.randn(4000, 1, 8, 8), torch.zeros(4000, dtype=torch.int64)
    mix = RandomMix([CutMix(minmax=(0.5, 0.9)), MixUp()], weights=[3, 1], per_sample=True)
    _, target = mix(images, labels, seed=1)
    blended = kinds(target) == 1
    assert stats.binomtest(int(blended.sum()), 4000, 0.25).pvalue > 0.01
    assert target.mask.shape == (4000, 1, 1)
    assert (target.mask[~blended] == 1).all() and torch.equal(target.mask[blended].flatten(), target.lam[blended])
    assert stats.kstest(target.lam[blended].numpy(), "uniform").pvalue > 0.01


def test_batches_are_chosen_by_weight():
    images, labels = torch.randn(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)
    mix, generator = RandomMix([CutMix(minmax=(0.5, 0.9)), MixUp()], [1, 3]), torch.Generator().manual_seed(0)
    found = [kinds(mix(images, labels, generator=generator)[1]) for _ in range(400)]
    assert all((kind == kind[0]).all() for kind in found)
    assert stats.binomtest(int(sum(kind[0] for kind in found)), 400, 0.75).pvalue > 0.01


def test_the_choice_is_the_same_wherever_it_is_made():
    """In eager mode on CPU one mixer is run; elsewhere a choice among all of them gives the same images."""
    torch._dynamo.reset()
    images, labels = torch.randn(6, 3, 12, 12), torch.arange(6)
    mix = RandomMix([CutMix(), MixUp(), FMix(), ResizeMix(per_sample=False)])
    compiled = torch.compile(mix, fullgraph=True, backend="aot_eager")
    for seed in range(8):
        mixed, target = mix(images, labels, seed=torch.tensor(seed))
        other, _ = compiled(images, labels, seed=torch.tensor(seed))
        torch.testing.assert_close(mixed, other, rtol=0, atol=1e-6)
        torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)


def test_one_weight_takes_all_and_mixes_nest():
    images, labels = torch.randn(6, 3, 12, 12), torch.arange(6)
    inner = RandomMix([CutMix(), MixUp()], [0, 1], per_sample=True)
    for mix in (RandomMix([inner, CutMix()], [1, 0]), RandomMix([inner, CutMix()], [1, 0], per_sample=True)):
        mixed, target = mix(images, labels, seed=3)
        assert (kinds(target) == 1).all()
        torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)


@pytest.mark.parametrize("looks", [SaliencyMix(), SaliencyMix(per_sample=False)])
def test_nested_mixers_see_what_they_look_at(looks):
    images, labels = torch.rand(6, 3, 12, 12), torch.arange(6)
    for inner in (RandomMix([looks, MixUp()]), RandomMix([MixUp(), looks], per_sample=True)):
        mix = RandomMix([inner, CutMix()], [4, 1], per_sample=True)
        for seed in range(4):
            mixed, target = mix(images, labels, seed=seed)
            torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)


def test_what_it_takes_does_not_depend_on_the_draw():
    images, labels, maps = torch.rand(4, 3, 8, 8), torch.arange(4), torch.randint(0, 9, (4, 8, 8))
    switch, hard = RandomMix([CutMix(), MixUp()], [9, 1]), RandomMix([CutMix(), FMix(), GridMix()], p=0.5)
    for seed in range(8):  # blending is possible each time, whether it is drawn or not
        with pytest.raises(TypeError, match=r"images must be floating point.*got torch.bool"):
            switch(images > 0.5, labels, seed=seed)
        with pytest.raises(ValueError, match=r"ignore_index must be given to mix extras\[0\]"):
            switch(images, labels, maps, seed=seed)
        mixed, target, others = hard(images > 0.5, labels, maps, seed=seed)
        assert torch.equal(mixed, naive_mix(images > 0.5, target))
        assert torch.equal(others, naive_mix(maps[:, None], target)[:, 0])


def test_default_dtype_is_of_no_account():
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    mix = RandomMix([CutMix(), MixUp()], p=0.3, num_classes=4)
    wanted = [mix(images, labels, seed=seed)[1] for seed in range(4)]
    torch.set_default_dtype(torch.float64)
    try:
        assert all(torch.equal(mix(images, labels, seed=seed)[1], want) for seed, want in enumerate(wanted))
        assert CutMix(normalize=(0.1, 0.2))._mean.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_options_come_from_all_mixers_or_from_it():
    images, labels = torch.randn(6, 3, 12, 12), torch.arange(6)
    assert RandomMix([CutMix(num_classes=6), MixUp(num_classes=6)])(images, labels)[1].shape == (6, 6)
    assert RandomMix([CutMix(), MixUp()], num_classes=7, label_smoothing=0.1)(images, labels)[1].shape == (6, 7)
    with pytest.raises(ValueError, match="num_classes must be given to RandomMix alone, or be the same"):
        RandomMix([CutMix(num_classes=6), MixUp()])
    means = [torch.tensor([0.1, 0.2, 0.3]) for _ in range(3)]
    mix = RandomMix([CutMix(normalize=(means[0], means[1])), MixUp(normalize=(means[2], means[1].clone()))])
    assert mix((images * 9).to(torch.uint8), labels)[0].dtype == torch.float32
    with pytest.raises(ValueError, match="normalize must be given to RandomMix alone, or be the same"):
        RandomMix([CutMix(normalize=(means[0], means[1])), MixUp(normalize=(means[2] * 2, means[1]))])
    with pytest.raises(ValueError, match="partners must be given to RandomMix alone"):
        RandomMix([CutMix(partners="no_fixed_points")], partners="cross_class")


@pytest.mark.parametrize(
    ("mixers", "options", "error", "message"),
    [
        ([], {}, TypeError, "mixers must be a list of sumix's transforms"),
        (CutMix(), {}, TypeError, "mixers must be a list of sumix's transforms, got CutMix"),
        (
            [CutMix(), torch.nn.Identity()],
            {},
            TypeError,
            r"mixers\[1\] must be one of sumix's transforms, got Identity",
        ),
        ([CutMix(generator=torch.Generator())], {}, ValueError, r"mixers\[0\] must have no generator"),
        ([CutMix(inplace=True)], {}, ValueError, r"mixers\[0\] must not work in place"),
        ([CutMix(), MixUp()], {"weights": [1]}, ValueError, "weights must be a list of 2 numbers"),
        ([CutMix(), MixUp()], {"weights": [1, -1]}, ValueError, r"weights\[1\] must be from 0"),
        ([CutMix(), MixUp()], {"weights": [0, 0]}, ValueError, "weights must not all be 0"),
        ([CutMix(), MixUp()], {"alpha": 1.0}, TypeError, "alpha"),
    ],
)
def test_bad_input_is_named(mixers, options, error, message):
    with pytest.raises(error, match=message):
        RandomMix(mixers, **options)


def test_repr():
    mix = RandomMix([CutMix(alpha=0.2), MixUp()], [3, 1], num_classes=5)
    assert "weights=(0.75, 0.25), num_classes=5" in repr(mix) and "CutMix(alpha=0.2)" in repr(mix)
