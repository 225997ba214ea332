"""Evidence by a raw pass: what it finds, in which models, and that it leaves them as they were."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from benchmarks import peers
from benchmarks.nets import NarrowResNet
from sumix import ForegroundMix, SUMixHead, SUMixWarning, capture_features, ops
from sumix.evidence import NetworkEvidence

N, K, SIZE = 6, 4, 48
timm, torchvision = peers.load("timm"), peers.load("torchvision")


def network(width=6):
    torch.manual_seed(0)
    return NarrowResNet(K, width)


def batch(size=SIZE):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 3, size, size, generator=generator), torch.arange(N) % K


def maps(model, images):
    """The last map and that of the stage before, in eval mode."""
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        fine = twin.stages[:4](twin.stem(images))
        return twin.stages[4:](fine), fine


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_foreground_is_the_op_on_the_networks_own_maps():
    model, (images, _) = network(), batch()
    evidence = NetworkEvidence(model)
    features, fine = maps(model, images)
    want = ops.foreground(features, fine)
    got = evidence(images)
    torch.testing.assert_close(got.map, want.map)
    torch.testing.assert_close(got.gate, want.gate)
    torch.testing.assert_close(evidence.mean, want.means.mean(0))
    other = torch.randn(N, 3, SIZE, SIZE)
    features, fine = maps(model, other)
    before = evidence.mean
    want = ops.foreground(features, fine, mean=before)
    torch.testing.assert_close(evidence(other).gate, want.gate)
    torch.testing.assert_close(evidence.mean, before + 0.1 * (want.means.mean(0) - before))
    bare = NetworkEvidence(model, gate=None)
    assert torch.equal(bare(images).map, got.map) and bare(images).gate is None and bare.mean is None
    evidence.eval()
    kept = evidence.mean
    evidence(images)
    assert evidence.mean is kept


def test_feature_cam_and_attention_are_their_formulas():
    model, (images, labels) = network(), batch()
    features, _ = maps(model, images)
    g = features.mean((2, 3), keepdim=True)
    want = ((g * features).sum(1) - (g * g).sum(1)).clamp(min=0)
    torch.testing.assert_close(NetworkEvidence(model, "feature")(images).map, want, rtol=1e-3, atol=1e-5)
    labels = labels.clone()
    labels[2] = -1
    want = torch.einsum("nd,ndhw->nhw", model.fc.weight[labels], features).clamp(min=0)
    want[2] = 0
    found = NetworkEvidence(model, "cam")(images, labels)
    torch.testing.assert_close(found.map, want.detach(), rtol=1e-4, atol=1e-5)
    assert found.gate is None


@pytest.mark.skipif(timm is None, reason="timm is not installed")
def test_attention_of_timm():
    model = timm.create_model("vit_tiny_patch16_224", img_size=48, num_classes=K)
    images, _ = batch()
    block, seen = model.blocks[-1].attn, []
    block.fused_attn = False
    hook = block.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model.eval()(images)
    hook.remove()
    want = seen[0].mean(1)[:, 0, 1:].view(N, 3, 3)
    with pytest.warns(SUMixWarning, match="3 x 3") if not _has_warned() else _nothing():
        found = NetworkEvidence(model, "attention")(images)
    torch.testing.assert_close(found.map, want)


@pytest.mark.skipif(torchvision is None, reason="torchvision is not installed")
@pytest.mark.filterwarnings("ignore:sumix:UserWarning")
def test_attention_of_torchvision():
    model = torchvision.models.VisionTransformer(64, 16, 2, 4, 32, 32, num_classes=K)
    images, _ = batch(64)
    block, seen = model.encoder.layers[-1].self_attention, []
    hook = block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.eval()(images)
        hook.remove()
        want = block(seen[0], seen[0], seen[0], need_weights=True)[1][:, 0, 1:].view(N, 4, 4)
    torch.testing.assert_close(NetworkEvidence(model, "attention")(images).map, want)


@pytest.mark.filterwarnings("ignore:sumix:UserWarning")
def test_attention_of_hugging_face():
    if torchvision is None and timm is not None:
        pytest.skip("transformers cannot be imported beside this torchvision")
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, image_size=64, patch_size=16,
        num_labels=K, attn_implementation="eager",
    )  # fmt: skip
    model, (images, _) = transformers.ViTForImageClassification(config).eval(), batch(64)
    with torch.no_grad():
        want = model(images, output_attentions=True).attentions[-1].mean(1)[:, 0, 1:].view(N, 4, 4)
    torch.testing.assert_close(NetworkEvidence(model, "attention")(images).map, want)


def _has_warned():
    from sumix import warn

    return "coarse maps" in warn._said


class _nothing:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def test_the_model_is_left_as_it_was():
    model, (images, labels) = network(), batch()
    model.stages[1].eval()  # a part that the user has frozen
    F.cross_entropy(model(images), labels).backward()
    before, modes = state(model), [module.training for module in model.modules()]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]
    evidence = NetworkEvidence(model)
    found = evidence(images)
    assert not found.map.requires_grad and not found.gate.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks
    assert list(evidence.parameters()) == [] and list(evidence.state_dict()) == ["mean"]
    with pytest.raises(RuntimeError):
        evidence(torch.randn(N, 5, SIZE, SIZE))  # of five channels
    assert [module.training for module in model.modules()] == modes
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks


def test_beside_capture_features_and_a_sumix_head():
    model, (images, _) = network(), batch()
    want = NetworkEvidence(model)(images)
    model.fc = SUMixHead(model.fc.in_features, K)
    capture_features(model)
    torch.testing.assert_close(NetworkEvidence(model)(images).map, want.map)
    assert model(images).features is not None


def test_averages_wrappers_and_compiled_models():
    model, (images, labels) = network(), batch()
    want = NetworkEvidence(model)(images)
    average = AveragedModel(model)
    compiled = torch.compile(copy.deepcopy(model).eval(), backend="eager")
    compiled(images)
    for other in (average, average.module, compiled, nn.DataParallel(model)):
        torch.testing.assert_close(NetworkEvidence(other)(images).map, want.map)
    step = torch.compile(lambda images, labels: F.cross_entropy(model(images), labels), backend="eager")
    evidence = NetworkEvidence(model)
    for _ in range(3):
        evidence(images)
        step(images, labels).backward()
    assert model.training


def test_the_mean_travels_with_state_dict():
    model, (images, _) = network(), batch()
    evidence, fresh = NetworkEvidence(model), NetworkEvidence(model)
    fresh.load_state_dict(evidence.state_dict())
    assert fresh.mean is None
    evidence(images)
    fresh.load_state_dict(evidence.state_dict())
    assert torch.equal(fresh.mean, evidence.mean)
    twin = copy.deepcopy(evidence)
    assert torch.equal(twin(images).gate, evidence(images).gate)
    assert twin.model is not model
    whole = nn.ModuleDict({"evidence": fresh})
    whole.load_state_dict({"evidence.mean": evidence.mean + 1})
    assert torch.equal(fresh.mean, evidence.mean + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_and_autocast(dtype):
    model, (images, _) = network(), batch()
    want = NetworkEvidence(model)(images)
    if dtype is torch.bfloat16:
        with torch.autocast("cpu", dtype):
            found = NetworkEvidence(model)(images)
        assert (found.map / found.map.max() - want.map / want.map.max()).abs().mean() < 0.02
    else:
        found = NetworkEvidence(network().to(dtype))(images.to(dtype))
        assert found.map.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
        torch.testing.assert_close(found.map.float(), want.map, rtol=0.1, atol=0.02 * want.map.max().item())


def test_what_is_not_finite_spoils_one_batch_and_no_more():
    model, (images, labels) = network(), batch()
    evidence = NetworkEvidence(model)
    evidence(images)
    kept = evidence.mean.clone()
    broken = images.clone()
    broken[1] = float("nan")
    found = evidence(broken)
    assert found.map[1].isnan().any()
    assert torch.equal(evidence.mean, kept)
    mixed, target = ForegroundMix(p=1.0, min_gate=0.0)(broken, labels, found, seed=1)
    assert mixed.shape == images.shape and len(target) == N
    first = NetworkEvidence(model)
    first(broken)
    assert first.mean.isfinite().all()


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model, images = network(), batch()[0]
    evidence = NetworkEvidence(DistributedDataParallel(model), cross_rank=True)
    mine = images[3 * rank : 3 * rank + 3]
    evidence(mine)
    torch.save((evidence.mean, evidence(mine).gate), f"{folder}/{rank}")
    dist.destroy_process_group()


def test_two_ranks_share_one_mean(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    (mean, first), (other, second) = (torch.load(tmp_path / str(rank)) for rank in range(2))
    assert torch.equal(mean, other)
    evidence, images = NetworkEvidence(network()), batch()[0]
    evidence(images)
    torch.testing.assert_close(evidence.mean, mean)
    torch.testing.assert_close(torch.cat([first, second]), evidence(images).gate)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: NetworkEvidence("resnet"), TypeError, "model must be an nn.Module"),
        (lambda x, y: NetworkEvidence(network(), "best"), ValueError, "kind must be one of"),
        (lambda x, y: NetworkEvidence(network(), layer="none"), ValueError, "layer must be"),
        (lambda x, y: NetworkEvidence(network(), fine="none"), ValueError, "fine must be"),
        (lambda x, y: NetworkEvidence(network(), rounds=0), ValueError, "rounds must be"),
        (lambda x, y: NetworkEvidence(network(), gate=(0.5, 0.4)), ValueError, "gate must"),
        (lambda x, y: NetworkEvidence(network(), momentum=2.0), ValueError, "momentum must be"),
        (lambda x, y: NetworkEvidence(network(), cross_rank="yes"), TypeError, "cross_rank"),
        (lambda x, y: NetworkEvidence(network(), "attention"), ValueError, "needs a vision transformer"),
        (lambda x, y: NetworkEvidence(network(), "cam")(x), ValueError, "labels must be given"),
        (lambda x, y: NetworkEvidence(network(), "cam")(x, y + 9), ValueError, "labels must be from 0 to"),
        (lambda x, y: NetworkEvidence(network(), "cam")(x, y[:2]), ValueError, "labels must be"),
        (lambda x, y: NetworkEvidence(network())([x]), TypeError, "images must be a Tensor"),
        (lambda x, y: NetworkEvidence(network())(x[:, :, :4, :4]), ValueError, "only one place"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(*batch())
