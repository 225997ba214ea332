"""Mixing ops beside clone(): python -m benchmarks.bench_mix"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.batches import DTYPES, MEAN, STD, Batch, batches, clone
from benchmarks.common import Contestant, Group, Report, distance, main, parser
from sumix import ops, reference

EPILOG = """\
ops, with boxes and ratios given, against the least that writing a mixed batch can cost:
  clone()      reads and writes the batch once, into memory of its own; beyond what malloc keeps for the next call
               (32 MiB on Linux) the system must first find and clear it, page by page
  copy_()      the same into memory that is there already
  ops.mix_box, ops.mix_linear, ops.mix_mask, ops.mix_resize
               masks with large areas of 0 and of 1, as FMix has them; bilinear resizing
  ops.mix_box_, ops.mix_resize_
               the same, written to the batch itself
  eager twin   sumix.reference.mix_box and so on: the same in plain PyTorch, with a gather of the partners
mix_normalize, from a mixed 8-bit batch to what a network takes, against clone() of the float32 batch that it writes:
  ops, box, ops, lam     ops.mix_normalize by a box or by a ratio
  ops, step by step      ops.mix_box, then .float() / 255 - mean, / std
  eager twin             the same as the first in plain PyTorch
GB/s counts one read and one write of the batch for all.
"""


def op_groups(batch: Batch) -> Iterator[Group]:
    """Every mixing op beside clone()."""
    x, perm, box = batch.images, batch.perm, batch.box
    bilinear = torch.full_like(perm, 3)
    jobs = {
        "mix_box": (partial(ops.mix_box, x, box, perm), lambda x: reference.mix_box(x, box, perm)),
        "mix_linear": (partial(ops.mix_linear, x, batch.lam, perm), lambda x: reference.mix_linear(x, batch.lam, perm)),
        "mix_mask": (partial(ops.mix_mask, x, batch.mask, perm), lambda x: reference.mix_mask(x, batch.mask, perm)),
        "mix_resize": (partial(ops.mix_resize, x, box, perm), lambda x: reference.mix_resize(x, box, bilinear, perm)),
    }
    in_place = {"mix_box": ops.mix_box_, "mix_resize": ops.mix_resize_}
    for name, (op, twin) in jobs.items():
        # The weights of a bilinear float32 image are of float32.
        truth = twin(x.float() if name == "mix_resize" else x.double())
        contestants = [*limits(x), Contestant(f"ops.{name}", op, partial(_distance, op, truth))]
        if write := in_place.get(name):
            once = partial(lambda write: write(x.clone(), box, perm), write)
            contestants.append(
                Contestant(f"ops.{name}_", partial(write, x.clone(), box, perm), partial(_distance, once, truth))
            )
        contestants.append(Contestant("eager twin", partial(twin, x), partial(_distance, partial(twin, x), truth)))
        yield batch.group(name, contestants, "clone()")
    if x.dtype is torch.uint8:
        yield normalize_group(batch)


def limits(x: Tensor) -> list[Contestant]:
    """The least that writing a batch can cost."""
    copy = partial(torch.empty_like(x).copy_, x)
    return [clone(x), Contestant("copy_()", copy, partial(_distance, copy, x))]


def normalize_group(batch: Batch) -> Group:
    """mix_normalize beside clone() of its result, and the same step by step."""
    x, perm, box, lam, absent = batch.images, batch.perm, batch.box, batch.lam, None
    mean, std = torch.tensor(MEAN, device=x.device), torch.tensor(STD, device=x.device)

    def step_by_step() -> Tensor:
        return (ops.mix_box(x, box, perm).float() / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    def twin(mean: Tensor, std: Tensor, box: Tensor | None = box, mask: Tensor | None = None) -> Tensor:
        return reference.mix_normalize(x, box, absent, mask, perm, mean, std, mean.dtype)

    by_box, by_lam = twin(mean.double(), std.double()), twin(mean.double(), std.double(), None, lam.view(-1, 1, 1))
    ways = {
        "ops, box": (partial(ops.mix_normalize, x, perm, box=box, mean=mean, std=std), by_box),
        "ops, lam": (partial(ops.mix_normalize, x, perm, lam=lam, mean=mean, std=std), by_lam),
        "ops, step by step": (step_by_step, by_box),
        "eager twin": (partial(twin, mean, std), by_box),
    }
    contestants = [Contestant(way, call, partial(_distance, call, truth)) for way, (call, truth) in ways.items()]
    return replace(batch.group("mix_normalize", [*limits(x.float()), *contestants], "clone()"), tolerance=1e-5)


def _distance(call: Callable[[], Tensor], truth: Tensor) -> float:
    return distance((call(),), (truth,))


def bench(options: argparse.Namespace) -> None:
    report = Report("mix", options)
    for batch in batches(options.dtype, options.quick):
        for group in op_groups(batch):
            report.run(group)


if __name__ == "__main__":
    arguments = parser(__doc__, EPILOG)
    arguments.add_argument("--dtype", choices=DTYPES, nargs="+", default=DTYPES, help="images (default: both)")
    main(arguments, bench)
