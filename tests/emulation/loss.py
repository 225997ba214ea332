import itertools

import torch

from sumix import reference

from . import Case
from .mix_resize import shifted

# What one element may differ by, relative to itself and to 1: the CPU kernel adds up in another order, and exp and log
# are those of another library.
TOLERANCES = {
    torch.float32: {"rtol": 2e-5, "atol": 2e-7},
    torch.float64: {"rtol": 1e-12, "atol": 1e-14},
    torch.float16: {"rtol": 2e-3, "atol": 1e-6},
    torch.bfloat16: {"rtol": 1.6e-2, "atol": 1e-5},
}
RATIOS, WEIGHTINGS, REDUCTIONS = reference.RATIOS, reference.WEIGHTINGS, reference.REDUCTIONS
ABSENT = torch.empty(0)


def real_of(dtype):
    return torch.float64 if dtype is torch.float64 else torch.float32


def batch(n, k, dtype, *, plain=False, repeats=False, ignoring=False, spread=1.0, seed=0):
    """The op's tensors up to lam."""
    generator = torch.Generator().manual_seed(1000 * n + k + seed)
    z, r, v, u = (torch.randn(n, k, generator=generator, dtype=torch.float64) * spread for _ in range(4))
    v, u = (reference.uncertainty(x) for x in (v, u))
    y = torch.randint(k, (n,), generator=generator)
    perm = torch.randint(n, (n,), generator=generator) if repeats else torch.randperm(n, generator=generator)
    y_a, y_b = y, y[perm]
    if ignoring:  # own label, partner's label, both
        y_a, y_b = y_a.clone(), y_b.clone()
        y_a[::3] = y_b[1::4] = y_b[::6] = -100
    lam = torch.rand(n, generator=generator, dtype=torch.float64).to(real_of(dtype))
    rows = [x.to(dtype) for x in (z, r, v, u)]
    return [*(rows[:2] if plain else rows), *([ABSENT, ABSENT] if plain else []), y_a, y_b, perm, lam]


def loss(tensors, ratio="semantic", weighting="sample", reduction="mean", *, weight=ABSENT, learned=ABSENT, gamma=0.5,
         scale=3.0, smoothing=0.0, grad=True):  # fmt: skip
    numbers = RATIOS.index(ratio), WEIGHTINGS.index(weighting), REDUCTIONS.index(reduction)
    return *tensors, weight, learned, *numbers, gamma, scale, smoothing, -100, grad


def case(name, make, dtype=torch.float32, **options):
    return Case("sumix_loss", name, make, TOLERANCES[dtype], **options)


def grid():
    """Every triple of ratio, weighting and reduction with both forms, the other options in turn."""
    sizes = itertools.cycle([(7, 2), (5, 3), (17, 10), (6, 17), (9, 100), (4, 257), (2, 1000)])
    dtypes = itertools.cycle([torch.float32, torch.float64, torch.float16, torch.float32, torch.bfloat16])
    further = itertools.cycle([(False, False), (True, False), (False, True), (True, True)])
    products = itertools.product(RATIOS, WEIGHTINGS, REDUCTIONS, (False, True), (0, 1))
    for number, (ratio, weighting, reduction, plain, _) in enumerate(products):
        (n, k), dtype, (ignoring, weighted) = next(sizes), next(dtypes), next(further)

        def make(
            n=n, k=k, dtype=dtype, number=number, plain=plain, ignoring=ignoring, weighted=weighted,
            options=(ratio, weighting, reduction),
        ):  # fmt: skip
            tensors = batch(n, k, dtype, plain=plain, ignoring=ignoring, repeats=number % 3 == 1)
            weight = torch.linspace(0.5, 2.0, k, dtype=real_of(dtype)) if weighted else ABSENT
            return loss(tensors, *options, weight=weight, smoothing=0.1 * (number // 2 % 2), grad=number % 7 != 3)

        what = [ratio, weighting, reduction, *["plain"] * plain, *["ignoring"] * ignoring, *["weighted"] * weighted]
        yield case(f"{dtype}-{n}x{k}-{'-'.join(what)}", make, dtype)


def learned():
    tensors = batch(9, 10, torch.float32, ignoring=True)
    return loss(tensors, "area", "batch", learned=torch.rand(9, generator=torch.Generator().manual_seed(1)))


def label_weights(weighting, reduction, dtype, k, weighted):
    n = 9
    tensors = batch(n, k, dtype, ignoring=weighted, repeats=True)
    generator = torch.Generator().manual_seed(k)
    weights = torch.rand(n, 3, generator=generator, dtype=torch.float64).to(real_of(dtype))
    weight = torch.linspace(0.5, 2.0, k, dtype=real_of(dtype)) if weighted else ABSENT
    return loss(tensors, "area", weighting, reduction, learned=weights, weight=weight, smoothing=0.1 * (k % 2))


def labels_alike():
    tensors = batch(8, 5, torch.float64)
    tensors[5] = tensors[4]
    tensors[7][:3] = torch.tensor([0.0, 1.0, 0.5])
    return loss(tensors, "published", "sample", "none", scale=-1.0)


def nothing_kept(weighting):
    tensors = batch(4, 3, torch.float32)
    tensors[4] = tensors[5] = torch.full((4,), -100)
    return loss(tensors, "semantic", weighting)


def odd(value, place, ratio):
    tensors = batch(5, 4, torch.float64)
    tensors[place][2, 1] = value
    return loss(tensors, ratio)


def displaced(dtype, place, k):
    """Rows of whole vectors, but one of the tensors from an address that is no multiple of theirs."""
    tensors = batch(4, k, dtype, repeats=True)
    tensors[place] = shifted(tensors[place])
    return loss(tensors)


def one_partner_for_all():
    tensors = batch(40, 6, torch.float32)
    tensors[6] = torch.full((40,), 3)
    return loss(tensors, "semantic")


def at_the_cap(dtype, reduction):
    """Exponents of exactly 80, where the gradient through t ends, and of less."""
    tensors = batch(2, 3, dtype)
    tensors[2], tensors[3] = torch.tensor([[0.0, -80, -79]] * 2, dtype=dtype), torch.zeros(2, 3, dtype=dtype)
    tensors[4:7] = torch.tensor([1, 2]), torch.tensor([2, 1]), torch.tensor([1, 0])
    return loss(tensors, "area", reduction=reduction)


CASES = [
    *grid(),
    *(
        case(f"at the cap, {dtype}, {reduction}",
             lambda dtype=dtype, reduction=reduction: at_the_cap(dtype, reduction), dtype)
        for dtype, reduction in itertools.product((torch.float32, torch.float64), REDUCTIONS)
    ),
    case("learned", learned),
    *(
        case(f"label weights, {dtype}, {k}, {weighting}, {reduction}{', weighted' * weighted}",
             lambda *a, given=(weighting, reduction, dtype, k, weighted): label_weights(*given), dtype)
        for (dtype, k), weighting, reduction, weighted in itertools.product(
            ((torch.float32, 10), (torch.float64, 33), (torch.bfloat16, 2049)), WEIGHTINGS, REDUCTIONS, (False, True))
    ),
    case("label weights, many samples", lambda: loss(
        batch(1500, 4, torch.float32, ignoring=True), "area", learned=torch.full((1500, 3), 0.3))),
    case("labels alike", labels_alike, torch.float64),
    *(case(f"nothing kept, {given}", lambda given=given: nothing_kept(given)) for given in WEIGHTINGS),
    *(
        case(f"{value} in {place}, {ratio}", lambda *a, value=value, place=place, ratio=ratio: odd(value, place, ratio),
             torch.float64)
        for value, place, ratio in itertools.product(
            (float("nan"), float("inf"), -float("inf")), range(4), ("semantic", "area")
        )
    ),
    case("one partner for all", one_partner_for_all),
    *(
        case(f"an empty batch, {weighting}, {reduction}{', weighted' * weighted}",
             lambda weighting=weighting, reduction=reduction, weighted=weighted: loss(
                 batch(0, 3, torch.float32), "semantic", weighting, reduction,
                 weight=torch.ones(3) if weighted else ABSENT))
        for weighting, reduction, weighted in itertools.product(WEIGHTINGS, REDUCTIONS, (False, True))
    ),
    *(
        case(f"spread {spread}, {ratio}",
             lambda spread=spread, ratio=ratio: loss(batch(9, 33, torch.float64, plain=True, spread=spread), ratio),
             torch.float64)
        for spread, ratio in itertools.product((30.0, 1e4), RATIOS)
    ),
    *(
        case(f"streamed {dtype}, {ratio}, {reduction}",
             lambda k=k, dtype=dtype, ratio=ratio, reduction=reduction: loss(
                 batch(2, k, dtype, repeats=True), ratio, reduction=reduction, smoothing=0.1),
             dtype)
        for k, dtype, ratio, reduction in (
            (5000, torch.float32, "semantic", "mean"),
            (5000, torch.bfloat16, "published", "none"),
            (2049, torch.float64, "area", "sum"),
        )
    ),
    *(
        case(f"displaced {place} {dtype} {k}",
             lambda dtype=dtype, place=place, k=k: displaced(dtype, place, k), dtype)
        for dtype, k in ((torch.float32, 8), (torch.float16, 200), (torch.float64, 8), (torch.bfloat16, 2052))
        for place in range(4)
    ),
    case("20000 classes", lambda: loss(batch(3, 20000, torch.float32)), thorough=True),
    case("many samples", lambda: loss(batch(1500, 10, torch.float32, ignoring=True), "published"), thorough=True),
]  # fmt: skip


def gradients(n, k, dtype, plain, reduction, displaced=None):
    """Any numbers will do: backward only multiplies them."""
    tensors = batch(n, k, dtype, plain=plain, repeats=n % 2 == 1)
    generator = torch.Generator().manual_seed(n)
    real = real_of(dtype)
    whole = reduction == "none"
    rows = [torch.randn(n, k, generator=generator, dtype=torch.float64).to(real) for _ in range(4)]
    rows = [rows[0], ABSENT if plain else rows[1], rows[2], rows[3] if whole else ABSENT]
    incoming = torch.rand((n,) if whole else (), generator=generator, dtype=torch.float64).to(real)
    if displaced is not None:
        rows[displaced] = shifted(rows[displaced])
    return incoming, *tensors[:4], *rows, tensors[6]


CASES += [
    Case(
        "sumix_loss_backward",
        f"{dtype}-{n}x{k}-{reduction}{'-plain' * plain}",
        lambda n=n, k=k, dtype=dtype, plain=plain, reduction=reduction: gradients(n, k, dtype, plain, reduction),
        # One product is exact; the sums of "none" may be fused on one side.
        TOLERANCES[dtype] if reduction == "none" else None,
    )
    for n, k in [(0, 3), (1, 1), (3, 2), (5, 17), (8, 100), (33, 257), (2, 5000)]
    for dtype in TOLERANCES
    for plain in ((False, True) if dtype is torch.float32 else (False,))
    for reduction in ("mean", "none")
]
CASES += [
    Case(
        "sumix_loss_backward",
        f"displaced {place} {dtype} {reduction}",
        lambda dtype=dtype, reduction=reduction, place=place: gradients(3, 8, dtype, False, reduction, place),
        TOLERANCES[dtype] if reduction == "none" else None,
    )
    for dtype in (torch.float32, torch.float64, torch.bfloat16)
    for reduction in ("mean", "none")
    for place in range(4 if reduction == "none" else 3)
]
