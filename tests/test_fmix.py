import math
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sumix import ops, reference
from sumix.ops import fmix

SIZES = [
    (1, 1),
    (1, 2),
    (1, 7),
    (7, 1),
    (2, 1),
    (2, 2),
    (3, 3),
    (5, 7),
    (8, 3),
    (32, 32),
    (33, 17),
    (6, 20),
    (1,),
    (5,),
    (32,),
]


def images(n, size, *, decay=3.0, spectrum="paper", seed=0):
    """What fmix_mask cuts its masks from."""
    published, (height, width) = spectrum == "published", (1, *size)[-2:]
    scale = fmix.amplitudes(height, width, decay, published, len(size) == 1, torch.device("cpu"))
    normals = ops.sample_normal(n, scale.shape[0], seed=seed)
    image = fmix.low_frequency_image(normals, scale, height, width, published)
    return image.squeeze(1) if len(size) == 1 else image


def coefficients(size, spectrum):
    """The shape of the spectrum that is drawn."""
    if len(size) == 1:
        return size if spectrum == "published" else (size[0] // 2 + 1,)
    more = spectrum == "published" and size[1] % 2 and size[1] > 1
    return size[0], size[1] // 2 + (2 if more else 1)


@pytest.mark.parametrize("decay", [0.0, 3.0])
@pytest.mark.parametrize(
    ("size", "spectrum"),
    [(size, "paper") for size in SIZES] + [(size, "published") for size in SIZES if size[0] > 1],
)
def test_images_match_the_float64_twin(size, spectrum, decay):
    shape = coefficients(size, spectrum)
    normals = ops.sample_normal(4, 2 * math.prod(shape), seed=3).double().view(4, *shape, 2)  # all, though few are used
    want = reference.low_frequency_image(normals, size, decay, spectrum)
    got = images(4, size, decay=decay, spectrum=spectrum, seed=3)
    assert got.dtype == torch.float32 and got.shape == (4, *size)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6 * want.abs().max().item())


@pytest.mark.parametrize("max_soft", [0.0, 0.2])
@pytest.mark.parametrize("spectrum", ["paper", "published"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_masks_are_cut_from_the_images(n, size, spectrum, max_soft):
    if spectrum == "published" and size[0] == 1:
        with pytest.raises(ValueError, match="size must be at least 2"):
            ops.fmix_mask(torch.rand(n), size, spectrum=spectrum)
        return
    lam = torch.rand(n)
    mask, exact = ops.fmix_mask(lam, size, max_soft=max_soft, spectrum=spectrum, seed=5)
    k, soft, want = ops.sample_top_k(lam, math.prod(size), max_soft=max_soft, seed=5)
    assert torch.equal(mask, reference.mask_top_k(images(n, size, spectrum=spectrum, seed=5), k, soft))
    assert mask.dtype == exact.dtype == torch.float32 and mask.shape == (n, *size)
    assert torch.equal(exact, want)
    if n:
        torch.testing.assert_close(mask.flatten(1).double().mean(dim=1), exact.double(), rtol=1e-6, atol=1e-7)
    if len(size) == 1:
        assert torch.equal(mask, ops.fmix_mask(lam, size[0], max_soft=max_soft, spectrum=spectrum, seed=5)[0])


def test_the_mean_of_masks_is_lam():
    lam = ops.sample_lam(2000, 0.2, seed=1)
    mask, exact = ops.fmix_mask(lam, (8, 8), seed=2)
    torch.testing.assert_close(mask.mean(dim=(1, 2)), exact)
    error = exact - lam
    assert error.abs().max() <= 1 / 64
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(2000)  # up as often as down, and by as much: Beta is even
    # No pixel is favoured: each is 1 in half of the masks, give or take what a mask's share varies.
    share = mask.mean(dim=0)
    assert (share - exact.mean()).abs().max() < 5 * 0.5 / math.sqrt(2000)


def test_the_spectrum_falls_as_a_power_of_the_frequency():
    power = torch.fft.rfft2(images(4000, (16, 12), decay=2.0)).abs().square().mean(dim=0)
    f = torch.sqrt(torch.fft.fftfreq(16)[:, None] ** 2 + torch.fft.rfftfreq(12) ** 2).clamp(min=1 / 16)
    inner = slice(1, -1)  # the outer columns hold pairs of conjugates
    torch.testing.assert_close(power[:, inner], 2 * f[:, inner] ** -4.0, rtol=0.12, atol=0)


def test_the_published_spectrum_has_two_columns_of_frequencies():
    power = torch.fft.rfft2(images(50, (16, 12), spectrum="published")).abs().square().mean(dim=0)
    assert (power[:, 2:] < 1e-9 * power.max()).all()
    assert (power[:7, :2] > 0).all()  # as many rows as there should have been columns
    assert (torch.fft.rfft2(images(50, (16, 12))).abs().square().mean(dim=0) > 0).all()


def test_seeds_and_rows():
    lam = torch.rand(20)
    torch.manual_seed(1)
    first = ops.fmix_mask(lam, (9, 9))[0]
    assert not torch.equal(first, ops.fmix_mask(lam, (9, 9))[0])
    torch.manual_seed(1)
    assert torch.equal(first, ops.fmix_mask(lam, (9, 9))[0])
    one, two = (ops.fmix_mask(lam, (9, 9), generator=torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(one, two)
    part = ops.fmix_mask(lam[:8], (8, 8), seed=7)[0]  # a row depends on the seed and its number
    assert torch.equal(part, ops.fmix_mask(lam, (8, 8), seed=7)[0][:8])


def test_no_gradient_and_other_dtypes_of_lam():
    lam = torch.rand(5, dtype=torch.float64, requires_grad=True)
    mask, exact = ops.fmix_mask(lam, (6, 6), seed=1)
    assert not mask.requires_grad and not exact.requires_grad
    assert torch.equal(mask, ops.fmix_mask(lam.detach().float(), (6, 6), seed=1)[0])


@pytest.mark.parametrize("spectrum", ["paper", "published"])
def test_compiles_without_a_word(spectrum):
    lam, seed = torch.rand(5), torch.tensor(7)

    def masks(lam, images, seed):
        return ops.fmix_mask(lam, images.shape[-2:], max_soft=0.1, spectrum=spectrum, seed=seed)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = torch.compile(masks, fullgraph=True, dynamic=True)
        for n, size in ((5, (12, 10)), (4, (9, 7))):
            given = lam[:n], torch.zeros(n, *size), seed
            for got, want in zip(compiled(*given), masks(*given), strict=True):
                assert torch.equal(got, want)
    assert not [w for w in caught if "complex" in str(w.message)]


def test_nothing_waits_for_the_device():
    with FakeTensorMode():  # which has no numbers to look at
        mask, lam = ops.fmix_mask(torch.rand(3), (11, 13), max_soft=0.1, seed=torch.zeros((), dtype=torch.int64))
    assert mask.shape == (3, 11, 13) and lam.shape == (3,)
    assert type(ops.fmix_mask(torch.rand(3), (11, 13))[0]) is torch.Tensor  # and the cache has nothing from there


def test_the_cache_holds_in_inference_mode_and_out_of_it():
    lam = torch.rand(3)
    with torch.inference_mode():
        inside = ops.fmix_mask(lam, (11, 12), seed=1)[0]
    outside = ops.fmix_mask(lam, (11, 12), seed=1)[0]
    assert torch.equal(inside, outside)
    x = torch.randn(3, 11, 12, requires_grad=True)
    (x * outside).sum().backward()
    assert torch.equal(x.grad, outside)


def test_the_image_op_is_registered_well():
    scale = fmix.amplitudes(6, 5, 3.0, False, False, torch.device("cpu"))
    arguments = (torch.randn(3, scale.shape[0]), scale, 6, 5, False)
    torch.library.opcheck(torch.ops.sumix.low_frequency_image.default, arguments)
    assert torch.equal(torch.ops.sumix.low_frequency_image(*arguments), fmix.low_frequency_image(*arguments))


def test_the_default_dtype_does_not_matter():
    lam = torch.rand(3)
    want = ops.fmix_mask(lam, (10, 14), seed=1)
    torch.set_default_dtype(torch.float64)
    fmix._keep_amplitudes.cache_clear()
    try:
        got = ops.fmix_mask(lam, (10, 14), seed=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("lam", torch.tensor([0, 1]), TypeError),
        ("lam", torch.tensor([[0.5]]), ValueError),
        ("lam", torch.tensor([0.5, math.nan]), ValueError),
        ("lam", torch.tensor([1.5, 0.5]), ValueError),
        ("size", (3, 0), ValueError),
        ("size", (3, 4, 5), ValueError),
        ("size", 1.5, TypeError),
        ("size", (3, 4.0), TypeError),
        ("decay", -1, ValueError),
        ("decay", math.nan, ValueError),
        ("decay", None, TypeError),
        ("max_soft", 0.6, ValueError),
        ("spectrum", "code", ValueError),
        ("spectrum", 1, TypeError),
        ("seed", "1", TypeError),
        ("generator", 1, TypeError),
    ],
)
def test_bad_input_is_named(name, value, error):
    good = {"lam": torch.tensor([0.2, 0.7]), "size": (4, 5)}
    ops.fmix_mask(**good)
    with pytest.raises(error, match=name):
        ops.fmix_mask(**{**good, name: value})
