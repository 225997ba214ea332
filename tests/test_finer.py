"""The finer map that capture_features brings along: which layer it is of, and that looking for it leaves no trace."""

import copy
import random
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import peers
from sumix import SUMixOutput, SUMixWarning, capture_features, warn

K = 5
IMAGES = torch.randn(3, 3, 32, 32)


class Bottleneck(nn.Module):
    """Its first convolution sees the larger map, as in a ResNet-50."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, 4, 1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, stride, 1), nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, outside, 1), nn.BatchNorm2d(outside)
        self.shortcut = nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.bn3(self.conv3(F.relu(y))) + self.shortcut(x))


def stage(inside, outside, stride):
    return nn.Sequential(Bottleneck(inside, outside, stride), Bottleneck(outside, outside, 1))


class Residual(nn.Module):
    """A network of a stem and three stages, the maps of which have 16, 8 and 4 places a side for images of 32."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, 1, 1)
        self.layer1, self.layer2, self.layer3 = stage(6, 8, 2), stage(8, 10, 2), stage(10, 12, 2)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(12, K)

    def forward(self, x):
        return self.fc(self.drop(self.layer3(self.layer2(self.layer1(self.conv1(x)))).mean(dim=(2, 3))))


class Body(nn.Module):
    """The same with all stages within one part, as in Hugging Face's networks."""

    def __init__(self, *stages):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 6, 3, 1, 1), nn.Sequential(*stages)
        self.fc = nn.Linear(12, K)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean(dim=(2, 3)))


def shrinking(inside, outside):
    """A stage that shrinks its map at its end, as in Swin transformers."""
    return nn.Sequential(Bottleneck(inside, inside, 1), Bottleneck(inside, inside, 1), nn.Conv2d(inside, outside, 2, 2))


NETWORKS = {
    "stages": (Residual, "layer2", (10, 8, 8)),
    "stages within": (lambda: Body(stage(6, 8, 2), stage(8, 10, 2), stage(10, 12, 2)), "body.1", (10, 8, 8)),
    "two stages within": (lambda: Body(stage(6, 8, 1), stage(8, 12, 2)), "body.0", (8, 32, 32)),
    "shrinking at their ends": (
        lambda: Body(shrinking(6, 8), shrinking(8, 12), Bottleneck(12, 12, 1)),
        "body.1.1",
        (8, 16, 16),
    ),
    "plain layers": (
        lambda: nn.Sequential(
            nn.Sequential(
                *(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()),
                *(nn.MaxPool2d(2), nn.Conv2d(8, 12, 1), nn.ReLU()),
            ),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, K)),
        ),
        "0.3",
        (8, 8, 8),
    ),
    "one size": (lambda: Body(stage(6, 8, 1), stage(8, 12, 1)), None, None),
    "a stem": (lambda: Body(nn.Conv2d(6, 8, 2, 2), *(stage(8 if i == 0 else 12, 12, 1) for i in range(6))), None, None),
    "a linear layer of one size": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 6, 5, 2, 2), nn.ReLU(), nn.Conv2d(6, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 12, 5, 2, 2)),
            *(nn.Flatten(), nn.Linear(12 * 4 * 4, K)),
        ),
        None,  # a linear layer that sees all places says nothing of where the map ends: see the test below
        None,
    ),
}


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "a linear layer of one size"])
def test_it_is_the_last_of_the_stage_before(name):
    make, layer, shape = NETWORKS[name]
    model = make()
    kept = []
    if layer is not None:
        model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    handle = capture_features(model)
    assert handle.fine == layer and f"fine={layer!r}" in repr(handle)
    assert kept == []  # hooks of others do not run
    output = model(IMAGES)
    if layer is None:
        assert output.fine is None
    else:
        assert output.fine.shape == (3, *shape) and torch.equal(output.fine, kept[0]) and not output.fine.requires_grad


def test_layers_before_a_linear_layer_of_one_size():
    """Which fails for images of other sizes, but only after the maps."""
    model = NETWORKS["a linear layer of one size"][0]()
    assert capture_features(model, "4").fine == "3"
    assert model(IMAGES).fine.shape == (3, 8, 8, 8)


def test_the_model_may_be_wrapped_and_its_parts_compiled():
    model = nn.DataParallel(torch.compile(nn.Sequential(nn.BatchNorm2d(3, affine=False), Residual()), backend="eager"))
    handle = capture_features(model)
    assert handle.fine == "1.layer2" and model(IMAGES).fine.shape == (3, 10, 8, 8)
    model = Residual()
    model.layer2.compile(backend="eager")
    model.layer3 = torch.compile(model.layer3, backend="eager")
    assert capture_features(model).fine == "layer2" and model(IMAGES).fine.shape == (3, 10, 8, 8)


class Counting(Residual):
    """Has all that a careless look would change."""

    def __init__(self):
        super().__init__()
        self.calls, self.cache = 0, {}

    def forward(self, x):
        self.calls += 1
        self.cache[x.shape] = x.mean()
        return super().forward(x + 0 * torch.rand(1) + 0 * random.random())


@pytest.mark.parametrize("training", [True, False])
def test_nothing_changes(training):
    model = Counting().train(training)
    model.layer1.eval()
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    state, pythons = torch.get_rng_state(), random.getstate()
    handle = capture_features(model)
    assert handle.fine == "layer2"
    handle.remove()
    assert torch.equal(torch.get_rng_state(), state) and random.getstate() == pythons
    assert [module.training for module in model.modules()] == modes and model.calls == 0 and model.cache == {}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in model.parameters())


class Reading(Residual):
    def forward(self, x):
        return super().forward(x) if x.mean().item() < 9 else None


def test_where_nobody_can_look_there_is_none():
    uncopied = Residual()
    uncopied.lock = threading.Lock()
    for model in (uncopied, Reading()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            handle = capture_features(model)
        assert handle.fine is None and model(IMAGES).fine is None
        handle.remove()
        with capture_features(model, fine="layer2"):
            assert model(IMAGES).fine.shape == (3, 10, 8, 8)
    with torch.device("meta"):
        model = Residual()
        assert capture_features(model).fine == "layer2" and model(IMAGES.to("meta")).fine.shape == (3, 10, 8, 8)


def test_it_can_be_named_and_switched_off():
    model = Residual()
    for fine, name in [("layer1", "layer1"), (model.layer1, "layer1"), (False, None), ("layer3", None)]:
        with capture_features(model, "layer3", fine=fine) as handle:
            assert handle.fine == name
            output = model(IMAGES)
        assert (output.fine is None) if name is None else output.fine.shape == (3, 8, 16, 16)
    for fine, error, match in [
        ("layer9", ValueError, "fine must be the name of a module, got 'layer9'; there are 'conv1'"),
        (nn.ReLU(), ValueError, "fine must be a module of the model"),
        (True, TypeError, "fine must be a module or its name, or False, got bool"),
        (3, TypeError, "fine must be a module or its name, or False, got int"),
    ]:
        with pytest.raises(error, match=match):
            capture_features(model, fine=fine)
    model.unused = nn.Conv2d(3, 3, 1)
    for layer, fine, match in [
        ("layer2", "layer3", "sides must be at least"),
        ("layer2", "fc", "is no map"),
        ("layer2", "unused", "was not used"),
    ]:
        with capture_features(model, layer, fine=fine), pytest.raises(ValueError, match=f"layer '{fine}'.* {match}"):
            model(IMAGES)


def test_finer_tokens():
    """As tokens, they are arranged as square patches of the images; of the last map's grid, by it."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 12, 2, 2)
            self.early, self.norm, self.fc = nn.Linear(6, 6), nn.LayerNorm(12), nn.Linear(12, K)

        def forward(self, x):
            x = self.first(x)
            tokens = self.early(x.flatten(2).transpose(1, 2))
            x = tokens.transpose(1, 2).view(x.shape)
            return self.fc(self.norm(self.second(x).flatten(2).transpose(1, 2)).mean(1))

    model = Tokens()
    with capture_features(model) as handle:
        assert handle.fine == "early" and model(IMAGES).fine.shape == (3, 6, 8, 8)
    with capture_features(model, "early", fine="early", grid=(2, 32)) as handle:
        assert handle.fine is None and model(IMAGES).features.shape == (3, 6, 2, 32)
    with capture_features(model, "early", fine="first", grid=(8, 8)):
        assert model(IMAGES).fine.shape == (3, 6, 8, 8)


def test_signals_have_finer_maps_too():
    layers = [nn.Conv1d(2, 6, 3, 2, 1), nn.ReLU(), nn.Conv1d(6, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, K))
    assert capture_features(model).fine == "1"
    output = model(torch.randn(3, 2, 40))
    assert output.features.shape == (3, 8, 10) and output.fine.shape == (3, 6, 20)


def test_coarse_maps_bring_one_warning(monkeypatch):
    small = torch.randn(2, 3, 24, 24)
    for compiled in (False, True):
        monkeypatch.setattr(warn, "_said", set())
        model = Residual()
        capture_features(model)
        run = torch.compile(model, fullgraph=True, backend="eager") if compiled else model
        assert run(IMAGES).features.shape[2:] == (4, 4)
        with pytest.warns(SUMixWarning, match="3 x 3 places or fewer") as said:
            assert run(small).features.shape[2:] == (3, 3)
            run(small[:, :, :20])
        assert len(said) == 1


def test_a_compiled_step_has_the_finer_map():
    model = Residual()
    capture_features(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        got, want = compiled.eval()(IMAGES), model.eval()(IMAGES)
        assert not isinstance(got, SUMixOutput)
        torch.testing.assert_close(got, want)
    torch.manual_seed(0)
    got = compiled.train()(IMAGES)
    torch.manual_seed(0)
    torch.testing.assert_close(got.fine, model(IMAGES).fine)


torchvision, timm = peers.load("torchvision"), peers.load("timm")


@pytest.mark.skipif(torchvision is None, reason="needs torchvision")
@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("resnet50", "layer3", (1024, 14, 14)),
        ("densenet121", "features.denseblock3", (1024, 14, 14)),
        ("mobilenet_v2", "features.13", (96, 14, 14)),
        ("efficientnet_b0", "features.5", (112, 14, 14)),
        ("convnext_tiny", "features.5", (384, 14, 14)),
        ("swin_t", "features.5", (384, 14, 14)),
        ("regnet_y_400mf", "trunk_output.block3", (208, 14, 14)),
        ("vgg11_bn", "features.27", (512, 14, 14)),
        ("vit_b_16", None, None),
    ],
)
def test_torchvision_models(name, layer, shape):
    model = getattr(torchvision.models, name)(num_classes=K).to("meta")
    assert capture_features(model).fine == layer
    fine = model(torch.empty(2, 3, 224, 224, device="meta")).fine
    assert (fine is None) if layer is None else fine.shape == (2, *shape)


@pytest.mark.skipif(timm is None, reason="needs timm")
@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("resnet18", "layer3", (256, 14, 14)),
        ("vit_tiny_patch16_224", None, None),
        ("swin_tiny_patch4_window7_224", "layers.2", (384, 14, 14)),
        ("convnext_atto", "stages.2", (160, 14, 14)),
        ("efficientnet_lite0", "blocks.4", (112, 14, 14)),
        ("levit_128s", "stages.1", (256, 7, 7)),
        ("hiera_tiny_224", "blocks.9", (384, 14, 14)),
        ("xcit_nano_12_p16_224", None, None),  # a stem of convolutions
        ("nfnet_l0", "stages.2", (1536, 14, 14)),
    ],
)
def test_timm_models(name, layer, shape):
    model = timm.create_model(name, num_classes=K).to("meta")
    assert capture_features(model).fine == layer
    fine = model(torch.empty(2, 3, 224, 224, device="meta")).fine
    assert (fine is None) if layer is None else fine.shape == (2, *shape)
