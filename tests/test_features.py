"""capture_features on networks made here, and on torchvision's where it is installed."""

import copy
import pickle
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks import peers
from sumix import CutMix, SUMixHead, SUMixLoss, SUMixOutput, capture_features, ops

pytestmark = pytest.mark.filterwarnings("ignore:sumix. the network's last map")  # of 2 x 2 places, to be fast

K, D = 5, 12


class Convolutional(nn.Module):
    """A body, pooling without a module, and a classifier."""

    def __init__(self, head=None):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential(nn.Conv2d(8, D, 3, 2, 1), nn.ReLU())
        self.drop = nn.Dropout(0.0)
        self.fc = nn.Linear(D, K) if head is None else head

    def forward(self, x):
        return self.fc(self.drop(self.stages(self.stem(x)).mean(dim=(2, 3))))


class Returning(Convolutional):
    """Returns whatever `form` makes of the logits."""

    def __init__(self, form, head=None):
        super().__init__(head)
        self.form = form

    def forward(self, x):
        return self.form(super().forward(x))


class Transformer(nn.Module):
    """Patches, a class token, two blocks and a norm."""

    def __init__(self, prefix=1):
        super().__init__()
        self.patches = nn.Conv2d(3, D, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, prefix, D))
        block = nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, K)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.norm(self.blocks(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)))
        return self.head(x[:, 0])


class ChannelsLast(nn.Module):
    """Maps (N, h, w, D), as Swin transformers have them."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, D)
        self.norm2 = nn.LayerNorm(D)
        self.head = nn.Linear(D, K)

    def forward(self, x):
        x = self.norm2(self.mix(self.norm(self.patches(x).permute(0, 2, 3, 1))))
        return self.head(x.mean(dim=(1, 2)))


def sequential():
    layers = [nn.Conv2d(3, D, 3, 4, 1), nn.BatchNorm2d(D), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1)]
    return nn.Sequential(*layers, nn.Linear(D, K))


MODELS = {
    "convolutional": (Convolutional, "stages"),
    "sequential": (sequential, "3"),
    "transformer": (Transformer, "norm"),
    "channels last": (ChannelsLast, "norm2"),
}
IMAGES = torch.randn(3, 3, 16, 16)


@pytest.mark.parametrize("name", MODELS)
def test_the_map_is_found_and_eval_mode_is_left_alone(name):
    make, layer = MODELS[name]
    model = make()
    plain = model(IMAGES)
    handle = capture_features(model)
    assert handle.layer == layer and layer in repr(handle)
    output = model(IMAGES)
    assert isinstance(output, SUMixOutput) and output.logits.requires_grad and output.uncertainty is None
    torch.testing.assert_close(output.logits, plain)
    assert output.features.shape == (3, D, 4, 4) and not output.features.requires_grad
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert torch.equal(output.class_weight, linear.weight) and not output.class_weight.requires_grad
    if name != "transformer":  # whose class token is no mean
        torch.testing.assert_close(linear(output.features.mean(dim=(2, 3))), output.logits)
    assert type(model.eval()(IMAGES)) is torch.Tensor
    handle.remove()
    assert type(model.train()(IMAGES)) is torch.Tensor
    with capture_features(model) as handle:
        assert isinstance(model(IMAGES), SUMixOutput)
    assert type(model(IMAGES)) is torch.Tensor


def test_tokens_of_every_kind():
    for prefix in (0, 1, 2, 5):
        model = Transformer(prefix)
        capture_features(model)
        kept = []
        model.norm.register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(output))
        features = model(IMAGES).features
        assert torch.equal(features.flatten(2).transpose(1, 2), kept[0][:, prefix:])
    wide = torch.randn(2, 3, 8, 24)
    model = Transformer()
    with capture_features(model):
        assert model(wide).features.shape == (2, D, 2, 6)
    with capture_features(model, grid=(3, 4)):
        assert model(wide).features.shape == (2, D, 3, 4)
    with capture_features(model, grid=(2, 2, 3)):
        assert model(wide).features.shape == (2, D, 2, 2, 3)

    class Batches(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Transformer()

        def forward(self, batch):
            return self.net(batch["images"])

    model = Batches()
    with capture_features(model) as handle:
        assert handle.layer == "net.norm" and model({"images": wide}).features.shape == (2, D, 2, 6)
    model = Transformer()
    with capture_features(model), pytest.raises(ValueError, match="grid"):
        model(torch.randn(2, 3, 9, 25))  # a rest that is in no patch


def test_a_layer_by_name_or_itself():
    model = Convolutional()
    for layer, name in [("stem", "stem"), (model.stem[0], "stem.0")]:
        with capture_features(model, layer) as handle:
            assert handle.layer == name
            output = model(IMAGES)
        assert output.features.shape == (3, 8, 8, 8) and output.class_weight is None
    for layer, error in [("layer4", ValueError), (nn.ReLU(), ValueError), (3, TypeError), ("", ValueError)]:
        with pytest.raises(error, match="layer must be"):
            capture_features(model, layer)
    with pytest.raises(ValueError, match="'stem', 'stages', 'drop', 'fc'"):
        capture_features(model, "layer4")
    with capture_features(model, "fc"), pytest.raises(ValueError, match="no map"):
        model(IMAGES)


def test_channels_last_by_the_images_proportions():
    model = ChannelsLast()
    wide = torch.randn(3, 3, 16, 64)
    with capture_features(model, "norm"):  # 6 channels, where the classifier sees 12
        for images, shape in ((IMAGES, (6, 4, 4)), (wide, (6, 4, 16))):
            output = model(images)
            assert output.features.shape == (3, *shape) and output.class_weight is None
            assert torch.equal(output.features.movedim(1, -1), model.norm(model.patches(images).movedim(1, -1)))
    with capture_features(model, "patches"):
        assert model(wide).features.shape == (3, 6, 4, 16)


def test_norms_after_the_pooling_and_lists_of_blocks():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, D, 4, 4)
            self.blocks = nn.ModuleList([nn.Conv2d(D, D, 1), nn.Tanh()])
            self.head = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, K))
            self.head_dist = nn.Sequential(nn.BatchNorm1d(D), nn.Linear(D, K))

        def forward(self, x):
            x = self.patches(x)
            for block in self.blocks:
                x = block(x)
            pooled = x.mean(dim=(2, 3))
            return self.head(pooled), self.head_dist(pooled)

    class Beside(nn.Module):
        """Parameters of its own beside a whole network."""

        def __init__(self):
            super().__init__()
            self.scale, self.net = nn.BatchNorm2d(3), Transformer()

        def forward(self, x):
            return self.net(self.scale(x))

    assert capture_features(Beside()).layer == "net.norm"
    model = Blocks()
    assert capture_features(model).layer == "blocks.1"
    output = model(IMAGES)
    assert output.features.abs().max() <= 1 and output.logits is output[0]


def test_what_cannot_be_captured_is_said():
    with pytest.raises(TypeError, match="model"):
        capture_features(torch.relu)
    with pytest.raises(ValueError, match="no feature map was found in Sequential: name its layer, of '0', '1'"):
        capture_features(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="grid"):
        capture_features(Transformer(), grid=4)
    model = Convolutional()
    capture_features(model)
    with pytest.raises(ValueError, match="before"):
        capture_features(model)
    with pytest.raises(ValueError, match="one place"):
        model(torch.randn(2, 3, 4, 4))

    class Segmenting(nn.Sequential):
        def forward(self, x):
            return {"out": x}, super().forward(x).unsqueeze(0)

    for model in (Segmenting(Convolutional()), Returning(torch.sum)):
        capture_features(model, "0.stages" if isinstance(model, Segmenting) else None)
        with pytest.raises(ValueError, match="must return logits"):
            model(IMAGES)
    model = Convolutional()
    model.unused = nn.Conv2d(3, 3, 1)
    capture_features(model, "unused")
    with pytest.raises(ValueError, match="was not used"):
        model(IMAGES)


def test_the_head_keeps_its_uncertainty():
    model = Convolutional(SUMixHead(D, K))
    assert model(IMAGES).features is None
    capture_features(model)
    output = model(IMAGES)
    assert output.uncertainty.shape == (3, K) and output.features.shape == (3, D, 4, 4)
    assert torch.equal(output.class_weight, model.fc.classifier.weight)


@pytest.mark.parametrize("name", MODELS)
def test_copies_pickles_and_compiled_models(name):
    model = MODELS[name][0]()
    capture_features(model)
    want = model(IMAGES)
    copied, unpickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for other in (copied, unpickled, compiled):
        got = other(IMAGES)
        torch.testing.assert_close(got.logits, want.logits)
        torch.testing.assert_close(got.features, want.features)
        torch.testing.assert_close(got.class_weight, want.class_weight)
        torch.testing.assert_close(got.fine, want.fine)
    assert all(value is None for module in model.modules() for key, value in vars(module).items() if "sumix" in key)
    with torch.no_grad():
        linear = [module for module in copied.modules() if isinstance(module, nn.Linear)][-1]
        linear.weight.zero_()  # a copy looks at its own layers
    assert not copied(IMAGES).class_weight.any() and model(IMAGES).class_weight.any()


def test_wrapped_models():
    model = Convolutional()
    handle = capture_features(nn.DataParallel(model))  # without a GPU it calls the model itself
    assert isinstance(nn.DataParallel(model)(IMAGES), SUMixOutput)
    handle.remove()
    compiled = torch.compile(model, backend="eager")
    capture_features(compiled)
    assert isinstance(compiled(IMAGES), SUMixOutput)


class PooledTokens(nn.Module):
    """Tokens (N, D, L), channels first, in a one-dimensional pooling, as Hugging Face's Swin has them."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, D, 4, 4)
        self.pooler = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Linear(D, K)

    def forward(self, x):
        return self.head(self.pooler(self.patches(x).flatten(2)).flatten(1))


class Signals(PooledTokens):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv1d(3, D, 4, 4)


def test_pooled_tokens_are_maps_of_images_and_of_signals():
    model = PooledTokens()
    with capture_features(model) as handle:
        assert handle.layer == "pooler"
        assert torch.equal(model(IMAGES).features, model.patches(IMAGES))
    with capture_features(model, grid=(2, 8)):
        assert torch.equal(model(IMAGES).features.flatten(2), model.patches(IMAGES).flatten(2))
    with capture_features(model, grid=(8, 4)), pytest.raises(ValueError, match="grid must fit the 16 tokens"):
        model(IMAGES)
    with capture_features(model, "patches", grid=(4, 4)), pytest.raises(ValueError, match="no tokens"):
        model(IMAGES)
    model, signals = Signals(), torch.randn(3, 3, 40)
    with capture_features(model):
        assert torch.equal(model(signals).features, model.patches(signals))
    with capture_features(model, grid=(10,)):
        assert torch.equal(model(signals).features, model.patches(signals))


def state(model):
    """What the layers hold of a forward pass."""
    return [value for module in model.modules() for key, value in vars(module).items() if "sumix" in key]


def test_nothing_is_kept_beyond_the_forward_pass():
    model = Convolutional()
    handle = capture_features(model)
    size = len(pickle.dumps(model.stages))
    model.stages(model.stem(IMAGES))  # as timm's forward_features
    assert not any(state(model))

    def fail(module, inputs):
        assert any(state(model)) and not any(state(copy.deepcopy(model)))
        assert len(pickle.dumps(model.stages)) <= size + 100
        raise ZeroDivisionError

    failing = model.drop.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        model(IMAGES)
    failing.remove()
    assert not any(state(model))

    stages = model.stages.forward
    for reentrant in (True, False):
        model.stages.forward = partial(checkpoint, stages, use_reentrant=reentrant)
        model(IMAGES.clone().requires_grad_()).logits.sum().backward()
        assert not any(state(model))
    del model.stages.forward
    output = checkpoint(model, IMAGES, use_reentrant=False)
    output.logits.sum().backward()
    assert output.features.shape == (3, D, 4, 4) and not any(state(model))

    def interrupt(module, inputs):
        raise KeyboardInterrupt

    interrupting = model.drop.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(IMAGES)
    interrupting.remove()
    kept = [one for one in state(model) if one is not None]
    assert not any(one.map.requires_grad for one in kept) and not any(state(copy.deepcopy(model)))
    assert torch.equal(model(IMAGES).features, model.stages(model.stem(IMAGES)))
    handle.remove()
    assert not state(model)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_passes_change_nothing(error):
    model, failing = Convolutional(), True

    def fail(*_):
        if failing:
            raise error

    model.fc.register_forward_hook(fail)
    handle = capture_features(model)
    for _ in range(2):
        with pytest.raises(error):
            model(IMAGES)
    failing = False
    kinds = [type(model.train(training)(IMAGES)) for training in (False, True, False)]
    assert kinds == [torch.Tensor, SUMixOutput, torch.Tensor]
    handle.remove()
    assert type(model.train()(IMAGES)) is torch.Tensor


def test_eval_mode_within_training():
    class SelfTaught(Convolutional):
        def forward(self, x):
            if not self.training:
                return super().forward(x)
            self.eval()
            self.teacher = self(-x)
            self.train()
            return super().forward(x)

    model = SelfTaught()
    capture_features(model)
    output = model(IMAGES)
    assert type(output) is SUMixOutput and type(model.teacher) is torch.Tensor
    assert torch.equal(output.features, model.stages(model.stem(IMAGES)))


def test_calls_within_calls():
    class Pyramid(Convolutional):
        """Looks at the half of the image first, with itself."""

        def forward(self, x):
            rough = self(x[:, :, ::2, ::2]).logits if x.shape[-1] == 16 else 0
            return super().forward(x) + rough

    class Twice(Convolutional):
        def forward(self, x):
            return self.fc(self.stages(self.stem(x)).mean(dim=(2, 3)) + self.stages(self.stem(-x)).mean(dim=(2, 3)))

    model = Pyramid()
    capture_features(model)
    assert torch.equal(model(IMAGES).features, model.stages(model.stem(IMAGES)))
    inner = Convolutional()
    capture_features(inner)
    siamese = nn.ModuleDict({"net": inner})
    with pytest.raises(ValueError, match="before"):
        capture_features(siamese)
    first, second = inner(IMAGES), inner(-IMAGES)
    assert torch.equal(first.features, inner.stages(inner.stem(IMAGES)))
    assert torch.equal(second.features, inner.stages(inner.stem(-IMAGES)))
    model = Twice()
    capture_features(model)
    assert torch.equal(model(IMAGES).features, model.stages(model.stem(-IMAGES)))  # the last

    class Halves(Convolutional):
        def forward(self, x):
            return super().forward(torch.cat(x.split(8, dim=-1)))[: x.shape[0]]

    model = Halves()
    capture_features(model)
    with pytest.raises(ValueError, match="but the logits are of 3 samples"):
        model(IMAGES)


def test_replicas_find_their_own_layers():
    """What torch.nn.DataParallel does, without GPUs: shallow copies of the modules, each in its thread."""
    model = Convolutional()
    capture_features(model)

    def replica():
        copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
        for module, shallow in copies.items():
            shallow._modules = {name: copies[child] for name, child in module._modules.items()}
            for name, parameter in module._parameters.items():
                setattr(shallow, name, parameter)
        return copies[model]

    replicas, images = [replica() for _ in range(4)], [torch.randn(3, 3, 16, 16) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            outputs = list(pool.map(lambda network, x: network(x), replicas, images))
            for x, output in zip(images, outputs, strict=True):
                torch.testing.assert_close(output.features, model.stages(model.stem(x)))
                torch.testing.assert_close(output.fine, model.stem(x))


def test_graphs_made_without_the_hooks_are_not_taken():
    def run(network, x):
        return network(x)

    for fullgraph in (True, False):
        options = {"backend": "eager", "fullgraph": fullgraph}
        model, other, step = Convolutional(), Convolutional(), torch.compile(run, **options)
        compiled = torch.compile(model, **options)
        torch._dynamo.config.skip_nnmodule_hook_guards = True  # as it is before the first capture
        step(model, IMAGES), step(other, IMAGES), compiled(IMAGES)
        handle = capture_features(model)
        for _ in range(2):
            assert type(step(other, IMAGES)) is torch.Tensor
            assert isinstance(step(model, IMAGES), SUMixOutput) and isinstance(compiled(IMAGES), SUMixOutput)
        assert type(torch.compile(other, **options)(IMAGES)) is torch.Tensor
        handle.remove()
        assert type(step(model, IMAGES)) is torch.Tensor and type(compiled(IMAGES)) is torch.Tensor


Aux = namedtuple("Aux", ["logits", "aux_logits"])
FORMS = {
    "tuple": (lambda z: (z.sum(), z, z.detach()), 1),
    "list": (lambda z: [z], 0),
    "named tuple": (lambda z: Aux(z, z + 1), 0),
    "dict": (lambda z: {"loss": z.sum(), "embedding": torch.rand(3, K + 1), "scores": z}, "scores"),
    "dict with logits": (lambda z: {"other": z + 1, "logits": z}, "logits"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_head", [False, True])
def test_logits_among_other_outputs(form, with_head):
    make, where = FORMS[form]
    if with_head and form not in ("list", "tuple"):
        make = {"named tuple": lambda z: Aux(z, 1)}.get(form, lambda z: {where: z})
    if with_head and form == "tuple":
        make = lambda z: (0, z)  # noqa: E731
    model = Returning(make, SUMixHead(D, K) if with_head else None)
    capture_features(model)
    output = model(x=IMAGES)
    assert isinstance(output, SUMixOutput) and output.features.shape == (3, D, 4, 4) and len(output) == 3
    assert output.class_weight.shape == (K, D) and (output.uncertainty is not None) == with_head
    if not with_head:
        assert output.logits is output.returned[where] is output[where]
    assert output[:2].returned is None and output[:2].logits.shape == (2, K)
    if form == "dict" and not with_head:
        assert "loss" in output and "labels" not in output and list(output.keys()) == list(output.returned)
        assert output.to(torch.float64)["loss"].dtype == torch.float64 and not output.detach()["loss"].requires_grad
    if form == "named tuple" and not with_head:
        assert output.aux_logits is output[1]
        gathered = SUMixOutput(iter([*list(output)[:5], output.returned]))
        assert gathered.returned is output.returned
    with pytest.raises(AttributeError, match="no tensor"):
        _ = output.shape
    labels = torch.tensor([0, 1, 2])
    mixed, target = CutMix()(IMAGES, labels)
    loss = SUMixLoss(0.1, ratio="cam")(model(mixed), output, target)
    assert loss.requires_grad
    flat, spec = torch.utils._pytree.tree_flatten(output)
    again = torch.utils._pytree.tree_unflatten(flat, spec)
    assert torch.equal(again.logits, output.logits) and type(again.returned) is type(output.returned)


@pytest.mark.parametrize("ratio", ["feature", "cam"])
def test_a_whole_step(ratio):
    model, mix, criterion = Convolutional(), CutMix(), SUMixLoss(gamma=0.1, ratio=ratio, return_parts=True)
    capture_features(model)
    labels = torch.randint(K, (3,))

    def step(images, mixed, target):
        return criterion(model(mixed), model(images), target)

    mixed, target = mix(IMAGES, labels)
    target = replace(target, image_size=(16, 16))
    loss, parts = step(IMAGES, mixed, target)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    raw = model(IMAGES)
    want = ops.masked_similarity(
        raw.features, target.perm, target.lam, box=target.box, size=(16, 16), evidence=ratio, labels=labels,
        class_weight=raw.class_weight,
    )  # fmt: skip
    torch.testing.assert_close(parts.lam, want.lam)
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGES, mixed, target)[0], step(IMAGES, mixed, target)[0])


torchvision = peers.load("torchvision")


@pytest.mark.skipif(torchvision is None, reason="needs torchvision")
@pytest.mark.parametrize(
    ("name", "layer", "channels"),
    [
        ("resnet18", "avgpool", 512),
        ("densenet121", "features", 1024),
        ("mobilenet_v2", "features", 1280),
        ("mobilenet_v3_small", "avgpool", 576),
        ("efficientnet_b0", "avgpool", 1280),
        ("convnext_tiny", "avgpool", 768),
        ("swin_t", "avgpool", 768),
        ("regnet_y_400mf", "avgpool", 440),
        ("vgg11_bn", "avgpool", 512),
        ("shufflenet_v2_x0_5", "conv5", 1024),
    ],
)
def test_torchvision_models(name, layer, channels):
    model = getattr(torchvision.models, name)(num_classes=K)
    assert capture_features(model).layer == layer
    with torch.no_grad():
        output = model(torch.randn(2, 3, 64, 64))
    assert output.features.shape == (2, channels, 2, 2)
    if output.class_weight is not None and name not in ("convnext_tiny", "mobilenet_v2", "efficientnet_b0"):
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            torch.testing.assert_close(linear(F.adaptive_avg_pool2d(output.features, 1).flatten(1)), output.logits)


@pytest.mark.skipif(torchvision is None, reason="needs torchvision")
def test_torchvision_models_within_others():
    """A normalisation before them, in a module that has nothing but that; DenseNet's last ReLU is no module."""
    model = nn.Sequential(nn.BatchNorm2d(3, affine=False), torchvision.models.densenet121(num_classes=K))
    assert capture_features(model).layer == "1.features"
    assert model(torch.randn(2, 3, 64, 64)).features.min() == 0
    model = torchvision.models.googlenet(num_classes=K, init_weights=False)
    capture_features(model)
    output = model(torch.randn(2, 3, 64, 64))  # (logits, aux_logits2, aux_logits1)
    assert output.logits is output.returned.logits and output.aux_logits1.shape == (2, K)


@pytest.mark.skipif(torchvision is None, reason="needs torchvision")
def test_torchvision_vision_transformer():
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 24, 48, num_classes=K)
    assert capture_features(model).layer == "encoder.ln"
    assert model(torch.randn(2, 3, 32, 32)).features.shape == (2, 24, 4, 4)


timm = peers.load("timm")


@pytest.mark.skipif(timm is None, reason="needs timm")
@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet18", 64, (512, 2, 2)),
        ("vit_tiny_patch16_224", 224, (192, 14, 14)),
        ("deit_tiny_distilled_patch16_224", 224, (192, 14, 14)),
        ("swin_tiny_patch4_window7_224", 224, (768, 7, 7)),
        ("convnext_atto", 64, (320, 2, 2)),
        ("efficientnet_lite0", 64, (1280, 2, 2)),
        ("regnety_002", 64, (368, 2, 2)),
    ],
)
def test_timm_models(name, size, shape):
    model = timm.create_model(name, num_classes=K)
    capture_features(model)
    with torch.no_grad():
        output = model(torch.randn(2, 3, size, size))
    assert output.features.shape == (2, *shape) and output.class_weight.shape == (K, shape[0])


@pytest.mark.skipif(timm is None, reason="needs timm")
@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("mambaout_femto", "stages", (288, 7, 7)),  # channels last, and more features within the head
        ("levit_128s", "stages", (384, 4, 4)),  # two heads
        ("hiera_tiny_224", "blocks.11", (768, 7, 7)),  # a norm in the head
        ("coat_tiny", "norm4", (152, 7, 7)),
        ("mobilenetv3_small_050", "global_pool", (288, 7, 7)),  # a convolution after the pooling
        ("cait_xxs24_224", "norm", (192, 14, 14)),
    ],
)
def test_timm_shapes(name, layer, shape):
    with torch.device("meta"):
        model, images = timm.create_model(name, num_classes=K), torch.empty(2, 3, 224, 224)
        assert capture_features(model).layer == layer
        assert model(images).features.shape == (2, *shape)
