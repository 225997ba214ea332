"""What the mixers share: arguments, partners, the sampled share, and the target."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sumix.ops import checks
from sumix.target import MixTarget


class Mixer(nn.Module):
    """A transform of batches that mixes each image with a partner; a subclass says how, in `mix`.

    Nothing here waits for the device, and all that is drawn comes from one generator.
    """

    MIN_DIM = 1  # of the images

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        p: float = 1.0,
        per_sample: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.alpha = checks.positive(alpha, "alpha")
        self.num_classes = None if num_classes is None else checks.count(num_classes, "num_classes")
        self.p = checks.number(p, "p", 0, 1)
        self.per_sample = checks.flag(per_sample, "per_sample")
        self.generator = _generator(generator)

    def forward(
        self, images: Tensor, labels: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | MixTarget]:
        """Mix images (N, ...) with integer labels (N,); returns them with a MixTarget, or with soft labels (N, K)."""
        if torch.compiler.is_compiling() and (generator is not None or self.generator is not None):
            raise ValueError("generator must be None where the transform is compiled, or mix outside of torch.compile")
        if checks.batch(images, "images").ndim < self.MIN_DIM:
            raise ValueError(f"images must have at least {self.MIN_DIM} dimensions, got {checks.shape(images)}")
        labels = checks.indices(labels, "labels", images, "images")
        (
            checks.positive(self.alpha, "alpha"),
            checks.number(self.p, "p", 0, 1),
        )  # attributes, which may have been changed
        generator = self.generator if generator is None else _generator(generator)
        if generator is not None and generator.device.type != images.device.type:
            raise ValueError(f"generator must be on the device of images, {images.device}, got {generator.device}")
        source = {} if generator is None else {"generator": generator}  # to name None would fix N in a compiled graph
        perm = torch.randperm(labels.shape[0], device=images.device, **source)
        mixed, lam, box = self.mix(images, perm, generator)
        target = MixTarget(labels, labels.gather(0, perm), lam, perm, box)
        return mixed, target if self.num_classes is None else target.soft(self.num_classes)

    def mix(
        self, images: Tensor, perm: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The mixed images, the weight of each one's own (N,) float32, and the boxes, or None where none is pasted."""
        raise NotImplementedError

    def draw(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        r"""The partner's share, from Beta(alpha, alpha), or 0 where p says not to mix: (M,), see `like`.

        For E exponential and a uniform angle :math:`\phi`, :math:`t = \sqrt{e^{E / \alpha} - 1} \cos \phi` is, but for
        a factor, Student's t with 2 alpha degrees of freedom (Bailey, Mathematics of Computation 62, 1994), and
        :math:`(1 + t / \sqrt{1 + t^2}) / 2` has the distribution Beta(alpha, alpha). Exact for every alpha and without
        rejection; nothing under- or overflows, as the gamma variates do that are the usual way for a small alpha.
        """
        share = self.like(images)
        if self.alpha == 1:
            share.uniform_(generator=generator)
        else:
            share.exponential_(self.alpha, generator=generator).expm1_().sqrt_()
            angle = torch.empty_like(share).uniform_(0, 2 * math.pi, generator=generator)
            share.mul_(angle.cos_()).atan_().sin_().add_(1).mul_(0.5)  # sin(atan(t)): t / sqrt(1 + t^2), also at inf
        if self.p < 1:
            share.mul_(torch.empty_like(share).uniform_(generator=generator) < self.p)
        return share

    def like(self, images: Tensor, *shape: int) -> Tensor:
        """An empty (M, *shape) in the type to sample in. M is N, or 1 where one draw serves the whole batch."""
        kind = torch.float32 if images.device.type == "mps" else torch.float64  # which has no float64
        count = images.shape[0] if self.per_sample else 1
        return torch.empty(count, *shape, dtype=kind, device=images.device)

    def extra_repr(self) -> str:
        """The options, for repr()."""
        return f"alpha={self.alpha:g}, num_classes={self.num_classes}, p={self.p:g}, per_sample={self.per_sample}"


def _generator(value: Any) -> torch.Generator | None:
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(value).__name__}")
    return value
