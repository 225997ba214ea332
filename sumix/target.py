"""What a mix did to the labels."""

from typing import NamedTuple

import torch
from torch import Tensor

from sumix.ops import checks

_soft_labels = torch.ops.sumix.soft_labels.default


class MixTarget(NamedTuple):
    """Labels of a mixed batch: sample i shows its own image with weight `lam[i]` and that of `perm[i]` with the rest.

    A named tuple of tensors, so a DataLoader pins it and it can be unpacked.

    Attributes
    ----------
    y_a : Tensor, shape (N,), int64
        Class of each sample's own image.
    y_b : Tensor, shape (N,), int64
        Class of its partner, `y_a[perm]`.
    lam : Tensor, shape (N,), float32
        Weight of the sample's own image, 0 to 1.
    perm : Tensor, shape (N,), int64
        Each sample's partner.
    box : Tensor or None, shape (N, 4), int64
        What was pasted, x1, y1, x2, y2 in pixels, ends exclusive, or x1, x2 (N, 2) for signals; empty where nothing was.
    mask : Tensor or None, shape (N, H, W), float32 or bool
        Weight of the own image in each pixel, (N, L) for signals; (N, 1, 1) or (N, 1) where it is the same in all. With
        both box and mask, every sample has either an empty box or a mask of ones.
    resize : Tensor or None, shape (N,), int64
        What the box shows: 0 the same box of the partner, as without it; else the whole partner, resized by "nearest"
        (1), "nearest-exact" (2) or "bilinear" (3).
    size : tuple of int, or None
        (H, W) of the images, or (L,): what box and mask refer to.

    Notes
    -----
    Without box and mask the images were blended with the weights lam.
    """

    y_a: Tensor
    y_b: Tensor
    lam: Tensor
    perm: Tensor
    box: Tensor | None = None
    mask: Tensor | None = None
    resize: Tensor | None = None
    size: tuple[int, ...] | None = None

    def soft(self, num_classes: int, label_smoothing: float = 0.0) -> Tensor:
        """Targets for torch.nn.CrossEntropyLoss: each class's share.

        Parameters
        ----------
        num_classes : int
            K, above every label.
        label_smoothing : float
            Share that is spread evenly over all classes, 0 to 1, as CrossEntropyLoss does.

        Returns
        -------
        Tensor, shape (N, K), float32
            Rows that sum to 1.

        Raises
        ------
        TypeError
            If an argument has the wrong type.
        ValueError
            If an argument is out of its range; on CPU, outside of torch.compile, also if a label is not within 0 to
            K - 1, or lam not within 0 to 1.
        """
        checks.count(num_classes, "num_classes")
        smoothing = checks.number(label_smoothing, "label_smoothing", 0, 1)
        checks.batch(self.lam, "lam")
        y_a = checks.indices(self.y_a, "y_a", self.lam, "lam")
        y_b = checks.indices(self.y_b, "y_b", self.lam, "lam")
        lam = checks.ratios(self.lam, "lam", y_a, "y_a", torch.float32)
        try:
            return _soft_labels(y_a, y_b, lam, num_classes, smoothing)
        except RuntimeError as error:
            checks.reraise(error)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "MixTarget":
        """The same target on another device."""
        return MixTarget(
            *(part.to(device, non_blocking=non_blocking) if isinstance(part, Tensor) else part for part in self)
        )
