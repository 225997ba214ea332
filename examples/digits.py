"""What the examples train on: 1,797 handwritten digits from scikit-learn's wheel, and a small network."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

CLASSES = 10


def datasets() -> tuple[TensorDataset, TensorDataset]:
    """Training and validation images (1, 16, 16), normalised, and their classes."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    images = nn.functional.interpolate(images, scale_factor=2)
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, validation = order[:1280], order[1280:]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[validation], labels[validation])


def network(head: nn.Module | None = None) -> nn.Sequential:
    """A convolutional network with BatchNorm; `head` in place of its linear layer, which sees 64 features."""

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    body = nn.Sequential(block(1, 32), block(32, 64))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head or nn.Linear(64, CLASSES))


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Share of the images that the model recognises, in eval mode."""
    images, labels = data.tensors
    model.eval()
    found: Tensor = model(images).argmax(1) == labels
    return found.float().mean().item()
