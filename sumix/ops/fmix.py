"""FMix's masks: the brightest pixels of low-frequency random images."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sumix.ops import checks, dispatch
from sumix.ops.mask import mask_top_k, sample_top_k
from sumix.ops.mask_shapes import sides_of
from sumix.ops.sample import as_seed, sample_normal

SPECTRA = ("paper", "published")


def fmix_mask(
    lam: Tensor,
    size: int | Sequence[int],
    *,
    decay: float = 3.0,
    max_soft: float = 0.0,
    spectrum: str = "paper",
    seed: Tensor | int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draw FMix's masks, one a sample: blobs of any shape that keep exactly the wanted share of the image.

    Each is cut from a grey image of its own, whose Fourier coefficients are complex normal deviates times
    :math:`1 / \max(f, 1 / \max(H, W))^{decay}` at frequency :math:`f`, so that slow waves prevail: the
    :math:`\lambda H W` brightest pixels (rounded up or down by a coin) are 1, the others 0. Nothing here waits for the
    device.

    Parameters
    ----------
    lam : Tensor, shape (N,), floating point
        Weight that the own image is to have, 0 to 1, usually from Beta(alpha, alpha).
    size : (int, int) or int
        Height and width of the images in pixels, or the length of signals.
    decay : float
        How fast the spectrum falls; the larger, the fewer and smoother the blobs.
    max_soft : float
        Half width of a soft edge as a share of the image, 0 to 0.5: the ranks around the threshold ramp from 1 to 0
        (see `mask_top_k`).
    spectrum : {"paper", "published"}
        "paper": as above. "published": the authors' code reads the real and imaginary parts from the first two rows of
        frequencies instead of the last axis, and lets the inverse transform pad what is left, (columns, 2), to the
        spectrum's shape. The image then consists of a constant and one wave along each row, whose phase and amplitude
        change from row to row. It needs at least two rows (two samples of a signal).
    seed, generator
        See `sample_lam`; on the device of `lam`.

    Returns
    -------
    mask : Tensor, shape (N, H, W) or (N, L), float32
        Weight of the own image at each pixel. No gradient.
    lam : Tensor, shape (N,), float32
        The exact weight, the mean of each mask.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a number is out of range or devices do not fit together; on CPU, outside of torch.compile, also if a weight
        is NaN or not within 0 to 1.

    References
    ----------
    Harris et al., "FMix: Enhancing Mixed Sample Data Augmentation", arXiv 2002.12047.
    """
    if checks.floating(lam, "lam").ndim != 1:
        raise ValueError(f"lam must be (N,), got {checks.shape(lam)}")
    sides = sides_of(size)
    signals, (height, width) = len(sides) == 1, (1, *sides)[-2:]
    decay = checks.number(decay, "decay", 0, 100)
    published = checks.choice(spectrum, "spectrum", SPECTRA) == 1
    if published and sides[0] < 2:
        raise ValueError(f'size must be at least 2 in its first dimension for spectrum="published", got {size}')
    seed = as_seed(seed, generator, lam.device)
    k, soft, exact = sample_top_k(lam, height * width, max_soft=max_soft, seed=seed)
    how = height, width, decay, published, signals, lam.device
    if torch.compiler.is_compiling() or type(lam) is not Tensor:
        # Below, the op keeps complex numbers out of the compiler's sight, which has no code for them and says so.
        image, scale = _low_frequency_image, amplitudes(*how)
    else:
        image, scale = low_frequency_image, kept_amplitudes(*how)
    normals = sample_normal(lam.shape[0], scale.shape[0], seed=seed)
    mask = mask_top_k(image(normals, scale, height, width, published), k, soft)
    return mask.squeeze(1) if signals else mask, exact


def kept_amplitudes(
    height: int, width: int, decay: float, published: bool, signals: bool, device: torch.device
) -> Tensor:
    """`amplitudes`, computed once; on a GPU once a stream, for no other waits for them.

    While a CUDA graph is captured nothing is computed, only noted down, so that there is nothing to keep.
    """
    stream = None
    if device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            return amplitudes(height, width, decay, published, signals, device)
        stream = torch.cuda.current_stream(device).cuda_stream
    return _keep_amplitudes(stream, height, width, decay, published, signals, device)


@functools.lru_cache(maxsize=64)
def _keep_amplitudes(stream: int | None, *how: Any) -> Tensor:
    return amplitudes(*how)


def amplitudes(height: int, width: int, decay: float, published: bool, signals: bool, device: torch.device) -> Tensor:
    """What to multiply an image's normal deviates by, (M,), real and imaginary parts in turn.

    In the order of `torch.fft.irfft2`'s coefficients. The published code uses those of the first two rows alone (of a
    signal, the first two), but of as many columns as it draws, which are one more where the width is odd.
    """
    if published and signals:
        f = _frequencies(width, device)[:2].abs()
    else:
        rows, columns = _frequencies(height, device), _frequencies(width, device)
        if published:
            rows, columns = rows[:2], columns[: width // 2 + 1 + width % 2]
        else:
            columns = columns[: width // 2 + 1]
        f = torch.sqrt(rows.square().unsqueeze(1) + columns.square()).flatten()
    low = _reciprocal(max(height, width), device)
    return f.clamp(min=low).pow(-dispatch.operand(decay)).repeat_interleave(2)


def _frequencies(n: int, device: torch.device) -> Tensor:
    """torch.fft.fftfreq(n), of which torch.compile would make a constant for each n."""
    at = torch.arange(n, device=device)
    return torch.where(at < (n + 1) // 2, at, at - n) * _reciprocal(n, device)


def _reciprocal(n: int, device: torch.device) -> Tensor:
    """1 / n, float32."""
    return torch.full((), n, dtype=torch.float32, device=device).reciprocal()


def low_frequency_image(normals: Tensor, scale: Tensor, height: int, width: int, published: bool) -> Tensor:
    """Grey images (N, height, width) whose spectra are normal deviates (N, M) times amplitudes (M,)."""
    n, parts = normals.shape[0], normals * scale
    if n == 0:  # which not every FFT library takes
        return normals.new_empty(0, height, width)
    if published:  # of each column, row 0 gives the real parts and row 1 the imaginary parts
        rows = parts.view(n, 2, -1, 2)
        spectrum = torch.complex(rows[:, 0], rows[:, 1])
    else:
        spectrum = torch.view_as_complex(parts.view(n, height, -1, 2))
    return torch.fft.irfft2(spectrum, s=(height, width)).contiguous()  # as the fake says, whatever FFT library it was


dispatch.define(
    "sumix::low_frequency_image",
    "(Tensor normals, Tensor scale, SymInt height, SymInt width, bool published) -> Tensor",
)


def _checked(normals: Tensor, scale: Tensor, height: int, width: int, published: bool) -> Tensor:
    """The op, which can be called without `fmix_mask`."""
    sized = 0 < height < 2**31 and 0 < width < 2**31 and normals.ndim == 2 and scale.shape == normals.shape[1:]
    parts = scale.numel()  # real and imaginary ones
    if not sized or not (parts > 0 and parts % 4 == 0 if published else parts == 2 * height * (width // 2 + 1)):
        raise RuntimeError(
            "sumix::low_frequency_image: normals must be (N, M) and scale (M,), for the M of an image's spectrum, got "
            f"{checks.shape(normals)} and {checks.shape(scale)} for {height} x {width} pixels"
        )
    if not normals.dtype == scale.dtype == torch.float32:
        raise RuntimeError(
            f"sumix::low_frequency_image: normals and scale must be float32, got {normals.dtype} and {scale.dtype}"
        )
    return low_frequency_image(normals, scale, height, width, published)


_anywhere = dispatch.on_one_device("low_frequency_image", _checked)  # torch has the FFT
dispatch.impl("sumix::low_frequency_image", "default", _anywhere)
_low_frequency_image = torch.ops.sumix.low_frequency_image.default


@dispatch.fake("low_frequency_image")
def _(normals: Tensor, scale: Tensor, height: int, width: int, published: bool) -> Tensor:
    return normals.new_empty(normals.shape[0], height, width)
