"""Mask-aware feature similarity beside plain PyTorch: python -m benchmarks.bench_masked_similarity"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import CPU, Contestant, Group, Report, distance, main, parser
from sumix import CutMix, ops, reference

EPILOG = """\
From the raw images' last feature map and the boxes or masks of a mix to the ratio of every sample:
  sum()                  adds up the map: what reading it once costs
  ops.masked_similarity
  compiled twin          torch.compile(dynamic=False) of the eager twin
  eager twin             sumix.reference.masked_similarity: the same in plain PyTorch
ResNet-18 on 32x32 images and ResNet-50 on 224x224, contiguous and channels_last, and DeiT-S with its class token. GB/s
counts one read of the map for all.
"""

RESNET18, RESNET50, DEIT_S = (100, 512, 4, 4), (256, 2048, 7, 7), (128, 197, 384)
TOLERANCE = 1e-4  # float32 products, in shares


@dataclass(frozen=True)
class Problem:
    """Maps of one size and layout, and a mix of images."""

    shape: tuple[int, ...]
    pixels: int
    layout: str  # of the maps
    mix: str
    evidence: str = "feature"
    device: torch.device = CPU

    @cached_property
    def features(self) -> Tensor:
        x = torch.randn(self.shape, device=self.device).relu_() + 0.1
        return x.contiguous(memory_format=torch.channels_last) if self.layout == "channels_last" else x

    @cached_property
    def arguments(self) -> dict[str, Any]:
        n, tokens = self.shape[0], len(self.shape) == 3
        labels = torch.randint(1000, (n,), device=self.device)
        _, target = CutMix()(torch.zeros(n, 1, self.pixels, self.pixels, device=self.device), labels)
        how = {"perm": target.perm, "lam": target.lam, "size": (self.pixels, self.pixels)}
        if self.mix == "boxes":
            how["box"] = target.box
        else:
            how["mask"] = torch.rand(n, self.pixels, self.pixels, device=self.device)
        if tokens:
            how["grid"] = (14, 14)
        if self.evidence == "cam":
            width = self.shape[2 if tokens else 1]
            weight = torch.randn(1000, width, device=self.device)
            how |= {"evidence": "cam", "labels": labels, "class_weight": weight}
        return how

    def group(self, compiled: bool) -> Group:
        x, how = self.features, self.arguments
        twin = reference.masked_similarity
        wide = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in how.items()}
        truth = twin(x.double(), **wide)
        torch._dynamo.reset()
        ways: dict[str, Callable[[], tuple[Tensor, ...]]] = {
            "ops.masked_similarity": partial(ops.masked_similarity, x, **how),
            "compiled twin": partial(torch.compile(twin, dynamic=False, fullgraph=True), x, **how),
            "eager twin": partial(twin, x, **how),
        }
        if not compiled:
            del ways["compiled twin"]
        total = x.double().sum()
        contestants = [Contestant("sum()", x.sum, lambda: distance((x.sum(),), (total,)))]
        contestants += [Contestant(name, call, partial(_error, call, truth)) for name, call in ways.items()]
        size = ", ".join(map(str, self.shape))
        return Group(
            name="masked_similarity",
            params={
                "size": f"({size})",
                "dtype": "float32",
                "layout": self.layout,
                "mix": self.mix,
                "evidence": self.evidence,
            },
            contestants=contestants,
            tolerance=TOLERANCE,
            references=["sum()", "ops.masked_similarity"],
            nbytes=x.numel() * x.element_size(),
        )


def _error(call: Callable[[], tuple[Tensor, ...]], truth: tuple[Tensor, ...]) -> float:
    return distance(call(), truth)


PROBLEMS = (
    Problem(RESNET18, 32, "contiguous", "boxes"),
    Problem(RESNET18, 32, "channels_last", "boxes"),
    Problem(RESNET18, 32, "contiguous", "masks"),
    Problem(RESNET18, 32, "contiguous", "boxes", "cam"),
    Problem(DEIT_S, 224, "tokens", "boxes"),
    Problem(DEIT_S, 224, "tokens", "masks"),
    Problem(RESNET50, 224, "contiguous", "boxes"),
    Problem(RESNET50, 224, "channels_last", "boxes"),
)


def bench(options: argparse.Namespace) -> None:
    report = Report("masked_similarity", options)
    for problem in PROBLEMS[: 1 if options.quick else None]:
        report.run(problem.group(not options.no_compile))


if __name__ == "__main__":
    arguments = parser(__doc__, EPILOG)
    arguments.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which needs a compiler")
    main(arguments, bench)
