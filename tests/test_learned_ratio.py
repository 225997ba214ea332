"""A ratio found elsewhere in ops.sumix_loss, and SUMixLoss's ratios from what is visible."""

import copy
import itertools
import math
import pickle
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from batches import TOLERANCE, assert_near, batch, leaves, widened

from sumix import MixTarget, SUMixHead, SUMixLoss, SUMixWarning, ops, reference

WEIGHTINGS, REDUCTIONS = reference.WEIGHTINGS, reference.REDUCTIONS


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("weighting", "reduction"), list(itertools.product(WEIGHTINGS, REDUCTIONS)))
def test_a_given_ratio_matches_the_float64_twin(plain, weighting, reduction):
    for dtype, weighted in [(torch.float64, True), (torch.float32, False), (torch.bfloat16, False)]:
        arguments = batch(9, 7, dtype, plain=plain)
        arguments[4] = arguments[4].index_fill(0, torch.tensor([2]), -100)  # whose ratio stays lam
        exact, learned = widened(arguments), torch.rand(9)
        weight = torch.rand(7, dtype=torch.float64) if weighted else None
        options = {"weighting": weighting, "reduction": reduction, "weight": weight, "label_smoothing": 0.1}
        loss, parts = ops.sumix_loss(*arguments, learned=learned, **options)
        want, *want_parts = reference.sumix_loss(*exact, learned=learned.double(), **options)
        value, rough = TOLERANCE[torch.float64 if dtype == torch.float64 else torch.float32], TOLERANCE[dtype]
        assert_near(loss, want, value)
        for got, wanted in zip(parts, want_parts, strict=True):
            assert_near(got, wanted, value)
        expected = learned.clone()
        expected[2] = arguments[7][2]
        assert_near(parts.lam, expected.double(), 1e-7)
        incoming = torch.rand(loss.shape)
        got = torch.autograd.grad(loss, leaves(arguments), incoming.to(loss.dtype))
        wanted = torch.autograd.grad(want, leaves(exact), incoming.double())
        for mine, theirs in zip(got, wanted, strict=True):
            assert_near(mine, theirs, rough)


def test_lam_given_again_is_the_area_ratio():
    arguments = batch(6, 5)
    for ratio in reference.RATIOS:
        got, _ = ops.sumix_loss(*arguments, learned=arguments[7], ratio=ratio)
        assert torch.equal(got, ops.sumix_loss(*arguments, ratio="area")[0])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_the_form_for_devices_without_kernels(plain, needs_grad):
    arguments = batch(7, 5, torch.float64, plain=plain, grad=False)
    absent = torch.empty(0, dtype=torch.float64)
    tensors = [absent if t is None else t for t in arguments[:7]]
    learned = torch.rand(7, dtype=torch.float64)
    for reduction in range(3):
        call = (*tensors, arguments[7].double(), absent, learned, 0, 0, reduction, 0.5, 1.0, 0.0, -100, needs_grad)
        torch.library.opcheck(torch.ops.sumix.sumix_loss.default, call)
        for got, want in zip(reference.sumix_loss_explicit(*call), torch.ops.sumix.sumix_loss(*call), strict=True):
            assert_near(got, want, 1e-12)


def test_bad_ratios_are_named():
    arguments = batch(3, 4)
    for value, error in [
        (torch.tensor([0.5, 1.5, 0.0]), ValueError),
        (torch.tensor([0.5, -0.1, 0.0]), ValueError),
        (torch.rand(2), ValueError),
        (torch.rand(3, 1), ValueError),
        (torch.tensor([0, 1, 0]), TypeError),
        (0.5, TypeError),
    ]:
        with pytest.raises(error, match="learned"):
            ops.sumix_loss(*arguments, learned=value)
    loss, parts = ops.sumix_loss(*arguments, learned=torch.tensor([0.5, math.nan, 0.0]), reduction="none")
    assert loss.isnan().tolist() == parts.lam.isnan().tolist() == [False, True, False]


N, D, K = 4, 6, 5
BOX = torch.tensor([[0, 0, 6, 6], [2, 4, 8, 8], [0, 0, 0, 0], [1, 1, 7, 7]])
PERM = torch.tensor([1, 2, 3, 0])
Y = torch.tensor([0, 1, 2, 3])


def cut(**changes):
    area = (BOX[:, 2] - BOX[:, 0]) * (BOX[:, 3] - BOX[:, 1])
    return replace(MixTarget(Y, Y[PERM], 1 - area / 64, PERM, BOX, image_size=(8, 8)), **changes)


def outputs():
    head = SUMixHead(D, K)
    return head, head(torch.rand(N, D, 4, 4)), head(torch.rand(N, D, 4, 4))


@pytest.mark.parametrize("ratio", reference.EVIDENCES)
def test_the_criterion_is_the_op_with_the_visible_ratio(ratio):
    head, mixed, raw = outputs()
    target, objects = cut(), torch.rand(N, 1, 5, 7)
    criterion = SUMixLoss(0.7, ratio=ratio, return_parts=True)
    loss, parts = criterion(mixed, raw, target, objects=objects)
    shares = ops.masked_similarity(
        objects if ratio == "object" else raw.features, PERM, target.lam, box=BOX, size=(8, 8), evidence=ratio,
        class_weight=head.classifier.weight, labels=Y,
    )  # fmt: skip
    assert torch.equal(parts.lam, shares.lam) and not torch.equal(parts.lam, target.lam) and parts.lam[2] == 1
    want, _ = ops.sumix_loss(
        mixed.logits, raw.logits, mixed.uncertainty, raw.uncertainty, target.y_a, target.y_b, PERM, target.lam,
        gamma=0.7, learned=shares.lam,
    )  # fmt: skip
    torch.testing.assert_close(loss, want)
    for copied in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert torch.equal(copied(mixed, raw, target, objects=objects)[0], loss)
    assert f"ratio={ratio!r}" in repr(criterion)
    criterion.ratio = "area"
    assert torch.equal(criterion(mixed, raw, target)[1].lam, target.lam)


def test_features_given_are_preferred():
    _, mixed, raw = outputs()
    features, target = torch.rand(N, 9, 2, 2), cut()
    criterion = SUMixLoss(gamma=0.1, ratio="feature", return_parts=True)
    want = ops.masked_similarity(features, PERM, target.lam, box=BOX, size=(8, 8)).lam
    assert torch.equal(criterion(mixed, raw, target, features=features)[1].lam, want)
    assert torch.equal(criterion(mixed.logits, raw.logits, target, features=features)[1].lam, want)


@pytest.mark.parametrize("ratio", reference.EVIDENCES)
def test_ignored_labels_keep_lam(ratio):
    _, mixed, raw = outputs()
    y = Y.index_fill(0, torch.tensor([1]), 255)
    target = cut(y_a=y, y_b=y[PERM])
    criterion = SUMixLoss(gamma=0.5, ratio=ratio, ignore_index=255, return_parts=True)
    loss, parts = criterion(mixed, raw, target, objects=torch.rand(N, 8, 8))
    assert torch.equal(parts.lam[:2], target.lam[:2]) and parts.lam[3] != target.lam[3] and loss.isfinite()


@pytest.mark.parametrize("rule", reference.RULES)
@pytest.mark.parametrize("where", ["given", "one map", "signals"])
def test_foreground_is_the_evidence_by_two_means(where, rule):
    _, mixed, raw = outputs()
    features, fine, target = torch.rand(N, D, 4, 4), torch.rand(N, 3, 8, 8).square(), cut()
    if where == "signals":
        features, fine = features.flatten(2), fine.flatten(2)
        target = cut(box=BOX[:, ::2], image_size=(8,))
    evidence, gate, _ = reference.foreground(features, fine if where != "one map" else features)
    assert where != "given" or ((gate > 0) & (gate < 1)).any()
    mix = {"box": target.box, "size": target.image_size}
    for t in (0.0, 0.3):
        shares = ops.masked_similarity(
            evidence, PERM, target.lam, evidence="object", gate=gate, rule=rule, area_weight=t, **mix
        )
        criterion = SUMixLoss(0.7, ratio="foreground", rule=rule, area_weight=t, return_parts=True)
        given = {"features": features} if where == "one map" else {"features": features, "fine": fine}
        loss, parts = criterion(mixed, raw, target, **given)
        learned = shares.lam if rule in ("relative", "absolute") else shares.weights
        want, want_parts = ops.sumix_loss(
            mixed.logits, raw.logits, mixed.uncertainty, raw.uncertainty, target.y_a, target.y_b, PERM, target.lam,
            gamma=0.7, learned=learned,
        )  # fmt: skip
        torch.testing.assert_close((loss, parts), (want, want_parts))
        assert f"rule={rule!r}, area_weight={t}" in repr(criterion)


def test_the_finer_map_comes_with_the_raw_outputs():
    _, mixed, raw = outputs()
    criterion = SUMixLoss(gamma=0.5, ratio="foreground", return_parts=True)
    features, fine, target = torch.rand(N, D, 4, 4), torch.rand(N, 3, 8, 8).square(), cut()
    want = criterion(mixed, raw, target, features=raw.features, fine=fine)[1].lam
    assert torch.equal(criterion(mixed, raw, target, fine=fine)[1].lam, want)
    alone = criterion(mixed, raw, target)[1].lam
    assert torch.equal(alone, criterion(mixed, raw, target, fine=raw.features)[1].lam)
    assert not torch.equal(alone, want)
    raw = replace(raw, fine=fine)
    assert torch.equal(criterion(mixed, raw, target)[1].lam, want)
    assert torch.equal(  # which belongs to other features
        criterion(mixed, raw, target, features=features)[1].lam,
        criterion(mixed, raw, target, features=features, fine=features)[1].lam,
    )


@pytest.mark.parametrize("ratio", reference.EVIDENCES)
@pytest.mark.parametrize("rule", reference.RULES)
def test_rules_of_every_evidence(rule, ratio):
    head, mixed, raw = outputs()
    target, objects = cut(), torch.rand(N, 5, 7)
    criterion = SUMixLoss(0.0, ratio=ratio, rule=rule, area_weight=0.25, return_parts=True)
    loss, _ = criterion(mixed, raw, target, objects=objects)
    own, partner, rest = ops.masked_similarity(
        objects if ratio == "object" else raw.features, PERM, target.lam, box=BOX, size=(8, 8), evidence=ratio,
        class_weight=head.classifier.weight, labels=Y, rule=rule, area_weight=0.25,
    ).weights.unsqueeze(1).unbind(2)  # fmt: skip
    soft = own * F.one_hot(target.y_a, K) + partner * F.one_hot(target.y_b, K) + rest / K
    torch.testing.assert_close(loss, F.cross_entropy(mixed.logits, soft))


def test_rules_of_a_ratio_that_has_none():
    for ratio in ("semantic", "published"):
        for options, name in (
            ({"rule": "uncertain"}, "rule='uncertain'"),
            ({"rule": "visible", "area_weight": 0.5}, "rule='visible'"),
            ({"area_weight": 0.5}, "area_weight=0.5"),
        ):
            with pytest.raises(ValueError, match=f"{name} needs a ratio from what is visible.* got ratio='{ratio}'"):
                SUMixLoss(ratio=ratio, **options)
    _, mixed, raw = outputs()
    criterion = SUMixLoss(gamma=0.5, ratio="area", rule="uncertain", return_parts=True)  # for the first epochs, say
    assert torch.equal(criterion(mixed, raw, cut())[1].lam, cut().lam)
    criterion.ratio = "semantic"
    with pytest.raises(ValueError, match="rule='uncertain' needs a ratio"):
        criterion(mixed, raw, cut())
    for name, value, error in [
        ("rule", "certain", ValueError),
        ("rule", 1, TypeError),
        ("area_weight", 1.5, ValueError),
        ("area_weight", -0.1, ValueError),
        ("area_weight", math.nan, ValueError),
        ("area_weight", "0.5", TypeError),
    ]:
        with pytest.raises(error, match=name):
            SUMixLoss(ratio="foreground", **{name: value})


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_targets_own_weights(weighting, reduction):
    """Those of a mixer's rule, or of target.relabel, are the labels of "area"; other ratios find their own."""
    _, mixed, raw = outputs()
    weights = torch.rand(N, 3)
    target, options = cut(weights=weights), {"weighting": weighting, "reduction": reduction}
    loss, parts = SUMixLoss(0.7, ratio="area", return_parts=True, **options)(mixed, raw, target)
    want, _ = ops.sumix_loss(
        mixed.logits, raw.logits, mixed.uncertainty, raw.uncertainty, target.y_a, target.y_b, PERM, target.lam,
        gamma=0.7, learned=weights, **options,
    )  # fmt: skip
    torch.testing.assert_close(loss, want)
    assert torch.equal(parts.lam, weights[:, 0])
    for ratio in ("semantic", "feature"):
        criterion = SUMixLoss(ratio=ratio, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SUMixWarning)  # that "semantic" ignores them
            assert torch.equal(criterion(mixed, raw, target), criterion(mixed, raw, cut()))
    with pytest.raises(ValueError, match="weights must be"):
        SUMixLoss(gamma=0.5, ratio="area")(mixed, raw, cut(weights=weights[:, :2]))


def test_two_labels_and_a_target_in_one_loss():
    """SUMixLoss without the regulariser is CrossEntropyLoss of the target's soft labels."""
    _, mixed, raw = outputs()
    target = cut().relabel(torch.rand(N, 8, 8), rule="uncertain")
    for smoothing in (0.0, 0.1):
        loss = SUMixLoss(0.0, ratio="area", label_smoothing=smoothing)(mixed, raw, target)
        torch.testing.assert_close(loss, F.cross_entropy(mixed.logits, target.soft(K, smoothing)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_maps_that_are_not_finite_make_the_loss_nan(value):
    """And raise nothing: a GradScaler skips such a step."""
    _, mixed, raw = outputs()
    features, fine = torch.rand(N, D, 4, 4), torch.rand(N, 3, 8, 8)
    for maps in (features, fine):
        before, maps[1, 0, 2, 2] = maps[1, 0, 2, 2].item(), value
        for rule in reference.RULES:
            loss = SUMixLoss(gamma=0.5, ratio="foreground", rule=rule)(mixed, raw, cut(), features=features, fine=fine)
            assert loss.isnan()
        maps[1, 0, 2, 2] = before


def test_half_precision_maps():
    _, mixed, raw = outputs()
    criterion = SUMixLoss(gamma=0.5, ratio="foreground", return_parts=True)
    features, fine = torch.rand(N, D, 4, 4), torch.rand(N, 3, 8, 8).square()
    want = criterion(mixed, raw, cut(), features=features, fine=fine)[1].lam
    got = criterion(mixed, raw, cut(), features=features.bfloat16(), fine=fine.bfloat16())[1].lam
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=0, atol=0.1)


def test_ignored_labels_of_any_dtype():
    _, mixed, raw = outputs()
    criterion = SUMixLoss(gamma=0.5, ratio="cam", ignore_index=2)
    want = criterion(mixed, raw, cut())
    for dtype in (torch.uint8, torch.uint16, torch.int8, torch.int32):  # some of which hold no -1
        assert torch.equal(criterion(mixed, raw, cut(y_a=Y.to(dtype), y_b=Y[PERM].to(dtype))), want)


def test_blends_and_masks():
    _, mixed, raw = outputs()
    lam = torch.rand(N)
    criterion = SUMixLoss(gamma=0.5, ratio="feature", return_parts=True)
    blend = MixTarget(Y, Y[PERM], lam, PERM)
    assert torch.equal(criterion(mixed, raw, blend)[1].lam, lam)
    outside = torch.ones(N, 8, 8, dtype=torch.bool)
    for i, (x1, y1, x2, y2) in enumerate(BOX.tolist()):
        outside[i, y1:y2, x1:x2] = False
    by_box, by_mask = (criterion(mixed, raw, t)[1].lam for t in (cut(), cut(box=None, mask=outside)))
    torch.testing.assert_close(by_box, by_mask)
    resized = criterion(mixed, raw, cut(resize=torch.tensor([1, 0, 3, 2])))[1].lam
    shares = ops.masked_similarity(raw.features, PERM, lam, box=BOX, size=(8, 8))
    torch.testing.assert_close(resized[0], shares.own[0] / (shares.own[0] + 1))
    assert resized[1] == by_box[1] and resized[2] == 1


@pytest.mark.parametrize("ratio", ["feature", "cam"])
def test_maps_of_another_dimension_are_refused(ratio):
    _, mixed, raw = outputs()
    criterion = SUMixLoss(gamma=0.5, ratio=ratio)
    with pytest.raises(ValueError, match="features must have as many spatial dimensions as the mix, 2 by its box"):
        criterion(mixed, raw, cut(), features=torch.rand(N, D, 16))
    assert criterion(mixed, raw, cut(), features=torch.rand(N, D, 3, 4, 4)).isfinite()  # videos, mixed as images are


def test_features_that_do_not_fit_the_mix_are_named():
    """Not the objects that are found in them, which nobody passed."""
    _, mixed, raw = outputs()
    criterion = SUMixLoss(gamma=0.5, ratio="foreground")
    features = torch.rand(N, D, 4, 4)
    with pytest.raises(ValueError, match="features must have as many spatial dimensions as the mix, 1 by its box"):
        criterion(mixed, raw, cut(box=BOX[:, ::2], image_size=(8,)), features=features)
    with pytest.raises(ValueError, match=r"perm must be \(N,\) = \(5,\) as features has N rows, got \(4,\)"):
        criterion(mixed, raw, cut(), features=torch.rand(N + 1, D, 4, 4))


def test_replicas_may_stack_their_weights():
    head, mixed, raw = outputs()
    criterion = SUMixLoss(gamma=0.5, ratio="cam")
    stacked = replace(raw, class_weight=torch.cat([head.classifier.weight.detach()] * 2))
    assert torch.equal(criterion(mixed, stacked, cut()), criterion(mixed, raw, cut()))


def test_what_is_missing_is_said():
    _, mixed, raw = outputs()
    for ratio, change, message in [
        ("feature", {"features": None}, "capture_features"),
        ("cam", {"features": None}, "capture_features"),
        ("cam", {"class_weight": None}, "weight of a linear classifier"),
        ("foreground", {"features": None}, "capture_features"),
        ("object", {}, "objects must be given"),
    ]:
        with pytest.raises(ValueError, match=message):
            SUMixLoss(gamma=0.5, ratio=ratio)(mixed, replace(raw, **change), cut())
    with pytest.raises(
        ValueError, match=r"capture_features\(model\) once, .* in eval mode a model returns logits alone"
    ):
        SUMixLoss(gamma=0.5, ratio="feature")(mixed.logits, raw.logits, cut())
    with pytest.raises(ValueError, match="size must be given with box"):
        SUMixLoss(gamma=0.5, ratio="feature")(mixed, raw, cut(image_size=None))
    soft = torch.rand(N, K)
    for ratio in ("semantic", "area", "feature"):
        for change in ({"y_a": soft}, {"y_b": soft}):
            with pytest.raises(ValueError, match="soft labels"):
                SUMixLoss(gamma=0.5, ratio=ratio)(mixed, raw, cut(**change))
