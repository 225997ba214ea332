"""What OpenCV's saliency detector sees in SaliencyMix as published: python -m benchmarks.published_saliency

The published training code normalises its images by mean and std before it hands them to OpenCV's fine-grained static
saliency detector. That detector works on images of 8 bits, does not check what it is given, and takes the bytes of the
float32 numbers for pixels. This script crops photographs that come with scikit-image and scikit-learn, normalises them
as the published code does, and compares what OpenCV finds in them, and what sumix.ops.saliency finds in them, with what
OpenCV finds in the crops themselves.
"""

import argparse
import statistics
import sys

import numpy as np
import torch

from benchmarks import peers, photographs
from sumix import ops, show

SIZE = 32
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # CIFAR-10's


def crops(count: int, generator: torch.Generator) -> np.ndarray:
    """`count` crops of every photograph, shrunk by two to (count * photographs, SIZE, SIZE, 3) uint8."""
    cut = []
    for path in photographs.paths().values():
        cut.append(photographs.crops(np.asarray(show.read(path)), count, generator))
    return (255 * torch.cat(cut)).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=84, help="of each of the 18 photographs (default: 84)")
    options = parser.parse_args()
    found = peers.opencv_saliency()
    if found is None:
        sys.exit("this needs OpenCV with its contributed modules: pip install opencv-contrib-python-headless")

    images = crops(options.crops, torch.Generator().manual_seed(0))
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    normalised = ((images / np.float32(255) - mean) / std).astype(np.float32)

    blue_first = torch.from_numpy(normalised).permute(0, 3, 1, 2)
    ours = ops.saliency(blue_first, order="bgr", mean=MEAN, std=STD).numpy()
    peaks = ops.saliency_peak(blue_first, order="bgr", mean=MEAN, std=STD).numpy()
    same, right, correlations, own_correlations = 0, 0, [], []
    for image, floats, own, (x, y) in zip(images, normalised, ours, peaks, strict=True):
        truth, published = found(image), found(floats)
        same += int(published.argmax() == truth.argmax())
        right += int(truth.argmax() == y * SIZE + x)
        for result, into in ((published, correlations), (own, own_correlations)):
            if truth.std() > 0 and result.std() > 0:
                into.append(float(np.corrcoef(truth.ravel(), result.ravel())[0, 1]))

    total = len(images)
    version = peers.opencv().__version__
    print(f"{total} crops of {SIZE} x {SIZE} pixels, normalised by CIFAR-10's mean and std; OpenCV {version}")
    print("compared with OpenCV on the same crops in 8 bits:")
    print(
        f"published code (OpenCV on the normalised floats): the same peak in {same} of {total} crops "
        f"(chance: {total / SIZE**2:.1f}), mean correlation of the maps {statistics.mean(correlations):+.3f}"
    )
    print(
        f"sumix.ops.saliency (the normalised floats, mean=, std=): the same peak in {right} of {total} crops, "
        f"mean correlation of the maps {statistics.mean(own_correlations):+.3f}"
    )


if __name__ == "__main__":
    main()
