"""What a training step costs by where its labels come from: python -m benchmarks.passes

One network, one batch, one optimizer; every way in turn, many rounds, so that whatever else the machine does meets all
of them alike. Passes through the network: forward with gradient and backward count 3, forward alone 1, as is usual.
Seconds are the median of the rounds, and the ratio to CutMix's the median of the rounds' ratios. Peak memory is what
torch's allocator holds at most during a step, beyond parameters and optimizer state.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.memory import allocated_peak
from benchmarks.nets import NarrowResNet
from sumix import CutMix, ForegroundMix, SUMixHead, SUMixLoss, forward_pair
from sumix.evidence import NetworkEvidence

CLASSES = 100


def ways(batch: int, pixels: int, width: int) -> dict[str, tuple[str, Callable[[], None]]]:
    """By name: the passes of a step, and the step."""
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, pixels, pixels), torch.randint(CLASSES, (batch,))
    plain, headed = (NarrowResNet(CLASSES, width) for _ in range(2))
    headed.fc = SUMixHead(headed.fc.in_features, CLASSES)
    cut, by_evidence, foreground = CutMix(), CutMix(rule="relative"), ForegroundMix()
    published = SUMixLoss(gamma=0.5, ratio="published", weighting="batch")
    semantic = SUMixLoss(gamma=0.0)
    own, average = NetworkEvidence(plain), NetworkEvidence(copy.deepcopy(plain))
    stored = own(images)
    optimizers = {model: torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9) for model in (plain, headed)}

    def step(model: NarrowResNet, loss: torch.Tensor) -> None:
        optimizers[model].zero_grad()
        loss.backward()
        optimizers[model].step()

    def soft(mix: CutMix | ForegroundMix, *evidence: object) -> None:
        mixed, target = mix(images, labels, *evidence)
        step(plain, F.cross_entropy(plain(mixed), target.soft(CLASSES)))

    def two_passes() -> None:
        mixed, target = cut(images, labels)
        step(headed, published(*forward_pair(headed, mixed, images, in_turn=True), target))

    def raw_without_gradient() -> None:
        mixed, target = cut(images, labels)
        step(plain, semantic(*forward_pair(plain, mixed, images, raw_gradient=False), target))

    return {
        "CutMix, area": ("3", lambda: soft(cut)),
        "CutMix + published SUMix": ("6", two_passes),
        "CutMix + SUMixLoss(gamma=0), raw_gradient=False": ("4", raw_without_gradient),
        "CutMix, evidence of the network itself": ("4", lambda: soft(by_evidence, own(images))),
        "ForegroundMix, evidence of the network itself": ("4", lambda: soft(foreground, own(images))),
        "ForegroundMix, evidence of its average (EMA)": ("4", lambda: soft(foreground, average(images))),
        "ForegroundMix, stored evidence": ("3", lambda: soft(foreground, stored)),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="images (default: %(default)s)")
    parser.add_argument("--pixels", type=int, default=64, help="their sides (default: %(default)s)")
    parser.add_argument("--width", type=int, default=32, help="of the network (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = ways(options.batch, options.pixels, options.width)
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(options.rounds + 1):
        for name, (_, step) in found.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    base = next(iter(found))
    print(f"batch {options.batch}, {options.pixels} x {options.pixels} pixels, one thread, {options.rounds} rounds\n")
    print(f"{'':<48}{'passes':>7}{'ms a step':>11}{'to CutMix':>11}{'peak MiB':>10}")
    for name, (passes, step) in found.items():
        own = times[name][1:]  # the first round warms up
        ratio = statistics.median(a / b for a, b in zip(own, times[base][1:], strict=True))
        peak = allocated_peak(step) / 2**20
        print(f"{name:<48}{passes:>7}{1e3 * statistics.median(own):>11.0f}{ratio:>11.2f}{peak:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
