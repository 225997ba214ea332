"""Partners from other ranks: two processes with half the batch each make the mixes that one makes of all of it."""

import os
from dataclasses import replace

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from sumix import CutMix, MixUp, SUMixLoss, SUMixOutput
from tests.mixers import MIXERS

NAMES = ("CutMix", "MixUp", "SaliencyMix", "FMix", "ResizeMix bilinear", "RandomMix all")
N = 12


def batch():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(N, 3, 16, 14, generator=generator),
        torch.randint(0, 4, (N,), generator=generator),
        torch.randint(0, 9, (N, 16, 14), generator=generator),
    )


# The loss of one process, and what it takes to be that of two.
RATIOS = {
    "semantic": {},
    "published": {"distance_scale": 3.0},
    "area": {"reduction": "none"},
    "feature": {"label_smoothing": 0.1},
    "cam": {"reduction": "sum"},
    "object": {},
}


def network_outputs():
    """z, v, r, u."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(N, 4, generator=generator, dtype=torch.float64) for _ in range(4)]


def features():
    return torch.rand(N, 5, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def criterion(ratio, **options):
    return SUMixLoss(gamma=0.4, ratio=ratio, return_parts=True, **options)


def loss_and_gradients(losses, outputs, target, maps):
    z, v, r, u = outputs
    weight = torch.linspace(-1, 1, 20, dtype=torch.float64).view(4, 5)
    raw = SUMixOutput(r, u, maps, class_weight=weight)
    objects = {"objects": maps[:, 0]} if losses.ratio == "object" else {}
    loss, parts = losses(SUMixOutput(z, v), raw, target, **objects)
    return loss.detach(), parts.lam, *torch.autograd.grad(loss.sum(), outputs, materialize_grads=True)


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the host's name resolves to
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    mine = slice(rank * N // 2, (rank + 1) * N // 2)
    images, labels, maps = (part[mine].contiguous() for part in batch())
    results = {}
    for name in NAMES:
        for per_sample in (True, False):
            mix = MIXERS[name](cross_rank=True, ignore_index=99, per_sample=per_sample, partners="cross_class")
            seed = torch.tensor(5 if rank == 0 else 6)  # the first rank's counts
            results[name, per_sample] = mix(images, labels, maps, seed=seed)
    outputs = [part[mine].clone().requires_grad_() for part in network_outputs()]
    for ratio, options in RATIOS.items():
        losses = criterion(ratio, **options, cross_rank=True)
        target = results["CutMix", True][1]
        results[ratio] = loss_and_gradients(losses, outputs, target, features()[mine])
        small = replace(target, y_a=target.y_a.byte(), y_b=target.y_b.byte())  # which cannot hold -100
        same = loss_and_gradients(losses, outputs, small, features()[mine])
        assert all(torch.equal(one, other) for one, other in zip(same, results[ratio], strict=True))
    with pytest.raises(ValueError, match=r"target.perm must be from 0 to 11, counting through all ranks' samples"):
        loss_and_gradients(losses, outputs, replace(target, perm=target.perm + N), features()[mine])
    soft = CutMix(cross_rank=dist.group.WORLD, num_classes=4)(images, labels)[1]
    assert soft.shape == (N // 2, 4)
    with pytest.raises(ValueError, match="images must not require gradients with cross_rank"):
        CutMix(cross_rank=True)(images.clone().requires_grad_(), labels)
    torch.save(results, f"{folder}/{rank}")
    dist.destroy_process_group()


def test_two_ranks_mix_as_one(tmp_path):
    multiprocessing.spawn(one_of_two, args=(tmp_path,), nprocs=2)
    halves = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    images, labels, maps = batch()
    crossed = 0
    for name in NAMES:
        for per_sample in (True, False):
            mix = MIXERS[name](ignore_index=99, per_sample=per_sample, partners="cross_class")
            mixed, target, marked = mix(images, labels, maps, seed=5)
            (first, said_first, maps_first), (second, said_second, maps_second) = (h[name, per_sample] for h in halves)
            torch.testing.assert_close(torch.cat([first, second]), mixed, rtol=0, atol=1e-6)
            assert torch.equal(torch.cat([maps_first, maps_second]), marked)
            for part in ("y_a", "y_b", "lam", "perm"):
                halves_of_it = [getattr(said_first, part), getattr(said_second, part)]
                assert torch.equal(torch.cat(halves_of_it), getattr(target, part))
            crossed += int((said_first.perm >= N // 2).sum())
    assert crossed > 0
    target = MIXERS["CutMix"](partners="cross_class")(images, labels, seed=5)[1]
    for ratio, options in RATIOS.items():
        outputs = [part.requires_grad_() for part in network_outputs()]
        loss, lam, *grads = loss_and_gradients(criterion(ratio, **options), outputs, target, features())
        (first, lam_first, *grads_first), (second, lam_second, *grads_second) = (half[ratio] for half in halves)
        torch.testing.assert_close(torch.cat([lam_first, lam_second]), lam)
        share = 2 if options.get("reduction", "mean") == "mean" else 1  # DistributedDataParallel takes the mean
        both = torch.cat([first, second]) if loss.ndim else (first + second) / share
        torch.testing.assert_close(both, loss)
        for one, other, whole in zip(grads_first, grads_second, grads, strict=True):
            torch.testing.assert_close(torch.cat([one, other]) / share, whole)


def test_misuse_is_named():
    images, labels, _ = batch()
    with pytest.raises(TypeError, match=r"cross_rank must be a bool or a torch\.distributed\.ProcessGroup, got int"):
        CutMix(cross_rank=1)
    with pytest.raises(ValueError, match=r"cross_rank must be False, or torch\.distributed\.init_process_group"):
        MixUp(cross_rank=True)(images, labels)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.uint16, torch.bfloat16, torch.float64])
def test_images_of_any_dtype_are_gathered(tmp_path, monkeypatch, dtype):
    """Also of those that the backends do not know."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    images, labels = (torch.rand(4, 3, 8, 8) * 9).to(dtype), torch.arange(4)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        mixed, _ = CutMix(cross_rank=True)(images, labels, seed=3)
    finally:
        dist.destroy_process_group()
    assert torch.equal(mixed, CutMix()(images, labels, seed=3)[0])
