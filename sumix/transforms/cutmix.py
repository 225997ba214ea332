"""CutMix: a box of each image is filled from its partner."""

import torch
from torch import Tensor

from sumix.ops.mix import dense, run
from sumix.ops.sample import draw_seed
from sumix.transforms.base import Mixer

_sample_box = torch.ops.sumix.sample_box.default
_mix_box = torch.ops.sumix.mix_box.default


class CutMix(Mixer):
    r"""Replaces a random box of each image by the same box of another image of the batch.

    The partner's share is drawn from Beta(alpha, alpha); the box has sides
    :math:`\lfloor H \sqrt{share} \rfloor, \lfloor W \sqrt{share} \rfloor` about a centre uniform over the pixels, half
    sides are rounded down, and the box is clipped to the image. `lam` is then what is left of the own image exactly:
    :math:`1 - \mathrm{area} / (H W)`.

    Parameters
    ----------
    alpha : float
        Of the Beta distribution, above 0. The smaller, the nearer to all or nothing; 1 is uniform.
    num_classes : int, optional
        If given, soft labels are returned instead of a `MixTarget`.
    p : float
        Probability to mix, 0 to 1: of each sample, or of the batch if `per_sample` is false. What is not mixed gets an
        empty box and `lam` 1.
    per_sample : bool
        Whether each sample has a box of its own (the default), or one box serves the whole batch, as published.
    generator : torch.Generator, optional
        Source of randomness, on the device of the images; torch's default generator if None. In the workers of a
        DataLoader leave it None: torch seeds each worker's default generator differently, but would give every worker a
        copy of this one.

    Notes
    -----
    Call it with a batch, `mixed, target = mix(images, labels)`, optionally with `generator=` for this call:

    - images : Tensor, any dtype, (N, C, H, W), (N, C, T, H, W) (the same box in every frame), or signals (N, C, L),
      whose box is :math:`\lfloor L \cdot share \rfloor` long. The memory format, contiguous or channels_last, is kept.
    - labels : Tensor, shape (N,), any integer dtype.

    It returns the mixed images and a `MixTarget`, or with `num_classes` soft labels (N, K), float32. The images may
    require gradients. TypeError or ValueError is raised for an argument that does not fit. Without a generator it can
    be compiled (fullgraph).

    References
    ----------
    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    """

    MIN_DIM = 3

    def mix(self, images: Tensor, perm: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        n, signals = perm.shape[0], images.ndim == 3
        if signals:  # images of one row
            images = images.unsqueeze(-2)
        box, lam = _sample_box(
            draw_seed(images.device, generator),
            n if self.per_sample else 1,
            images.shape[-2],
            images.shape[-1],
            int(signals),
            self.alpha,
            self.p,
            0.0,
            1.0,
        )
        if not self.per_sample:
            box, lam = box.expand(n, 4).contiguous(), lam.expand(n).contiguous()
        mixed = run(_mix_box, dense(images), box, perm)
        return (mixed.squeeze(-2), lam, box[:, ::2].contiguous()) if signals else (mixed, lam, box)
