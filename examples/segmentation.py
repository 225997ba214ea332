"""Semantic segmentation: masks are mixed like their images, and never averaged.

CutMix and its kin paste the partner's labels with its pixels. Where a mixer blends pixels of two labels (MixUp, soft
masks), the mask holds `ignore_index`, which cross entropy leaves out.

python examples/segmentation.py
"""

import torch
from digits import CLASSES, datasets
from torch import Tensor, nn

from sumix import CutMix, FMix, RandomMix

BACKGROUND, IGNORED = CLASSES, 255


def masks_of(images: Tensor, labels: Tensor) -> Tensor:
    """(N, H, W): the digit where there is ink, else the background."""
    return torch.where(images[:, 0] > -0.25, labels[:, None, None], BACKGROUND)


def main() -> None:
    """Train on 1,280 digits and label the pixels of the others."""
    torch.manual_seed(1)
    train, validation = datasets()
    layers = []
    for inputs, dilation in ((1, 1), (32, 2), (32, 4)):
        layers += [nn.Conv2d(inputs, 32, 3, 1, dilation, dilation), nn.BatchNorm2d(32), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(32, CLASSES + 1, 1))
    mix = RandomMix([CutMix(), FMix(max_soft=0.1)], ignore_index=IGNORED)
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    images, labels = train.tensors
    for _ in range(6):
        model.train()
        for rows in torch.randperm(len(images)).split(64):
            mixed, _, mask = mix(images[rows], labels[rows], masks_of(images[rows], labels[rows]))
            loss = criterion(model(mixed), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    images, labels = validation.tensors
    mask = masks_of(images, labels)
    with torch.no_grad():
        found = model(images).argmax(1) == mask
    print(f"validation: {found[mask != BACKGROUND].float().mean():.1%} of the digits' pixels")


if __name__ == "__main__":
    main()
