"""Does the plain form train? python -m benchmarks.plain_form

A small network on scikit-learn's handwritten digits, CutMix with Beta(0.2, 0.2), eight epochs, several seeds per row.
In the plain form (no uncertainty branch, the logits stand in for it) the regulariser asks for a *small* logit at the
label, against the cross entropy: how far it gets depends on gamma and on the ratio's alpha, which is added to the
logits there.
"""

import argparse
import warnings

import torch
from sklearn.datasets import load_digits
from torch import nn

from sumix import CutMix, SUMixHead, SUMixLoss, SUMixWarning, capture_features

BATCH, EPOCHS, TRAIN = 64, 8, 1300

# Name, the head's normalized (None: an ordinary linear layer), the options of SUMixLoss.
ROWS = [
    ("SUMixHead, semantic, gamma 0.5", True, {}),
    ("SUMixHead, published, gamma 0.5", True, {"ratio": "published", "weighting": "batch"}),
    ("plain, published, gamma 0.5", None, {"ratio": "published", "weighting": "batch"}),
    ("plain, published, gamma 1", None, {"ratio": "published", "weighting": "batch", "gamma": 1.0}),
    ("plain, published, scale 4, gamma 0.5", None, {"ratio": "published", "weighting": "batch", "distance_scale": 4.0}),
    ("plain, published, scale 1, gamma 0.5", None, {"ratio": "published", "weighting": "batch", "distance_scale": 1.0}),
    ("plain, semantic, gamma 0.5", None, {}),
    ("plain, semantic, kappa 1, gamma 0.5", None, {"kappa": 1.0}),
    ("plain, semantic, kappa 1, gamma 1", None, {"kappa": 1.0, "gamma": 1.0}),
    ("plain, semantic, gamma 0.1", None, {"gamma": 0.1}),
    ("plain, area, gamma 0.5", None, {"ratio": "area"}),
    ("plain, area, gamma 0.1", None, {"ratio": "area", "gamma": 0.1}),
    ("SUMixHead, feature, gamma 0.5", True, {"ratio": "feature"}),
    ("plain, feature, gamma 0.5", None, {"ratio": "feature"}),
    ("plain, feature, gamma 0.1", None, {"ratio": "feature", "gamma": 0.1}),
]


def network(normalized: bool | None) -> nn.Module:
    """Two convolutions and a head."""
    head = nn.Linear(32, 10) if normalized is None else SUMixHead(32, 10, normalized=normalized)
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    body += [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, head)


def accuracy(seed: int, normalized: bool | None, options: dict) -> float:
    """Train with one seed; top-1 in percent on the digits that were held out."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    torch.manual_seed(seed)
    model, mix, criterion = network(normalized), CutMix(alpha=0.2), SUMixLoss(**{"gamma": 0.5, **options})
    capture_features(model)  # the ratio "feature" needs the map; the others do not look at it
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAIN).split(BATCH):
            mixed, target = mix(images[batch], labels[batch])
            loss = criterion(model(mixed), model(images[batch]), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        right = model.eval()(images[TRAIN:]).argmax(dim=1) == labels[TRAIN:]
    return 100 * right.double().mean().item()


def main() -> None:
    """Print a row for each setting, with the accuracy of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6, help="how many (default: %(default)s)")
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SUMixWarning)  # of what is to be shown
    print(f"top-1 % on {len(load_digits().target) - TRAIN} digits, one column per seed\n")
    for name, normalized, options in ROWS:
        print(f"{name:<37}" + "".join(f"{accuracy(seed, normalized, options):7.1f}" for seed in seeds), flush=True)


if __name__ == "__main__":
    main()
