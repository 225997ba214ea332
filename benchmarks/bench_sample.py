"""What a mixer draws: ops beside torch's, NumPy's and timm's samplers: python -m benchmarks.bench_sample"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.common import CPU, Contestant, Group, Report, distance, main, parser
from sumix import ops, reference

EPILOG = """\
  ops.*           with a seed tensor given; "drawn": with one drawn from torch's default generator, as transforms do
  torch.ops.*     the operator alone, without the wrapper's checks
  eager twin      sumix.reference: the same numbers in plain PyTorch
ratios, alpha 0.2, and boxes, one a sample:
  torch           torch.distributions.Beta; for boxes, a Beta and two uniform draws and the arithmetic in plain PyTorch
  numpy           Generator.beta
  timm, elem      timm.data.mixup.cutmix_bbox_and_lam for each sample, as timm.data.Mixup(mode="elem") calls it
partners:
  torch.randperm, without the two options
noise for the masks of FMix, a spectrum of 32 x 17 complex numbers a sample:
  torch.randn, torch.rand

Before they are timed, those with a seed must give what the twin gives, and all of them the mean and the deviation of
their distribution, or permutations. GB/s counts what is written.
"""

ALPHA, SIDE, NOISE = 0.2, 32, 32 * 17 * 2
TOLERANCE = 0.1  # of a mean and a deviation, in deviations
MANY = 20000

Draw = Callable[[], Any]


def groups(n: int, device: torch.device = CPU) -> Iterator[Group]:
    """Of each op, at batch size n; NumPy and timm, which know no other, on CPU alone."""
    on_cpu, there = device.type == "cpu", {"device": device}
    seed, raw, size = torch.tensor(5, **there), torch.ops.sumix, (SIDE, SIDE)
    none, labels = torch.empty(0, dtype=torch.int64, **there), torch.arange(n, **there) % 10
    alpha, rng = torch.tensor(ALPHA, **there), np.random.default_rng(0)
    beta, many = torch.distributions.Beta(alpha, alpha), torch.tensor(1, **there)

    yield compare(
        "sample_lam",
        {"n": n, "alpha": ALPHA, "dtype": "float32"},
        reference.sample_lam(seed, n, ALPHA, 1.0),
        {
            "ops.sample_lam": partial(ops.sample_lam, n, ALPHA, seed=seed),
            "torch.ops.sumix.sample_lam": partial(raw.sample_lam.default, seed, n, ALPHA, 1.0),
            "eager twin": partial(reference.sample_lam, seed, n, ALPHA, 1.0),
        },
        {
            "ops.sample_lam, drawn": partial(ops.sample_lam, n, ALPHA, **there),
            "torch": partial(beta.sample, (n,)),
            **({"numpy": lambda: torch.from_numpy(rng.beta(ALPHA, ALPHA, n))} if on_cpu else {}),
        },
        reference.sample_lam(many, MANY, ALPHA, 1.0),
    )
    box = (seed, n, *size, 0, ALPHA, 1.0, 0.0, 1.0)
    theirs = {"torch": partial(torch_boxes, beta, n)}
    if on_cpu and (timm := peers.load("timm")):
        theirs["timm, elem"] = partial(timm_boxes, timm, rng, n)
    yield compare(
        "sample_box",
        {"n": n, "size": str(size), "kind": "cut", "alpha": ALPHA, "dtype": "int64"},
        reference.sample_box(*box)[1],
        {
            "ops.sample_box": lambda: ops.sample_box(n, size, alpha=ALPHA, seed=seed)[1],
            "torch.ops.sumix.sample_box": lambda: raw.sample_box.default(*box)[1],
            "eager twin": lambda: reference.sample_box(*box)[1],
        },
        {"ops.sample_box, drawn": lambda: ops.sample_box(n, size, alpha=ALPHA, **there)[1], **theirs},
        reference.sample_box(many, MANY, *box[2:])[1],
    )
    for partners in range(3):
        name, given = ("any", "no_fixed_points", "cross_class")[partners], labels if partners == 2 else none
        own = {"partners": name, **({"labels": labels} if partners == 2 else {})}
        yield compare(
            "sample_perm",
            {"n": n, "partners": name, "dtype": "int64"},
            reference.sample_perm(seed, given, n, partners),
            {
                "ops.sample_perm": partial(ops.sample_perm, n, seed=seed, **own),
                "torch.ops.sumix.sample_perm": partial(raw.sample_perm.default, seed, given, n, partners),
                "eager twin": partial(reference.sample_perm, seed, given, n, partners),
            },
            {
                "ops.sample_perm, drawn": partial(ops.sample_perm, n, **own, **there),
                **({"torch.randperm": partial(torch.randperm, n, **there)} if partners == 0 else {}),
            },
            torch.arange(n, **there),
        )
    for name, peer in (("sample_normal", torch.randn), ("sample_uniform", torch.rand)):
        op, twin, kernel = getattr(ops, name), getattr(reference, name), getattr(raw, name).default
        yield compare(
            name,
            {"n": n, "size": NOISE, "dtype": "float32"},
            twin(seed, n, NOISE),
            {
                f"ops.{name}": partial(op, n, NOISE, seed=seed),
                f"torch.ops.sumix.{name}": partial(kernel, seed, n, NOISE),
                "eager twin": partial(twin, seed, n, NOISE),
            },
            {f"torch.{peer.__name__}": partial(peer, n, NOISE, **there)},
            twin(many, 1, MANY),
            nbytes=4 * n * NOISE,
        )


def compare(
    name: str,
    params: dict[str, Any],
    truth: Tensor,
    seeded: dict[str, Draw],
    drawn: dict[str, Draw],
    expected: Tensor,
    nbytes: int | None = None,
) -> Group:
    """A group of what must give `truth`, and of what must be distributed as `expected` is."""
    contestants = [Contestant(way, call, partial(_seeded_error, call, truth)) for way, call in seeded.items()]
    contestants += [Contestant(way, call, partial(_drawn_error, call, expected)) for way, call in drawn.items()]
    return Group(name, params, contestants, TOLERANCE, [next(iter(seeded))], nbytes)


def _seeded_error(call: Draw, truth: Tensor) -> float:
    return distance((call(),), (truth,))


def _drawn_error(call: Draw, expected: Tensor) -> float:
    """How far mean and deviation of many draws are from those of `expected`, in its deviations."""
    made = torch.cat([call().flatten().double() for _ in range(1 + MANY // call().numel())])
    mean, deviation = expected.double().mean(), expected.double().std(correction=0)
    return max(abs(made.mean() - mean), abs(made.std(correction=0) - deviation)).item() / deviation.item()


def torch_boxes(beta: torch.distributions.Beta, n: int) -> Tensor:
    """CutMix's boxes, one a sample, in plain PyTorch; returns what they leave of the image."""
    half = (SIDE * (1 - beta.sample((n,))).sqrt()).long().div(2, rounding_mode="floor")
    spans = []
    for _ in range(2):
        centre = torch.randint(SIDE, (n,), device=half.device)
        spans.append(((centre - half).clamp(min=0), (centre + half).clamp(max=SIDE)))
    (x1, x2), (y1, y2) = spans
    box = torch.stack([x1, y1, x2, y2], dim=1)
    return 1 - (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / SIDE**2


def timm_boxes(timm: Any, rng: np.random.Generator, n: int) -> Tensor:
    """timm's boxes; what they leave of the image."""
    lam = [
        timm.data.mixup.cutmix_bbox_and_lam((n, 3, SIDE, SIDE), rng.beta(ALPHA, ALPHA), correct_lam=True)[1]
        for _ in range(n)
    ]
    return torch.tensor(lam)


def bench(options: argparse.Namespace) -> None:
    report = Report("sample", options)
    sizes: Sequence[int] = (100,) if options.quick else (100, 1024)
    for n in sizes:
        for group in groups(n):
            report.run(group)


if __name__ == "__main__":
    main(parser(__doc__, EPILOG), bench)
