"""Mixers with a generator in a DataLoader's workers, each of which has a copy of it in the same state."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from sumix import CutMix, MixUp, RandomMix, SUMixCollate

BATCHES = 4


class Images(Dataset):
    """Samples that are images, or, with a mixer, mixed batches."""

    def __init__(self, mix=None, of_the_call=None):
        self.mix, self.of_the_call = mix, of_the_call

    def __len__(self):
        return 4 * BATCHES if self.mix is None else BATCHES

    def __getitem__(self, index):
        images, labels = torch.zeros(4, 1, 16, 16), torch.arange(4)
        if self.mix is None:
            return images[0], index
        _, target = self.mix(images, labels, generator=self.of_the_call)
        return target.lam


class Collate:
    """Mixes by a mixer, or with a generator for each call."""

    def __init__(self, mix, of_the_call=None):
        self.mix, self.of_the_call = mix, of_the_call

    def __call__(self, samples):
        return self.mix(*default_collate(samples), generator=self.of_the_call)[1].lam


class OfSUMix:
    """The ratios alone of what SUMixCollate makes."""

    def __init__(self, mix):
        self.collate = SUMixCollate(mix)

    def __call__(self, samples):
        return self.collate(samples)[2].lam


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def blend():
    return MixUp(generator=seeded())


def switch():
    return RandomMix([MixUp(), CutMix()], per_sample=True, generator=seeded())


# By name: what makes the dataset and the collate_fn of a loader whose batches are ratios.
PLACES = {
    "collate_fn": lambda: (Images(), Collate(blend())),
    "SUMixCollate": lambda: (Images(), OfSUMix(switch())),
    "dataset": lambda: (Images(switch()), None),
    "a call's generator": lambda: (Images(), Collate(MixUp(), seeded())),
    "a call's generator in a dataset": lambda: (Images(MixUp(), seeded()), None),
}


def ratios(place, epochs=2, seed=11, **options):
    """The ratios of all batches, a row each, epoch after epoch."""
    data, collate = PLACES[place]()
    size = 4 if data.mix is None else 1
    loader = DataLoader(data, batch_size=size, num_workers=2, collate_fn=collate, generator=seeded(seed), **options)
    return torch.cat([torch.stack([lam.flatten() for lam in loader]) for _ in range(epochs)])


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_no_worker_and_no_epoch_repeats_another(place, persistent):
    found = ratios(place, persistent_workers=persistent)
    assert len(found.unique(dim=0)) == len(found) == 2 * BATCHES
    assert torch.equal(found, ratios(place, persistent_workers=persistent))  # with the same seeds, the same again


def test_the_seed_of_the_loader_counts():
    assert not torch.equal(ratios("collate_fn", epochs=1), ratios("collate_fn", epochs=1, seed=12))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_however_workers_are_started(method):
    found = ratios("SUMixCollate", multiprocessing_context=method)
    assert len(found.unique(dim=0)) == len(found) == 2 * BATCHES
    assert torch.equal(found, ratios("SUMixCollate"))  # as those that are forked


def test_without_workers_the_generator_alone_counts():
    mix = Collate(blend())
    loader = DataLoader(Images(), batch_size=4, collate_fn=mix)
    expected = MixUp()
    generator = seeded()
    for lam in loader:
        want = expected(torch.zeros(4, 1, 16, 16), torch.arange(4), generator=generator)[1].lam
        assert torch.equal(lam, want)
