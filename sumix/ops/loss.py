"""The SUMix loss."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sumix import reference
from sumix.ops import checks, dispatch

_op = torch.ops.sumix.sumix_loss.default
_backward = torch.ops.sumix.sumix_loss_backward.default


class SUMixParts(NamedTuple):
    """What the loss is made of, one value per sample, without gradient: float32, or float64 for float64 logits."""

    lam: Tensor
    """(N,): the ratio in use, lam~, the weight of the sample's own label."""
    classification: Tensor
    """(N,): lam~ CE(z, y_a) + (1 - lam~) CE(z, y_b), or what label weights make of it."""
    regularizer: Tensor
    """(N,): the uncertainty regulariser, not yet multiplied by gamma."""


def sumix_loss(
    logits: Tensor,
    raw_logits: Tensor,
    uncertainty: Tensor | None,
    raw_uncertainty: Tensor | None,
    y_a: Tensor,
    y_b: Tensor,
    perm: Tensor,
    lam: Tensor,
    *,
    gamma: float = 0.5,
    ratio: str = "semantic",
    weighting: str = "sample",
    kappa: float = 0.3,
    distance_scale: float | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    learned: Tensor | None = None,
) -> tuple[Tensor, SUMixParts]:
    r"""The SUMix loss: cross entropy with a mix ratio learned per sample, and an uncertainty regulariser.

    With z, r the logits and v, u the uncertainties of the mixed and the raw images, and lam the area ratio,

    .. math::
        \tilde\lambda &= \lambda e^{-\alpha_{y_a}} / (\lambda e^{-\alpha_{y_a}} + (1 - \lambda) e^{-\alpha'_{y_b}}) \\
        L &= \mathrm{mean}(\tilde\lambda\, CE(z, y_a) + (1 - \tilde\lambda)\, CE(z, y_b))
           + \gamma\, \mathrm{mean}(\lambda\, CE(t, y_a) + (1 - \lambda)\, CE(t', y_b)) \\
        t &= \exp(\min(-(u + v + \alpha), 80)), \quad t' = \exp(\min(-(u_{perm} + v + \alpha'), 80))

    where alpha is the `semantic_distance` between the mix and the own image, alpha' that to the partner. Gradients flow
    into z, v and u (both rows that a sample uses), not through alpha and lam~. The loss is finite for logits of any
    size whose differences are; the minimum with 80 is where it departs from the published code, which overflows. From
    80 on, 80 included, t is constant and has no gradient.

    Forward computes the gradients in the same pass. It can be differentiated once, in reverse mode; rows may repeat in
    `perm`. On CPU the result does not depend on the number of threads.

    Parameters
    ----------
    logits, raw_logits : Tensor, shape (N, K), floating point
        Outputs of the network for the mixed and for the raw images. Half precision is computed in float32.
    uncertainty, raw_uncertainty : Tensor, shape (N, K), or None
        v and u, usually `ops.uncertainty` of a second linear layer. Both None is the plain form: the logits themselves
        (see the note at `SUMixLoss`).
    y_a, y_b : Tensor, shape (N,), integer
        Labels of the own image and of the partner; classes from 0 to K - 1, or `ignore_index`.
    perm : Tensor, shape (N,), integer
        Which image was mixed into each: partner of sample i is raw image perm[i].
    lam : Tensor, shape (N,), floating point, in [0, 1]
        Weight of the own image, its share of the area. No gradient flows into it, nor into `weight`.
    gamma : float
        Weight of the regulariser, at least 0.
    ratio : {"semantic", "published", "area"}
        How lam~ is found. "semantic": alpha = kappa sqrt(K) d / ||d||_2, d = softmax(p - m), large where the mix has
        lost a class. "published": the authors' code, d = softmax(m - p) times `distance_scale`. "area": lam~ = lam,
        alpha = 0.
    weighting : {"sample", "batch"}
        "sample" as above; "batch" uses the batch's mean of lam~ for every sample, as the authors' code in effect does.
    kappa : float
        Strength of "semantic", at least 0, independent of batch size and class count.
    distance_scale : float or None
        Strength of "published", at least 0; None for the batch size, as in the authors' code.
    reduction : {"mean", "sum", "none"}
        "mean" divides the classification term by the sum of lam~ w[y_a] + (1 - lam~) w[y_b] (N without weights), to
        which the rest of `learned` adds its part of the mean of w.
    weight : Tensor, shape (K,), floating point, or None
        w of torch.nn.CrossEntropyLoss, in the classification term only.
    label_smoothing : float
        In [0, 1], as in torch.nn.CrossEntropyLoss, in the classification term only.
    ignore_index : int
        A label of this value drops its terms, and does not count in means; such a sample's lam~ is lam.
    learned : Tensor, shape (N,) or (N, 3), floating point, in [0, 1] or NaN, or None
        A ratio that was found elsewhere, by `masked_similarity` for one: lam~ is this, alpha is 0, and `ratio`, `kappa`
        and `distance_scale` are not looked at. No gradient flows into it. (N, 3) are the weights of the own label, of
        the partner's, and of all classes evenly, as they are, whatever they sum to: the classification term is w_a
        CE(z, y_a) + w_b CE(z, y_b) + w_r mean_k CE(z, k), and with label smoothing e that times 1 - e, plus e mean_k
        CE(z, k). lam~ is then w_a. Weighting "batch" takes the mean of each.

    Returns
    -------
    loss : Tensor, shape () or (N,) for "none", float32 (float64 for float64 logits)
    parts : SUMixParts
        lam~, the classification term and the regulariser of each sample, shape (N,).

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If shapes, devices or options do not fit; on CPU also if a label, partner or ratio lies outside its range or is
        NaN (RuntimeError from a compiled graph).

    References
    ----------
    Qin et al., "SUMix: Mixup with Semantic and Uncertain Information", ECCV 2024, section 3.
    """
    options = resolve_options(gamma, ratio, weighting, kappa, distance_scale, reduction, label_smoothing, ignore_index)
    rows = (logits, raw_logits, uncertainty, raw_uncertainty)
    loss, parts = run(*rows, y_a, y_b, perm, lam, weight, learned, options)
    return loss, SUMixParts(*parts.unbind(0))


class Options(NamedTuple):
    """The options that are no tensors, checked, with names numbered as the op has them."""

    ratio: int
    weighting: int
    reduction: int
    gamma: float
    kappa: float
    distance_scale: float | None
    label_smoothing: float
    ignore_index: int


def resolve_options(
    gamma: float,
    ratio: str,
    weighting: str,
    kappa: float,
    distance_scale: float | None,
    reduction: str,
    label_smoothing: float,
    ignore_index: int,
) -> Options:
    """Check the options that are no tensors."""
    return Options(
        ratio=checks.choice(ratio, "ratio", reference.RATIOS),
        weighting=checks.choice(weighting, "weighting", reference.WEIGHTINGS),
        reduction=checks.choice(reduction, "reduction", reference.REDUCTIONS),
        gamma=checks.number(gamma, "gamma", 0),
        kappa=checks.number(kappa, "kappa", 0),
        distance_scale=None if distance_scale is None else checks.number(distance_scale, "distance_scale", 0),
        label_smoothing=checks.number(label_smoothing, "label_smoothing", 0, 1),
        ignore_index=checks.integer(ignore_index, "ignore_index"),
    )


def run(
    logits: Tensor,
    raw_logits: Tensor,
    uncertainty: Tensor | None,
    raw_uncertainty: Tensor | None,
    y_a: Tensor,
    y_b: Tensor,
    perm: Tensor,
    lam: Tensor,
    weight: Tensor | None,
    learned: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """The loss and its parts (3, N).

    What is right already goes to the op at once, in plain eager mode: the op checks everything itself and takes a few
    microseconds, where checks in Python take tens. The rest is checked, converted where that is allowed, or explained.
    """
    rows = (logits, raw_logits, uncertainty, raw_uncertainty)
    tensors = (*rows, y_a, y_b, perm, lam, weight, learned)
    dispatch.refuse_forward_mode("sumix_loss", *rows)
    if _is_ready(*tensors):
        try:
            absent = logits.new_empty(0)  # what the op takes for no tensor
            return _call([absent if t is None else t for t in tensors], options, plain=True)
        except RuntimeError:
            pass  # what it was comes out below
    try:
        return _call(_prepare(*tensors), options, plain=False)
    except RuntimeError as error:
        checks.reraise(error)


def _is_ready(
    z: Tensor, r: Tensor, v: Tensor | None, u: Tensor | None, y_a: Tensor, y_b: Tensor, perm: Tensor, lam: Tensor,
    weight: Tensor | None, learned: Tensor | None,
) -> bool:  # fmt: skip
    """Whether the op would take the tensors as they are, but for sizes and values."""
    if not dispatch.is_plain(z, r, y_a, y_b, perm, lam) or z.ndim != 2 or z.dtype is not r.dtype:
        return False
    real = torch.float64 if z.dtype is torch.float64 else torch.float32
    if not (y_a.dtype is y_b.dtype is perm.dtype is torch.int64 and lam.dtype is real):
        return False
    for given, dimensions in (weight, (1,)), (learned, (1, 2)):
        if given is not None and not (dispatch.is_plain(given) and given.dtype is real and given.ndim in dimensions):
            return False
    if weight is not None and weight.numel() == 0:
        return False
    if v is None or u is None:
        return v is u
    return dispatch.is_plain(v, u) and v.dtype is u.dtype is z.dtype and v.ndim == 2


def _call(tensors: Sequence[Tensor], options: Options, plain: bool) -> tuple[Tensor, Tensor]:
    z, r, v, u = tensors[:4]
    ratio, weighting, reduction, gamma, kappa, distance_scale, label_smoothing, ignore_index = options
    kappa = kappa if plain else dispatch.operand(kappa)
    scale = reference.scale_of(reference.RATIOS[ratio], z, kappa, distance_scale)
    needs_grad = z.requires_grad or r.requires_grad or v.requires_grad or u.requires_grad
    needs_grad = torch.is_grad_enabled() and (needs_grad or (not plain and dispatch.in_functorch()))
    arguments = (*tensors, ratio, weighting, reduction, gamma, scale, label_smoothing, ignore_index, needs_grad)
    if plain and needs_grad:
        return _EagerLoss.apply(z, r, v, u, arguments)
    if plain:
        with torch._C._AutoDispatchBelowAutograd():
            loss, parts, *_ = _op(*arguments)
    else:
        loss, parts, *_ = dispatch.call(_op, *arguments)
    return loss, parts


def _prepare(
    logits: Tensor,
    raw_logits: Tensor,
    uncertainty: Tensor | None,
    raw_uncertainty: Tensor | None,
    y_a: Tensor,
    y_b: Tensor,
    perm: Tensor,
    lam: Tensor,
    weight: Tensor | None,
    learned: Tensor | None,
) -> tuple[Tensor, ...]:
    """Check the tensors, and convert them to what the op takes."""
    checks.rows(logits, "logits")
    if (uncertainty is None) != (raw_uncertainty is None):
        raise ValueError("uncertainty and raw_uncertainty must be given both, or be None both")
    rows = [logits, checks.like(raw_logits, "raw_logits", logits, "logits", any_dtype=True)]
    if uncertainty is not None:
        rows.append(checks.like(uncertainty, "uncertainty", logits, "logits", any_dtype=True))
        rows.append(checks.like(raw_uncertainty, "raw_uncertainty", logits, "logits", any_dtype=True))
    dtype = logits.dtype
    for row in rows:  # autocast leaves some of them half
        dtype = torch.promote_types(dtype, row.dtype)
    rows = [row.to(dtype).contiguous() for row in rows]
    real = torch.float64 if dtype is torch.float64 else torch.float32
    absent = logits.new_empty(0)
    return (
        *(rows if uncertainty is not None else (*rows, absent, absent)),
        checks.indices(y_a, "y_a", logits, "logits"),
        checks.indices(y_b, "y_b", logits, "logits"),
        checks.indices(perm, "perm", logits, "logits"),
        checks.ratios(lam, "lam", logits, "logits", real),
        absent if weight is None else checks.weight(weight, "weight", logits, "logits", real),
        absent if learned is None else _learned(learned, logits, real),
    )


def _learned(learned: Tensor, logits: Tensor, real: torch.dtype) -> Tensor:
    """Mix ratios (N,) or label weights (N, 3) as the op has them."""
    if checks.floating(learned, "learned").ndim != 2:
        return checks.ratios(learned, "learned", logits, "logits", real)
    return checks.label_weights(learned, "learned", logits, "logits", real)


@dispatch.fake("sumix_loss")
def _(
    logits, raw_logits, uncertainty, raw_uncertainty, y_a, y_b, perm, lam, weight, learned,
    ratio, weighting, reduction, gamma, scale, label_smoothing, ignore_index, needs_grad,
):  # fmt: skip
    whole = reference.REDUCTIONS[reduction] == "none"

    def gradient(wanted: bool) -> Tensor:
        return lam.new_empty(logits.shape if needs_grad and wanted else (0,))

    loss, parts = lam.new_empty(lam.shape if whole else ()), lam.new_empty((3, lam.shape[0]))
    return loss, parts, gradient(True), gradient(uncertainty.ndim == 2), gradient(True), gradient(whole)


@dispatch.fake("sumix_loss_backward")
def _(
    grad_loss, logits, raw_logits, uncertainty, raw_uncertainty, grad_logits, grad_uncertainty, grad_raw, grad_partner,
    perm
):  # fmt: skip
    return tuple(logits.new_empty(grad.shape) for grad in (grad_logits, grad_uncertainty, grad_raw))


dispatch.fallback("sumix_loss", reference.sumix_loss_explicit)
dispatch.fallback("sumix_loss_backward", reference.sumix_loss_backward)


def _setup_context(ctx, inputs, output) -> None:
    ctx.mark_non_differentiable(*output[1:])
    _keep(ctx, inputs, output[2:])


def _setup_context_of_numbers(ctx, inputs, output) -> None:
    _setup_context(ctx, inputs, output)
    ctx.save_for_backward(*inputs[:10], inputs[-1])
    ctx.options = inputs[10:-1]


def _keep(ctx, arguments: tuple, gradients: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*arguments[:10])
    ctx.options = arguments[10:]
    ctx.half = arguments[0].dtype != gradients[0].dtype
    # Not saved as tensors: backward lets go of them, or hands them over to somebody who may write to them. Inside of
    # torch.func only what is saved may be used, and backward computes them again.
    ctx.gradients = None if dispatch.in_functorch() else gradients


def _is_one(gradient: Tensor) -> bool:
    """The incoming gradient is exactly 1, and asking costs nothing."""
    if not dispatch.is_at_hand(gradient) or gradient.ndim != 0:
        return False
    try:
        return gradient.item() == 1
    except RuntimeError:  # one of several gradients at once (is_grads_batched)
        return False


def _row_gradients(ctx, grad_loss: Tensor | None) -> tuple[Tensor | None, ...]:
    """By the mixed and the raw logits and both uncertainties."""
    if grad_loss is None:
        return (None,) * 4
    gradients, ctx.gradients = ctx.gradients, None
    if gradients is not None and not ctx.half and not torch.is_grad_enabled() and _is_one(grad_loss):
        grad_z, grad_v, grad_u, _ = gradients
    else:
        tensors = ctx.saved_tensors
        if gradients is None:  # used in an earlier backward of a graph that was retained
            op = _op if len(tensors) == 10 else _op_of_numbers
            gradients = dispatch.call(op, *tensors[:10], *ctx.options, *tensors[10:])[2:]
        rows = grad_loss.contiguous(), *tensors[:4], *gradients, tensors[6]
        grad_z, grad_v, grad_u = dispatch.call(_backward, *rows)
    return (grad_z, grad_u, None, None) if grad_v.ndim == 1 else (grad_z, None, grad_v, grad_u)


def _gradient(ctx, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    return (*_row_gradients(ctx, grad_loss), *(None,) * (len(ctx.needs_input_grad) - 4))


dispatch.register_autograd("sumix::sumix_loss", _gradient, setup_context=_setup_context)
_op_of_numbers = dispatch.with_numbers(_op, _gradient, _setup_context_of_numbers)


class _EagerLoss(torch.autograd.Function):
    """The same gradient for eager mode, where what register_autograd makes takes longer than the loss: it reads the
    schema again for every argument of every call."""

    @staticmethod
    def forward(ctx, z: Tensor, r: Tensor, v: Tensor, u: Tensor, arguments: tuple) -> tuple[Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            loss, parts, *gradients = _op(*arguments)
        ctx.mark_non_differentiable(parts)
        _keep(ctx, arguments, gradients)
        return loss, parts

    @staticmethod
    def backward(ctx, grad_loss: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        return (*_row_gradients(ctx, grad_loss), None)


dispatch.register_autograd("sumix::sumix_loss_backward", dispatch.once("sumix_loss"))
