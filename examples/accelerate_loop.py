"""Hugging Face's accelerate: the mix is made in the loader's workers, and accelerate moves it to the device.

python examples/accelerate_loop.py
accelerate launch examples/accelerate_loop.py
"""

import torch
from accelerate import Accelerator
from digits import CLASSES, accuracy, datasets, network
from torch.utils.data import DataLoader

from sumix import CutMix, SUMixCollate, SUMixHead, SUMixLoss, forward_pair


def main() -> None:
    """Train for a few epochs."""
    accelerator = Accelerator(gradient_accumulation_steps=2)
    torch.manual_seed(1)
    train, validation = datasets()
    collate = SUMixCollate(CutMix(alpha=1.0))
    loader = DataLoader(train, 32, shuffle=True, drop_last=True, num_workers=2, collate_fn=collate)
    model, criterion = network(SUMixHead(64, CLASSES)), SUMixLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(4):
        model.train()
        for images, mixed, target in loader:
            with accelerator.accumulate(model):
                loss = criterion(*forward_pair(model, mixed, images), target)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
    accelerator.print(f"validation {accuracy(accelerator.unwrap_model(model).cpu(), validation):.1%}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
