"""capture_features on image classifiers of Hugging Face's transformers, small and with random weights."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import peers
from sumix import CutMix, SUMixHead, SUMixLoss, SUMixOutput, capture_features

peers.load("torchvision")  # transformers imports it, if it is there
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:sumix. the network's last map")  # of 2 x 2 places, to be fast

K, SIZE = 5, 64
VIT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 8}
SWIN = {
    "embed_dim": 12,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "patch_size": 4,
    "drop_path_rate": 0.0,
}
STAGES = {"hidden_sizes": [8, 12, 16, 32], "depths": [1, 1, 1, 1]}
EFFICIENT = {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}
# The kind of model, its configuration, the layer found, the map's shape, and whether the classifier sees its channels.
FAMILIES = [
    ("ViT", VIT, "vit", (32, 8, 8), True),
    ("DeiT", VIT, "deit", (32, 8, 8), True),
    ("Beit", VIT, "beit", (32, 8, 8), True),
    ("Dinov2", {**VIT, "intermediate_size": None}, "dinov2", (32, 8, 8), False),  # class token and mean
    ("Swin", SWIN, "swin", (24, 8, 8), True),
    ("Swinv2", SWIN, "swinv2", (24, 8, 8), True),
    ("ConvNext", STAGES, "convnext", (32, 2, 2), True),
    ("ConvNextV2", STAGES, "convnextv2", (32, 2, 2), True),
    ("ResNet", {**STAGES, "embedding_size": 8, "layer_type": "basic"}, "resnet", (32, 2, 2), True),
    ("MobileViT", {"hidden_sizes": [16, 16, 16], "num_hidden_layers": 1}, "mobilevit", (640, 2, 2), True),
    ("EfficientNet", EFFICIENT, "efficientnet", (320, 2, 2), True),
    ("CLIP", {"vision_config": {**VIT, "image_size": SIZE}}, "vision_model", (32, 8, 8), True),
]


def build(family, options):
    options = {name: value for name, value in options.items() if value is not None}
    config = getattr(transformers, f"{family}Config")(num_labels=K, **options)
    config.image_size = SIZE
    return getattr(transformers, f"{family}ForImageClassification")(config)


@pytest.fixture
def images():
    return torch.randn(3, 3, SIZE, SIZE)


@pytest.mark.parametrize(("family", "options", "layer", "shape", "linear"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_families(family, options, layer, shape, linear, images):
    model = build(family, options)
    assert capture_features(model).layer == layer
    output = model(pixel_values=images)
    assert isinstance(output, SUMixOutput) and output.features.shape == (3, *shape)
    assert (output.class_weight is not None) == linear and output.logits.shape == (3, K)
    assert type(output.returned).__name__.endswith("Output") or "Classifier" in type(output.returned).__name__
    assert output["logits"] is output[0] is output.returned.logits is output.logits
    mixed, target = CutMix()(images, torch.tensor([0, 1, 2]))
    SUMixLoss(0.1, ratio="cam" if linear else "feature")(model(mixed), model(images), target).backward()
    assert not isinstance(model.eval()(images), SUMixOutput)
    changed = images.clone()
    changed[:, :, : SIZE // 2, SIZE // 2 :] += 2
    model.train()
    for module in model.modules():
        if not isinstance(module, type(model)):
            module.eval()
    with torch.no_grad():
        moved = (model(changed).features - model(images).features).square().sum(1).mean(0)
    if shape[1] == 8:  # elsewhere each place sees all of the image
        assert moved[:4, 4:].sum() > 0.9 * moved.sum()


def test_outputs_of_every_form(images):
    model = build("ViT", VIT)
    capture_features(model)
    labels = torch.tensor([0, 1, 2])
    output = model(images, labels=labels, output_hidden_states=True)
    assert output.loss is output["loss"] is output[0] and output.loss.requires_grad and "loss" in output
    assert len(output.hidden_states) == 2 and output.to_tuple()[1] is output.logits
    plain = model(images, labels=labels, return_dict=False)
    assert plain[0].ndim == 0 and plain.logits is plain[1] and plain.features.shape == (3, 32, 8, 8)
    torch.testing.assert_close(plain.features, output.features)
    loss = torch.nn.functional.cross_entropy(output.logits, labels)
    torch.testing.assert_close(output.loss, loss)


def test_without_a_capture_and_in_eval_mode(images):
    model, (_, target) = build("ViT", VIT), CutMix()(images, torch.tensor([0, 1, 2]))
    for mode in (True, False):
        output = model.train(mode)(images)
        with pytest.raises(
            TypeError, match=r"mixed must be .*; pass its logits, or call capture_features.* training mode"
        ):
            SUMixLoss(gamma=0.5)(output, output, target)
        assert SUMixLoss(gamma=0.1)(output.logits, output.logits, target).isfinite()
        if mode:
            capture_features(model)


def test_with_a_head(images):
    model = build("ViT", VIT)
    model.classifier = SUMixHead(32, K)
    capture_features(model)
    output = model(images)
    assert output.uncertainty.shape == (3, K) and output.class_weight.shape == (K, 32)


class Adapter(nn.Module):
    """What users write to have logits alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(pixel_values=x).logits


@pytest.mark.parametrize("family", ["Swin", "ConvNext", "ViT"])
def test_adapters(family, images):
    options, layer, shape = next(rest[:3] for name, *rest in FAMILIES if name == family)
    model = build(family, options)
    with capture_features(model):
        want = model.train()(images).features
    adapter = Adapter(model)
    for given, grid in [(None, None), (None, shape[1:] if family == "Swin" else None)]:
        with capture_features(adapter, given, grid=grid) as handle:
            assert handle.layer == f"model.{layer}"
            torch.testing.assert_close(adapter(images).features, want)
    if family == "Swin":  # its pooling takes (N, D, L)
        pooler = adapter.model.swin.pooler
        assert isinstance(pooler, nn.AdaptiveAvgPool1d)
        _, target = CutMix()(images, torch.tensor([0, 1, 2]))
        tokens = want.flatten(2)
        with pytest.raises(ValueError, match="spatial dimensions"):
            SUMixLoss(0.1, ratio="feature")(torch.rand(3, K), torch.rand(3, K), target, features=tokens)
        for change in ({"box": None, "mask": torch.ones(3, SIZE, SIZE)}, {}):
            assert SUMixLoss(0.1, ratio="feature")(
                torch.rand(3, K), torch.rand(3, K), replace(target, **change), features=want
            ).isfinite()


def test_copies_and_compiled(images):
    model = build("ConvNext", STAGES)
    capture_features(model)
    want = model(images)
    compiled = torch.compile(model, backend="eager")
    for other in (copy.deepcopy(model), compiled):
        got = other(pixel_values=images)
        torch.testing.assert_close(got.features, want.features)
        torch.testing.assert_close(got["logits"], want.logits)
