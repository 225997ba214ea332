"""DistributedDataParallel, with partners from all ranks.

    torchrun --nproc-per-node 2 examples/ddp.py

Without `cross_rank=True`, which must be set in both places, each rank mixes only its own images.
"""

import os

import torch
from digits import CLASSES, accuracy, datasets, network
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from sumix import CutMix, SUMixHead, SUMixLoss, forward_pair


def main() -> None:
    """Train for a few epochs on every rank."""
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    torch.manual_seed(1)
    train, validation = datasets()
    model = DistributedDataParallel(network(SUMixHead(64, CLASSES)).to(device))  # with its BatchNorm
    mix, criterion = CutMix(alpha=1.0, cross_rank=True), SUMixLoss(gamma=0.5, cross_rank=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sampler = DistributedSampler(train, seed=1)
    loader = DataLoader(train, 16, sampler=sampler, drop_last=True)  # every rank brings equally many samples
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
    found = accuracy(model.module.cpu(), validation)
    if dist.get_rank() == 0:
        print(f"validation {found:.1%}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
