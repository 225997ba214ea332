"""A made-up network for `python -m sumix.show --model`."""

import torch
from torch import Tensor, nn


def make() -> nn.Module:
    """Six classes, with all that could go wrong in the wrong mode: BatchNorm, dropout."""
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 4, 2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, 1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, 6),
    )


def make_flat(weights: str | None = None) -> nn.Module:
    """Without a map."""
    if weights not in (None, "GOOD"):
        raise KeyError(weights)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))


class Fussy(nn.Module):
    """Returns no logits while it is in training mode, as torchvision's Inception does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = make()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.body(images)
        return (logits, logits) if self.training else logits


def no_module() -> int:
    """What is no model."""
    return 3
