"""SUMixCollate in a DataLoader, and the transforms where others expect theirs."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

from benchmarks import peers
from sumix import CutMix, FMix, MixTarget, MixUp, RandomMix, SUMixCollate
from tests.mixers import naive_mix


def dataset(n=24):
    return TensorDataset(torch.randn(n, 3, 12, 10), torch.arange(n), torch.rand(n, 12, 10))


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
def test_in_the_workers_of_a_loader():
    data = dataset()
    mix = RandomMix([CutMix(), MixUp(), FMix()], per_sample=True)
    loader = DataLoader(data, batch_size=6, num_workers=2, pin_memory=True, collate_fn=SUMixCollate(mix))
    batches = list(loader)
    for images, mixed, target, depth in batches:
        assert type(target) is MixTarget
        torch.testing.assert_close(mixed, naive_mix(images, target), rtol=0, atol=1e-6)
        torch.testing.assert_close(mixed, target.mix(images), rtol=0, atol=1e-6)
        torch.testing.assert_close(depth, target.mix(data.tensors[2][target.y_a]), rtol=0, atol=1e-6)
    assert torch.equal(torch.cat([target.y_a for _, _, target, _ in batches]), torch.arange(24))
    assert len(torch.cat([target.lam for _, _, target, _ in batches]).unique()) > 12  # workers draw different numbers


def test_unmixed_images_are_normalised_too():
    images, mean, std = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8), (0.4, 0.5, 0.6), 0.2
    mix = CutMix(normalize=(mean, std), dtype=torch.bfloat16)
    raw, mixed, target = SUMixCollate(mix)(list(zip(images, range(6), strict=True)))
    assert raw.dtype == mixed.dtype == torch.bfloat16
    wanted = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / std
    torch.testing.assert_close(raw.float(), wanted, rtol=1e-2, atol=1e-5)
    assert torch.equal(target.mix(raw), mixed)
    assert CutMix().unmixed(images) is images


@pytest.mark.parametrize("keys", [("image", "label"), ("pixel_values", "labels")])
def test_dictionaries_remain_dictionaries(keys):
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    samples = [{keys[0]: images[k], keys[1]: k, "name": f"cat{k}"} for k in range(6)]
    mix = CutMix()
    batch = SUMixCollate(mix)(samples)
    assert list(batch) == [*samples[0], f"raw_{keys[0]}"] and batch["name"] == [f"cat{k}" for k in range(6)]
    assert torch.equal(batch[f"raw_{keys[0]}"], images) and torch.equal(batch[keys[1]].y_a, labels)
    assert torch.equal(batch[keys[0]], batch[keys[1]].mix(images))
    batch = SUMixCollate(CutMix(num_classes=6), raw=False)(samples)
    assert list(batch) == list(samples[0]) and batch[keys[1]].shape == (6, 6)
    loader = DataLoader(samples, batch_size=3, num_workers=1, collate_fn=SUMixCollate(mix))
    assert [type(batch[keys[1]]) for batch in loader] == [MixTarget] * 2
    with pytest.raises(ValueError, match=f"collate_fn must leave 'raw_{keys[0]}' free"):
        SUMixCollate(mix)([{**sample, f"raw_{keys[0]}": 1} for sample in samples])


def test_names_that_nobody_reads_are_refused():
    collate = SUMixCollate(CutMix(num_classes=24))
    with pytest.raises(AttributeError, match="normalize"):
        collate.normalize = True
    collate.raw = "no"
    with pytest.raises(TypeError, match="raw must be a bool"):
        collate([(torch.rand(3, 8, 8), 1)] * 4)


def test_sequences_remain_what_they_are():
    samples = [(torch.rand(3, 8, 8), k, k + 100) for k in range(6)]
    for kind in (tuple, list):
        collate = SUMixCollate(CutMix(), collate_fn=lambda given, kind=kind: kind(default_collate(given)))
        found = collate(samples)
        assert type(found) is kind and [type(part) for part in found[:3]] == [torch.Tensor, torch.Tensor, MixTarget]
        assert found[3].tolist() == list(range(100, 106))  # whose own sample it is, and not mixed


def test_without_the_unmixed_images():
    loader = DataLoader(dataset(), batch_size=6, collate_fn=SUMixCollate(CutMix(num_classes=24), raw=False))
    for mixed, soft, depth in loader:
        assert (mixed.shape, soft.shape, depth.shape) == ((6, 3, 12, 10), (6, 24), (6, 12, 10))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SUMixCollate(torch.nn.Identity()), TypeError, "mix must be one of sumix's transforms, got Identity"),
        (lambda: SUMixCollate(CutMix(), collate_fn=3), TypeError, "collate_fn must be callable, got int"),
        (lambda: SUMixCollate(CutMix(), raw=1), TypeError, "raw must be a bool"),
        (lambda: SUMixCollate(CutMix(cross_rank=True)), ValueError, "mix must not have cross_rank"),
        (lambda: SUMixCollate(RandomMix([MixUp(cross_rank=True)])), ValueError, "mix must not have cross_rank"),
        (lambda: SUMixCollate(CutMix(inplace=True)), ValueError, "raw must be False where mix works in place"),
        (
            lambda: SUMixCollate(CutMix(), collate_fn=lambda samples: torch.zeros(3))([]),
            TypeError,
            r"collate_fn must make \(images, labels, \.\.\.\) or a dictionary, got Tensor",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif(peers.load("torchvision") is None, reason="torchvision is not installed")
def test_a_choice_of_torchvisions():
    v2 = peers.load("torchvision").transforms.v2
    how = {"normalize": (0.5, 0.25), "dtype": torch.bfloat16}
    choice = v2.RandomChoice([CutMix(**how), v2.RandomChoice([MixUp(**how), FMix(**how)])], p=[0.5, 0.5])
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    for samples in (
        [(images[k], k) for k in range(6)],
        [{"image": images[k], "label": k} for k in range(6)],
    ):
        kinds = set()
        for _ in range(40):
            found = SUMixCollate(choice)(samples)
            raw, mixed, target = (
                found if isinstance(samples[0], tuple) else (found["raw_image"], found["image"], found["label"])
            )
            assert torch.equal(raw, CutMix(**how).unmixed(images)) and mixed.shape == raw.shape
            kinds.add((target.box is None, target.mask is None))
        assert len(kinds) == 3
    for other, name in ((MixUp(), "normalize"), (MixUp(**how, num_classes=6), "num_classes")):
        with pytest.raises(ValueError, match=f"mix must be a choice of mixers with the same {name}"):
            SUMixCollate(v2.RandomChoice([CutMix(**how), other]))
    mixers = [kind(normalize=(torch.full((3,), 0.5), scale)) for kind, scale in ((CutMix, 0.25), (MixUp, [0.25] * 3))]
    with pytest.raises(ValueError, match="a choice of mixers with the same normalize"):
        SUMixCollate(v2.RandomChoice(mixers))
    mixers[1].normalize = [torch.full((3,), 0.5), 0.25]  # another tensor of the same values
    images, mixed, _ = SUMixCollate(v2.RandomChoice(mixers))([(torch.ones(3, 4, 4, dtype=torch.uint8), 1)] * 4)
    torch.testing.assert_close(images, mixed)
    for other in (v2.RandomApply([CutMix()]), v2.RandomChoice([CutMix(), v2.Identity()])):
        with pytest.raises(TypeError, match=r"mix must be one of sumix's transforms, got (RandomApply|Identity)"):
            SUMixCollate(other)


@pytest.mark.skipif(peers.load("torchvision") is None, reason="torchvision is not installed")
def test_inside_torchvisions_random_choice():
    v2 = peers.load("torchvision").transforms.v2
    choice = v2.RandomChoice([CutMix(num_classes=5), MixUp(num_classes=5), FMix(num_classes=5)])
    for _ in range(6):
        mixed, soft = choice(torch.rand(4, 3, 8, 8), torch.arange(4))
        assert mixed.shape == (4, 3, 8, 8)
        torch.testing.assert_close(soft.sum(1), torch.ones(4))
