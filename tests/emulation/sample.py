"""Sampling: the CPU's bits. tests/test_sample.py and tests/test_sample_distributions.py say what they must be."""

import itertools

import torch

from . import Case

SEEDS = (0, 1, -7, 2**63 - 1, -(2**63))
COUNTS = (0, 1, 2, 3, 257, 1000)
ALPHAS = (1e-300, 0.05, 0.2, 1.0, 2.0, 100.0, 1e30)
IMAGES = ((32, 32), (17, 257), (0, 3), (1, 1), (2**31 - 1, 7))
SHARES = ((0.1, 0.8), (0.0, 1.0), (0.5, 0.5))
SIZES = (0, 1, 3, 4, 5, 511, 1088)
NONE = torch.empty(0, dtype=torch.int64)


def seed(value):
    return torch.tensor(value)


def numbers(n, high, low=0):
    return torch.randint(low, high, (n,), generator=torch.Generator().manual_seed(n))


def extreme(n):
    """Labels at both ends of their range, at 0, and two that differ in their lowest bit or their highest alone."""
    ends = torch.tensor([-(2**63), 2**63 - 1, 0, -1, 1, 5, 4, 5 - 2**63])
    return ends[numbers(n, len(ends))]


LABELS = {
    "few": lambda n: numbers(n, 3, -3),
    "many": lambda n: numbers(n, max(n // 3, 1)),
    "each its own": lambda n: torch.arange(n).flip(0) * 2**40,
    "one": lambda n: torch.full((n,), -5),
    "one large": lambda n: torch.where(numbers(n, 3) > 0, torch.tensor(7), torch.arange(n)),
    "half": lambda n: (torch.arange(n) < n // 2).long(),
    "extreme": extreme,
}


def perm_cases(counts, seeds, labels=tuple(LABELS), thorough=False):
    for n, value in itertools.product(counts, seeds):
        for partners, name in enumerate(("any", "one cycle")):
            yield Case(
                "sample_perm",
                f"{name}-{n}-seed {value}",
                lambda n=n, value=value, partners=partners: (seed(value), NONE, n, partners),
                thorough=thorough,
            )
        for name in labels:
            yield Case(
                "sample_perm",
                f"classes {name}-{n}-seed {value}",
                lambda n=n, value=value, name=name: (seed(value), LABELS[name](n), n, 2),
                thorough=thorough,
            )


def box_cases(n, images, seeds, thorough=False):
    for value, (height, width), (low, high), p, kind in itertools.product(seeds, images, SHARES, (1.0, 0.6), range(4)):
        for alpha in {2: (1.0,), 3: (0.0, 0.2)}.get(kind, (0.2, 1.0)):
            yield Case(
                "sample_box",
                f"{n} of {height}x{width}-kind {kind}-alpha {alpha}-p {p}-{low} to {high}-seed {value}",
                lambda arguments=(n, height, width, kind, alpha, p, low, high), value=value: (seed(value), *arguments),
                thorough=thorough,
            )


def cut(n, height, width):
    lam = torch.rand(n, generator=torch.Generator().manual_seed(n))
    lam[:: max(n // 3, 1)], lam[1 :: max(n // 2, 1)] = 1.0, 0.0
    return lam, torch.stack([numbers(n, width), numbers(n, height)], 1), height, width


CASES = [
    *(
        Case("sample_seed", f"{n}-seed {value}", lambda n=n, value=value: (seed(value), n))
        for n in COUNTS
        for value in SEEDS
    ),
    *(
        Case("sample_lam", f"{n}-alpha {alpha}-p {p}-seed {value}", lambda a=(n, alpha, p), v=value: (seed(v), *a))
        for n, alpha, p, value in itertools.product((0, 3, 1000), ALPHAS, (1.0, 0.4, 0.0), SEEDS)
    ),
    *perm_cases((0, 1, 2, 3, 15, 16, 17), SEEDS),
    *perm_cases((257,), (-7, 2**63 - 1)),
    *perm_cases((1000,), (1,), ("few", "extreme")),
    *perm_cases((1000, 3000), SEEDS[:2], thorough=True),
    *box_cases(300, IMAGES, SEEDS[:1]),
    *box_cases(3000, IMAGES, SEEDS, thorough=True),
    *(Case("cut_box", f"{n} of {h}x{w}", lambda a=(n, h, w): cut(*a)) for n in COUNTS for h, w in IMAGES if h > 0),
    *(
        Case(op, f"{n} of {size}-seed {value}", lambda n=n, size=size, value=value: (seed(value), n, size))
        for op in ("sample_uniform", "sample_normal")
        for n, size, value in itertools.product((0, 1, 33), SIZES, SEEDS[2:])
    ),
    Case("sample_normal", "large", lambda: (seed(3), 70000, 1021), thorough=True),
]
