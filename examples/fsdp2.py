"""Fully sharded data parallelism (FSDP2), with the classifier as a unit of its own.

torchrun --nproc-per-node 2 examples/fsdp2.py
"""

import torch
from digits import CLASSES, datasets, network
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler

from sumix import CutMix, SUMixHead, SUMixLoss, forward_pair


def main() -> None:
    """Train for a few epochs on every rank."""
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    device = torch.device("cuda", dist.get_node_local_rank()) if on_gpu else torch.device("cpu")
    mesh = dist.device_mesh.init_device_mesh(device.type, (dist.get_world_size(),))
    torch.manual_seed(1)
    train, validation = datasets()
    model = network(SUMixHead(64, CLASSES)).to(device)
    for part in (model[0], model[-1], model):
        fully_shard(part, mesh=mesh)
    mix, criterion = CutMix(alpha=1.0), SUMixLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sampler = DistributedSampler(train, seed=1)
    loader = DataLoader(train, 16, sampler=sampler, drop_last=True)
    torch.manual_seed(dist.get_rank())
    for epoch in range(4):
        sampler.set_epoch(epoch)
        model.train()
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            mixed, target = mix(images, labels)
            loss = criterion(*forward_pair(model, mixed, images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    images, labels = (part.to(device) for part in validation.tensors)
    with torch.no_grad():  # every rank takes part in gathering the weights
        found = (model(images).argmax(1) == labels).float().mean().item()
    if dist.get_rank() == 0:
        print(f"validation {found:.1%}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
