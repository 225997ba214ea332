"""What a mixing transform tells the loss."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sumix.ops import checks


class MixTarget(NamedTuple):
    """Both labels of every mixed image, and how it was mixed: sample i is image i with image `perm[i]` mixed in.

    A NamedTuple of tensors, so that DataLoader's collate and pin_memory know it.
    """

    y_a: Tensor
    """(N,) int64: the label of the own image."""
    y_b: Tensor
    """(N,) int64: the label of the partner."""
    lam: Tensor
    """(N,) float32 in [0, 1]: the weight of the own image."""
    perm: Tensor
    """(N,) int64: which image is the partner."""
    box: Tensor | None = None
    """(N, 4) int64: the pasted box x1, y1, x2, y2 (ends exclusive); (N, 2) for signals; None where none was pasted."""

    def soft(self, num_classes: int, label_smoothing: float = 0.0) -> Tensor:
        """Soft labels lam onehot(y_a) + (1 - lam) onehot(y_b), smoothed, for losses that take probabilities.

        Parameters
        ----------
        num_classes : int
            K.
        label_smoothing : float
            In [0, 1]: the share of each label that is spread evenly over the K classes.

        Returns
        -------
        Tensor, shape (N, K), float32
            Rows that sum to 1.
        """
        checks.count(num_classes, "num_classes")
        smoothing = checks.number(label_smoothing, "label_smoothing", 0, 1)
        lam = self.lam.unsqueeze(1)
        soft = lam * F.one_hot(self.y_a, num_classes) + (1 - lam) * F.one_hot(self.y_b, num_classes)
        return soft if smoothing == 0 else soft * (1 - smoothing) + smoothing / num_classes

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "MixTarget":
        """The same on another device."""
        return MixTarget(*(t if t is None else t.to(device, non_blocking=non_blocking) for t in self))
