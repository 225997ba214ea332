"""What the uncertainty regulariser adds to the gradient: python -m benchmarks.regulariser

In each of the paper's settings of batch size, classes, gamma and head, a linear head learns to classify features of
made-up classes, blended in pairs by lam from Beta(0.2, 0.2). At several times the gradients of both terms of the SUMix
loss by the features of the mixed samples, which is all of them that reaches the network below, are compared: the share
is gamma |g_regulariser| / |g_classification|.

The published ratio adds its distance alpha to the logits of the regulariser's softmax. With s = N that is about N /
sqrt(K) for every class, so that t = exp(-(u + v + alpha)) vanishes, its softmax is uniform, and the term is a constant.
"""

import argparse
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sumix import MixUp, SUMixHead, SUMixLoss, SUMixWarning

FEATURES = 128
NOISE = 1.0  # standard deviation about a class's centre, whose entries have 1 too
TIMES = (0, 20, 100, 500)  # steps of training


class Setting(NamedTuple):
    """One of the paper's."""

    name: str
    batch: int
    classes: int
    gamma: float
    normalized: bool  # the head with an uncertainty branch; else the plain form


SETTINGS = (
    Setting("10 classes", 100, 10, 0.5, True),
    Setting("CIFAR-100", 100, 100, 0.5, True),
    Setting("Tiny-ImageNet", 100, 200, 1.0, True),
    Setting("CUB-200", 16, 200, 0.5, True),
    Setting("ImageNet-1K, one rank", 64, 1000, 0.5, False),
)
RATIOS: dict[str, dict[str, Any]] = {
    "published": {"ratio": "published", "weighting": "batch"},
    "semantic": {"ratio": "semantic"},
    "area (alpha 0)": {"ratio": "area"},
}


class Network:
    """A head on features of its own classes, in double precision, and the loss of a mixed batch.

    The mixed features are a blend by lam. What the loss sees of a mix is its features alone.
    """

    def __init__(self, setting: Setting, options: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.setting, self.mix = setting, MixUp(alpha=0.2)
        self.centres = torch.randn(setting.classes, FEATURES, dtype=torch.float64)
        self.head = SUMixHead(FEATURES, setting.classes, normalized=setting.normalized).double()
        self.whole, self.classification = (SUMixLoss(gamma=gamma, **options) for gamma in (setting.gamma, 0.0))

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Those of both terms of one batch's loss by the mixed features; the head's parameters get the whole one's."""
        labels = torch.randint(self.setting.classes, (self.setting.batch,))
        noise = torch.randn(self.setting.batch, FEATURES, dtype=torch.float64)
        raw = self.centres[labels] + NOISE * noise
        mixed, target = self.mix(raw, labels)
        mixed.requires_grad_()
        outputs = self.head(mixed), self.head(raw)
        loss = self.whole(*outputs, target)
        (of_class,) = torch.autograd.grad(self.classification(*outputs, target), mixed, retain_graph=True)
        loss.backward()
        return of_class, mixed.grad - of_class


def shares(setting: Setting, options: dict[str, Any], times: tuple[int, ...] = TIMES) -> list[float]:
    """The regulariser's share of the gradient after each number of steps of one training."""
    network, found = Network(setting, options), []
    optimizer = torch.optim.SGD(network.head.parameters(), 0.1, momentum=0.9)
    for step in range(max(times) + 1):
        optimizer.zero_grad()
        of_class, of_regulariser = network.gradients()
        if step in times:
            found.append((of_regulariser.norm() / of_class.norm()).item())
        optimizer.step()
    return found


def main() -> None:
    """Print a table for each ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SUMixWarning)  # of what is to be shown
    print("share of the regulariser in the gradient, after so many steps\n")
    print(f"{'':<16}{'':<24}" + "".join(f"{time:>10}" for time in TIMES))
    for name, options in RATIOS.items():
        for setting in SETTINGS:
            cells = "".join(f"{share:10.1e}" for share in shares(setting, options))
            print(f"{name:<16}{setting.name:<24}{cells}", flush=True)


if __name__ == "__main__":
    main()
