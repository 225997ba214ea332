"""The batches that bench_mix and bench_transforms mix, and what else it takes to mix them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import CPU, Contestant, Group, distance

SIZES = {(100, 3, 32, 32): 100, (128, 3, 64, 64): 200, (64, 3, 224, 224): 1000}  # and the number of classes
DTYPES = ("float32", "uint8")
TOLERANCE = {torch.float32: 1e-5, torch.uint8: 1 / 255}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Batch:
    """Images, labels, partners, boxes and ratios of one size and dtype."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    classes: int
    device: torch.device = CPU

    @cached_property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(sum(self.shape))

    @cached_property
    def images(self) -> Tensor:
        if self.dtype is torch.uint8:
            return torch.randint(256, self.shape, dtype=torch.uint8, generator=self.generator).to(self.device)
        return torch.randn(self.shape, generator=self.generator).to(self.device)

    @cached_property
    def codes(self) -> Tensor:
        """(N, C - 1), a colour a sample, from 0 to 250; no two are alike, nor three on a line."""
        n, channels = self.shape[:2]
        i = torch.arange(n).unsqueeze(1)
        return ((i + 1) ** torch.arange(1, channels) % 251).to(self.device, self.dtype)

    @property
    def coded_images(self) -> Tensor:
        """Images (N, C, H, W) whose channels but the last are of one colour each: what is left of whom can be read from
        them. The last one has light and dark places, so that there is something salient.
        """
        codes = self.codes[:, :, None, None].expand(-1, -1, *self.shape[2:])
        return torch.cat([codes, (250 * self.mask).to(self.dtype).unsqueeze(1)], dim=1)

    @cached_property
    def labels(self) -> Tensor:
        return torch.arange(self.shape[0], device=self.device)

    @cached_property
    def perm(self) -> Tensor:
        return torch.randperm(self.shape[0], generator=self.generator).to(self.device)

    @cached_property
    def lam(self) -> Tensor:
        return torch.rand(self.shape[0], generator=self.generator).to(self.device)

    @cached_property
    def box(self) -> Tensor:
        """(N, 4): boxes of CutMix for `lam`, clipped to the image."""
        _, _, height, width = self.shape
        side = (1 - self.lam.cpu()).sqrt()

        def ends(length: int) -> tuple[Tensor, Tensor]:
            half = (side * length).long() // 2
            centre = torch.randint(length, self.lam.shape, generator=self.generator)
            return (centre - half).clamp(min=0), (centre + half).clamp(max=length)

        (x1, x2), (y1, y2) = ends(width), ends(height)
        return torch.stack([x1, y1, x2, y2], dim=1).to(self.device)

    @cached_property
    def mask(self) -> Tensor:
        """(N, H, W): large areas of 0 and of 1 with an edge between them."""
        n, _, height, width = self.shape
        coarse = torch.randn(n, 1, 4, 4, generator=self.generator)
        smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[:, 0]
        return (0.5 + 4 * smooth).clamp(0, 1).to(self.device)

    @property
    def params(self) -> dict[str, Any]:
        size = ", ".join(map(str, self.shape))
        return {"size": f"({size})", "dtype": str(self.dtype).removeprefix("torch.")}

    def group(self, name: str, contestants: list[Contestant], *references: str) -> Group:
        return Group(
            name=name,
            params=self.params,
            contestants=contestants,
            tolerance=TOLERANCE[self.dtype],
            references=references,
            nbytes=2 * self.images.numel() * self.images.element_size(),
        )


def clone(x: Tensor) -> Contestant:
    """The least that a new batch can cost: one read and one write of it."""
    return Contestant("clone()", x.clone, lambda: distance((x.clone(),), (x,)))


def batches(dtypes: list[str], quick: bool, device: torch.device = CPU) -> list[Batch]:
    """A batch of every size, or of the first one, in every dtype."""
    sizes = list(SIZES.items())[: 1 if quick else None]
    return [Batch(shape, getattr(torch, dtype), classes, device) for shape, classes in sizes for dtype in dtypes]
