"""Saliency against its twin in whole numbers and against OpenCV, on photographs and on everything else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import peers, photographs
from sumix import ops, reference, show

DETECTOR = peers.opencv_saliency()
needs_opencv = pytest.mark.skipif(DETECTOR is None, reason="opencv-contrib-python-headless is not installed")
sumix = torch.ops.sumix
NONE = torch.empty(0)
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
NORMALISATIONS = {  # mean and std
    "CIFAR-10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "CIFAR-100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    "ImageNet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "halves": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}
# Each window size of the kernel is at some of these the whole image, cut at some border, or cut at none.
SIZES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (1, 57),
    (300, 1),
    (3, 5),
    (12, 12),
    (13, 12),
    (17, 257),
    (32, 32),
    (48, 49),
    (113, 40),
]
KINDS = ("noise", "smooth", "constant", "extremes", "bright")


def images(kind: str, n: int, channels: int, height: int, width: int) -> Tensor:
    """uint8 images of one kind."""
    shape = (n, channels, height, width)
    if kind == "noise":
        return torch.randint(0, 256, shape, dtype=torch.uint8)
    if kind == "smooth":
        blobs = torch.rand(n, channels, 4, 5)
        return (255 * torch.nn.functional.interpolate(blobs, (height, width), mode="bilinear")).byte()
    if kind == "constant":
        return torch.full(shape, 200, dtype=torch.uint8)
    if kind == "extremes":
        return 255 * torch.randint(0, 2, shape, dtype=torch.uint8)
    return torch.randint(250, 256, shape, dtype=torch.uint8)


def normalise(x: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """As torchvision's ToTensor and Normalize do it, in float32."""
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (mean, std))
    return (x.float() / 255 - mean) / std


def opencv(x: Tensor) -> Tensor:
    """OpenCV's map of an image (C, H, W), uint8."""
    return torch.from_numpy(DETECTOR(np.ascontiguousarray(x.permute(1, 2, 0).squeeze(2).numpy())))


def first_maximum(salient: Tensor) -> list[int]:
    place = (salient == salient.max()).flatten().nonzero()[0, 0].item()
    return [place % salient.shape[1], place // salient.shape[1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_bytes_against_the_twin(size, kind):
    for channels in (1, 3):
        x = images(kind, 3, channels, *size)
        for bgr in (False, True):
            expected = reference.saliency(x, NONE, NONE, bgr)
            last = x.contiguous(memory_format=torch.channels_last)
            for layout in (x, last, torch.stack([x, x], -1)[..., 0], x[:, :1] if channels == 1 else x.flip(1).flip(1)):
                got = ops.saliency(layout, order="bgr" if bgr else "rgb")
                assert got.dtype == torch.uint8 and got.is_contiguous()
                assert torch.equal(got, expected)
                peak = ops.saliency_peak(layout, order="bgr" if bgr else "rgb")
                assert peak.dtype == torch.int64
                assert peak.tolist() == [first_maximum(salient) for salient in expected]
    assert torch.equal(ops.saliency(x[:, 0]), ops.saliency(x[:, :1]))


@needs_opencv
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [*SIZES, (90, 91), (181, 181)])
def test_made_images_against_opencv(size, kind):
    for channels in (1, 3):
        x = images(kind, 1, channels, *size)
        expected = opencv(x[0])
        assert torch.equal(ops.saliency(x, order="bgr")[0], expected)
        assert torch.equal(ops.saliency(x.flip(1))[0], expected)
        assert ops.saliency_peak(x, order="bgr")[0].tolist() == first_maximum(expected)


def photographs_of(height: int, width: int) -> Tensor:
    """Every photograph (N, 3, H, W), uint8: shrunk as a whole, and where it is large enough a piece of it as it is."""
    try:
        paths = photographs.paths()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    made = []
    for path in paths.values():
        whole = show.read(path)
        made.append(whole.resize((width, height)))
        if whole.width > 50 + width and whole.height > 40 + height:
            made.append(whole.crop((50, 40, 50 + width, 40 + height)))
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in made])


@needs_opencv
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (33, 70), (1, 100), (100, 1), (97, 64), (120, 181), (181, 181)])
def test_photographs_against_opencv(size):
    x = photographs_of(*size)
    expected = torch.stack([opencv(image) for image in x])
    assert torch.equal(ops.saliency(x, order="bgr"), expected)
    assert torch.equal(ops.saliency(x.contiguous(memory_format=torch.channels_last), order="bgr"), expected)
    assert ops.saliency_peak(x, order="bgr").tolist() == [first_maximum(salient) for salient in expected]
    grey = x[:, :1]
    assert torch.equal(ops.saliency(grey), torch.stack([opencv(image) for image in grey]))


@needs_opencv
@pytest.mark.parametrize("size", [(224, 224), (182, 250), (300, 20)])
def test_larger_images_against_opencv(size):
    """Where OpenCV's sums in float32 are no longer exact it may be a level off; ours are the twin's."""
    x = torch.cat([photographs_of(*size)[:6], images("bright", 1, 3, *size), images("noise", 1, 3, *size)])
    got = ops.saliency(x, order="bgr")
    expected = torch.stack([opencv(image) for image in x])
    assert (got.int() - expected.int()).abs().max() <= 1
    assert torch.equal(got, reference.saliency(x, NONE, NONE, True))


def test_a_large_photograph_against_the_twin():
    x = images("smooth", 1, 3, 1080, 1920)
    x[..., 500:520, 900:1000] = 255
    assert torch.equal(ops.saliency(x), reference.saliency(x, NONE, NONE, False))


def test_sums_beyond_32_bits():
    """An all white image with a few marks at its end, where the integral image has passed 2^32."""
    x = torch.full((1, 4400, 4000), 255, dtype=torch.uint8)
    x[0, 4250:4260, 3800:3900] = torch.randint(0, 256, (10, 100), dtype=torch.uint8)
    salient = ops.saliency(x)
    corner = ops.saliency(x[:, 4000:, 3500:])
    assert torch.equal(salient[:, 4000:, 3500:], corner)
    assert salient.count_nonzero() == corner.count_nonzero()
    assert (
        ops.saliency_peak(x)[0].tolist()
        == (ops.saliency_peak(x[:, 4000:, 3500:])[0] + torch.tensor([3500, 4000])).tolist()
    )


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_every_level_survives_normalisation(name):
    """All 256 levels in each channel: exactly in float32 and float16, to one level in bfloat16."""
    mean, std = NORMALISATIONS[name]
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1)
    x = normalise(levels.view(1, 3, 16, 16), mean, std)
    for dtype in FLOATS:
        back = reference.to_8_bits(x.to(dtype), torch.tensor(mean), torch.tensor(std)).view(3, 256)
        assert (back - levels.long()).abs().max() <= (dtype == torch.bfloat16), dtype

    # And in the kernel: a map shows every level of a single channel, as its pixels' differences do.
    bytes_ = torch.stack([levels.view(3, 16, 16).roll(k, 2).flatten(1)[:, torch.randperm(256)] for k in range(20)])
    bytes_ = bytes_.view(20, 3, 16, 16)
    expected = ops.saliency(bytes_)
    x = normalise(bytes_, mean, std)
    for dtype in (torch.float32, torch.float64, torch.float16):
        for given in (x.to(dtype), x.to(dtype).contiguous(memory_format=torch.channels_last)):
            assert torch.equal(ops.saliency(given, mean=mean, std=std), expected), dtype
            assert torch.equal(ops.saliency_peak(given, mean=mean, std=std), ops.saliency_peak(bytes_)), dtype


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 17), (50, 64)])
def test_floats_against_the_twin(size, dtype):
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.3, 0.2, 0.25])
    for channels in (1, 3):
        x = (2 * torch.randn(4, channels, *size, dtype=torch.float64)).to(dtype)
        for how in ((NONE, NONE), (mean[:channels], std[:channels])):
            expected = reference.saliency(x, *how, False)
            arguments = {} if how[0] is NONE else {"mean": how[0], "std": how[1]}
            for layout in (
                x,
                x.contiguous(memory_format=torch.channels_last),
                x.transpose(2, 3).clone().transpose(2, 3),
            ):
                assert torch.equal(ops.saliency(layout, **arguments), expected)
                assert torch.equal(ops.saliency_peak(layout, **arguments), reference.saliency_peak(x, *how, False))
        assert torch.equal(ops.saliency(x[:, 0]), ops.saliency(x[:, :1]))


def test_an_image_is_stretched_from_its_own_minimum_to_its_maximum():
    x = images("noise", 3, 3, 20, 21)
    x[:, 0, 0, 0], x[:, 1, 3, 4] = 0, 255
    expected = ops.saliency(x)
    for scale, shift in (1 / 255, 0), (0.01, -7), (1e4, 1e5), (1, 0):
        assert torch.equal(ops.saliency(x.double() * scale + shift), expected)
    assert torch.equal(ops.saliency(x.half()), expected)


def test_mean_and_std_of_every_kind():
    x = normalise(images("noise", 2, 3, 9, 10), [0.5] * 3, [0.25] * 3)
    expected = ops.saliency(x, mean=0.5, std=0.25)
    for number in (lambda v: [v] * 3, lambda v: (v,), lambda v: torch.tensor([v] * 3), lambda v: torch.tensor(v)):
        assert torch.equal(ops.saliency(x, mean=number(0.5), std=number(0.25)), expected)
    per_channel = torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64, requires_grad=True).view(1, 3, 1, 1)
    assert torch.equal(ops.saliency(x, mean=per_channel, std=0.25), expected)
    unit = images("noise", 2, 3, 9, 10)
    assert torch.equal(ops.saliency(unit / 255, mean=0, std=1), ops.saliency(unit))
    assert torch.equal(ops.saliency(unit, mean=7, std=9), ops.saliency(unit))  # not used for uint8


@pytest.mark.parametrize("dtype", FLOATS)
def test_values_that_are_no_colours(dtype):
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 1e-40], dtype=torch.float64).to(dtype)
    x = torch.randn(40, 3, 8, 9, dtype=torch.float64).to(dtype)
    for i in range(40):
        x[i].view(-1)[torch.randperm(216)[: 5 * i]] = odd[torch.randint(0, 6, (min(5 * i, 216),))]
    mean, std = torch.tensor([0.5, 0.0, 1e30]), torch.tensor([0.25, 1e30, 1e-30])
    for how in ((NONE, NONE), (mean, std)):
        assert torch.equal(sumix.saliency(x, *how, False), reference.saliency(x, *how, False))
    assert not ops.saliency(odd[:, None, None, None].expand(6, 3, 4, 5)).any()
    # NaN is black, infinities are black and white, and the rest is stretched over its own range
    x = torch.tensor([0.0, 1, 2, 3, 4]).repeat(1, 6, 1).to(dtype)
    plain = x.clone()
    x[0, 1, 2], x[0, 3, 3], x[0, 4, 0] = float("nan"), float("inf"), -float("inf")
    plain[0, 1, 2], plain[0, 3, 3], plain[0, 4, 0] = 0, 4, 0
    assert torch.equal(ops.saliency(x), ops.saliency(plain))


def test_no_images_and_no_pixels():
    for shape in ((0, 3, 5, 6), (2, 3, 0, 6), (2, 1, 5, 0), (0, 5, 6), (2, 0, 6)):
        for dtype in (torch.uint8, torch.float32):
            assert ops.saliency(torch.zeros(shape, dtype=dtype)).shape == (shape[0], *shape[-2:])
            assert sumix.saliency(torch.zeros(shape, dtype=dtype), NONE, NONE, False).shape == (shape[0], *shape[-2:])
    assert ops.saliency_peak(torch.zeros(0, 3, 5, 6)).shape == (0, 2)


def test_no_gradient():
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    for result in (ops.saliency(x), ops.saliency_peak(x), sumix.saliency(x, NONE, NONE, False)):
        assert not result.requires_grad


def test_opcheck():
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.2, 0.2])
    x = torch.rand(2, 3, 6, 7)
    for op in (sumix.saliency.default, sumix.saliency_peak.default):
        torch.library.opcheck(op, (x.contiguous(memory_format=torch.channels_last).requires_grad_(), mean, std, False))
        torch.library.opcheck(op, (x.mul(255).byte()[:, 0].contiguous(), NONE, NONE, True))


def test_compiles_without_a_break():
    def peak(x, mean):
        return ops.saliency_peak(2 * x, mean=mean, std=[0.2, 0.3, 0.4]) + ops.saliency(x).sum()

    torch._dynamo.reset()
    x, mean = torch.rand(2, 3, 9, 8), torch.rand(3)
    compiled = torch.compile(peak, fullgraph=True, backend="aot_eager", dynamic=True)
    assert torch.equal(compiled(x, mean), peak(x, mean))
    assert torch.equal(compiled(x[..., 1:], mean), peak(x[..., 1:], mean))


def test_meta_and_fallback():
    meta = torch.empty(2, 3, 5, 6, device="meta")
    assert ops.saliency(meta, mean=[0, 0, 0], std=1).shape == (2, 5, 6)
    assert ops.saliency_peak(meta).dtype == torch.int64
    for name in ("saliency", "saliency_peak"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sumix::{name}", "CompositeExplicitAutograd")


def test_threads_give_equal_bits():
    x, before = images("noise", 9, 3, 70, 71), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append((ops.saliency(x), ops.saliency_peak(x), ops.saliency(x / 255)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_opencv
def test_the_published_detector_sees_bytes_of_floats():
    """The command that shows it runs, and finds what the README says: no agreement beyond chance."""
    command = [sys.executable, "-m", "benchmarks.published_saliency", "--crops", "4"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    published, ours = done.stdout.splitlines()[-2:]
    assert "0 of 72" in published or "1 of 72" in published
    assert "72 of 72" in ours


X, BYTES, THREE = torch.rand(2, 3, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.saliency([1]), TypeError, "x must be a Tensor"),
        (lambda: ops.saliency(X.to_sparse()), TypeError, "x must be a dense tensor"),
        (lambda: ops.saliency(X.long()), TypeError, "x must be uint8 or floating point, got torch.int64"),
        (lambda: ops.saliency(X.bool()), TypeError, "x must be uint8 or floating point, got torch.bool"),
        (lambda: ops.saliency(X[0, 0]), ValueError, r"x must be \(N, C, H, W\) or \(N, H, W\), got \(4, 5\)"),
        (lambda: ops.saliency(X[:, :2]), ValueError, "x must have 1 or 3 channels, got 2"),
        (lambda: ops.saliency_peak(torch.zeros(2, 4, 5, 6)), ValueError, "x must have 1 or 3 channels, got 4"),
        (lambda: ops.saliency_peak(X[..., :0]), ValueError, r"x has no pixels: \(2, 3, 4, 0\)"),
        (lambda: ops.saliency(X, order="grb"), ValueError, "order must be one of 'rgb', 'bgr', got 'grb'"),
        (lambda: ops.saliency(X, order=1), TypeError, "order must be a string"),
        (lambda: ops.saliency(X, mean=0.5), ValueError, "mean and std belong together, got only mean"),
        (lambda: ops.saliency(X, std=0.5), ValueError, "mean and std belong together, got only std"),
        (lambda: ops.saliency(X, mean="a", std=1), TypeError, "mean must be a number, got str"),
        (lambda: ops.saliency(X, mean=[0, 0], std=1), ValueError, "mean must be a number, or 3 of them.*got 2"),
        (lambda: ops.saliency(X[:, 0], mean=[0, 0, 0], std=1), ValueError, "mean must be a number, or 1 of them"),
        (lambda: ops.saliency(X, mean=0, std=0), ValueError, "std must be above 0, got 0"),
        (lambda: ops.saliency(X, mean=0, std=[1, -1, 1]), ValueError, "std must be above 0, got -1"),
        (lambda: ops.saliency(X, mean=float("nan"), std=1), ValueError, "mean must be from"),
        (lambda: ops.saliency(X, mean=THREE / 0, std=THREE), ValueError, r"mean\[0\] is inf, expected a finite"),
        (lambda: ops.saliency(X, mean=THREE, std=THREE * 0), ValueError, r"std\[0\] is 0, expected a number above 0"),
        (lambda: ops.saliency(X, mean=THREE.to("meta"), std=1), ValueError, "mean must be on the device of x"),
        (lambda: ops.saliency(X, mean=THREE.bool(), std=1), TypeError, "mean must be a Tensor of real numbers"),
        (lambda: sumix.saliency(X.int(), NONE, NONE, False), RuntimeError, "x must be uint8 or floating point"),
        (lambda: sumix.saliency(X[0, 0], NONE, NONE, False), RuntimeError, "got 2 dimensions"),
        (lambda: sumix.saliency(X[:, :2], NONE, NONE, False), RuntimeError, "1 or 3 channels, got 2"),
        (lambda: sumix.saliency(X[..., ::2], NONE, NONE, False), RuntimeError, "contiguous or channels_last"),
        (lambda: sumix.saliency(X, THREE[:2], THREE, False), RuntimeError, r"mean must be \(3,\)"),
        (lambda: sumix.saliency(X, THREE, NONE, False), RuntimeError, "mean and std belong together"),
        (lambda: sumix.saliency(X, THREE, THREE.double(), False), RuntimeError, "std must be float32, got float64"),
        (lambda: sumix.saliency_peak(X[:, :, :0], NONE, NONE, False), RuntimeError, "x has no pixels"),
        (
            lambda: sumix.saliency(X[0, :1, :1, :0].expand(1, 2**59 - 1, 0), NONE, NONE, False),
            RuntimeError,
            "at most 2",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
