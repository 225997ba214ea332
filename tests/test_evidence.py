"""Labels by evidence: the rules step by step, MixTarget.relabel and the mixers' rule=, and ForegroundMix."""

import copy
import io
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.utils import _pytree
from torch.utils.data import DataLoader

from sumix import (
    CutMix,
    ForegroundMix,
    MixUp,
    PairedMix,
    RandomMix,
    SUMixCollate,
    SUMixLoss,
    SUMixWarning,
    mix_accuracy,
    warn,
)
from sumix.evidence import RULES, Evidence, NetworkEvidence
from tests.mixers import MIXERS, naive_mix

N, K, SIZE = 9, 4, (16, 14)


def batch(n=N, size=SIZE):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, *size, generator=generator), torch.arange(n) % K


def seen(n=N, h=5, w=7):
    """Maps of odd sides, one of which shows nothing, and gates that are shut, open, and between."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(n, h, w, generator=generator) ** 3
    maps[2] = 0
    gate = torch.rand(n, generator=generator)
    gate[::3], gate[1::3] = 1, 0
    return Evidence(maps, gate)


def kept(target, h, w):
    """M (N, h, w) in float64: the share of each cell that the mix keeps of the own image, by counting small parts."""
    n, (height, width) = len(target), target.image_size or (1, 1)
    pixels = torch.ones(n, height, width, dtype=torch.float64)
    if target.mask is None and target.box is None:
        pixels = pixels * target.lam.double().view(-1, 1, 1)
    if target.mask is not None:
        pixels = pixels * target.mask.double()
    if target.box is not None:
        for i, (x1, y1, x2, y2) in enumerate(target.box.tolist()):
            pixels[i, y1:y2, x1:x2] = 0
    parts = pixels.repeat_interleave(h, 1).repeat_interleave(w, 2)  # whose cells are whole numbers of parts
    return F.avg_pool2d(parts.unsqueeze(1), (height, width)).squeeze(1)


def expected(target, given, rule, area_weight=0.0):
    """The weights (N, 3), sample by sample, in float64."""
    maps, rows = given.map.double(), []
    m = kept(target, *maps.shape[1:])
    gate = torch.ones(len(target)) if given.gate is None else given.gate
    for i, j in enumerate(target.perm.tolist()):
        area = m[i].mean().item()

        def share(visible, s, fallback, whole):
            return fallback if s.sum() == 0 else 1.0 if whole else ((visible * s).sum() / s.sum()).item()

        whole = target.resize is not None and target.resize[i] != 0 and area < 1
        a, b = share(m[i], maps[i], area, False), share(1 - m[i], maps[j], 1 - area, whole)
        w, v = gate[i].item(), gate[j].item()
        a, b = w * a + (1 - w) * area, 1.0 if whole else v * b + (1 - v) * (1 - area)
        rest, total = 0.0, a + b
        if rule == "absolute":
            a, b = a * maps[i].sum().item(), b * maps[j].sum().item()
            total = a + b
        if rule in ("relative", "absolute"):
            a, b = (a / total, b / total) if total > 0 else (target.lam[i].item(), 1 - target.lam[i].item())
        elif rule == "uncertain":
            a, b = a / max(1, total), b / max(1, total)
            rest = 1 - a - b
        t = area_weight
        rows.append([(1 - t) * a + t * area, (1 - t) * b + t * (1 - area), (1 - t) * rest])
    return torch.tensor(rows, dtype=torch.float64)


def near(got, want, atol=2e-6):
    torch.testing.assert_close(got.double(), want.double(), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", [name for name in MIXERS if "published" not in name])
def test_rules_step_by_step(name, rule):
    images, labels = batch()
    given = seen()
    mixed, target = MIXERS[name](rule=rule)(images, labels, given, seed=3)
    plain_mixed, plain = MIXERS[name]()(images, labels, seed=3)
    assert torch.equal(mixed, plain_mixed)
    assert plain.weights is None
    for t in (0.0, 0.3, 1.0):
        near(plain.relabel(given, rule, area_weight=t).weights, expected(plain, given, rule, t))
    assert torch.equal(target.weights, plain.relabel(given, rule).weights)
    bare = Evidence(given.map)
    near(plain.relabel(bare, rule).weights, expected(plain, bare, rule))
    near(plain.relabel(given.map, rule).weights, expected(plain, bare, rule))


def test_objects_of_any_resolution_and_dtype():
    images, labels = batch()
    target = CutMix()(images, labels, seed=3)[1]
    fine = seen(h=64, w=33).map > 0.3
    for objects in (fine, fine.to(torch.uint8) * 255, fine.double(), fine.unsqueeze(1), fine.half()):
        near(target.relabel(objects).weights, expected(target, Evidence(fine.float()), "relative"))


@pytest.mark.parametrize("rule", RULES)
def test_soft_labels_of_every_rule(rule):
    images, labels = batch()
    target = CutMix(rule=rule)(images, labels, seen(), seed=3)[1]
    own, partner, rest = target.weights.double().unbind(1)
    hot = F.one_hot(target.y_a, K) * own[:, None] + F.one_hot(target.y_b, K) * partner[:, None] + rest[:, None] / K
    near(target.soft(K), hot)
    near(target.soft(K, 0.2), 0.8 * hot + 0.2 / K)
    near(CutMix(rule=rule, num_classes=K, label_smoothing=0.2)(images, labels, seen(), seed=3)[1], 0.8 * hot + 0.2 / K)
    logits = torch.randn(N, K, generator=torch.Generator().manual_seed(4))
    log = logits.double().log_softmax(1)
    by_label = own * log.gather(1, target.y_a[:, None])[:, 0] + partner * log.gather(1, target.y_b[:, None])[:, 0]
    near(F.cross_entropy(logits, target.soft(K)), -(by_label + rest * log.mean(1)).mean(), 1e-5)
    # One label each: mixing one-hot rows is the same, and in multi-label form what is missing moves towards 1/2.
    several = CutMix(rule=rule)(images, F.one_hot(labels, K), seen(), seed=3)[1]
    near(several.soft(K), hot)
    near(several.soft(K, multi_label=True), hot - rest[:, None] / K + rest[:, None] / 2)
    share = torch.where(own + partner == 0, target.lam.double(), own / (own + partner))
    near(target.label_lam, share)
    numbers = CutMix(rule=rule)(images, labels.float(), seen(), seed=3)[1]
    near(numbers.blend(), share * numbers.y_a + (1 - share) * numbers.y_b)
    hits = (logits.argmax(1) == target.y_a) * share + (logits.argmax(1) == target.y_b) * (1 - share)
    near(mix_accuracy(logits, target), hits.mean())


def test_nan_in_maps_reaches_the_labels_and_weight_0_brings_no_nan():
    images, labels = batch()
    given = seen()
    given.map[4, 0, 0] = math.nan
    target = CutMix(alpha=5.0)(images, labels, seed=3)[1].relabel(given)
    soft = target.soft(K)
    touched = (torch.arange(N) == 4) | (target.perm == 4)
    assert soft[touched].isnan().any()
    assert soft[~touched].isfinite().all()
    nothing = replace(
        target, weights=torch.tensor([[1.0, 0.0, 0.0]]).expand(N, 3), y_a=torch.eye(N), y_b=torch.eye(N) / 0
    )
    assert torch.equal(nothing.soft(N), torch.eye(N))


def test_foregroundmix_pastes_the_object_and_labels_by_what_is_seen():
    images, labels = batch()
    given = seen()
    mix = ForegroundMix(p=1.0)
    mixed, target = mix(images, labels, given, seed=5)
    assert torch.equal(mixed, naive_mix(images, target))
    assert torch.equal(target.mix(images), mixed)
    pasted = given.gate[target.perm] >= 0.5
    wide = F.interpolate(given.map[target.perm].unsqueeze(1), SIZE, mode="bilinear").squeeze(1)
    shown = wide > 0.25 * given.map[target.perm].amax((1, 2)).view(-1, 1, 1)
    assert torch.equal(target.mask, ~(shown & pasted.view(-1, 1, 1)))
    near(target.lam, target.mask.double().mean((1, 2)))
    near(target.weights, expected(target, given, "relative"))
    assert torch.equal(target.weights[~pasted, :2], torch.tensor([[1.0, 0.0]]).expand(int((~pasted).sum()), 2))
    by_area = ForegroundMix(p=1.0, rule=None)(images, labels, given, seed=5)[1]
    assert by_area.weights is None
    assert torch.equal(by_area.mask, target.mask)


def test_foregroundmix_mixes_with_probability_p_and_without_gates_every_object():
    images, labels = batch(400, (4, 4))
    given = Evidence(seen(400).map)
    given.map[2] = 1
    share = [(ForegroundMix(p=p)(images, labels, given, seed=1)[1].lam < 1).float().mean().item() for p in (0, 0.5, 1)]
    assert share[0] == 0
    assert 0.4 < share[1] < 0.6
    assert share[2] == 1
    one = ForegroundMix(p=1.0, per_sample=False)(images, labels, given, seed=1)[1]
    assert (one.mask == one.mask[0]).all()


@pytest.mark.parametrize(
    "images",
    [
        torch.randint(0, 255, (N, 3, *SIZE), dtype=torch.uint8),
        torch.rand(N, 3, *SIZE).to(memory_format=torch.channels_last),
        torch.rand(N, 2, 3, *SIZE),
        torch.rand(N, 3, *SIZE, dtype=torch.float64),
        torch.rand(N, 1, *SIZE) > 0.5,
    ],
    ids=["uint8", "channels_last", "video", "float64", "bool"],
)
def test_foregroundmix_of_many_kinds(images):
    mixed, target = ForegroundMix(p=1.0)(images, batch()[1], seen(), seed=5)
    assert torch.equal(mixed, naive_mix(images, target))
    assert mixed.stride() == images.stride()
    if images.is_floating_point():
        mixed, target = ForegroundMix(p=1.0, soft=0.2)(images, batch()[1], seen(), seed=5)
        torch.testing.assert_close(mixed, naive_mix(images, target))


def test_signals():
    signals, given = torch.rand(N, 2, 50), Evidence(seen().map[:, 0])
    mixed, target = ForegroundMix(p=1.0)(signals, batch()[1], given, seed=5)
    assert target.mask.shape == (N, 50)
    assert torch.equal(mixed, naive_mix(signals, target))
    near(target.weights.sum(1), torch.ones(N))


def test_evidence_is_found_where_it_is():
    images, labels = batch()
    given, masks = seen(), torch.randint(0, 9, (N, *SIZE))
    mix = CutMix(rule="relative", num_classes=K)
    want = mix(images, labels, given, seed=3)[1]
    calls = [
        mix(images, labels, evidence=given, seed=3),
        mix((images, labels, given), seed=3),
        mix([images, labels], evidence=given, seed=3),
    ]
    for call in calls:
        assert torch.equal(call[1], want)
    whole = mix({"image": images, "label": labels, "evidence": given, "mask": masks}, seed=3)
    assert torch.equal(whole["label"], want)
    assert whole["evidence"] is given
    assert torch.equal(whole["mask"], mix(images, labels, given, masks, seed=3)[2])
    by_mask = mix({"image": images, "label": labels, "evidence": given.map}, seed=3)
    assert torch.equal(by_mask["label"], mix(images, labels, given.map, seed=3)[1])


def test_randommix_takes_one_rule_for_all():
    images, labels = batch()
    for per_sample in (False, True):
        mix = RandomMix([ForegroundMix(p=1.0), CutMix(), MixUp()], per_sample=per_sample, rule="uncertain")
        mixed, target = mix(images, labels, seen(), seed=4)
        torch.testing.assert_close(mixed, naive_mix(images, target))
        near(target.weights, expected(target, seen(), "uncertain"))
    with pytest.raises(ValueError, match="rule must be given to RandomMix alone"):
        RandomMix([ForegroundMix(), CutMix(rule="visible")])


def test_switched_off_it_needs_no_evidence():
    images, labels = batch()
    mix = ForegroundMix()
    mix.mixup_enabled = False
    mixed, target = mix(images, labels)
    assert torch.equal(mixed, images)
    assert (target.lam == 1).all()


def test_targets_travel_with_their_weights():
    images, labels = batch()
    target = ForegroundMix(p=1.0)(images, labels, seen(), seed=3)[1]
    assert torch.equal(target[2:5].weights, target.weights[2:5])
    file = io.BytesIO()
    torch.save(target, file)
    file.seek(0)
    for other in (torch.load(file, weights_only=True), copy.deepcopy(target), target.to("cpu")):
        assert torch.equal(other.weights, target.weights)
    assert any(leaf is target.weights for leaf in _pytree.tree_leaves(target))
    kept_evidence = seen()
    assert torch.equal(kept_evidence[1:3].map, kept_evidence.map[1:3])


class Samples(torch.utils.data.Dataset):
    """Images, labels and maps, as a DataLoader reads them."""

    def __len__(self):
        return N

    def __getitem__(self, at):
        images, labels = batch()
        return images[at], labels[at], seen().map[at]


def test_in_a_dataloader():
    collate = SUMixCollate(CutMix(rule="relative", generator=torch.Generator().manual_seed(0)))
    images, mixed, target, maps = next(iter(DataLoader(Samples(), batch_size=N, collate_fn=collate)))
    assert torch.equal(maps, seen().map)
    assert torch.equal(mixed, naive_mix(images, target))
    near(target.weights, expected(target, Evidence(maps), "relative"))


@pytest.mark.parametrize("make", [lambda: ForegroundMix(p=0.7), lambda: CutMix(rule="uncertain", area_weight=0.1)])
def test_compiled(make):
    images, labels = batch()
    mix = make()
    compiled = torch.compile(
        lambda images, labels, given, seed: mix(images, labels, given, seed=seed), fullgraph=True, backend="aot_eager"
    )
    for got, want in zip(
        _pytree.tree_leaves(compiled(images, labels, seen(), torch.tensor(6))),
        _pytree.tree_leaves(mix(images, labels, seen(), seed=torch.tensor(6))),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def weighted(weights):
    return replace(CutMix()(*batch())[1], weights=weights)


@pytest.mark.parametrize("rule", RULES)
def test_a_gate_of_nan_makes_its_labels_nan_and_stops_nothing(rule):
    """A training under a gradient scaler must come to its NaN loss, and skip the step."""
    images, labels = batch()
    given = seen()
    target = CutMix(minmax=(0.4, 0.6))(images, labels, seed=3)[1]
    gate = torch.ones(N)
    gate[2] = math.nan
    own, partner = torch.arange(N) == 2, target.perm == 2
    weights = target.relabel(Evidence(given.map, gate), rule).weights
    assert weights[own | partner].isnan().any(dim=1).all() and weights[~(own | partner)].isfinite().all()
    whole = replace(target, weights=weights)
    assert whole.soft(K).isnan().any(dim=1).equal(own | partner) and mix_accuracy(torch.rand(N, K), whole).isnan()
    assert SUMixLoss(ratio="area")(*torch.rand(2, N, K), whole).isnan()
    mixed = ForegroundMix(p=1.0)(images, labels, Evidence(given.map, torch.full((N,), math.nan)))[0]
    assert torch.equal(mixed, images)


def test_evidence_of_the_mixed_images_needs_no_partners():
    target, given = CutMix()(*batch(), seed=2)[1], seen()
    whole = target.relabel(given, of="mixed").weights
    parts = [part.relabel(given[3 * at : 3 * at + 3], of="mixed").weights for at, part in enumerate(target.split(3))]
    assert torch.equal(torch.cat(parts), whole)


def test_gates_after_the_maps_count():
    """As in batches of EvidenceDataset's items (image, label, map, gate), where a shut gate must not be overlooked."""
    images, labels = batch()
    maps, shut = seen().map, torch.zeros(N, dtype=torch.float64)
    mix = ForegroundMix(p=1.0)
    assert torch.equal(mix((images, labels, maps, shut))[0], images)
    assert torch.equal(mix({"image": images, "label": labels, "evidence": maps, "gate": shut})["image"], images)
    samples = [(images[i], labels[i], maps[i], 0.0) for i in range(N)]
    raw, mixed, *_ = SUMixCollate(mix)(samples)
    assert torch.equal(raw, mixed) and not torch.equal(mix((images, labels, maps, shut + 1))[0], images)


def test_pairs_of_batches_by_evidence():
    images, labels = batch()
    both, target = PairedMix(ForegroundMix(p=1.0))(images, labels, seen())
    assert torch.equal(both[N:], images) and torch.equal(target.mix(images), both[:N]) and target.weights is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 101}, "rounds must be from 1 to 100, got 101"),
        ({"gate": (0.5, 0.5)}, r"gate must be \(low, high\) with low < high"),
        ({"momentum": 0}, "momentum must be above 0"),
        ({"momentum": 1.5}, "momentum must be from 0 to 1"),
        ({"kind": "cam"}, "labels must be from 0 to K - 1 = 3, or -1"),
    ],
)
def test_what_network_evidence_refuses(options, message):
    """Options when it is made, not in the first step."""
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3), *head)
    with pytest.raises(ValueError, match=message):
        NetworkEvidence(model, **options)(torch.rand(2, 3, 12, 12), torch.tensor([-1, 4]))


def test_a_loss_that_ignores_the_weights_says_so(monkeypatch):
    monkeypatch.setattr(warn, "_said", set())
    target = CutMix(rule="visible")(*batch(), seen())[1]
    with pytest.warns(SUMixWarning, match="ratio='semantic'.* ignores the label weights"):
        SUMixLoss()(*torch.rand(2, N, K), target)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: CutMix(rule="relative")(x, y), ValueError, "evidence must be given"),
        (lambda x, y: ForegroundMix()(x, y), ValueError, "evidence must be given"),
        (lambda x, y: CutMix()(x, y, seen()), ValueError, "evidence must not be given to CutMix without rule"),
        (lambda x, y: CutMix()(x, y, evidence=seen()), ValueError, "evidence must not be given"),
        (lambda x, y: CutMix(rule="absolut"), ValueError, "rule must be one of"),
        (lambda x, y: CutMix(rule=1), (TypeError, ValueError), "rule must be"),
        (lambda x, y: CutMix(area_weight=1.5), ValueError, "area_weight must be"),
        (lambda x, y: ForegroundMix(threshold=-0.1), ValueError, "threshold must be"),
        (lambda x, y: ForegroundMix(soft=0.6), ValueError, "soft must be"),
        (lambda x, y: ForegroundMix(min_gate=2), ValueError, "min_gate must be"),
        (lambda x, y: ForegroundMix()(x, y, seen(3)), ValueError, r"evidence must be \(N, h, w\), N = 9"),
        (lambda x, y: ForegroundMix()(x, y, [1.0] * N), TypeError, "evidence must be an Evidence or masks"),
        (lambda x, y: ForegroundMix()(x, y, Evidence(seen().map, torch.ones(3))), ValueError, "evidence.gate must be"),
        (
            lambda x, y: ForegroundMix()(x, y, Evidence(seen().map.to("meta"))),
            ValueError,
            "evidence must be on the dev",
        ),
        (lambda x, y: ForegroundMix(p=1.0)(x, y, -seen().map - 1), ValueError, "below 0"),
        (lambda x, y: CutMix()(x, y)[1].relabel(seen(), "best"), ValueError, "rule must be one of"),
        (lambda x, y: CutMix()(x, y)[1].relabel(seen(), area_weight=-1), ValueError, "area_weight must be"),
        (lambda x, y: CutMix()(x, y)[1].relabel(seen(3)), ValueError, "evidence must be"),
        (lambda x, y: CutMix()(x, y)[1][:4].relabel(seen(4)), ValueError, "partners are"),
        (
            lambda x, y: CutMix()(x, y)[1].relabel(Evidence(seen().map, torch.full((N,), 1.5))),
            ValueError,
            r"^evidence.gate\[0\] is 1.5",
        ),
        (lambda x, y: CutMix()(x, y)[1].relabel(-seen().map - 1), ValueError, r"^evidence\[0\] has values below 0"),
        (lambda x, y: CutMix()(x, y)[1].relabel(torch.ones(N, 3)), ValueError, "^evidence must have as many .* has 1$"),
        (lambda x, y: CutMix(area_weight=0.5), ValueError, "area_weight must be 0 where rule is not given"),
        (lambda x, y: RandomMix([ForegroundMix(), CutMix()]), ValueError, "rule must .* got 'relative', None"),
        (lambda x, y: weighted(torch.ones(N, 2)).soft(K), ValueError, "weights must be"),
        (lambda x, y: weighted(torch.full((N, 3), -1.0)).soft(K), ValueError, "weights must be from 0 to 1"),
        (lambda x, y: weighted(torch.full((N, 3), math.inf)).label_lam, ValueError, "weights must be from 0 to 1"),
        (lambda x, y: mix_accuracy(torch.rand(N, K), weighted(torch.full((N, 3), 2.0))), ValueError, "weights must be"),
        (
            lambda x, y: SUMixLoss(ratio="area")(*torch.rand(2, N, K), weighted(torch.full((N, 3), 2.0))),
            ValueError,
            "^weights must be from 0 to 1",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(*batch())


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    images, labels = batch(12)
    given, mine = seen(12), slice(6 * rank, 6 * rank + 6)
    found = []
    for per_sample in (True, False):
        for kind, options in ((ForegroundMix, {"p": 0.8}), (CutMix, {"rule": "uncertain"})):
            mix = kind(cross_rank=True, per_sample=per_sample, **options)
            found.append(mix(images[mine], labels[mine], given[mine], seed=torch.tensor(5)))
    torch.save(found, f"{folder}/{rank}")
    dist.destroy_process_group()


def test_two_ranks_mix_and_label_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    halves = [torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2)]
    images, labels = batch(12)
    at = 0
    for per_sample in (True, False):
        for kind, options in ((ForegroundMix, {"p": 0.8}), (CutMix, {"rule": "uncertain"})):
            mixed, target = kind(per_sample=per_sample, **options)(images, labels, seen(12), seed=torch.tensor(5))
            assert torch.equal(torch.cat([half[at][0] for half in halves]), mixed)
            near(torch.cat([half[at][1].weights for half in halves]), target.weights)
            at += 1
