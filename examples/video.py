"""Videos (N, C, T, H, W): the same box is pasted in every frame.

python examples/video.py
"""

import torch
from torch import Tensor, nn

from sumix import CutMix, SUMixHead, SUMixLoss, forward_pair

MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])  # one class each: right, left, down, up


def videos(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """A bright square that moves over noise, (n, 1, 6, 16, 16), and which way it moves."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(MOVES), (n,), generator=generator)
    start = torch.randint(16, (n, 2), generator=generator)
    frames = 0.3 * torch.randn(n, 1, 6, 16, 16, generator=generator)
    for time in range(6):
        place = (start + 2 * time * MOVES[labels]) % 16
        for dy in range(3):
            for dx in range(3):
                frames[torch.arange(n), 0, time, (place[:, 0] + dy) % 16, (place[:, 1] + dx) % 16] += 1
    return frames, labels


def main() -> None:
    """Train on 512 videos and recognise 256 others."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv3d(1, 16, 3, (1, 2, 2), 1), nn.BatchNorm3d(16), nn.ReLU(),
        nn.Conv3d(16, 32, 3, 2, 1), nn.BatchNorm3d(32), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
        SUMixHead(32, len(MOVES)),
    )  # fmt: skip
    mix, criterion = CutMix(alpha=1.0), SUMixLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train, labels = videos(512, seed=1)
    for _ in range(6):
        model.train()
        for rows in torch.randperm(len(train)).split(64):
            mixed, target = mix(train[rows], labels[rows])
            loss = criterion(*forward_pair(model, mixed, train[rows]), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    seen, labels = videos(256, seed=2)
    with torch.no_grad():
        found = (model(seen).argmax(1) == labels).float().mean().item()
    print(f"validation {found:.1%}")


if __name__ == "__main__":
    main()
