"""MixUp: each image is blended with its partner."""

import torch
from torch import Tensor

from sumix.ops.mix import LINEAR_DTYPES, dense, run
from sumix.transforms.base import Mixer

_mix_linear = torch.ops.sumix.mix_linear.default


class MixUp(Mixer):
    r"""Blends each image with another of the batch, :math:`\lambda x_i + (1 - \lambda) x_{\mathrm{perm}_i}`.

    lam is drawn from Beta(alpha, alpha).

    Parameters
    ----------
    alpha : float
        Of the Beta distribution, above 0. The smaller, the nearer to all or nothing; 1 is uniform.
    num_classes : int, optional
        If given, soft labels are returned instead of a `MixTarget`.
    p : float
        Probability to mix, 0 to 1: of each sample, or of the batch if `per_sample` is false. What is not mixed stays as
        it is, with `lam` 1.
    per_sample : bool
        Whether each sample has a weight of its own (the default), or one serves the whole batch, as published.
    generator : torch.Generator, optional
        Source of randomness, on the device of the images; torch's default generator if None. In the workers of a
        DataLoader leave it None: torch seeds each worker's default generator differently, but would give every worker a
        copy of this one.

    Notes
    -----
    Call it with a batch, `mixed, target = mix(images, labels)`, optionally with `generator=` for this call:

    - images : Tensor of any shape (N, ...), floating point, uint8 or a signed integer (rounded to nearest). The memory
      format, contiguous or channels_last, is kept.
    - labels : Tensor, shape (N,), any integer dtype.

    It returns the mixed images and a `MixTarget`, or with `num_classes` soft labels (N, K), float32. The images may
    require gradients. TypeError or ValueError is raised for an argument that does not fit. Without a generator it can
    be compiled (fullgraph).

    References
    ----------
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """

    def mix(self, images: Tensor, perm: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, None]:
        if images.dtype not in LINEAR_DTYPES:
            raise TypeError(f"images must be floating point, uint8 or a signed integer, got {images.dtype}")
        share = self.draw(images, generator)
        lam = (share if self.p == 1 else 1 - share).to(torch.float32)  # Beta(alpha, alpha) is symmetric
        if not self.per_sample:
            lam = lam.expand(perm.shape[0]).contiguous()
        return run(_mix_linear, dense(images), lam, perm), lam, None
