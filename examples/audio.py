"""Signals (N, C, L): CutMix pastes a span of time, and the label follows what the network's map shows of each sound.

python examples/audio.py
"""

import math

import torch
from torch import Tensor, nn

from sumix import CutMix, SUMixLoss, capture_features, forward_pair

CLASSES, LENGTH = 5, 512


def sounds(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Tones of five pitches, a quarter of a second somewhere in a second of noise: (n, 1, LENGTH)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    start = torch.rand(n, 1, generator=generator) * 0.75
    time = torch.linspace(0, 1, LENGTH)
    tone = torch.sin(2 * math.pi * 20 * 1.5 ** labels[:, None] * time)
    sounding = (time >= start) & (time < start + 0.25)
    return (tone * sounding + 0.3 * torch.randn(n, LENGTH, generator=generator)).unsqueeze(1), labels


def main() -> None:
    """Train on 1,024 sounds and recognise 512 others."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv1d(1, 32, 31, 4, 15), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 9, 4, 4), nn.BatchNorm1d(64),
        nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip
    capture_features(model)
    mix, criterion = CutMix(alpha=1.0), SUMixLoss(gamma=0.0, ratio="feature")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train, labels = sounds(1024, seed=1)
    for _ in range(6):
        model.train()
        for rows in torch.randperm(len(train)).split(64):
            mixed, target = mix(train[rows], labels[rows])
            loss = criterion(*forward_pair(model, mixed, train[rows]), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    heard, labels = sounds(512, seed=2)
    with torch.no_grad():
        found = (model(heard).argmax(1) == labels).float().mean().item()
    print(f"validation {found:.1%}")


if __name__ == "__main__":
    main()
