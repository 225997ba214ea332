"""What a mix did to the labels."""

from typing import NamedTuple

import torch
from torch import Tensor

from sumix.ops import checks
from sumix.ops.mix import soft_labels
from sumix.recipe import Recipe, check_label_map, mix_labels, mix_pixels


class MixTarget(NamedTuple):
    """Labels of a mixed batch: sample i shows its own image with weight `lam[i]` and that of `perm[i]` with the rest.

    A named tuple of tensors, so a DataLoader pins it and it can be unpacked. It holds all that the mix was made of:
    `mix` repeats it.

    Attributes
    ----------
    y_a : Tensor, shape (N,), int64
        Class of each sample's own image; or (N, K) float32, where the labels given were soft or multi-hot.
    y_b : Tensor, like y_a
        Label of its partner, `y_a[perm]`.
    lam : Tensor, shape (N,), float32
        Weight of the sample's own image, 0 to 1.
    perm : Tensor, shape (N,), int64
        Each sample's partner; with `cross_rank`, counted through all ranks, so that `mix` has no way to it.
    box : Tensor or None, shape (N, 4), int64
        What was pasted, x1, y1, x2, y2 in pixels, ends exclusive, or x1, x2 (N, 2) for signals; empty if nothing was.
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
            K, above every label; the labels' own K where they are soft.
        label_smoothing : float
            Share that is spread evenly over all classes, 0 to 1, as CrossEntropyLoss does.

        Returns
        -------
        Tensor, shape (N, K), float32
            lam y_a + (1 - lam) y_b: rows that sum to 1 if the labels' do.

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
        if isinstance(self.y_a, Tensor) and self.y_a.ndim == 2:
            return self._blend(num_classes, smoothing)
        y_a = checks.indices(self.y_a, "y_a", self.lam, "lam")
        y_b = checks.indices(self.y_b, "y_b", self.lam, "lam")
        lam = checks.ratios(self.lam, "lam", y_a, "y_a", torch.float32)
        return soft_labels(y_a, y_b, lam, num_classes, smoothing)

    def _blend(self, num_classes: int, smoothing: float) -> Tensor:
        """`soft` of labels that are soft already."""
        for name, labels in (("y_a", self.y_a), ("y_b", self.y_b)):
            if checks.floating(labels, name).shape != (self.lam.shape[0], num_classes):
                expected = f"(N, num_classes) = ({self.lam.shape[0]}, {num_classes})"
                raise ValueError(f"{name} must be {expected}, got {checks.shape(labels)}")
        lam = checks.ratios(self.lam, "lam", self.y_a, "y_a", torch.float32).unsqueeze(1)
        soft = lam * self.y_a + (1 - lam) * self.y_b
        return soft if smoothing == 0 else soft * (1 - smoothing) + smoothing / num_classes

    def mix(self, x: Tensor, *, ignore_index: int | None = None) -> Tensor:
        """Mix other tensors of the same batch as the images were: their segmentation masks, depth maps, a second view.

        Parameters
        ----------
        x : Tensor, shape (N, ..., H, W), any dtype
            With the images' N and spatial size (any (N, ...) for MixUp); (N, ..., L) for signals.
        ignore_index : int, optional
            If given, `x` holds integer labels and no pixels: none is averaged. Resized boxes take the nearest, and
            where two images show through at once, a label stays if both agree and becomes `ignore_index` if not. If
            None, integers are blended as pixels are, rounded to nearest.

        Returns
        -------
        Tensor, of the shape and dtype of `x`

        Raises
        ------
        TypeError
            If `x` is not a dense tensor of a dtype that the mix can take, or not of integers with `ignore_index`.
        ValueError
            If its shape or device does not fit, or `ignore_index` its dtype; on CPU, outside of torch.compile, also if
            a partner is on another rank.
        """
        checks.batch(x, "x")
        if self.size is not None and (self.box is not None or self.mask is not None):
            fits = x.ndim > len(self.size) and tuple(x.shape[-len(self.size) :]) == tuple(self.size)
            if not fits:
                size = ", ".join(map(str, self.size))
                raise ValueError(f"x must be (N, ..., {size}) as the images were, got {checks.shape(x)}")
        checks.ratios(self.lam, "lam", x, "x", torch.float32)
        recipe = Recipe(self.lam, self.box, self.mask, self.resize)
        if ignore_index is None:
            return mix_pixels(x, recipe, self.perm)
        check_label_map(x, "x", ignore_index)
        return mix_labels(x, recipe, self.perm, ignore_index)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "MixTarget":
        """The same target on another device."""
        return MixTarget(
            *(part.to(device, non_blocking=non_blocking) if isinstance(part, Tensor) else part for part in self)
        )
