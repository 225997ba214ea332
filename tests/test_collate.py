"""SUMixCollate in a DataLoader, and the transforms where others expect theirs."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

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
            r"collate_fn must make \(images, labels, \.\.\.\), got Tensor",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif(peers.load("torchvision") is None, reason="torchvision is not installed")
def test_inside_torchvisions_random_choice():
    v2 = peers.load("torchvision").transforms.v2
    choice = v2.RandomChoice([CutMix(num_classes=5), MixUp(num_classes=5), FMix(num_classes=5)])
    for _ in range(6):
        mixed, soft = choice(torch.rand(4, 3, 8, 8), torch.arange(4))
        assert mixed.shape == (4, 3, 8, 8)
        torch.testing.assert_close(soft.sum(1), torch.ones(4))
