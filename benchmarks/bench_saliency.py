"""Saliency of a batch beside OpenCV's detector: python -m benchmarks.bench_saliency"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.common import CPU, Contestant, Group, Report, distance, main, parser
from sumix import ops, reference

EPILOG = """\
  ops.saliency       the maps of the whole batch
  ops.saliency_peak  their maxima alone
  OpenCV             StaticSaliencyFineGrained, one image after the other, each (H, W, 3) in memory already
  eager twin         sumix.reference.saliency: the same in plain PyTorch
float32 images are normalised by ImageNet's mean and std, which the ops are told; for OpenCV, which takes 8 bits alone,
the batch is brought back to them with PyTorch first. OpenCV is left out where it is not installed. It runs on as many
threads as --threads says. The images are blurred noise. Beneath each table is the time of one image.
"""

SIZES = [(100, 3, 32, 32), (64, 3, 64, 64), (16, 3, 224, 224)]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def images(shape: tuple[int, int, int, int]) -> Tensor:
    """uint8 images of noise at two scales."""
    generator = torch.Generator().manual_seed(sum(shape))
    coarse = torch.rand(*shape[:2], 8, 8, generator=generator)
    blobs = torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear")
    return (200 * blobs + 55 * torch.rand(shape, generator=generator)).byte()


def opencv(detector: Callable[[Any], Any], x: Tensor) -> Tensor:
    """The maps of a batch (N, 3, H, W), first channel blue."""
    pixels = x.permute(0, 2, 3, 1).contiguous().numpy()
    return torch.from_numpy(np.stack([detector(image) for image in pixels]))


def back_to_8_bits(x: Tensor) -> Tensor:
    """What normalised images were."""
    return (x * STD.view(-1, 1, 1) + MEAN.view(-1, 1, 1)).mul_(255).round_().clamp_(0, 255).byte()


def groups(shape: tuple[int, int, int, int], device: torch.device = CPU) -> Iterator[Group]:
    """uint8, then float32."""
    as_bytes, mean, std, none = (part.to(device) for part in (images(shape), MEAN, STD, torch.empty(0)))
    as_floats = (as_bytes / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    expected = reference.saliency(as_bytes, none, none, True)
    peaks = reference.saliency_peak(as_bytes, none, none, True)
    detector = peers.opencv_saliency() if device.type == "cpu" else None
    for x, how in ((as_bytes, {}), (as_floats, {"mean": mean, "std": std})):
        map_of = partial(ops.saliency, x, order="bgr", **how)
        peak_of = partial(ops.saliency_peak, x, order="bgr", **how)
        twin = partial(reference.saliency, x, how.get("mean", none), how.get("std", none), True)
        calls = {"ops.saliency": map_of, "ops.saliency_peak": peak_of, "eager twin": twin}
        if detector is not None:
            if x.dtype is torch.uint8:
                last = as_bytes.contiguous(memory_format=torch.channels_last)
                calls["OpenCV"] = partial(opencv, detector, last)
            else:
                calls["OpenCV"] = lambda x=x: opencv(detector, back_to_8_bits(x))
        contestants = [
            Contestant(name, call, partial(error, call, peaks if call is peak_of else expected))
            for name, call in calls.items()
        ]
        yield Group(
            name="saliency",
            params={"size": str(shape), "dtype": str(x.dtype).removeprefix("torch.")},
            contestants=contestants,
            tolerance=0 if max(shape[2:]) <= 181 else 1 / 255,  # OpenCV's sums are float32
            references=["ops.saliency"],
        )


def error(call: Callable[[], Tensor], expected: Tensor) -> float:
    """How far the result is from the expected one."""
    return distance([call()], [expected])


def bench(options: argparse.Namespace) -> None:
    cv2 = peers.opencv()
    report = Report("saliency", options)
    report.environment["opencv"] = None if cv2 is None else cv2.__version__
    print(f"opencv={report.environment['opencv']}")
    if cv2 is not None:
        cv2.setNumThreads(options.threads)
    report.extra["us_an_image"] = []
    for shape in SIZES[: 1 if options.quick else None]:
        for group in groups(shape):
            seconds = report.run(group)
            single = {name: round(1e6 * value / shape[0], 2) for name, value in seconds.items()}
            print("us an image: " + ", ".join(f"{name} {value:,}" for name, value in single.items()))
            report.extra["us_an_image"].append({**group.params, **single})
    report.write()


if __name__ == "__main__":
    main(parser(__doc__, EPILOG), bench)
