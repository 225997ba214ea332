"""MixTarget and SUMixOutput in other people's containers: loaders, trainers, pytrees, checkpoints, compiled graphs."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from sumix import CutMix, FMix, MixTarget, SUMixCollate, SUMixHead, SUMixLoss, SUMixOutput, mix_accuracy
from tests.mixers import MIXERS

N, K = 6, 4
IMAGES, LABELS = torch.rand(N, 3, 12, 16), torch.arange(N) % K


def output(n=N):
    maps = torch.rand(n, 5, 2, 2), torch.rand(n, 3, 4, 4)
    return SUMixOutput(torch.randn(n, K), torch.rand(n, K), maps[0], torch.rand(K, 5), maps[1])


def parts(value):
    return {name: part for name, part in vars(value).items() if isinstance(part, torch.Tensor)}


def assert_same(one, other):
    assert type(one) is type(other) and vars(one).keys() == vars(other).keys()
    for name, part in vars(one).items():
        twin = getattr(other, name)
        assert torch.equal(part, twin) if isinstance(part, torch.Tensor) else part == twin, name


def values():
    return [output(), *(mixer(ignore_index=9)(IMAGES, LABELS)[1] for mixer in MIXERS.values())]


def test_slices_are_of_samples():
    for whole in values():
        assert len(whole) == N and len(whole[:2]) == 2 and len(whole[4:]) == 2 and len(whole[N:]) == 0
        for rows in (slice(1, 5, 2), torch.tensor([3, 0]), [3, 0], LABELS == 1, [], (LABELS == 1).tolist()):
            some = whole[rows]
            for name, part in parts(whole).items():
                want = part if name == "class_weight" else part[rows]
                assert torch.equal(getattr(some, name), want)
        halves = whole.chunk(2)
        assert [len(half) for half in halves] == [3, 3] and [len(p) for p in whole.split(4)] == [4, 2]
        assert [len(p) for p in whole.chunk(4)] == [len(p) for p in torch.arange(N).chunk(4)]
        for bad in (0, 1, None, "lam", (0, 1), torch.tensor(1)):
            with pytest.raises(TypeError, match=r"samples of a (MixTarget|SUMixOutput) are picked by a slice"):
                whole[bad]
        for bad in (0, -1, 1.5, True, None):
            with pytest.raises(ValueError, match=r"(size|chunks) must be an int of at least 1"):
                whole.split(bad)
            with pytest.raises(ValueError, match=r"chunks must be an int of at least 1"):
                whole.chunk(bad)


def test_samples_that_were_cut_out_know_it():
    mixed, target = CutMix()(IMAGES, LABELS)
    some = target[:3]
    assert target.perm_in == "batch" and some.perm_in == "cut" and some[:2].perm_in == "cut"
    assert torch.equal(some.soft(K), target.soft(K)[:3])
    z = torch.randn(N, K)
    assert mix_accuracy(z[:3], some) == mix_accuracy(z[:3], replace(some, perm=None))
    for call in (lambda: some.mix(IMAGES[:3]), lambda: SUMixLoss(gamma=0.5)(z[:3], z[:3], some)):
        with pytest.raises(ValueError, match=r"partners are rows of a larger batch.*mix each part"):
            call()
    with pytest.raises(ValueError, match=r'perm_in must be one of "?\'batch\'.*got \'rows\''):
        replace(target, perm_in="rows").mix(mixed)


def test_partners_on_other_ranks_are_refused_where_nobody_gathers():
    _, target = CutMix()(IMAGES, LABELS)
    z, ranks = torch.randn(N, K), replace(target, perm_in="ranks")
    with pytest.raises(ValueError, match=r"counted through the batches of all ranks.*without cross_rank"):
        SUMixLoss(gamma=0.5)(z, z, ranks)
    with pytest.raises(ValueError, match="counted through the batches of all ranks"):
        ranks.mix(IMAGES)
    with pytest.raises(ValueError, match=r"rows of its own batch, as its mixer had no cross_rank"):
        SUMixLoss(gamma=0.5, cross_rank=True)(z, z, target)


def test_what_expects_a_tensor_or_a_tuple_is_told():
    _, target = CutMix()(IMAGES, LABELS)
    for call in (lambda: target.size(0), lambda: target.ndim, lambda: target.shape, lambda: target.long()):
        with pytest.raises(AttributeError, match=r"no tensor: for accuracy there is sumix\.mix_accuracy"):
            call()
    for call in (lambda: output().size(0), lambda: output().argmax(1), lambda: output().topk(5)):
        with pytest.raises(AttributeError, match=r"no tensor: .*output\.logits"):
            call()
    with pytest.raises(TypeError, match=r"picked by a slice.*its parts have names: y_a, y_b, lam"):
        _, *_ = target
    assert not isinstance(target, Iterable)  # for Lightning iterates over all that is, in search of the batch's size
    assert not isinstance(target, (tuple, list, dict)) and not isinstance(output(), (tuple, list, dict))
    logits, uncertainty, maps, weight, fine = whole = output()
    assert logits is whole.logits and uncertainty is whole.uncertainty
    assert maps is whole.features and weight is whole.class_weight and fine is whole.fine


def test_data_parallel_gathers_outputs():
    """It makes type(output) of an iterator over the parts of what the replicas returned."""
    replicas = [output(2), output(3)]
    gathered = SUMixOutput(map(torch.cat, zip(*replicas, strict=True)))
    assert len(gathered) == 5 and gathered.class_weight.shape == (2 * K, 5) and gathered.fine.shape == (5, 3, 4, 4)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(again):
    for value in values():
        assert_same(again(value), value)


def test_torch_load_takes_them(tmp_path):
    for at, value in enumerate(values()):
        torch.save({"target": value}, tmp_path / str(at))
        assert_same(torch.load(tmp_path / str(at), weights_only=True)["target"], value)


def test_pytrees_know_their_tensors():
    for value in values():
        leaves, spec = pytree.tree_flatten(value)
        assert len(leaves) == len(parts(value)) and all(isinstance(leaf, torch.Tensor) for leaf in leaves)
        assert_same(pytree.tree_unflatten(leaves, spec), value)
        doubled = pytree.tree_map(lambda leaf: leaf * 2, value)
        assert type(doubled) is type(value)
        for name, part in parts(value).items():
            assert torch.equal(getattr(doubled, name), part * 2)
        named = dict(pytree.tree_flatten_with_path(value)[0])
        assert {path[0].name for path in named} == parts(value).keys()
        assert pytree.treespec_loads(pytree.treespec_dumps(spec)) == spec


def test_they_move():
    for value in values():
        moved = value.to("meta", non_blocking=True)
        assert type(moved) is type(value) and all(part.device.type == "meta" for part in parts(moved).values())
        assert_same(value.cpu(), value)
        assert_same(value.detach(), value)
    with pytest.raises(TypeError, match="dtype"):
        values()[1].to(torch.float16)  # which would make labels of what is no number
    half = output().to(torch.float16)
    assert {part.dtype for part in parts(half).values()} == {torch.float16}
    assert {part.dtype for part in parts(half.float()).values()} == {torch.float32}


def test_a_loader_pins_each_tensor(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: pinned.append(tensor) or tensor)
    from torch.utils.data._utils.pin_memory import pin_memory

    for value in values():
        pinned.clear()
        again = pin_memory([IMAGES, value])[1]
        assert_same(again, value)
        assert {id(part) for part in parts(value).values()} <= {id(part) for part in pinned}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_hands_them_over(workers):
    data = list(zip(IMAGES, LABELS.tolist(), strict=True))
    for images, mixed, target in DataLoader(data, 3, num_workers=workers, collate_fn=SUMixCollate(FMix())):
        assert isinstance(target, MixTarget) and len(target) == 3
        torch.testing.assert_close(target.mix(images), mixed)


def test_compiled_graphs_take_and_make_them():
    head, mix, criterion = SUMixHead(5, K), CutMix(), SUMixLoss(gamma=0.5, ratio="feature")
    maps = torch.rand(N, 5, 3, 4)

    def step(images, labels, seed):
        mixed, target = mix(images, labels, seed=seed)
        out = head(maps)
        return mixed, target, out, criterion(out, head(maps), target)

    mixed, target, out, loss = torch.compile(step, fullgraph=True)(IMAGES, LABELS, torch.tensor(3))
    want_mixed, want, want_out, want_loss = step(IMAGES, LABELS, torch.tensor(3))
    assert_same(target, want)
    torch.testing.assert_close([*parts(out).values(), loss], [*parts(want_out).values(), want_loss])
    assert torch.equal(mixed, want_mixed) and not out.features.requires_grad
    again = torch.compile(lambda target, x: (target.mix(x), target.soft(K), target[:2]), fullgraph=True)
    repeated, soft, some = again(target, IMAGES)
    assert torch.equal(repeated, mixed) and torch.equal(soft, target.soft(K))
    assert_same(some, target[:2])


def test_a_function_of_an_output_is_differentiated():
    """What maps over pytrees reaches the tensors, with their gradients."""
    logits = torch.randn(N, K, requires_grad=True)
    whole = SUMixOutput(logits)
    pytree.tree_map(lambda leaf: leaf * 3, whole).logits.sum().backward()
    assert torch.equal(logits.grad, torch.full((N, K), 3.0))
    assert not whole.detach().logits.requires_grad and whole[:2].logits.requires_grad


def test_imports_bring_no_warning():
    """Registering with pytrees and with torch.load says nothing."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", "import sumix"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
