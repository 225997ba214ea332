"""Options that are changed after a mixer was made: served, checked, or refused by name."""

import copy
import pickle

import pytest
import torch

from sumix import CutMix, FMix, GridMix, Mixer, MixUp, RandomMix, ResizeMix, SaliencyMix, SmoothMix
from tests.mixers import MIXERS

IMAGES, LABELS = torch.rand(6, 3, 12, 12), torch.arange(6)


# ---- timm's switch ----


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_that_is_switched_off_leaves_everything_as_it_is(name):
    mix = MIXERS[name](ignore_index=9)
    masks = torch.randint(0, 5, (6, 12, 12))
    mix.mixup_enabled = False
    mixed, target, same = mix(IMAGES, LABELS, masks, seed=1)
    assert torch.equal(mixed, IMAGES) and (target.lam == 1).all() and torch.equal(same, masks)
    assert torch.equal(target.mix(IMAGES), IMAGES) and "mixup_enabled=False" in repr(mix)
    mix.mixup_enabled = True
    want, _ = MIXERS[name](ignore_index=9)(IMAGES, LABELS, seed=1)
    assert torch.equal(mix(IMAGES, LABELS, seed=1)[0], want) and not torch.equal(want, IMAGES)


@pytest.mark.parametrize("name", ["CutMix", "MixUp", "FMix", "RandomMix all"])
def test_images_are_normalised_and_labels_smoothed_all_the_same(name):
    pixels = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8)
    mix = MIXERS[name](num_classes=6, label_smoothing=0.1, normalize=(0.5, 0.25))
    mix.mixup_enabled = False
    mixed, soft = mix(pixels, LABELS)
    torch.testing.assert_close(mixed, (pixels / 255 - 0.5) / 0.25)
    torch.testing.assert_close(soft, 0.9 * torch.eye(6) + 0.1 / 6)


def test_one_of_several_is_switched_off():
    for per_sample in (False, True):
        mix = RandomMix([CutMix(minmax=(0.5, 0.9)), MixUp()], per_sample=per_sample)
        mix.mixers[0].mixup_enabled = False
        for seed in range(8):
            target = mix(IMAGES, LABELS, seed=seed)[1]
            assert target.box is None or (target.box == 0).all()
        mix.mixers[1].mixup_enabled = False
        assert all(torch.equal(mix(IMAGES, LABELS, seed=seed)[0], IMAGES) for seed in range(8))


def test_the_switch_reaches_compiled_code():
    torch._dynamo.reset()
    mix = CutMix()
    compiled = torch.compile(mix, fullgraph=True, backend="aot_eager")
    assert not torch.equal(compiled(IMAGES, LABELS, seed=torch.tensor(1))[0], IMAGES)
    mix.mixup_enabled = False
    assert torch.equal(compiled(IMAGES, LABELS, seed=torch.tensor(1))[0], IMAGES)


# ---- Values ----


@pytest.mark.parametrize(
    ("mix", "option", "value", "error"),
    [
        (CutMix(), "alpha", 0, ValueError),
        (CutMix(), "minmax", (0.8, 0.2), ValueError),
        (CutMix(), "p", 2, ValueError),
        (CutMix(), "inplace", 1, TypeError),
        (CutMix(), "per_sample", 1, TypeError),
        (CutMix(), "num_classes", 0, ValueError),
        (CutMix(), "label_smoothing", 0.1, ValueError),
        (CutMix(), "multi_label", True, ValueError),
        (CutMix(), "normalize", 0.5, TypeError),
        (CutMix(), "dtype", torch.float16, ValueError),
        (CutMix(), "ignore_index", 0.5, TypeError),
        (CutMix(), "cross_rank", 1, TypeError),
        (CutMix(), "generator", 1, TypeError),
        (CutMix(), "labels_getter", None, TypeError),
        (CutMix(), "mixup_enabled", 0, TypeError),
        (MixUp(), "alpha", -1, ValueError),
        (MixUp(), "partners", "all", ValueError),
        (FMix(), "decay", -1, ValueError),
        (FMix(), "max_soft", 0.6, ValueError),
        (ResizeMix(), "scope", (0.5, 2), ValueError),
        (ResizeMix(), "mode", "cubic", ValueError),
        (GridMix(), "cells", (0, 2), ValueError),
        (GridMix(), "area", (2, 3), ValueError),
        (SaliencyMix(), "order", "grb", ValueError),
        (SaliencyMix(), "mean", 0.5, ValueError),
        (SmoothMix(), "spread", (2, 1), ValueError),
        (RandomMix([CutMix(), MixUp()]), "weights", [1], ValueError),
        (RandomMix([CutMix(), MixUp()]), "p", -1, ValueError),
    ],
)
def test_what_would_be_refused_is_refused_later_too(mix, option, value, error):
    before = getattr(mix, option)
    setattr(mix, option, value)
    for call in (lambda: mix(IMAGES, LABELS), lambda: mix.unmixed(IMAGES), lambda: RandomMix([mix])(IMAGES, LABELS)):
        with pytest.raises(error, match=option):
            call()
    setattr(mix, option, before)
    assert mix(IMAGES, LABELS)[0].shape == IMAGES.shape


def test_changes_are_served():
    pixels = (IMAGES * 255).byte()
    mix = CutMix()
    mix.normalize, mix.dtype = (0.5, 0.25), torch.bfloat16
    want = CutMix(normalize=(0.5, 0.25), dtype=torch.bfloat16)(pixels, LABELS, seed=1)[0]
    assert torch.equal(mix(pixels, LABELS, seed=1)[0], want)
    mix.normalize = (0.4, 0.25)
    assert not torch.equal(mix(pixels, LABELS, seed=1)[0], want)
    mix.normalize, mix.dtype, mix.minmax = None, torch.float32, (0.2, 0.4)
    assert torch.equal(mix(pixels, LABELS, seed=1)[0], CutMix(minmax=(0.2, 0.4))(pixels, LABELS, seed=1)[0])


def test_the_mixers_of_a_randommix_are_checked_with_it():
    mix = RandomMix([RandomMix([CutMix(), MixUp()]), FMix()])
    mix.mixers[0].mixers[1].alpha = -1
    with pytest.raises(ValueError, match="alpha must be from 0"):
        mix(IMAGES, LABELS)
    mix.mixers[0].mixers[1].alpha = 1
    mix.mixers[1].num_classes = 6  # which nobody would ask it for
    with pytest.raises(ValueError, match=r"num_classes must be set at RandomMix itself.* mixers\[1\]"):
        mix(IMAGES, LABELS)
    mix.mixers[1].num_classes, mix.num_classes = None, 6
    assert mix(IMAGES, LABELS)[1].shape == (6, 6)
    mix.mixers[1].generator = torch.Generator()
    with pytest.raises(ValueError, match="generator must be set at RandomMix itself"):
        mix(IMAGES, LABELS)
    mix.mixers[1].generator = None
    for other, error, message in [
        (FMix(num_classes=6), ValueError, "num_classes must be set at RandomMix itself"),
        (FMix(generator=torch.Generator()), ValueError, "generator must be set at RandomMix itself"),
        (torch.nn.Identity(), TypeError, r"mixers\[1\] must be one of sumix's transforms, got Identity"),
    ]:
        before, mix.mixers[1] = mix.mixers[1], other
        with pytest.raises(error, match=message):
            mix(IMAGES, LABELS)
        mix.mixers[1] = before
    mix.mixers[1] = MixUp()
    assert mix(IMAGES, LABELS)[1].shape == (6, 6)
    mix.mixers.append(MixUp())
    with pytest.raises(ValueError, match="mixers must stay 2, got 3"):
        mix(IMAGES, LABELS)


# ---- Names ----


@pytest.mark.parametrize(
    ("mix", "name"),
    [
        (CutMix(), "prob"),
        (CutMix(), "mixup_alpha"),
        (CutMix(), "DIMS2"),
        (MixUp(), "minmax"),
        (MixUp(), "inplace"),
        (MixUp(), "volume"),
        (ResizeMix(), "volume"),
        (RandomMix([CutMix(), MixUp()]), "switch_prob"),
        (RandomMix([CutMix(), MixUp()]), "alpha"),
    ],
)
def test_names_that_nobody_reads_are_refused(mix, name):
    for other in (mix, copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))):
        wanted = f"{type(mix).__name__} has no option '{name}'; there are .*mixup_enabled"
        with pytest.raises(AttributeError, match=wanted):
            setattr(other, name, 0.5)


def test_what_modules_are_set_is_no_option():
    mix = CutMix()
    mix.train(False).requires_grad_(False).to("cpu")
    mix._hf_hook = 1  # as wrappers do
    forward = mix.forward
    mix.forward = lambda *args: forward(*args)
    assert mix(IMAGES, LABELS)[0].shape == IMAGES.shape and not mix.training


class Halves(Mixer):
    """Somebody's own mixer: the left part is the image's own."""

    blends = False
    part = 2

    def __init__(self, share=0.5, **shared):
        super().__init__(**shared)
        self.share = share
        self.memory = torch.nn.Linear(1, 1)

    def check_options(self):
        super().check_options()
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {self.share}")

    def draw(self, seed, n, size, seen):
        height, width = size
        kept = int(width * self.share)
        box = torch.tensor([kept, 0, width, height]).expand(n, 4).contiguous()
        return type(CutMix().draw(seed, 0, size, []))(torch.full((n,), kept / width), box)


class Quarters(Halves):
    """One that only has another default."""

    part = 4


def test_mixers_of_ones_own_have_options_of_their_own():
    for kind in (Halves, Quarters):
        mix = kind(num_classes=6)
        assert (mix(IMAGES, LABELS)[1].sum(1) == 1).all()
        mix.share, mix.part = 0.25, 3
        mixed, _ = mix(IMAGES, LABELS)
        assert torch.equal(mixed[..., :3], IMAGES[..., :3])
        mix.share = 2
        with pytest.raises(ValueError, match="share must be from 0 to 1"):
            mix(IMAGES, LABELS)
        with pytest.raises(AttributeError, match=f"{kind.__name__} has no option 'shares'; there are .*share"):
            mix.shares = 0.5
        with pytest.raises(ValueError, match="share must be"):
            kind(share=-1)
