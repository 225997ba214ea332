"""Mask-aware feature similarity: the labels' weights from what a mix leaves visible."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch
from sumix.ops.maps import dense, places
from sumix.ops.volumes import check_boxes
from sumix.reference.masked_similarity import overlaps

_op = torch.ops.sumix.masked_similarity.default


class VisibleShares(NamedTuple):
    """What a mix shows of each sample's two images, one value per sample: float32, or float64 for float64 features."""

    own: Tensor
    """(N,): the visible share S_a of the evidence for the own image's label, 0 to 1, as far as the gate is open."""
    partner: Tensor
    """(N,): the same, S_b, for the partner's."""
    lam: Tensor
    """(N,): the mix ratio, the own label's part of what both labels weigh."""
    weights: Tensor
    """(N, 3): the weights of the own label, of the partner's label, and of all classes evenly, each 0 to 1."""


def masked_similarity(
    features: Tensor,
    perm: Tensor,
    lam: Tensor,
    *,
    box: Tensor | None = None,
    mask: Tensor | None = None,
    resize: Tensor | None = None,
    size: Sequence[int] | None = None,
    grid: Sequence[int] | None = None,
    class_weight: Tensor | None = None,
    labels: Tensor | None = None,
    evidence: str = "feature",
    min_contrast: float | None = None,
    gate: Tensor | None = None,
    rule: str = "relative",
    area_weight: float = 0.0,
) -> VisibleShares:
    r"""How much of what each image shows is visible in a mix, and the label weights that follow from it.

    A mix shows a part of image i, and of its partner `perm[i]` what lies in the rest. CutMix and its kin weight the two
    labels by the *area* of the parts. But the pasted box may hide the one object, or bring nothing of the other: the
    area then lies. This op weights the labels by how much of the *evidence* for each is visible. With the network's
    last feature map f of the unmixed images, its mean g over the places, and M the share of each cell of the map that
    the mix keeps of the own image,

    .. math::
        s_p &= \max(0, f_p \cdot g - \mathrm{mean}_q f_q \cdot g) \\
        S_a &= \sum_p M_p s_p / \sum_p s_p, \quad S_b = \sum_p (1 - M_p) s'_p / \sum_p s'_p \\
        \tilde\lambda &= S_a / (S_a + S_b)

    with s' the partner's evidence. The direction g is what the image is, as a whole, to the classifier that follows
    (which sees g alone); s is what stands out in that direction: for photographs of objects, the object. It takes no
    labels, no class weights and no segmentation network, and the map is there already wherever the unmixed images pass
    through the network too, as in the SUMix loss.

    **From shares to labels.** With the `gate` w_a of the own image, w_b of the partner, and A the mean of M, which is
    the own image's area, S_a and S_b become :math:`w_a S_a + (1 - w_a) A` and :math:`w_b S_b + (1 - w_b) (1 - A)`: an
    image in which no object stands out is weighted by its area. The `rule` then makes the weights of the own label, of
    the partner's, and of all K classes evenly, 1 / K of it each:

    - "relative": :math:`\tilde\lambda` as above, :math:`1 - \tilde\lambda`, and 0;
    - "visible": S_a, S_b and 0, as SnapMix does. They sum to 0 to 2: a mix that shows nothing of either has no label;
    - "absolute": with m the sum of an image's evidence, :math:`\tilde\lambda = m_a S_a / (m_a S_a + m_b S_b)`,
      :math:`1 - \tilde\lambda` and 0, the absolute mode of OA-CutMix: the larger object counts more. It is meant for
      object masks; two images' maps of a network have no common scale;
    - "uncertain": with c = max(1, S_a + S_b), :math:`S_a / c`, :math:`S_b / c` and the rest, :math:`1 - (S_a + S_b) /
      c`: a mix that shows half of one object and nothing of the other is labelled half certain. This one is ours.

    With `area_weight` t the weights are those times 1 - t, plus t times A, 1 - A and 0.

    **When it helps.** Where an image shows an object before a background, and the network has begun to tell them apart:
    `python -m benchmarks.label_error --report` has the errors against true masks. `ops.foreground` makes closer maps,
    and a gate, of two feature maps.

    **When it does not.** Where the evidence fills the image (textures, scenes, tissue) area is the truth, and "feature"
    misses it: something always stands out a little, and only ratios of evidence count. Use area for such data, or a
    `gate`, or raise `min_contrast`. Before a network has learned anything its map follows contrast and colour, not the
    class. For MixUp it is lam itself: a blend shows all of both.

    **What it costs.** One read of the map from memory, no copy of it, and O(N h w) besides. The class activation
    (`evidence="cam"`) costs the same; the user's object masks (`evidence="object"`) are read instead of the map.

    Nothing here has a gradient. On CPU the result does not depend on the number of threads.

    Parameters
    ----------
    features : Tensor, floating point
        The *unmixed* images' maps: (N, D, h, w), (N, D, T, h, w) for videos, (N, D, l) for signals; or tokens (N, L, D)
        with `grid`. As many spatial dimensions as the mix has in `box`, `mask` and `size`; a video's are three where
        its frames were mixed alike. Contiguous, channels_last, and slices that leave each sample as it is are read in
        place. Half precision is computed in float32. With `evidence="object"` the object masks: (N, H', W') or (N, 1,
        H', W'), in any resolution, (N, L') for signals, floating point of at least 0, bool or integer.
    perm : Tensor, shape (N,), integer
        Each image's partner, 0 to N - 1.
    lam : Tensor, shape (N,), floating point
        Area ratio, weight of the own image, 0 to 1: M itself where neither box nor mask is given (MixUp), and the
        answer where neither image's evidence is visible (S_a + S_b = 0).
    box : Tensor, shape (N, 4), integer, optional
        Pasted from the partner: x1, y1, x2, y2 in pixels, ends exclusive; empty: nothing. (N, 2), x1, x2, for signals;
        (N, 6), x1, y1, z1, x2, y2, z2, for volumes, whose maps are (N, D, d, h, w).
    mask : Tensor, shape (N, H, W), floating point or bool, optional
        Weight of the own image in each pixel, 0 to 1; (N, L) for signals; (N, 1, 1) or (N, 1) for the same in all. With
        `box` too, M is their product, 0 inside the box.
    resize : Tensor, shape (N,), integer, 0 to 3, optional
        Where it is not 0, the box shows the whole partner, resized: S_b is 1, unless the box is empty.
    size : (int, int) or (int,), optional
        (H, W) of the images in pixels, or (L,), or (D, H, W) of volumes: needed with `box`, unless `mask` says it.
    grid : (int, int), optional
        (h, w) of tokens, whose last h * w in row-major order are the places; (l,) for signals, (t, h, w) for videos.
        The tokens before them (class, registers) are left out. (N, D, L) is taken too where D < L = h w; else
        `features.unflatten(2, (h, w))` makes a map of it.
    class_weight : Tensor, shape (K, D), floating point, optional
        The classifier's weight, for `evidence="cam"`.
    labels : Tensor, shape (N,), integer, optional
        The class of each unmixed image, 0 to K - 1, or -1 for none (no evidence), for `evidence="cam"`.
    evidence : {"feature", "cam", "object"}
        "feature" as above. "cam": :math:`s_p = \max(0, w_y \cdot f_p)`, class activation of the image's own label, the
        idea of SnapMix; it needs a classifier that is linear in the mean of the map. "object": s is the user's object
        mask, the idea of OA-CutMix.
    min_contrast : float, optional
        For "feature": a map is flat, and counts as evidence everywhere alike, if :math:`s_p \le` `min_contrast`
        :math:`\|g\|^2` at every place. Only ratios of evidence count, so without a bound rounding noise would pass for
        an object. None: what rounding may leave (1e-6 for float32, 1e-3 for float16, 8e-3 for bfloat16).
    gate : Tensor, shape (N,), floating point, optional
        How far each unmixed image's evidence is trusted, 0 to 1, as `foreground` finds it, or NaN, as of maps that are
        not finite: the image's shares are NaN then, too. None: 1 for all. A share of a resized partner is 1 whatever
        its gate.
    rule : {"relative", "visible", "absolute", "uncertain"}
        How the visible shares become label weights. "absolute" reads the maps in every mix.
    area_weight : float
        t, the part of the label weights that follows the area, 0 to 1.

    Returns
    -------
    VisibleShares
        S_a, S_b and the ratio, each (N,), and the weights (N, 3), within 0 to 1. The ratio is the own label's part of
        the first two weights, and `lam` where both are 0. The mean of M, or of 1 - M, stands in for a share where the
        image has no evidence at all (a flat map, an empty object mask). NaN or inf in a map, or values whose products
        overflow, make its shares NaN, except where M is the same in all cells (MixUp, an empty box): there the shares
        are M and 1 - M whatever the maps hold, and whatever the gates.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If shapes or devices do not fit together or something is missing; on CPU, outside of torch.compile, also if a
        value within a tensor is out of its range.

    Notes
    -----
    M is exact: the mask's own integral over each cell of the map, whose edges may fall between pixels.

    Examples
    --------
    >>> mixed, target = CutMix()(images, labels)
    >>> shares = ops.masked_similarity(features, target.perm, target.lam, box=target.box, size=target.image_size)
    >>> loss, parts = ops.sumix_loss(z, r, v, u, target.y_a, target.y_b, target.perm, target.lam, learned=shares.lam)

    which is what `SUMixLoss(ratio="feature")` does.

    References
    ----------
    "cam" and "visible": Huang et al., "SnapMix: Semantically Proportional Mixing for Augmenting Fine-grained Data",
    AAAI 2021, arXiv 2012.04846. "object" and "absolute": OA-CutMix, arXiv 2606.04820.
    """
    kind = checks.choice(evidence, "evidence", reference.EVIDENCES)
    rule_number = checks.choice(rule, "rule", reference.RULES)
    area_weight = checks.number(area_weight, "area_weight", 0, 1)
    name = "objects" if evidence == "object" else "features"
    maps, frames, h, w, tokens = _objects(features) if evidence == "object" else places(features, grid)
    real = torch.float64 if maps.dtype is torch.float64 else torch.float32
    absent = maps.new_empty(0, dtype=real)
    perm = checks.indices(perm, "perm", maps, name)
    lam = checks.ratios(lam, "lam", maps, name, real)
    gate = absent if gate is None else checks.ratios(gate, "gate", maps, name, real)
    weight, classes = absent, absent
    if evidence == "cam":
        weight, classes = _classes(class_weight, labels, maps, maps.shape[2 if tokens else 1], real)
    mix = {"box": box, "mask": mask, "size": size}
    if isinstance(box, Tensor) and box.ndim == 2 and box.shape[1] == 6:
        box, mask, size, h, frames = None, _in_volumes(box, mask, size, lam, maps, frames, h, w), None, frames * h, 1
    box = absent if box is None else _box(box, lam)
    mask, size = (absent, _size(size)) if mask is None else _mask(mask, lam, _size(size))
    if evidence == "object":
        _same_space(name, features, 1 if features.ndim == 2 else 2, mix)
    else:
        _same_space(name, features, features.ndim - 2 if grid is None else len(grid), mix)
    if size is None:
        if box is not absent:
            raise ValueError("size must be given with box: (H, W) of the images in pixels, or (L,) of signals")
        size = (1, 1)
    if resize is not None:
        if box is absent:
            raise ValueError("resize must be None without a box (N, 4)")
        resize = checks.indices(resize, "resize", maps, name)
    contrast = reference.min_contrast_of(maps.dtype)
    if min_contrast is not None:
        contrast = checks.number(min_contrast, "min_contrast", 0)
    arguments = (maps, weight, classes, perm, lam, box, mask, absent if resize is None else resize, gate)
    arguments = (*arguments, frames, h, w, *size, tokens, kind, contrast, rule_number, area_weight)
    try:
        if not dispatch.is_plain(*arguments[:9]):
            return VisibleShares(*dispatch.call(_op, *arguments))
        with torch._C._AutoDispatchBelowAutograd():
            return VisibleShares(*_op(*arguments))
    except RuntimeError as error:
        checks.reraise(error)


def _objects(objects: Any) -> tuple[Tensor, int, int, int, bool]:
    x = checks.tensor(objects, "objects").detach()
    if x.dtype not in checks.FLOATS:
        if x.is_complex():
            raise TypeError(f"objects must be floating point, bool or integer, got {x.dtype}")
        x = x.to(torch.float32)
    if x.ndim == 4 and x.shape[1] == 1:
        x = x.squeeze(1)
    if x.ndim not in (2, 3) or 0 in x.shape[1:]:
        raise ValueError(
            f"objects must be (N, H, W) or (N, 1, H, W), or (N, L) for signals, got {checks.shape(objects)}"
        )
    h, w = (1,) * (3 - x.ndim) + tuple(x.shape[1:])
    return dense(x.reshape(x.shape[0], 1, h * w)), 1, h, w, False


def _same_space(name: str, x: Tensor, dimensions: int, mix: dict[str, Any]) -> None:
    """Fail unless the mix has as many spatial dimensions as the maps, or the maps are of a video with equal frames."""
    for what, part in mix.items():
        if part is None:
            continue
        mixed = len(part) if what == "size" else part.shape[1] // 2 if what == "box" else part.ndim - 1
        if mixed != dimensions and (mixed, dimensions) != (2, 3):
            advice = "; tokens of images need grid=(h, w)" if name == "features" else ""
            raise ValueError(
                f"{name} must have as many spatial dimensions as the mix, {mixed} by its {what}, got "
                f"{checks.shape(x)}, which has {dimensions}{advice}"
            )


def _classes(class_weight: Any, labels: Any, maps: Tensor, channels: int, real: torch.dtype) -> tuple[Tensor, Tensor]:
    if class_weight is None or labels is None:
        missing = "class_weight" if class_weight is None else "labels"
        raise ValueError(f'{missing} must be given for evidence="cam": the classifier\'s (K, D) weight and labels (N,)')
    if checks.floating(class_weight, "class_weight").ndim != 2 or class_weight.shape[1] != channels:
        raise ValueError(
            f"class_weight must be (K, {channels}) as features have {channels} channels, got "
            f"{checks.shape(class_weight)}"
        )
    checks.same_device(class_weight, "class_weight", maps, "features")
    labels = checks.indices(labels, "labels", maps, "features")
    return class_weight.detach().to(real).contiguous(), labels


def _box(box: Any, lam: Tensor) -> Tensor:
    """Boxes (N, 4); signals are images of one row."""
    if checks.tensor(box, "box").dtype not in checks.INTEGERS:
        raise TypeError(f"box must be an integer tensor, got {box.dtype}")
    if box.ndim != 2 or box.shape[0] != lam.shape[0] or box.shape[1] not in (2, 4):
        n = lam.shape[0]
        raise ValueError(f"box must be (N, 4) = ({n}, 4), or (N, 2) for signals, got {checks.shape(box)}")
    checks.same_device(box, "box", lam, "lam")
    box = box.to(torch.int64)
    if box.shape[1] == 2:
        x1, x2 = box.unbind(1)
        box = torch.stack([x1, torch.zeros_like(x1), x2, torch.ones_like(x2)], dim=1)
    return box.contiguous()


def _in_volumes(
    box: Tensor, mask: Tensor | None, size: Any, lam: Tensor, maps: Tensor, frames: int, h: int, w: int
) -> Tensor:
    """M of volumes (N, d H, W) as float32 weights: the slices of the map, one below the other, at the images' H and W.

    The share of a box in a slice of the map is its share of the depth, exactly.
    """
    if checks.tensor(box, "box").dtype not in checks.INTEGERS or box.shape[0] != lam.shape[0]:
        raise ValueError(f"box must be integer (N, 6) = ({lam.shape[0]}, 6), got {box.dtype} {checks.shape(box)}")
    checks.same_device(box, "box", lam, "lam")
    if not isinstance(size, (tuple, list)) or len(size) != 3:
        raise ValueError(f"size must be (D, H, W) of the volumes with a box (N, 6), got {size!r}")
    depth, height, width = (checks.count(side, "size") for side in size)
    if dispatch.is_at_hand(box):
        check_boxes(box, (depth, height, width))
    weight = lam.new_ones(lam.shape[0], 1, 1, 1)
    if mask is not None:
        if checks.tensor(mask, "mask").shape != weight.shape:
            raise ValueError(
                f"mask must be (N, 1, 1, 1) = {checks.shape(weight)} with a box (N, 6), got {checks.shape(mask)}"
            )
        weight = mask.to(lam.dtype)
    inside, fits = [], torch.ones_like(box[:, 0], dtype=torch.bool)
    for axis, (pixels, cells) in enumerate(((width, width), (height, height), (depth, frames))):
        at, low, high = torch.arange(pixels, device=box.device), box[:, axis, None], box[:, 3 + axis, None]
        within = (at >= low) & (at < high)
        fits = fits & ((low >= 0) & (low <= high) & (high <= pixels)).squeeze(1)
        inside.append(within.to(lam.dtype) @ overlaps(cells, pixels, lam).t())
    x, y, z = inside
    pasted = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
    kept = weight * (1 - pasted.clamp(max=1))
    kept = kept.where(fits.view(-1, 1, 1, 1), math.nan)  # which the op refuses, where a box cannot be looked at here
    return kept.to(torch.float32).flatten(1, 2)


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(size, (tuple, list)) or len(size) not in (1, 2):
        raise ValueError(f"size must be (H, W) of the images, or (L,) of signals, got {size!r}")
    return (1,) * (2 - len(size)) + tuple(checks.count(side, "size") for side in size)


def _mask(mask: Any, lam: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, tuple[int, int] | None]:
    """The mask as the op has it, uint8 for bool, and the images' size, which the mask may have to say."""
    if checks.tensor(mask, "mask").dtype not in (*checks.FLOATS, torch.bool):
        raise TypeError(f"mask must be floating point or bool, got {mask.dtype}")
    if mask.ndim not in (2, 3) or mask.shape[0] != lam.shape[0] or 0 in mask.shape[1:]:
        n = lam.shape[0]
        raise ValueError(f"mask must be (N, H, W) = ({n}, H, W), or (N, L) for signals, got {checks.shape(mask)}")
    checks.same_device(mask, "mask", lam, "lam")
    sides = (1,) * (3 - mask.ndim) + tuple(mask.shape[1:])
    if sides != (1, 1):
        size = sides if size is None else size
        if sides != size:
            raise ValueError(f"mask must have the images' size, (N, {size[0]}, {size[1]}), got {checks.shape(mask)}")
    mask = mask.detach().reshape(-1, *sides)
    mask = mask.contiguous().view(torch.uint8) if mask.dtype is torch.bool else mask.to(torch.float32).contiguous()
    return mask, size


@dispatch.fake("masked_similarity")
def _(
    features, class_weight, labels, perm, lam, box, mask, resize, gate, frames, h, w, height, width, tokens, evidence,
    min_contrast, rule, area_weight,
):  # fmt: skip
    return *(lam.new_empty(lam.shape) for _ in range(3)), lam.new_empty(lam.shape[0], 3)


dispatch.fallback("masked_similarity", reference.masked_similarity_explicit)


def _none(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "sumix::masked_similarity has no gradient: detach its inputs, as sumix.ops.masked_similarity does"
    )


dispatch.register_autograd("sumix::masked_similarity", _none)
dispatch.with_numbers(_op, _none)
