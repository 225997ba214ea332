"""mix_normalize against its float64 twin: every way to mix, layout and result dtype."""

import pytest
import torch
from mixing import some_boxes, some_mask, some_resize

from sumix import ops, reference
from sumix.ops.mix_normalize import DTYPES, _explicit

sumix = torch.ops.sumix
SHAPES = [(6, 3, 16, 16), (5, 3, 17, 57), (4, 1, 1, 9), (2, 3, 20, 2100), (0, 3, 4, 4), (3, 5, 9, 1)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOLERANCE = {torch.float32: 1e-6, torch.float16: 6e-4, torch.bfloat16: 4e-3}


def ways(n, height, width):
    """Arguments for every way to mix."""
    box, mask, resize = some_boxes(n, height, width), some_mask(n, height, width), some_resize(n)
    ones = torch.ones(n, 1, 1)
    return [
        {"lam": torch.rand(n)},
        {"box": box, "lam": torch.zeros(n)},  # which is not used
        {"box": box, "resize": resize},
        {"mask": mask},
        {"mask": mask > 0.5},
        {"mask": mask, "box": box, "resize": resize},
        {"mask": ones, "box": box},
        {"mask": ones > 2, "box": box},
    ]


def twin(x, perm, mean, std, box=None, resize=None, mask=None, lam=None):
    if box is None and mask is None:
        mask = lam.view(-1, 1, 1)
    return reference.mix_normalize(x, box, resize, mask, perm, mean, std, mean.dtype)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_twin(shape, layout):
    n, channels, height, width = shape
    x, perm = torch.randint(256, shape, dtype=torch.uint8), torch.randint(0, max(n, 1), (n,))
    x, mean, std = x.contiguous(memory_format=layout), torch.rand(channels), torch.rand(channels) + 0.2
    for how in ways(n, height, width):
        # Bilinear weights are of float32; all else in double.
        real = torch.float32 if "resize" in how else torch.float64
        expected = twin(x, perm, mean.to(real), std.to(real), **how).double()
        for dtype in DTYPES:
            out = ops.mix_normalize(x, perm, **how, mean=mean, std=std, dtype=dtype)
            assert out.dtype == dtype
            assert out.stride() == x.stride()
            bound = (TOLERANCE[dtype] + (real == torch.float32) * 4e-6) * (1 + expected.abs())
            assert ((out.double() - expected).abs() <= bound).all(), (list(how), dtype)


def test_strided_images_modes_and_sequences():
    x, perm, box = (
        torch.randint(256, (4, 3, 8, 18), dtype=torch.uint8)[..., ::2],
        torch.randperm(4),
        some_boxes(4, 8, 9),
    )
    given = torch.tensor(MEAN), torch.tensor(STD)
    for code, mode in enumerate(("nearest", "nearest-exact", "bilinear"), start=1):
        out = ops.mix_normalize(x, perm.int(), box=box.int(), resize=mode, mean=MEAN, std=list(STD))
        expected = twin(x, perm, *given, box=box, resize=torch.full((4,), code))
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=5e-6)
    out = ops.mix_normalize(x, perm, mask=torch.full((4, 1, 1), 0.25).half(), mean=given[0].double(), std=given[1])
    torch.testing.assert_close(out, twin(x, perm, *given, lam=torch.full((4,), 0.25)), rtol=1e-5, atol=1e-6)


def test_what_is_not_mixed_is_what_torch_gives():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16).contiguous()
    mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
    out = ops.mix_normalize(x, torch.tensor([1, 0]), lam=torch.ones(2), mean=MEAN, std=STD)
    torch.testing.assert_close(out, (x / 255 - mean) / std, rtol=1e-6, atol=1e-6)


def test_opcheck_and_fallback():
    x, perm, absent = torch.randint(256, (3, 3, 4, 5), dtype=torch.uint8), torch.tensor([1, 2, 2]), torch.empty(0)
    box, mask, how = some_boxes(3, 4, 5), some_mask(3, 4, 5), (torch.tensor(MEAN), torch.tensor(STD))
    for layout in torch.contiguous_format, torch.channels_last:
        batch = x.contiguous(memory_format=layout)
        for mixed in (box, torch.tensor([0, 3, 1]), mask), (box, absent, absent), (absent, absent, mask[:, :1, :1]):
            arguments = (batch, *(t.contiguous() for t in mixed), perm, *how, 1)
            torch.library.opcheck(sumix.mix_normalize.default, arguments)
            ours, theirs = sumix.mix_normalize(*arguments), _explicit(*arguments)
            assert ours.stride() == theirs.stride()
            torch.testing.assert_close(ours, theirs)


def test_compiles_without_a_break():
    def normalize(x, perm, box, lam):
        a = ops.mix_normalize(x, perm, box=box, resize="bilinear", mean=MEAN, std=STD, dtype=torch.bfloat16)
        return a, ops.mix_normalize(x, perm, lam=lam, mean=MEAN, std=STD)

    torch._dynamo.reset()
    compiled = torch.compile(normalize, fullgraph=True, backend="aot_eager")
    x, perm = torch.randint(256, (5, 3, 4, 6), dtype=torch.uint8), torch.randperm(5)
    arguments = x, perm, some_boxes(5, 4, 6), torch.rand(5)
    for ours, theirs in zip(compiled(*arguments), normalize(*arguments), strict=True):
        assert torch.equal(ours, theirs)


def test_threads_give_equal_bits():
    x, perm, before = (
        torch.randint(256, (16, 3, 64, 65), dtype=torch.uint8),
        torch.randperm(16),
        torch.get_num_threads(),
    )
    results, arguments = [], ways(16, 64, 65)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append([ops.mix_normalize(x, perm, **how, mean=MEAN, std=STD) for how in arguments])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


X, PERM, BOX, LAM = (
    torch.zeros(2, 3, 4, 5, dtype=torch.uint8),
    torch.tensor([1, 0]),
    torch.zeros(2, 4).long(),
    torch.ones(2),
)


def normalize(x=X, perm=PERM, mean=MEAN, std=STD, **how):
    return ops.mix_normalize(x, perm, mean=mean, std=std, **how)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: normalize([1]), TypeError, "x must be a Tensor"),
        (lambda: normalize(X.float(), lam=LAM), TypeError, "x must be uint8, got torch.float32"),
        (lambda: normalize(X[0], lam=LAM), ValueError, r"x must be \(N, C, H, W\), got \(3, 4, 5\)"),
        (lambda: normalize(), ValueError, "box, mask or lam must be given"),
        (lambda: normalize(lam=LAM, dtype=torch.float64), ValueError, "dtype must be float32, float16 or bfloat16"),
        (lambda: normalize(lam=LAM, dtype="float32"), TypeError, "dtype must be a torch.dtype, got str"),
        (lambda: normalize(lam=LAM, resize="nearest"), ValueError, "resize needs a box"),
        (lambda: normalize(box=BOX, resize="cubic"), ValueError, "resize must be one of"),
        (lambda: normalize(box=BOX, resize=PERM + 3), ValueError, r"resize\[0\] is 4, expected 0 to 3"),
        (lambda: normalize(box=BOX[:, :2]), ValueError, r"box must be \(N, 4\) for images"),
        (lambda: normalize(box=BOX + 6), ValueError, r"box\[0\] is \(6, 6, 6, 6\)"),
        (lambda: normalize(mask=LAM.view(2, 1)), ValueError, r"mask must be \(N, H, W\) or \(N, 1, 1\), got \(2, 1\)"),
        (lambda: normalize(mask=LAM.view(2, 1, 1) + 1), ValueError, r"mask\[0, 0, 0\] is 2, expected 0 to 1"),
        (lambda: normalize(lam=LAM + 1), ValueError, r"lam\[0.*\] is 2, expected 0 to 1"),
        (lambda: normalize(lam=LAM[:1]), ValueError, r"lam must be \(N,\) = \(2,\)"),
        (lambda: normalize(lam=LAM, perm=PERM + 1), ValueError, r"perm\[0\] is 2"),
        (lambda: normalize(lam=LAM, mean="0.5"), TypeError, "mean must be a number, got str"),
        (
            lambda: normalize(lam=LAM, mean=[0.5, 1]),
            ValueError,
            "mean must be a number, or 3 of them as x has 3 channels",
        ),
        (lambda: normalize(lam=LAM, mean=[0, 0, float("inf")]), ValueError, "mean must be from .* got inf"),
        (lambda: normalize(lam=LAM, mean=torch.ones(3) / 0), ValueError, r"mean\[0\] is inf, expected a number"),
        (lambda: normalize(lam=LAM, std=[1, 0, 1]), ValueError, "std must be above 0, got 0"),
        (lambda: normalize(lam=LAM, std=PERM), ValueError, "std must be a number, or 3 of them"),
        (lambda: normalize(lam=LAM, std=LAM > 0), TypeError, "std must be a Tensor of real numbers"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_value_a_channel_in_any_form():
    x, perm = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8), torch.tensor([1, 0])
    lam = torch.tensor([0.25, 1.0])
    expected = ops.mix_normalize(x, perm, lam=lam, mean=torch.zeros(3), std=torch.full((3,), 0.5))
    for mean, std in (0, 0.5), ([0.0] * 3, (0.5,) * 3), (torch.tensor(0), torch.tensor([0.5], dtype=torch.float64)):
        assert torch.equal(ops.mix_normalize(x, perm, lam=lam, mean=mean, std=std), expected)
    none = ops.mix_normalize(x[:, :0], perm, lam=lam, mean=torch.empty(0), std=torch.empty(0))
    assert none.shape == (2, 0, 4, 5)
