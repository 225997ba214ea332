"""Sampling: the generator in 64-bit integers, whose products torch cannot widen, and the distributions in float64."""

import math

import torch
from torch import Tensor

# Who draws: the streams of csrc/random.h.
SEED, LAM, PERM, CLASS, SHIFT, BOX, UNIFORM, NORMAL = range(8)
_LOW = 0xFFFFFFFF


def _product(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of a b, for a and b of 32 bits."""
    low, high = a * (b & 0xFFFF), a * (b >> 16)
    return (high + (low >> 16)) >> 16, (low + ((high & 0xFFFF) << 16)) & _LOW


def philox(seed: Tensor, sample: Tensor, draw: Tensor | int, stream: int) -> list[Tensor]:
    """Philox4x32-10 (Salmon et al., SC 2011): four words, 0 to 2^32 - 1, in int64.

    The key is `seed`, the counter `sample` (64 bits), `draw`, `stream` (32 bits each); tensors are int64 and broadcast.
    """
    seed = seed.reshape(())
    if not isinstance(draw, Tensor):
        draw = torch.full_like(sample, draw)
    sample, draw = torch.broadcast_tensors(sample, draw)
    key = [seed & _LOW, (seed >> 32) & _LOW]
    word = [sample & _LOW, (sample >> 32) & _LOW, draw, torch.full_like(draw, stream)]
    for _ in range(10):
        (high0, low0), (high1, low1) = _product(0xD2511F53, word[0]), _product(0xCD9E8D57, word[2])
        word = [high1 ^ word[1] ^ key[0], low1, high0 ^ word[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B9) & _LOW, (key[1] + 0xBB67AE85) & _LOW]
    return word


def _samples(seed: Tensor, n: int) -> Tensor:
    return torch.arange(n, device=seed.device)


def _real(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # which has no float64


def _uniform(low: Tensor, high: Tensor) -> Tensor:
    """In [0, 1), from the first 52 of the 64 bits of two words."""
    return (high << 20 | low >> 12).to(_real(low)) * 2.0**-52


def _below(low: Tensor, high: Tensor, n: Tensor | int) -> Tensor:
    """floor(bits n / 2^64) for the 64 bits of two words and n < 2^31."""
    return (high * n + (low * n >> 32)) >> 32


def _key(low: Tensor, high: Tensor) -> Tensor:
    """The 64 bits of two words as a signed number of the same order."""
    return (high << 32 | low) ^ -(2**63)


def sample_seed(seed: Tensor, n: int) -> Tensor:
    """n seeds from one, (n,) int64."""
    low, high, _, _ = philox(seed, _samples(seed, n), 0, SEED)
    return high << 32 | low


def _beta(seed: Tensor, n: int, alpha: float) -> Tensor:
    """(n,) float32 from Beta(alpha, alpha), by the polar method in its textbook form (Bailey, 1994)."""
    low, high, turn_low, turn_high = philox(seed, _samples(seed, n), 0, LAM)
    uniform = _uniform(low, high)
    if alpha == 1:
        return uniform.to(torch.float32)
    quarter = ((turn_high & 0x7FFFFFFF) << 21 | turn_low >> 11).to(uniform.dtype) * 2.0**-52
    log_q = torch.log1p(-uniform) / alpha
    t = torch.sqrt(-torch.expm1(log_q)) * torch.sin(math.pi / 2 * quarter)  # times sqrt(q)
    root = torch.hypot(t, torch.exp(log_q / 2))  # sqrt(1 + t^2), times sqrt(q)
    small = torch.where(root > 0, 0.5 * (torch.exp(log_q / 2) / root) * (torch.exp(log_q / 2) / (root + t)), 0)
    return torch.where(turn_high >> 31 == 1, 1 - small, small).to(torch.float32)


def _mixed(seed: Tensor, n: int, p: float) -> Tensor:
    return _uniform(*philox(seed, _samples(seed, n), 1, LAM)[:2]) < p


def sample_lam(seed: Tensor, n: int, alpha: float, p: float) -> Tensor:
    """lam (n,), float32, from Beta(alpha, alpha), or 1 with probability 1 - p."""
    return torch.where(_mixed(seed, n, p), _beta(seed, n, alpha), 1)


def sample_perm(seed: Tensor, labels: Tensor, n: int, partners: int) -> Tensor:
    """Partners (n,), int64: any permutation (0), one of a single cycle (1), of other classes as far as possible (2)."""
    sample = _samples(seed, n)
    order = torch.argsort(_key(*philox(seed, sample, 0, PERM)[:2]), stable=True)
    if partners == 0 or n == 0:
        return order
    shift = torch.ones((), dtype=torch.int64, device=seed.device)
    if partners == 2:
        order = order[torch.argsort(labels[order], stable=True)]
        order = order[torch.argsort(_key(*philox(seed, labels[order], 0, CLASS)[:2]), stable=True)]
        ranked = labels.sort().values
        members = torch.searchsorted(ranked, labels, right=True) - torch.searchsorted(ranked, labels)
        largest = members.max()
        further = _below(*philox(seed, torch.zeros_like(shift), 0, SHIFT)[:2], (n - 2 * largest + 1).clamp(min=1))
        shift = torch.where(largest < n, largest + further, shift)
    return torch.empty_like(order).scatter_(0, order, order[(sample + shift) % n])


def _around(centre: Tensor, half: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return (centre - half).clamp(min=0), (centre + half).clamp(max=size)


def _half(side: Tensor) -> Tensor:
    return side.to(torch.int64) // 2


def _boxes(x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Boxes (n, 4) and what they leave of the image."""
    area = ((x[1] - x[0]) * (y[1] - y[0])).to(_real(x[0]))
    return torch.stack([x[0], y[0], x[1], y[1]], dim=1), (1 - area / max(height * width, 1)).to(torch.float32)


def cut_box(lam: Tensor, centre: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """CutMix's boxes (n, 4), int64, about pixels (n, 2), x and y, and exact lam (n,), float32.

    Sides are floor(size sqrt(1 - lam)), half sides are rounded down, and the box is clipped to the image.
    """
    side = (1 - lam.to(_real(lam))).sqrt()
    x, y = (_around(at, _half(size * side), size) for at, size in zip(centre.unbind(1), (width, height), strict=True))
    return _boxes(x, y, height, width)


def sample_box(
    seed: Tensor, n: int, height: int, width: int, kind: int, alpha: float, p: float, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Boxes (n, 4), int64, and exact lam (n,), float32, of CutMix (0), signals (1), minmax (2) and ResizeMix (3)."""
    sample = _samples(seed, n)
    words = philox(seed, sample, 0, BOX)
    halves = words[:2], words[2:]
    centre = [_below(*bits, size) for bits, size in zip(halves, (width, height), strict=True)]
    lam = _beta(seed, n, alpha).to(_real(sample)) if kind != 2 and alpha > 0 else None
    if kind == 0:
        box, exact = cut_box(lam, torch.stack(centre, dim=1), height, width)
    elif kind == 1:
        rows = torch.zeros_like(sample), torch.full_like(sample, height)
        box, exact = _boxes(_around(centre[0], _half(width * (1 - lam)), width), rows, height, width)
    elif kind == 2:
        corner = philox(seed, sample, 1, BOX)
        spans = []
        for side_bits, bits, size in zip(halves, (corner[:2], corner[2:]), (width, height), strict=True):
            side = int(size * low) + _below(*side_bits, int(size * high) - int(size * low))
            first = _below(*bits, size - side + 1)
            spans.append((first, first + side))
        box, exact = _boxes(*spans, height, width)
    else:
        tau = low + (high - low) * _uniform(*philox(seed, sample, 2, BOX)[:2])
        if lam is not None:
            tau = torch.where((lam < low) | (lam > high), tau, lam)
        spans = [_around(at, _half(tau * size), size) for at, size in zip(centre, (width, height), strict=True)]
        box, exact = _boxes(*spans, height, width)
    mixed = _mixed(seed, n, p)
    return torch.where(mixed.unsqueeze(1), box, 0), torch.where(mixed, exact, 1)


def _words(seed: Tensor, n: int, size: int, stream: int) -> Tensor:
    """(n, ceil(size / 4), 4): draws of four words."""
    draws = torch.arange((size + 3) // 4, device=seed.device)
    return torch.stack(philox(seed, _samples(seed, n).unsqueeze(1), draws, stream), dim=-1)


def sample_uniform(seed: Tensor, n: int, size: int) -> Tensor:
    """(n, size), float32, uniform in [0, 1)."""
    uniform = (_words(seed, n, size, UNIFORM) >> 8).to(torch.float32) * 2.0**-24
    return uniform.flatten(1)[:, :size].contiguous()


def sample_normal(seed: Tensor, n: int, size: int) -> Tensor:
    """(n, size), float32, standard normal (Box and Muller, 1958)."""
    words = _words(seed, n, size, NORMAL).to(_real(seed))
    radius = torch.sqrt(-2 * torch.log((words[..., ::2] + 0.5) * 2.0**-32))
    angle = words[..., 1::2] * (math.pi * 2.0**-31)
    normal = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).to(torch.float32)
    return normal.flatten(1)[:, :size].contiguous()
