"""capture_features and SUMixHead under FSDP and DistributedDataParallel: two processes, on the CPU."""

import itertools
import os

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from sumix import CutMix, SUMixHead, SUMixLoss, capture_features

K, D = 5, 12
CPU, PARTS = torch.device("cpu"), ModuleWrapPolicy({nn.Sequential, nn.Linear})
RATIOS = ("semantic", "feature", "cam")


class Network(nn.Module):
    """With a classifier of either kind; torch has no BatchNorm with weights in bfloat16 on the CPU."""

    def __init__(self, with_head, half):
        super().__init__()
        norm = nn.GroupNorm(1, 8) if half else nn.BatchNorm2d(8)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), norm, nn.ReLU())
        self.stages = nn.Sequential(nn.Conv2d(8, D, 3, 2, 1), nn.GroupNorm(1, D), nn.ReLU())
        self.fc = SUMixHead(D, K) if with_head else nn.Linear(D, K)

    def forward(self, x):
        return self.fc(self.stages(self.stem(x)).mean(dim=(2, 3)))


def sharded(how, model, half):
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if half else None, output_dtype=torch.float32)
    options = {"mesh": init_device_mesh("cpu", (2,)), "mp_policy": policy, "reshard_after_forward": True}
    if how == "classifier":
        fully_shard(model.fc, **options)
    elif how == "linear layers":
        for module in [module for module in model.modules() if isinstance(module, nn.Linear)]:
            fully_shard(module, **options)
    elif how == "first FSDP":
        return FullyShardedDataParallel(model, device_id=CPU)
    elif how == "first FSDP, linear layers":
        return FullyShardedDataParallel(model, auto_wrap_policy=PARTS, device_id=CPU)
    elif how == "DDP":
        return nn.parallel.DistributedDataParallel(model)
    return fully_shard(model, **options)


def compare(rank, how, with_head, half, capture_first):
    torch.manual_seed(0)
    alone = Network(with_head, half)
    model = Network(with_head, half)
    model.load_state_dict(alone.state_dict())
    capture_features(alone)
    if capture_first:
        capture_features(model)
    model = sharded(how, model, half)
    if not capture_first:
        capture_features(model)
    torch.manual_seed(rank)
    images, labels = torch.rand(6, 3, 16, 16), torch.randint(K, (6,))
    mixed, target = CutMix()(images, labels)
    outputs, wanted = ([network(mixed), network(images)] for network in (model, alone))
    if capture_first or how == "DDP":  # else the layer of the finer map must be named
        torch.testing.assert_close(outputs[1].fine.float(), wanted[1].fine, rtol=3e-2, atol=5e-2)
    else:
        assert outputs[1].fine is None
    near = {"rtol": 3e-2, "atol": 5e-2} if half else {"rtol": 1e-4, "atol": 1e-5}
    for ratio in RATIOS:
        criterion = SUMixLoss(0.1, ratio=ratio, return_parts=True)
        (loss, parts), (want, want_parts) = criterion(*outputs, target), criterion(*wanted, target)
        torch.testing.assert_close(loss, want, **near)
        torch.testing.assert_close(parts.lam, want_parts.lam, **near)
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert model(images).logits.isfinite().all()


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for how in ("classifier", "linear layers", "whole", "first FSDP", "first FSDP, linear layers", "DDP"):
        halves = (False, True) if how in ("classifier", "linear layers", "whole") else (False,)
        for with_head, half, capture_first in itertools.product((False, True), halves, (False, True)):
            try:
                compare(rank, how, with_head, half, capture_first)
            except Exception as error:
                raise AssertionError(f"{how=}, {with_head=}, {half=}, {capture_first=}") from error
    head = FullyShardedDataParallel(SUMixHead(D, K), auto_wrap_policy=PARTS, device_id=CPU)
    assert head(torch.rand(2, D)).class_weight is None  # freed by then
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:torch")
def test_two_ranks_find_the_ratios_of_one(tmp_path):
    multiprocessing.spawn(one_of_two, args=(tmp_path,), nprocs=2)
    assert (tmp_path / "rendezvous").exists()
