"""What the tests that need a GPU share: the device they run on, batches there, and what it means that nothing waits.

SUMIX_TEST_DEVICE=cpu runs those of them that mean something on a CPU, on the CPU: it shows that the tests themselves
work where there is no GPU. The others, of streams, graphs, synchronisation, several devices and device-side assertions,
are then skipped. SUMIX_TEST_DEVICE=cuda:1 takes another GPU than the first.
"""

import contextlib
import os

import pytest
import torch
from torch import Tensor

import sumix
from sumix import CutMix, SUMixHead, ops

DEVICE = torch.device(os.environ.get("SUMIX_TEST_DEVICE") or "cuda:0")
if DEVICE.type not in ("cpu", "cuda") or (DEVICE.type == "cuda" and DEVICE.index is None):
    raise ValueError(f"SUMIX_TEST_DEVICE must be cpu, or cuda with its number, got {DEVICE}")
ON_GPU = DEVICE.type == "cuda"
N, K, SIDE = 9, 10, (20, 26)
SLEEP = 200_000_000  # cycles: a tenth of a second and more


def missing() -> str | None:
    """Why there is nothing to run these tests on; None if there is."""
    if not ON_GPU:
        return None
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    return sumix.cuda_available().reason


MISSING = missing()  # tests/conftest.py then leaves out what is marked `cuda`
only_gpu = pytest.mark.skipif(not ON_GPU, reason="SUMIX_TEST_DEVICE=cpu: a CPU has no such thing")


def there(value):
    """A tensor on the device, with the strides and the place in memory that it has, or what is no tensor as it is."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    storage = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage()).to(DEVICE, copy=True)
    return storage.as_strided(value.shape, value.stride(), value.storage_offset())


def here(value):
    """The same on the CPU."""
    return value.detach().cpu() if isinstance(value, (Tensor, sumix.MixTarget)) else value


def bits(value: Tensor) -> Tensor:
    """A copy on the CPU as bytes, in which NaN equals NaN."""
    return here(value).contiguous().reshape(-1).view(torch.uint8)


def batch(dtype=torch.float32, seed=0) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (N, 3, *SIDE), generator=generator)
    images = pixels.to(dtype) if dtype == torch.uint8 else (pixels / 255).to(dtype)
    return there(images), there(torch.randint(K, (N,), generator=generator))


def tensors(seed=0) -> dict[str, Tensor]:
    """What `CALLS` take; two seeds give two batches of the same shapes."""
    generator = torch.Generator().manual_seed(100 + seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    images, y = batch(seed=seed)
    bounds = [torch.randint(0, side + 1, (N, 2), generator=generator).sort(1).values for side in reversed(SIDE)]
    perm, lam = torch.randperm(N, generator=generator), torch.rand(N, generator=generator)
    made = {
        "perm": perm,
        "lam": lam,
        "box": torch.stack([part[:, end] for end in (0, 1) for part in bounds], dim=1),
        "mask": torch.rand(N, *SIDE, generator=generator),
        "hard": torch.rand(N, *SIDE, generator=generator) < 0.5,
        "grey": normal(N, *SIDE),
        "k": torch.randint(0, SIDE[0] * SIDE[1], (N,), generator=generator),
        "z": normal(N, K),
        "r": normal(N, K),
        "v": normal(N, K),
        "u": normal(N, K),
        "maps": normal(N, 6, 4, 5).relu(),
        "fine": normal(N, 3, 9, 11).relu(),
        "head": normal(K, 6),
        "seed": torch.randint(2**62, (), generator=generator),
        "channel": torch.rand(3, generator=generator) + 0.1,
    }
    return {"x": images, "bytes": batch(torch.uint8, seed)[0], "y": y, **{k: there(v) for k, v in made.items()}}


def loss(t, **options):
    return ops.sumix_loss(t["z"], t["r"], t["v"], t["u"], t["y"], t["y"][t["perm"]], t["perm"], t["lam"], **options)


# Every operator, by name: called with the tensors of `tensors`, it returns tensors, and draws from their seed alone.
CALLS = {
    "mix_box": lambda t: ops.mix_box(t["x"], t["box"], t["perm"]),
    "mix_linear": lambda t: ops.mix_linear(t["x"], t["lam"], t["perm"]),
    "mix_linear of bytes": lambda t: ops.mix_linear(t["bytes"], t["lam"], t["perm"]),
    "mix_mask": lambda t: ops.mix_mask(t["x"], t["mask"], t["perm"]),
    "mix_mask, bool": lambda t: ops.mix_mask(t["x"], t["hard"], t["perm"]),
    "mix_resize": lambda t: ops.mix_resize(t["x"], t["box"], t["perm"]),
    "mix_resize, nearest": lambda t: ops.mix_resize(t["bytes"], t["box"], t["perm"], "nearest"),
    "mix_box_": lambda t: ops.mix_box_(t["x"].clone(), t["box"], t["perm"]),
    "mix_resize_": lambda t: ops.mix_resize_(t["x"].clone(), t["box"], t["perm"]),
    "mix_normalize, box": lambda t: ops.mix_normalize(
        t["bytes"], t["perm"], box=t["box"], mean=t["channel"], std=t["channel"]
    ),
    "mix_normalize, numbers": lambda t: ops.mix_normalize(
        t["bytes"], t["perm"], lam=t["lam"], mean=(0.4, 0.5, 0.6), std=0.25, dtype=torch.float16
    ),
    "saliency": lambda t: ops.saliency(t["x"]),
    "saliency_peak": lambda t: ops.saliency_peak(t["bytes"]),
    "saliency, numbers": lambda t: ops.saliency(t["x"], mean=(0.1, 0.2, 0.3), std=0.5),
    "sample_lam": lambda t: ops.sample_lam(N, 0.3, seed=t["seed"]),
    "sample_perm": lambda t: ops.sample_perm(N, seed=t["seed"]),
    "sample_perm, cross_class": lambda t: ops.sample_perm(N, partners="cross_class", labels=t["y"], seed=t["seed"]),
    "sample_box": lambda t: ops.sample_box(N, SIDE, seed=t["seed"]),
    "sample_uniform": lambda t: ops.sample_uniform(N, 33, seed=t["seed"]),
    "sample_normal": lambda t: ops.sample_normal(N, 33, seed=t["seed"]),
    "sample_seed": lambda t: ops.sample_seed(N, seed=t["seed"]),
    "cut_box": lambda t: ops.cut_box(t["lam"], t["box"][:, :2].clamp(max=SIDE[0] - 1), SIDE),
    "sample_top_k": lambda t: ops.sample_top_k(t["lam"], SIDE[0] * SIDE[1], max_soft=0.1, seed=t["seed"]),
    "mask_top_k": lambda t: ops.mask_top_k(t["grey"], t["k"]),
    "evidence_mask": lambda t: ops.evidence_mask(t["mask"], SIDE, paste=t["lam"] < 0.8),
    "evidence_mask, soft": lambda t: ops.evidence_mask(t["mask"][:, :3, :4], SIDE, soft=0.3),
    "fmix_mask": lambda t: ops.fmix_mask(t["lam"], SIDE, max_soft=0.1, seed=t["seed"]),
    "grid_mask": lambda t: ops.grid_mask(*ops.sample_grid(N, SIDE, seed=t["seed"]), t["lam"], SIDE),
    "smooth_mask": lambda t: ops.smooth_mask(*ops.sample_smooth(N, SIDE, seed=t["seed"]), SIDE),
    "uncertainty": lambda t: ops.uncertainty(t["z"]),
    "semantic_distance": lambda t: ops.semantic_distance(t["z"], t["r"], t["y"]),
    "masked_similarity": lambda t: ops.masked_similarity(t["maps"], t["perm"], t["lam"], box=t["box"], size=SIDE),
    "masked_similarity, cam": lambda t: ops.masked_similarity(
        t["maps"], t["perm"], t["lam"], mask=t["mask"], evidence="cam", class_weight=t["head"], labels=t["y"]
    ),
    "masked_similarity, gate": lambda t: ops.masked_similarity(
        *(t["maps"], t["perm"], t["lam"]), box=t["box"], size=SIDE, gate=t["lam"], rule="uncertain", area_weight=0.2
    ),
    "foreground": lambda t: ops.foreground(t["maps"], t["fine"]),
    "foreground, a mean": lambda t: ops.foreground(t["maps"], t["fine"], mean=t["channel"], rounds=2),
    "sumix_loss": lambda t: loss(t),
    "sumix_loss, none": lambda t: loss(t, reduction="none", ratio="published", weighting="batch"),
    "sumix_loss, weights": lambda t: loss(t, learned=torch.stack([t["lam"] / 2] * 3, dim=1), weighting="batch"),
    "soft_labels": lambda t: target_of(t).soft(K, 0.1),
}


def target_of(t):
    return sumix.MixTarget(t["y"], t["y"][t["perm"]], t["lam"], t["perm"], box=t["box"], image_size=SIDE)


# The same for what has a gradient: by name, the call and the tensors that it flows into.
GRADIENTS = {
    "mix_box": (CALLS["mix_box"], ["x"]),
    "mix_linear": (CALLS["mix_linear"], ["x"]),
    "mix_mask": (CALLS["mix_mask"], ["x"]),
    "mix_resize": (CALLS["mix_resize"], ["x"]),
    "uncertainty": (CALLS["uncertainty"], ["z"]),
    "sumix_loss": (lambda t: loss(t)[0], ["z", "v", "u"]),
    "sumix_loss, none": (lambda t: loss(t, reduction="none")[0], ["z", "v", "u"]),
    "sumix_loss, weights": (lambda t: loss(t, learned=torch.stack([t["lam"]] * 3, dim=1))[0], ["z", "v", "u"]),
    "sumix_loss, class weights": (lambda t: loss(t, weight=t["head"][:, 0].abs())[0], ["z", "v", "u"]),
}


def gradients(name: str, t: dict[str, Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """The result of one of `GRADIENTS`, and the gradients of a weighted sum of it, as tensors without a graph."""
    call, into = GRADIENTS[name]
    t = {k: v.to(dtype) if dtype is not None and v.dtype == torch.float32 and k != "mask" else v for k, v in t.items()}
    leaves = {k: t[k].detach().requires_grad_() for k in into}
    out = call({**t, **leaves})
    weights = (torch.arange(out.numel(), device=out.device) % 7 + 1).view(out.shape).to(out.dtype) / 7
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), list(leaves.values()))]


def results(called) -> list[Tensor]:
    """What a call returned, as a list of tensors: nested tuples are flattened, and what is no tensor left out."""
    if isinstance(called, Tensor):
        return [called]
    return [part for one in called for part in results(one)] if isinstance(called, (tuple, list)) else []


def network(dtype=torch.float32) -> torch.nn.Module:
    """A small network with a SUMixHead."""
    torch.manual_seed(3)
    layers = torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(8, 6, 3, 2), torch.nn.ReLU(), SUMixHead(6, K)
    return torch.nn.Sequential(*layers).to(DEVICE, dtype)


def mix(seed=1) -> tuple[Tensor, Tensor, sumix.MixTarget]:
    """Images, the same mixed, and their target."""
    images, labels = batch()
    return images, *CutMix()(images, labels, seed=seed)


@contextlib.contextmanager
def nothing_waits():
    """Fail where something waits for the GPU.

    Torch's own waiting raises; what waits behind its back is found by a kernel that takes longer than what follows it.
    (A thousand launches and more would wait too, for room in the queue.)
    """
    if not ON_GPU:
        yield
        return
    torch.cuda.synchronize(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.device(DEVICE):
            torch.cuda._sleep(SLEEP)
            asleep = torch.cuda.Event()
            asleep.record()
            yield
            waited = asleep.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize(DEVICE)
    assert not waited, "something waited until the GPU was done"
