"""FMix's grey images, step by step from all normal deviates of a spectrum."""

import torch
from torch import Tensor


def low_frequency_image(normals: Tensor, size: tuple[int, ...], decay: float, spectrum: str) -> Tensor:
    """Images (N, H, W), or signals (N, L), in the dtype of the normal deviates (N, ..., 2), a pair a coefficient.

    The coefficients are (H, W // 2 + 1) or (L // 2 + 1); with spectrum "published" a column more for an odd W, as far
    as there is one, and (L) for signals.
    """
    kind = {"dtype": normals.dtype, "device": normals.device}
    published = spectrum == "published"
    if len(size) == 1:
        f = (torch.fft.fftfreq if published else torch.fft.rfftfreq)(size[0], **kind).abs()
    else:
        fx = torch.fft.rfftfreq(size[1], **kind)
        if published:
            fx = torch.fft.fftfreq(size[1], **kind)[: size[1] // 2 + (2 if size[1] % 2 else 1)]
        f = torch.sqrt(torch.fft.fftfreq(size[0], **kind)[:, None] ** 2 + fx**2)
    scaled = normals * (1 / f.clamp(min=1 / max(size)) ** decay).unsqueeze(-1)
    if published:  # means the last axis, and takes the first one of frequencies
        return torch.fft.irfftn(scaled[:, 0] + 1j * scaled[:, 1], s=size)
    return torch.fft.irfftn(scaled[..., 0] + 1j * scaled[..., 1], s=size)
