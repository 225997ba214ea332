"""Partners from other ranks: two processes with half the batch each mix and lose as one with all of it."""

import itertools
import os
from dataclasses import replace

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.utils.data import DataLoader

from sumix import CutMix, MixTarget, MixUp, RandomMix, SaliencyMix, SUMixLoss, SUMixOutput
from tests.mixers import MIXERS

NAMES = ("CutMix", "MixUp", "SaliencyMix", "FMix", "ResizeMix bilinear", "RandomMix all")
N, HALF, K, IGNORED = 12, 6, 4, -100


def batch():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(N, 3, 16, 14, generator=generator),
        torch.randint(0, K, (N,), generator=generator),
        torch.randint(0, 9, (N, 16, 14), generator=generator),
    )


def network_outputs(plain=False):
    """z, r, and unless `plain` v, u."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(N, K, generator=generator, dtype=torch.float64) for _ in range(2 if plain else 4)]


def features():
    return torch.rand(N, 5, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def fine():
    return torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64).square()


def weights():
    """Of the labels, as a rule may have left them with the target."""
    return torch.rand(N, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


RATIOS = ("semantic", "published", "area", "feature", "cam", "object")
RULES = (("foreground", "uncertain", 0.2), ("foreground", "visible", 0.0), ("area", "relative", 0.0))
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)
OPTIONS = [
    {"ratio": ratio, "reduction": reduction, "weighting": weighting, "weight": weight, "label_smoothing": smoothing}
    for ratio, reduction, weighting, (weight, smoothing) in itertools.product(
        RATIOS, ("mean", "sum", "none"), ("sample", "batch"), ((None, 0.0), (CLASS_WEIGHTS, 0.0), (None, 0.1))
    )
]
OPTIONS += [
    {**options, "ratio": ratio, "rule": rule, "area_weight": area_weight}
    for options in OPTIONS
    if options["ratio"] == "area"
    for ratio, rule, area_weight in RULES
]

# Which samples' own labels are ignored. A label is ignored wherever its image is, as own and as partner, but for "own".
IGNORE = {
    "none": torch.zeros(N, dtype=torch.bool),
    "some": torch.arange(N) % 3 == 1,
    "own": torch.arange(N) % 3 == 1,
    "first rank": torch.arange(N) < HALF,
    "all": torch.ones(N, dtype=torch.bool),
}


def ignoring(target, which, rows=slice(None)):
    """The target of the whole batch with some labels ignored, and its rows."""
    y_a = target.y_a.masked_fill(IGNORE[which], IGNORED)
    y_b = target.y_b if which == "own" else y_a[target.perm]
    if which == "first rank":  # nothing at all is kept there
        y_b = target.y_b.masked_fill(IGNORE[which], IGNORED)
    parts = {name: getattr(target, name) for name in ("lam", "perm", "box")}
    return replace(target, y_a=y_a[rows], y_b=y_b[rows], **{name: part[rows] for name, part in parts.items()})


def loss_and_gradients(options, outputs, target, maps, rows=slice(None), **more):
    z, r, v, u = (*outputs, None, None)[:4]
    criterion = SUMixLoss(gamma=0.1, return_parts=True, **options, **more)
    weight = torch.linspace(-1, 1, 20, dtype=torch.float64).view(K, 5)
    if options["ratio"] == "area" and "rule" in options:
        target = replace(target, weights=weights()[rows])
    given = {"object": {"objects": maps[:, 0]}, "foreground": {"features": maps, "fine": fine()[rows]}}
    raw = SUMixOutput(r, u, maps, class_weight=weight)
    loss, parts = criterion(SUMixOutput(z, v), raw, target, **given.get(criterion.ratio, {}))
    return loss.detach(), torch.stack(parts), *torch.autograd.grad(loss.sum(), outputs, materialize_grads=True)


def every_loss(target, which, rows=slice(None), **more):
    """By the place of the options, what is ignored, and whether the form is plain."""
    maps, labels, losses = features()[rows], ignoring(target, which, rows), {}
    for plain in (False, True):
        outputs = [part[rows].clone().requires_grad_() for part in network_outputs(plain)]
        for at, options in enumerate(OPTIONS):
            losses[at, which, plain] = loss_and_gradients(options, outputs, labels, maps, rows, **more)
    return losses


def whole_target():
    images, labels, _ = batch()
    return CutMix(partners="cross_class")(images, labels, seed=5)[1]


def error_of(call):
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the host's name resolves to
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    both, alone = dist.new_group([0, 1]), [dist.new_group([0]), dist.new_group([1])][rank]
    mine = slice(rank * HALF, (rank + 1) * HALF)
    images, labels, maps = (part[mine].contiguous() for part in batch())
    mixed = {}
    for name in NAMES:
        for per_sample in (True, False):
            mix = MIXERS[name](cross_rank=True, ignore_index=99, per_sample=per_sample, partners="cross_class")
            seed = torch.tensor(5 if rank == 0 else 6)  # the first rank's counts
            mixed[name, per_sample] = mix(images, labels, maps, seed=seed)
    target = mixed["CutMix", True][1]
    assert target.ranks == (0, 1)
    everywhere = replace(whole_target(), perm_in="ranks", ranks=(0, 1))
    losses = {}
    for which in IGNORE:
        losses |= every_loss(everywhere, which, mine, cross_rank=both)
    outputs = [part[mine].clone().requires_grad_() for part in network_outputs()]
    small = replace(target, y_a=target.y_a.byte(), y_b=target.y_b.byte())  # which cannot hold -100
    same = loss_and_gradients(OPTIONS[0], outputs, small, features()[mine], cross_rank=True)
    assert all(torch.equal(one, other) for one, other in zip(same, losses[0, "none", False], strict=True))
    soft = CutMix(cross_rank=dist.group.WORLD, num_classes=K)(images, labels)[1]
    assert soft.shape == (HALF, K)
    compiled = torch.compile(step_of(labels, outputs), fullgraph=True, backend="aot_eager")
    results = [step(images) for step in (compiled, step_of(labels, outputs))]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad(loss, outputs[:2]) for _, loss in results))
    errors = {name: error_of(call) for name, call in refused(rank, images, labels, target, outputs, both, alone)}
    mixed_alone = CutMix(cross_rank=alone)(images, labels, seed=3)  # a group of one rank is a batch by itself
    assert torch.equal(mixed_alone[0], CutMix()(images, labels, seed=3)[0]) and mixed_alone[1].ranks == (rank,)
    torch.save({"mixed": mixed, "losses": losses, "errors": errors}, f"{folder}/{rank}")
    dist.destroy_process_group()


def step_of(labels, outputs):
    """What is to be compiled."""

    def step(images):
        mixed, target = CutMix(cross_rank=True)(images, labels, seed=9)
        loss = SUMixLoss(0.1, cross_rank=True, ignore_index=1)(*outputs[:2], target)
        return mixed, loss

    return step


def refused(rank, images, labels, target, outputs, both, alone):
    """What every rank must refuse, without waiting for the other; the first rank of some is at fault alone."""
    first, extra = rank == 0, torch.rand(HALF, 16, 14)
    mix, cross = CutMix(), CutMix(cross_rank=True)
    z, r = outputs[:2]

    def step(target, group=True, z=z, r=r, **options):
        return lambda: SUMixLoss(0.1, cross_rank=group, **options)(z, r, target)

    own = mix(images, labels)[1]
    for name, group in ("WORLD", True), ("both", both), ("alone", alone):
        yield f"criterion {name}, no mixer", step(own, group)
        yield f"mixer {name}, no criterion", step(CutMix(cross_rank=group)(images, labels)[1], False)
    yield "criterion WORLD, mixer alone", step(CutMix(cross_rank=alone)(images, labels)[1], True)
    yield "criterion alone, mixer both", step(CutMix(cross_rank=both)(images, labels)[1], alone)

    fewer, less = (images[:5], labels[:5]) if first else (images, labels), slice(0, 5 if first else None)
    yield "samples", lambda: cross(*fewer)
    yield "samples of SaliencyMix", lambda: SaliencyMix(cross_rank=both)(*fewer)
    yield "samples of RandomMix", lambda: RandomMix([CutMix(cross_rank=True), MixUp(cross_rank=True)])(*fewer)
    yield "image size", lambda: cross(images[..., :9] if first else images, labels)
    yield "image dtype", lambda: cross(images.double() if first else images, labels)
    yield "label kind", lambda: cross(images, torch.eye(K)[labels] if first else labels)
    yield "classes", lambda: cross(images, torch.eye(K + first)[labels])
    yield "extras", lambda: cross(images, labels, *[extra] * (1 + first))
    yield "extra channels", lambda: cross(images, labels, extra.unsqueeze(1) if first else extra)
    yield "extra size of one rank", lambda: cross(images, labels, extra[:, :9] if first else extra)
    changed, switched = CutMix(cross_rank=True), CutMix(cross_rank=True)
    changed.p, switched.mixup_enabled = 1 + first, not first
    yield "option of one rank", lambda: changed(images, labels)
    yield "container of one rank", lambda: cross({"image": images, "y" if first else "label": labels})
    yield "switch", lambda: switched(images, labels)
    yield "mixers", lambda: (MixUp if first else CutMix)(cross_rank=True)(images, labels)
    yield "images of one rank", lambda: cross("images" if first else images, labels)
    yield "labels of one rank", lambda: cross(images, labels[:5] if first else labels)
    yield "gradient of one rank", lambda: cross(images.clone().requires_grad_(first), labels)
    yield "extra of one rank", lambda: cross(images, labels, extra[:5] if first else extra)
    cut = replace(target, **{name: getattr(target, name)[less] for name in ("y_a", "y_b", "lam", "perm", "box")})
    cut = replace(cut, perm=cut.perm % 10)
    yield "outputs", step(cut, z=z[less], r=r[less])
    low = replace(target, y_a=target.y_a % 3, y_b=target.y_b % 3)
    yield "outputs' dtype", step(target, r=r.float() if first else r)
    yield "outputs' gradient", step(target, r=r.detach() if first else r)
    yield "outputs' classes", step(low, z=z[:, : K - first], r=r[:, : K - first])
    yield "ratio", step(target, ratio="area" if first else "semantic")
    maps, rows = features()[:HALF], HALF - first
    by_map = SUMixLoss(0.1, cross_rank=True, ratio="feature")
    yield "features of one rank", lambda: by_map(z, r, target, features=maps[:rows])
    yield "features", lambda: by_map(z, r, target, features=maps[..., : 4 - first])
    by_two = SUMixLoss(0.1, cross_rank=True, ratio="foreground")
    yield "fine of one rank", lambda: by_two(z, r, target, features=maps, fine=fine()[:rows])
    yield "fine", lambda: by_two(z, r, target, features=maps, fine=fine()[:HALF, : 3 - first])
    yield "fine of every rank", lambda: by_two(z, r, target, features=maps, fine=maps[:, :, 0, 0])
    yield "rule", step(target, ratio="area", rule="uncertain" if first else "relative")
    yield "weights of one rank", step(replace(target, weights=weights()[:HALF, : 3 - first]), ratio="area")
    yield "raw of one rank", step(target, r=r[:5] if first else r)
    yield "type of one rank", step(target, r=None if first else r)
    yield "perm of one rank", step(replace(target, perm=target.perm + N * first))
    yield "label of one rank", step(replace(target, y_b=target.y_b + K * first))
    yield "lam of one rank", step(replace(target, lam=target.lam + 2 * first))


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(one_of_two, args=(folder,), nprocs=2)
    return [torch.load(folder / str(rank)) for rank in range(2)]


def test_two_ranks_mix_as_one(halves):
    images, labels, maps = batch()
    crossed = 0
    for name in NAMES:
        for per_sample in (True, False):
            mix = MIXERS[name](ignore_index=99, per_sample=per_sample, partners="cross_class")
            mixed, target, marked = mix(images, labels, maps, seed=5)
            both = [half["mixed"][name, per_sample] for half in halves]
            (first, said_first, maps_first), (second, said_second, maps_second) = both
            torch.testing.assert_close(torch.cat([first, second]), mixed, rtol=0, atol=1e-6)
            assert torch.equal(torch.cat([maps_first, maps_second]), marked)
            for part in ("y_a", "y_b", "lam", "perm"):
                halves_of_it = [getattr(said_first, part), getattr(said_second, part)]
                assert torch.equal(torch.cat(halves_of_it), getattr(target, part))
            crossed += int((said_first.perm >= HALF).sum())
    assert crossed > 0


@pytest.mark.parametrize("which", IGNORE)
def test_two_ranks_lose_as_one(halves, which):
    """The loss, its parts and its gradients, over all options, whichever labels are ignored on whichever rank."""
    first, second = (half["losses"] for half in halves)
    wanted = every_loss(whole_target(), which)
    assert len(wanted) == 2 * len(OPTIONS)
    for (at, which, plain), (loss, parts, *grads) in wanted.items():
        (loss_0, parts_0, *grads_0), (loss_1, parts_1, *grads_1) = (half[at, which, plain] for half in (first, second))
        reduction = OPTIONS[at]["reduction"]
        share = 2 if reduction == "mean" else 1  # DistributedDataParallel takes the mean
        both = torch.cat([loss_0, loss_1]) if reduction == "none" else (loss_0 + loss_1) / share
        near = {"rtol": 1e-11, "atol": 1e-12, "equal_nan": True, "msg": lambda text, at=at: f"{OPTIONS[at]}: {text}"}
        torch.testing.assert_close(both, loss, **near)
        torch.testing.assert_close(torch.cat([parts_0, parts_1], dim=1), parts, **near)
        for one, other, whole in zip(grads_0, grads_1, grads, strict=True):
            torch.testing.assert_close(torch.cat([one, other]) / share, whole, **near)


AT_FAULT_ALONE = {
    "images of one rank": (
        "TypeError: images must be a Tensor, got str: mixers take whole batches, (N, C, H, W), which "
        "torch.utils.data.default_collate makes of images of one size, once v2.ToImage has made tensors of them"
    ),
    "extra size of one rank": (
        "ValueError: extras[0] must be (N, ..., 16, 14) as the images are, got (6, 9, 14): only images and maps of one "
        "size are mixed along. Leave out boxes and the like; target.mix(x) of a MixUp takes other shapes, where an "
        "average makes sense"
    ),
    "option of one rank": "ValueError: p must be from 0 to 1, got 2.0",
    "container of one rank": "ValueError: labels must be under a key like 'label', got the keys ['image', 'y']; "
    "labels_getter= helps",
    "labels of one rank": "ValueError: labels must be (N,) = (6,) as images has N rows, got (5,)",
    "gradient of one rank": "ValueError: images must not require gradients with cross_rank: none flow between ranks",
    "extra of one rank": "ValueError: extras[0] must be (N, ...) with N = 6, got (5, 16, 14)",
    "features of one rank": "ValueError: features must be (N, ...) with N = 6, got (5, 5, 4, 4)",
    "fine of one rank": "ValueError: fine must be (N, ...) with N = 6, got (5, 3, 8, 8)",
    "weights of one rank": "ValueError: target.weights must be (N, 3) = (6, 3) as mixed has N rows, got (6, 2)",
    "raw of one rank": "ValueError: raw must have the shape of mixed, (6, 4), got (5, 4)",
    "type of one rank": "TypeError: raw must be a SUMixOutput or a Tensor of logits, got NoneType",
    "perm of one rank": "ValueError: target.perm must be from 0 to 11, counting through all ranks' samples",
    "label of one rank": "ValueError: target.y_b must be classes from 0 to 3 or ignore_index",
    "lam of one rank": "ValueError: target.lam must be from 0 to 1",
}
MISMATCHES = {
    "samples": ("images (5, 3, 16, 14) torch.float32", "images (6, 3, 16, 14) torch.float32"),
    "samples of SaliencyMix": ("images (5, 3, 16, 14)", "images (6, 3, 16, 14)"),
    "samples of RandomMix": ("images (5, 3, 16, 14)", "images (6, 3, 16, 14)"),
    "image size": ("images (6, 3, 16, 9)", "images (6, 3, 16, 14)"),
    "image dtype": ("torch.float64, labels", "torch.float32, labels"),
    "label kind": ("labels (6, 4) torch.float32", "labels (6,) torch.int64"),
    "classes": ("labels (6, 5)", "labels (6, 4)"),
    "extras": ("extras[0] (6, 16, 14) torch.float32, extras[1] (6, 16, 14)", "extras[0] (6, 16, 14) torch.float32\n"),
    "extra channels": ("extras[0] (6, 1, 16, 14)", "extras[0] (6, 16, 14)"),
    "switch": ("CutMix(per_sample=True) switched off, images", "CutMix(per_sample=True), images"),
    "mixers": ("MixUp(per_sample=True), images", "CutMix(per_sample=True), images"),
    "outputs": ("mixed (5, 4) torch.float64, raw (5, 4)", "mixed (6, 4) torch.float64, raw (6, 4)"),
    "outputs' dtype": ("raw (6, 4) torch.float32", "raw (6, 4) torch.float64"),
    "outputs' gradient": ("gradient of none", "gradient of raw"),
    "outputs' classes": ("mixed (6, 3)", "mixed (6, 4)"),
    "features": ("features (6, 5, 4, 3)", "features (6, 5, 4, 4)"),
    "fine": ("features (6, 5, 4, 4) torch.float64, fine (6, 2, 8, 8)", "fine (6, 3, 8, 8)"),
    "rule": ("rule='uncertain'", "rule='relative'"),
    "ratio": ("ratio='area'", "ratio='semantic'"),
}


def test_what_does_not_fit_is_refused_on_every_rank(halves):
    """And none waits: an unequal last batch, an error on one rank alone, partners of nobody or of another group."""
    left = [dict(half["errors"]) for half in halves]
    for rank, errors in enumerate(left):
        for name, text in AT_FAULT_ALONE.items():
            error = errors.pop(name)
            good = error == text if rank == 0 else error.startswith("ValueError: with cross_rank every rank must bring")
            assert good, (name, error)
            assert f"rank 0: {text}\n" in error or rank == 0
        for name, (zero, one) in MISMATCHES.items():
            said = errors.pop(name) + "\n"
            assert "drop_last=True" in said and said.startswith("ValueError: with cross_rank every rank must bring"), (
                said
            )
            at_zero, at_one = said[said.index("rank 0:") : said.index("rank 1:")], said[said.index("rank 1:") :]
            assert zero in at_zero and one in at_one, said
        assert errors.pop("fine of every rank").startswith("ValueError: fine must be (N, d, H, W)")
        other = "0" if rank == 0 else "1"
        assert errors.pop("criterion WORLD, mixer alone") == (
            f"ValueError: target's partners are counted through ranks {other}, as its mixer's cross_rank says, and "
            "SUMixLoss's cross_rank says 0, 1: give both the same group"
        )
        assert "through ranks 0, 1, as its mixer's" in errors.pop("criterion alone, mixer both")
        for group in ("WORLD", "both", "alone"):
            assert "SUMixLoss(cross_rank=...) needs partners that are counted" in errors.pop(
                f"criterion {group}, no mixer"
            )
            assert "SUMixLoss without cross_rank needs partners that are rows" in errors.pop(
                f"mixer {group}, no criterion"
            )
        assert not errors


def test_misuse_is_named():
    images, labels, _ = batch()
    with pytest.raises(TypeError, match=r"cross_rank must be a bool or a torch\.distributed\.ProcessGroup, got int"):
        CutMix(cross_rank=1)
    with pytest.raises(ValueError, match=r"cross_rank must be False, or torch\.distributed\.init_process_group"):
        MixUp(cross_rank=True)(images, labels)
    target = MixTarget(labels, labels, torch.rand(N), torch.arange(N), perm_in="ranks")
    with pytest.raises(ValueError, match=r"cross_rank must be False, or torch\.distributed\.init_process_group"):
        SUMixLoss(gamma=0.5, cross_rank=True)(torch.zeros(N, K), torch.zeros(N, K), target)


def mix_here(samples):
    images, labels = torch.utils.data.default_collate(samples)
    return error_of(lambda: CutMix(cross_rank=True)(images, labels))


def test_a_loaders_worker_is_no_rank():
    """It would wait for ever, or, forked from a rank, take that rank's place."""
    dataset = torch.utils.data.TensorDataset(*batch()[:2])
    said = list(DataLoader(dataset, batch_size=N, num_workers=1, collate_fn=mix_here))
    assert said[0].startswith("ValueError: cross_rank must be False in a DataLoader's workers")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.uint16, torch.bfloat16, torch.float64])
def test_images_of_any_dtype_are_gathered(tmp_path, monkeypatch, dtype):
    """Also of those that the backends do not know."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    images, labels = (torch.rand(4, 3, 8, 8) * 9).to(dtype), torch.arange(4)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        mixed, _ = CutMix(cross_rank=True)(images, labels, seed=3)
    finally:
        dist.destroy_process_group()
    assert torch.equal(mixed, CutMix()(images, labels, seed=3)[0])
