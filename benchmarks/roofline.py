"""What the CUDA kernels should take, on paper: python -m benchmarks.roofline"""

import argparse
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch._logging
from torch import Tensor
from torch._inductor import config as inductor
from torch._inductor import metrics
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.batches import MEAN, STD, Batch
from benchmarks.common import table
from sumix import reference

EPILOG = """\
Few kernels of this kind compute enough to be bound by anything but memory, so a lower bound of their time is what they
move over what the memory can: the roofline. A launch has a few microseconds of its own, which no table shows; for small
batches that is all there is, and what counts is the number of launches.

  ours        bytes that the kernels of csrc/cuda read and write, each tensor as often as it comes from device memory:
              a partner's image that is read beside the own one counts once more, what the caches keep does not
  eager       the same job in plain PyTorch (sumix.reference): kernels, and the bytes that they read and write, counted
              while it runs: every tensor that an operation other than a view reads or makes; a gather reads what it
              returns
  compiled    torch.compile of that: kernels and bytes by Inductor's own count, as it fuses for the CPU
  times       ours / bandwidth: H100 SXM 3.35 TB/s, A100 80 GB SXM 2.04 TB/s, RTX 4090 1.01 TB/s, as published
"""

BANDWIDTH = {"H100": 3.35e12, "A100": 2.04e12, "RTX 4090": 1.01e12}  # bytes a second, as NVIDIA states them


@dataclass(frozen=True)
class Job:
    """One op at one size.

    twin: the job in plain PyTorch; `traced` says whether torch.compile takes it whole.
    launches, nbytes: of the kernels in csrc/cuda.
    """

    name: str
    size: str
    twin: Callable[[], Any]
    launches: int
    nbytes: int
    traced: bool = True


class Traffic(TorchDispatchMode):
    """Counts the kernels of eager PyTorch, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        read, made = tensors((args, kwargs)), tensors(results)
        stored = {t.untyped_storage().data_ptr() for t in read}
        changed = func._schema.is_mutable
        fresh = [t for t in made if changed or t.untyped_storage().data_ptr() not in stored]
        if fresh and "empty" not in func.name():
            written = sum(map(extent, fresh))
            gathers = func.name().startswith(("aten::index.", "aten::gather", "aten::index_select", "aten::embedding"))
            self.kernels += 1
            self.nbytes += written + (written if gathers else sum(map(extent, read)))
        return results


def tensors(nested: Any) -> list[Tensor]:
    leaves, _ = torch.utils._pytree.tree_flatten(nested)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def extent(tensor: Tensor) -> int:
    """Bytes of the elements that are there: expanded dimensions are read from the caches."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else min(size, 1)
    return count * tensor.element_size()


def eager_traffic(twin: Callable[[], Any]) -> tuple[int, int]:
    with Traffic() as traffic:
        twin()
    return traffic.kernels, traffic.nbytes


def compiled_traffic(twin: Callable[[], Any]) -> tuple[int, int]:
    """Inductor counts bytes where its metrics are logged, and not at all if it finds its own result in a cache."""
    logging.getLogger("torch._inductor.compile_fx").propagate = False
    torch._logging.set_logs(inductor_metrics=True)
    torch._dynamo.reset()
    metrics.reset()
    try:
        with inductor.patch(force_disable_caches=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(twin, dynamic=False)()
        return len(metrics.nodes_num_elem), metrics.num_bytes_accessed
    finally:
        torch._logging.set_logs()


def row_jobs(n: int, k: int) -> list[Job]:
    """The loss and its parts, float32."""
    generator = torch.Generator().manual_seed(n)
    z, r, v, u = (torch.randn(n, k, generator=generator) for _ in range(4))
    y = torch.randint(k, (n,), generator=generator)
    perm, lam = torch.randperm(n, generator=generator), torch.rand(n, generator=generator)
    one, block, absent = torch.ones(()), 4 * n * k, z.new_empty(0)
    size = f"({n}, {k})"

    def loss() -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in (z, v, u)]
        value = reference.sumix_loss(leaves[0], r, leaves[1], leaves[2], y, y[perm], perm, lam)[0]
        return torch.autograd.grad(value, leaves)

    def published() -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in (z, v, u)]
        value = reference.published_loss(leaves[0], r, leaves[1], leaves[2], y, y[perm], perm, 0.625)
        return torch.autograd.grad(value, leaves)

    def backward() -> tuple[Tensor, ...]:
        return reference.sumix_loss_backward(one, z, r, v, u, z, v, u, absent, perm)

    return [
        Job("loss, with gradients", size, loss, 2, 7 * block),
        Job("loss, the authors' loop", size, published, 2, 7 * block, traced=False),
        Job("loss_backward", size, backward, 1, 6 * block),
        Job("uncertainty", size, lambda: reference.uncertainty(z), 1, 2 * block),
        Job("uncertainty_backward", size, lambda: reference.uncertainty_backward(u, z), 1, 3 * block),
        Job("semantic_distance", size, lambda: reference.semantic_distance(z, r, y, scale=1.0), 1, 3 * block),
        Job("soft_labels", size, lambda: reference.soft_labels(y, y[perm], lam, k), 1, block),
    ]


def image_jobs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> list[Job]:
    """The mixing ops."""
    batch = Batch(shape, dtype, 10)
    x, perm, box, lam, mask = batch.images, batch.perm, batch.box, batch.lam, batch.mask
    bilinear, one = torch.full_like(perm, 3), x.numel() * x.element_size()
    size = f"{shape} {str(dtype).removeprefix('torch.')}"
    jobs = [
        Job("mix_box", size, lambda: reference.mix_box(x, box, perm), 1, 2 * one),
        Job("mix_linear", size, lambda: reference.mix_linear(x, lam, perm), 1, 3 * one),
        Job("mix_mask", size, lambda: reference.mix_mask(x, mask, perm), 1, 3 * one + mask.nbytes),
        Job("mix_resize", size, lambda: reference.mix_resize(x, box, bilinear, perm), 1, 2 * one),
    ]
    if dtype is torch.uint8:
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        jobs.append(
            Job(
                "mix_normalize",
                size,
                lambda: reference.mix_normalize(x, box, None, None, perm, mean, std, torch.float32),
                1,
                5 * one,
            )
        )
    else:
        jobs += [
            Job("mix_box_backward", size, lambda: reference.mix_box_backward(x, box, perm), 1, 2 * one),
            Job("mix_linear_backward", size, lambda: reference.mix_linear_backward(x, lam, perm), 1, 3 * one),
            Job(
                "mix_mask_backward",
                size,
                lambda: reference.mix_mask_backward(x, mask, perm),
                1,
                3 * one + 2 * mask.nbytes,
            ),
            Job(
                "mix_resize_backward",
                size,
                lambda: reference.mix_resize_backward(x, box, bilinear, perm),
                1,
                2 * one,
            ),
        ]
    return jobs


def evidence_jobs(shape: tuple[int, int, int, int], maps: tuple[int, int, int, int]) -> list[Job]:
    """What decides where to cut and how to label."""
    n, _, height, width = shape
    batch, pixels = Batch(shape, torch.uint8, 10), n * height * width
    absent, grey = torch.empty(0), torch.rand(n, height, width, generator=batch.generator)
    k = (batch.lam * height * width).long()
    whole = height * width <= 64 * 64  # an image fits into a block's shared memory
    features = torch.randn(maps, generator=batch.generator)
    fine = torch.randn(maps[0], maps[1] // 2, 2 * maps[2], 2 * maps[3], generator=batch.generator)
    perm, lam = torch.randperm(maps[0], generator=batch.generator), torch.rand(maps[0], generator=batch.generator)
    return [
        Job(
            "saliency",
            f"{shape} uint8",
            lambda: reference.saliency(batch.images, absent, absent, False),
            1 if whole else 4,
            batch.images.nbytes + pixels,
        ),
        Job("mask_top_k", f"{(n, height, width)}", lambda: reference.mask_top_k(grey, k), 1, 8 * pixels),
        Job(
            "masked_similarity",
            f"{maps}",
            lambda: reference.masked_similarity(features, perm, lam),
            2,
            features.nbytes,
        ),
        Job(
            "foreground",
            f"{tuple(fine.shape)}",
            lambda: reference.foreground(features, fine),
            2,
            features.nbytes + fine.nbytes,
        ),
    ]


def sampling_jobs(n: int) -> list[Job]:
    """What a mixer draws."""
    seed, labels, size = torch.tensor(1), torch.arange(n) % 10, f"{n}"
    return [
        Job("sample_lam", size, lambda: reference.sample_lam(seed, n, 0.2, 1.0), 1, 4 * n),
        Job("sample_perm", size, lambda: reference.sample_perm(seed, labels, n, 0), 1, 8 * n),
        Job("sample_perm, other classes", size, lambda: reference.sample_perm(seed, labels, n, 2), 2, 40 * n),
        Job("sample_box", size, lambda: reference.sample_box(seed, n, 224, 224, 0, 0.2, 1.0, 0.0, 1.0), 1, 36 * n),
        Job("sample_normal", f"({n}, 4096)", lambda: reference.sample_normal(seed, n, 4096), 1, 4 * 4096 * n),
    ]


def jobs(options: argparse.Namespace) -> list[Job]:
    rows = [(100, 100)] if options.quick else [(100, 100), (256, 1000)]
    images = [(100, 3, 32, 32)] if options.quick else [(100, 3, 32, 32), (64, 3, 224, 224)]
    return [
        *(job for n, k in rows for job in row_jobs(n, k)),
        *(job for shape in images for dtype in (torch.float32, torch.uint8) for job in image_jobs(shape, dtype)),
        *(job for shape in images for job in evidence_jobs(shape, (shape[0], 512, 7, 7))),
        *sampling_jobs(256),
    ]


def mebibytes(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the smallest sizes alone, nothing compiled")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for job in jobs(options):
        eager = eager_traffic(job.twin)
        compiled = compiled_traffic(job.twin) if job.traced and not options.quick else None
        times = [f"{job.nbytes / bandwidth * 1e6:,.2f}" for bandwidth in BANDWIDTH.values()]
        counts = [f"{kernels}: {mebibytes(nbytes)}" for kernels, nbytes in ([eager, compiled] if compiled else [eager])]
        lines.append(
            [job.name, job.size, str(job.launches), mebibytes(job.nbytes), *times, *counts, *[""] * (not compiled)]
        )
    headers = ["", "size", "launches", "MiB", *(f"{name} us" for name in BANDWIDTH), "eager: MiB", "compiled: MiB"]
    print(table(headers, lines, left=(0, 1)))


if __name__ == "__main__":
    main()
