"""torchmetrics: accuracy on mixed images, over batches and ranks."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sumix.head import SUMixOutput
from sumix.metrics import hits
from sumix.ops import checks
from sumix.target import MixTarget


class MixAccuracy(Metric):
    """`sumix.mix_accuracy` as a Metric: the share of all the labels' weight that the predictions hit.

    Parameters
    ----------
    topk : int
        How many of the classes with the largest logits are predictions, at least 1.
    ignore_index : int
        Labels with this value are left out.
    **kwargs
        For torchmetrics.Metric.

    Examples
    --------
    >>> accuracy = MixAccuracy()
    >>> accuracy.update(model(mixed), target)
    >>> accuracy.compute()
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    hit: Tensor
    total: Tensor

    def __init__(self, *, topk: int = 1, ignore_index: int = -100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topk = checks.count(topk, "topk")
        self.ignore_index = checks.integer(ignore_index, "ignore_index")
        self.add_state("hit", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, output: Tensor | SUMixOutput, target: MixTarget | Tensor) -> None:
        """Count a batch; see `mix_accuracy` for what the arguments may be."""
        (hit,), total = hits(output, target, topk=self.topk, ignore_index=self.ignore_index)
        self.hit += hit
        self.total += total

    def compute(self) -> Tensor:
        """The share; NaN while nothing has been counted."""
        return (self.hit / self.total).float()
