"""forward_pair: both passes as one, or in turn, by plain models and by wrapped ones, with whatever they return."""

import copy
import itertools
import os
from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_flatten

from sumix import (
    CutMix,
    MixTarget,
    PairedMix,
    SUMixHead,
    SUMixLoss,
    SUMixOutput,
    capture_features,
    forward_pair,
)

N, K = 6, 5


def network(norm=True, dtype=torch.float32):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), *[nn.BatchNorm2d(8)] * norm, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*body, *[nn.BatchNorm1d(32)] * norm, SUMixHead(32, K)).to(dtype)


def batch(dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(N, 3, 9, 8, generator=generator, dtype=dtype)
    mixed, target = CutMix()(images, torch.randint(K, (N,), generator=generator), seed=seed)
    return mixed, images, target


def step(model, pair, target):
    loss = SUMixLoss(gamma=0.5)(*pair, target)
    return loss, *torch.autograd.grad(loss, list(model.parameters()))


def test_without_batch_norm_one_pass_is_two():
    model, (mixed, images, target) = network(norm=False, dtype=torch.float64), batch(torch.float64)
    want = step(model, (model(mixed), model(images)), target)
    for in_turn in (False, True):
        pair = forward_pair(model, mixed, images, in_turn=in_turn)
        assert all(type(output) is SUMixOutput and len(output) == N for output in pair)
        torch.testing.assert_close(step(model, pair, target), want, rtol=1e-12, atol=1e-14)


def test_batch_norm_sees_both_batches_or_each():
    mixed, images, target = batch()
    for in_turn, passes in (True, [mixed, images]), (False, [torch.cat([mixed, images])]):
        model, twin = network(), network()
        got = step(model, forward_pair(model, mixed, images, in_turn=in_turn), target)
        outputs = [twin(x) for x in passes]
        torch.testing.assert_close(got, step(twin, outputs if in_turn else outputs[0].chunk(2), target))
        torch.testing.assert_close(dict(model.named_buffers()), dict(twin.named_buffers()))
        assert model[1].num_batches_tracked == len(passes)


def test_eval_mode_and_captured_maps():
    mixed, images, target = batch()
    model = network().eval()
    torch.testing.assert_close(forward_pair(model, mixed, images), (model(mixed), model(images)))
    body = nn.Sequential(nn.Conv2d(3, 2 * N, 3), nn.ReLU())
    model = nn.Sequential(
        OrderedDict(body=body, avgpool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(2 * N, 2 * N))
    )
    capture_features(model)  # with as many classes as there are rows
    want, got = (model(mixed), model(images)), forward_pair(model, mixed, images)
    for one, other in zip(got, want, strict=True):
        assert one.class_weight.shape == (2 * N, 2 * N)
        torch.testing.assert_close(list(one), list(other))
    assert SUMixLoss(0.1, ratio="cam")(*got, target).isfinite()


Named = namedtuple("Named", "logits hidden")
CONTAINERS = {
    "Tensor": lambda z: z,
    "tuple": lambda z: (z, None, "name", 3),
    "list": lambda z: [z, [z + 1, ()]],
    "dict": lambda z: {"logits": z, "table": torch.eye(3)},
    "named tuple": lambda z: Named(z, (z + 1, z + 2)),
    "SUMixOutput within": lambda z: {"out": SUMixOutput(z, z, class_weight=torch.ones(2 * N, 2)), "more": z},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_keep_their_type(name):
    mixed, images, _ = batch()
    make = CONTAINERS[name]
    for got, x in zip(forward_pair(make, mixed, images), (mixed, images), strict=True):
        leaves, structure = tree_flatten(got)
        wanted, wanted_structure = tree_flatten(make(x))
        assert structure == wanted_structure and len(leaves) == len(wanted)
        for leaf, want in zip(leaves, wanted, strict=True):
            assert torch.equal(leaf, want) if isinstance(want, torch.Tensor) else leaf == want


def test_what_has_no_rows_is_in_both():
    mixed, images, _ = batch()
    first, second = forward_pair(lambda x: {"logits": x, "loss": x.mean()}, mixed, images)
    assert first["loss"] is second["loss"] and first["loss"].ndim == 0


def test_hugging_faces_outputs():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    mixed, images, _ = batch()
    first, second = forward_pair(
        lambda x: outputs.ImageClassifierOutput(logits=x.flatten(1), hidden_states=(x, x + 1)), mixed, images
    )
    assert type(first) is outputs.ImageClassifierOutput and first.loss is None
    assert torch.equal(first.logits, mixed.flatten(1)) and torch.equal(second.hidden_states[1], images + 1)


def test_memory_format_and_autocast():
    mixed, images, target = batch()
    seen = []
    model = network()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for in_turn in (False, True):
        forward_pair(model, *(x.to(memory_format=torch.channels_last) for x in (mixed, images)), in_turn=in_turn)
    assert len(seen) == 3 and all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    with torch.autocast("cpu", torch.bfloat16):
        pair = forward_pair(model, mixed, images)
        loss = SUMixLoss(gamma=0.5)(*pair, target)
    assert pair[0].logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_step_compiles_in_one_graph(in_turn):
    model, (mixed, images, target) = network(), batch()

    def loss(mixed, images, target):
        return SUMixLoss(gamma=0.5)(*forward_pair(model, mixed, images, in_turn=in_turn), target)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(mixed, images, target), loss(mixed, images, target))


def test_bad_input_is_named():
    mixed, images, _ = batch()
    for arguments, options, error, message in [
        ((None, images), {}, TypeError, "mixed must be a Tensor, got NoneType"),
        ((mixed, [images]), {}, TypeError, "images must be a Tensor, got list"),
        (
            (mixed, images[:5]),
            {},
            ValueError,
            r"images must have the shape of mixed, \(6, 3, 9, 8\), got \(5, 3, 9, 8\)",
        ),
        ((mixed, images[..., :7]), {}, ValueError, "images must have the shape of mixed"),
        (
            (mixed, images.double()),
            {},
            TypeError,
            "images must have the dtype of mixed, torch.float32, got torch.float64$",
        ),
        ((mixed, images.byte()), {}, TypeError, r"got torch.uint8; mix.unmixed\(images\) are normalised as mixed is"),
        ((mixed, images.to("meta")), {}, ValueError, "images must be on the device of mixed, cpu, got meta"),
        ((mixed, images), {"in_turn": 1}, TypeError, "in_turn must be a bool, got int"),
        ((mixed, mixed), {}, ValueError, "images must be the unmixed ones, got mixed itself"),
    ]:
        with pytest.raises(error, match=message):
            forward_pair(network(), *arguments, **options)
    for returned, got in [
        (torch.zeros(()), r"a Tensor \(\)"),
        (torch.zeros(3, 12), r"a Tensor \(3, 12\)"),
        (None, "NoneType"),
    ]:
        with pytest.raises(ValueError, match=f"model must return a row for each of the 12 images.*got {got}"):
            forward_pair(lambda x, returned=returned: returned, mixed, images)


def test_pairs_need_the_unmixed_images():
    _, images, _ = batch()
    labels = torch.arange(N) % K
    mixed, _ = CutMix(inplace=True)(images, labels)
    with pytest.raises(ValueError, match="images must be the unmixed ones"):
        forward_pair(network(), mixed, images)
    with pytest.raises(ValueError, match="mix must not work in place"):
        PairedMix(CutMix(inplace=True))
    pair = PairedMix(CutMix())
    for option, value, message in ("inplace", True, "not work in place"), ("num_classes", K, "have no num_classes"):
        before = getattr(pair.mix, option)
        setattr(pair.mix, option, value)
        with pytest.raises(ValueError, match=f"mix must {message}"):
            pair(images, labels)
        setattr(pair.mix, option, before)
    with pytest.raises(AttributeError, match="'PairedMix' object has no attribute 'p'"):
        pair.p = 0.5
    both, target = copy.deepcopy(pair)(images, labels)
    assert torch.equal(both, torch.cat([target.mix(images), images]))


# Data parallelism: two processes, each with a batch of its own, against the same made by hand. -----------------------


def sharded(model):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model[0], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fully_sharded(model):
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)


WRAPPERS = {
    "DDP": DistributedDataParallel,
    "DDP, static graph": lambda model: DistributedDataParallel(model, static_graph=True),
    "DDP, no BatchNorm": DistributedDataParallel,
    "DDP, unused parameters": lambda model: DistributedDataParallel(model, find_unused_parameters=True),
    "DDP, no_sync": DistributedDataParallel,
    "compiled DDP": lambda model: torch.compile(DistributedDataParallel(model), backend="aot_eager"),
    "DDP of compiled": lambda model: DistributedDataParallel(torch.compile(model, backend="aot_eager")),
    "FSDP2": sharded,
    "FSDP1": fully_sharded,
}
STEPS = 2


def train(model, rank, in_turn, accumulate, by_hand=False):
    """A few steps of SGD; `by_hand` does what data parallelism should."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for at in range(STEPS):
        for part in range(1 + accumulate):
            mixed, images, target = batch(seed=10 * at + 4 * part + rank)
            if by_hand:
                for buffer in model.buffers():
                    dist.broadcast(buffer, src=0)
                pair = [model(mixed), model(images)] if in_turn else model(torch.cat([mixed, images])).chunk(2)
                SUMixLoss(gamma=0.5)(*pair, target).backward()
            elif accumulate and part == 0:
                with model.no_sync():
                    SUMixLoss(gamma=0.5)(*forward_pair(model, mixed, images, in_turn=in_turn), target).backward()
            else:
                SUMixLoss(gamma=0.5)(*forward_pair(model, mixed, images, in_turn=in_turn), target).backward()
        if by_hand:
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= 2
        optimizer.step()
        optimizer.zero_grad()


def two_processes(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the host's name resolves to
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    states = {}
    for in_turn, (name, wrap) in itertools.product((False, True), WRAPPERS.items()):
        model, twin = (network(norm="no BatchNorm" not in name) for _ in range(2))
        accumulate = name.endswith("no_sync")
        wrapped = wrap(model)
        train(wrapped, rank, in_turn, accumulate)
        train(twin, rank, in_turn, accumulate, by_hand=True)
        if name == "FSDP1":
            with type(wrapped).summon_full_params(wrapped):
                got = copy.deepcopy(dict(model.state_dict()))
        else:
            got = {key: x.full_tensor() if hasattr(x, "full_tensor") else x for key, x in model.state_dict().items()}
        assert not isinstance(wrapped, DistributedDataParallel) or wrapped.broadcast_buffers
        states[name, in_turn] = got, twin.state_dict()
    torch.save(states, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    multiprocessing.spawn(two_processes, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("name", WRAPPERS)
def test_data_parallel_training_with_batch_norm(states, name, in_turn):
    """Parameters as made by hand, and on the first rank, whose buffers are broadcast, the running averages too."""
    for rank, (got, want) in enumerate(states[rank][name, in_turn] for rank in range(2)):
        compared = 0
        for key, value in want.items():
            if rank == 0 or not ("running" in key or "tracked" in key):
                torch.testing.assert_close(got[key], value, msg=lambda text, key=key: f"{key}: {text}")
                compared += 1
        assert compared >= 6


@pytest.mark.parametrize("in_turn", [False, True])
def test_two_processes_train_as_one(states, in_turn):
    """Without BatchNorm two processes with half the batch each make the steps of one with all of it."""
    model = network(norm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for at in range(STEPS):
        (*first, one), (*second, other) = (batch(seed=10 * at + rank) for rank in range(2))
        labels = {name: torch.cat([getattr(one, name), getattr(other, name)]) for name in ("y_a", "y_b", "lam")}
        target = MixTarget(**labels, perm=torch.cat([one.perm, other.perm + N]))
        mixed, images = (torch.cat(both) for both in zip(first, second, strict=True))
        optimizer.zero_grad()
        SUMixLoss(gamma=0.5)(*forward_pair(model, mixed, images), target).backward()
        optimizer.step()
    for rank in range(2):
        torch.testing.assert_close(states[rank]["DDP, no BatchNorm", in_turn][0], model.state_dict())


def test_the_raw_pass_without_gradient_leaves_batch_norm_alone():
    model, (mixed, images, target) = network(), batch()
    capture_features(model, "2")
    twin = copy.deepcopy(model)
    output, raw = forward_pair(model, mixed, images, raw_gradient=False)
    with torch.no_grad():
        want = copy.deepcopy(twin).eval()(images)
    torch.testing.assert_close(raw.logits, want)
    assert raw.features is not None and not raw.logits.requires_grad and model.training
    torch.testing.assert_close(output.logits, twin(mixed).logits)
    for name, value in model.state_dict().items():  # as after the mixed images alone
        torch.testing.assert_close(value, twin.state_dict()[name])
    for ratio in ("semantic", "foreground", "feature", "area"):
        loss = SUMixLoss(ratio=ratio)(output, raw, target)
        loss.backward(retain_graph=True)
        assert loss.isfinite()
    with pytest.raises(TypeError, match="both carry an uncertainty"):
        SUMixLoss(gamma=0.5)(output, raw, target)
    with pytest.raises(TypeError, match=r"model must be an nn\.Module with raw_gradient=False"):
        forward_pair(lambda x: x, mixed, images, raw_gradient=False)
    with pytest.raises((TypeError, ValueError), match="raw_gradient must be"):
        forward_pair(model, mixed, images, raw_gradient="no")
