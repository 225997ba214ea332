"""Which way the learned ratio moves: python -m benchmarks.direction

A made-up network that is sure of class 0 on image a and of class 1 on image b, and a mix of both at an area ratio of
0.5. Three mixes: in one only a is visible, in one both, in one only b. The label should follow what is visible.
"""

import torch

from sumix import ops

K, SURE, AREA = 100, 8.0, 0.5


def sure_of(*classes: int) -> torch.Tensor:
    """Logits (K,) of a network that sees these classes, and sees them alike."""
    logits = torch.zeros(K)
    logits[list(classes)] = SURE
    return logits


def ratio_of(visible: tuple[int, ...], **options: object) -> float:
    """lam~ of a batch in which each image is mixed with the other; that of image a."""
    raw = torch.stack((sure_of(0), sure_of(1)))
    mixed = torch.stack((sure_of(*visible), sure_of(*visible)))
    y, perm = torch.tensor([0, 1]), torch.tensor([1, 0])
    _, parts = ops.sumix_loss(mixed, raw, None, None, y, y[perm], perm, torch.full((2,), AREA), **options)
    return parts.lam[0].item()


def main() -> None:
    """Print the table."""
    strategies = {
        "area": {"ratio": "area"},
        "published, batch of 16": {"ratio": "published", "distance_scale": 16.0},
        "published, batch of 100": {"ratio": "published", "distance_scale": 100.0},
        "semantic, kappa 0.3": {"ratio": "semantic", "kappa": 0.3},
        "semantic, kappa 1": {"ratio": "semantic", "kappa": 1.0},
    }
    print(f"lam~, the weight of a's label; area ratio {AREA}, {K} classes\n")
    print(f"{'ratio':<25}{'only a visible':>16}{'both':>8}{'only b visible':>16}")
    for name, options in strategies.items():
        values = [ratio_of(visible, **options) for visible in ((0,), (0, 1), (1,))]
        print(f"{name:<25}{values[0]:>16.3f}{values[1]:>8.3f}{values[2]:>16.3f}")


if __name__ == "__main__":
    main()
