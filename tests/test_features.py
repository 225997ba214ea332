"""capture_features on networks made here, and on torchvision's where it is installed."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import peers
from sumix import CutMix, SUMixHead, SUMixLoss, SUMixOutput, capture_features, ops

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

    class Two(nn.Sequential):
        def forward(self, x):
            return super().forward(x), x

    model = Two(Convolutional())
    capture_features(model, "0.stages")
    with pytest.raises(ValueError, match="return logits"):
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
    assert all(value is None for module in model.modules() for key, value in vars(module).items() if "captured" in key)
    with torch.no_grad():
        linear = [module for module in copied.modules() if isinstance(module, nn.Linear)][-1]
        linear.weight.zero_()  # a copy looks at its own layers
    assert not copied(IMAGES).class_weight.any() and model(IMAGES).class_weight.any()


def test_wrapped_models():
    model = Convolutional()
    handle = capture_features(nn.DataParallel(model))  # without a GPU it calls the model itself
    assert isinstance(nn.DataParallel(model)(IMAGES), SUMixOutput)
    handle.remove()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    capture_features(compiled)
    assert isinstance(compiled(IMAGES), SUMixOutput)


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
