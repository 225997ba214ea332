"""Foreground evidence beside feature evidence and plain PyTorch: python -m benchmarks.bench_foreground"""

import argparse
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import CPU, Contestant, Group, Report, distance, main, parser
from sumix import ops, reference

EPILOG = """\
From the raw images' last two feature maps to where the objects are:
  sum() of both          adds up both maps: what reading them once costs
  ops.masked_similarity  the evidence "feature", from the last map alone, and the shares of a box that it leads to
  ops.foreground         one round, with a given mean
  compiled twin          torch.compile(dynamic=False) of the eager twin
  eager twin             sumix.reference.foreground: the same in plain PyTorch
ResNet-18 on 32x32 images and ResNet-50 on 224x224, contiguous and channels_last, and DeiT-S, whose tokens are both
maps. GB/s counts one read of both maps for all (of DeiT-S two of the one).
"""

RESNET18 = (100, 512, 4, 4), (100, 256, 8, 8)
RESNET50 = (256, 2048, 7, 7), (256, 1024, 14, 14)
DEIT_S = (128, 197, 384), (128, 197, 384)
TOLERANCE = 1e-4  # float32 products, relative to the largest of a map
PIXELS = 224


@dataclass(frozen=True)
class Problem:
    """Maps of two stages in one layout."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    layout: str
    device: torch.device = CPU

    @cached_property
    def maps(self) -> tuple[Tensor, Tensor]:
        made = [torch.randn(shape, device=self.device).relu_() + 0.1 for shape in self.shapes]
        if self.layout == "channels_last":
            made = [x.contiguous(memory_format=torch.channels_last) for x in made]
        return (made[0], made[0]) if self.layout == "tokens" else (made[0], made[1])

    def group(self, compiled: bool) -> Group:
        features, fine = self.maps
        n, tokens = self.shapes[0][0], self.layout == "tokens"
        mean = torch.rand(self.shapes[1][2 if tokens else 1], device=self.device)
        grid = {"grid": (14, 14)} if tokens else {}
        how: dict[str, Any] = {"mean": mean, **grid, **({"fine_grid": (14, 14)} if tokens else {})}
        twin = reference.foreground
        truth = twin(features.double(), fine.double(), **how)
        total = features.double().sum() + fine.double().sum()

        perm = torch.arange(n, device=self.device).roll(1)
        lam = torch.full((n,), 0.75, device=self.device)
        box = torch.tensor([0, 0, PIXELS // 2, PIXELS // 2], device=self.device).repeat(n, 1)
        mix: dict[str, Any] = {"perm": perm, "lam": lam, "box": box, "size": (PIXELS, PIXELS), **grid}
        shares = reference.masked_similarity(features.double(), **mix | {"lam": lam.double()})

        def read() -> Tensor:
            return features.sum() + fine.sum()

        torch._dynamo.reset()
        ways = {
            "ops.foreground": partial(ops.foreground, features, fine, **how),
            "compiled twin": partial(torch.compile(twin, dynamic=False, fullgraph=True), features, fine, **how),
            "eager twin": partial(twin, features, fine, **how),
        }
        if not compiled:
            del ways["compiled twin"]
        similarity = partial(ops.masked_similarity, features, **mix)
        return Group(
            name="foreground",
            params={"size": f"{self.shapes[0]}, {self.shapes[1]}", "dtype": "float32", "layout": self.layout},
            contestants=[
                Contestant("sum() of both", read, lambda: distance((read(),), (total,))),
                Contestant("ops.masked_similarity", similarity, lambda: distance(similarity(), shares)),
                *(Contestant(name, way, lambda way=way: distance(way(), truth)) for name, way in ways.items()),
            ],
            tolerance=TOLERANCE,
            references=["sum() of both", "ops.masked_similarity", "ops.foreground"],
            nbytes=features.nbytes + fine.nbytes,
        )


PROBLEMS = (
    Problem(RESNET18, "contiguous"),
    Problem(RESNET18, "channels_last"),
    Problem(DEIT_S, "tokens"),
    Problem(RESNET50, "contiguous"),
    Problem(RESNET50, "channels_last"),
)


def bench(options: argparse.Namespace) -> None:
    report = Report("foreground", options)
    for problem in PROBLEMS[: 1 if options.quick else None]:
        report.run(problem.group(not options.no_compile))


if __name__ == "__main__":
    arguments = parser(__doc__, EPILOG)
    arguments.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which needs a compiler")
    main(arguments, bench)
