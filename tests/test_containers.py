"""Batches in tuples, lists and dictionaries, and torchvision's tensors, as its v2 transforms take and return them."""

from collections import OrderedDict, UserDict, namedtuple
from collections.abc import MutableMapping

import pytest
import torch

from benchmarks import peers
from sumix import CutMix, FMix, MixTarget, MixUp, RandomMix
from tests.mixers import MIXERS, naive_mix

IMAGES, LABELS = torch.rand(6, 3, 12, 10), torch.arange(6)
NUMBERS, NAMES = torch.arange(6) + 100, [f"cat{k}.png" for k in range(6)]
Pair = namedtuple("Pair", "pixels kinds")

v2 = getattr(getattr(peers.load("torchvision"), "transforms", None), "v2", None)
needs_torchvision = pytest.mark.skipif(v2 is None, reason="torchvision is not installed")


@pytest.mark.parametrize("name", ["CutMix", "MixUp", "RandomMix all"])
def test_a_container_comes_back_as_what_it_was(name):
    mix = MIXERS[name]()
    mixed, target = mix(IMAGES, LABELS, seed=1)
    for given in ((IMAGES, LABELS), [IMAGES, LABELS], Pair(IMAGES, LABELS)):
        found = mix(given, seed=1)
        assert type(found) is type(given) and torch.equal(found[0], mixed) and torch.equal(found[1].lam, target.lam)
    for kind in (dict, OrderedDict, UserDict):
        given = kind(name=NAMES, image=IMAGES, labels=LABELS, index=NUMBERS)
        found = mix(given, seed=1)
        assert type(found) is kind and list(found) == list(given) and given["image"] is IMAGES
        assert torch.equal(found["image"], mixed) and torch.equal(found["labels"].perm, target.perm)
        assert found["name"] is NAMES and found["index"] is NUMBERS
    found, others = mix(IMAGES, {"labels": LABELS, "index": NUMBERS}, seed=1)
    assert torch.equal(found, mixed) and torch.equal(others["labels"].lam, target.lam) and others["index"] is NUMBERS


@pytest.mark.parametrize(
    "keys", [("pixel_values", "labels"), ("img", "Label"), ("anything", "fine_label"), (0, "label")]
)
def test_keys_that_are_found(keys):
    found = CutMix(num_classes=6)({keys[0]: IMAGES, keys[1]: LABELS, "id": NUMBERS}, seed=1)
    mixed, soft = CutMix(num_classes=6)(IMAGES, LABELS, seed=1)
    assert torch.equal(found[keys[0]], mixed) and torch.equal(found[keys[1]], soft)


def test_maps_are_mixed_along():
    masks, depth = torch.randint(0, 9, (6, 12, 10)), torch.rand(6, 1, 12, 10)
    found = CutMix()({"image": IMAGES, "mask": masks, "label": LABELS, "more": {"depth": depth, "id": NUMBERS}}, seed=1)
    target = found["label"]
    assert torch.equal(found["mask"], target.mix(masks)) and torch.equal(found["more"]["depth"], target.mix(depth))
    assert found["more"]["id"] is NUMBERS
    found = CutMix()((IMAGES, LABELS, masks, NUMBERS), seed=1)
    assert torch.equal(found[2], target.mix(masks)) and found[3] is NUMBERS


def test_a_getter_finds_the_labels():
    given = {"image": IMAGES, "y": LABELS, "label_of_the_shelf": NUMBERS}
    found = CutMix(labels_getter=lambda batch: batch["y"])(given, seed=1)
    assert torch.equal(found["y"].y_a, LABELS) and found["label_of_the_shelf"] is NUMBERS
    numbers, mixed, target = CutMix(labels_getter=lambda batch: batch[2])(NUMBERS, IMAGES, LABELS, seed=1)
    assert (
        numbers is NUMBERS
        and torch.equal(mixed, CutMix()(IMAGES, LABELS, seed=1)[0])
        and torch.equal(target.y_a, LABELS)
    )
    mix = RandomMix([CutMix(labels_getter=len), MixUp(labels_getter=len)])
    assert mix.labels_getter is len


def test_compiles_without_a_break():
    torch._dynamo.reset()
    mix = CutMix()
    compiled = torch.compile(mix, fullgraph=True, backend="aot_eager")
    want = mix(IMAGES, LABELS, seed=1)[0]
    assert torch.equal(compiled((IMAGES, LABELS), seed=torch.tensor(1))[0], want)
    found = compiled({"image": IMAGES, "label": LABELS, "name": NAMES}, seed=torch.tensor(1))
    assert torch.equal(found["image"], want) and found["name"] == NAMES


class Shallow(MutableMapping):
    """A mapping whose copies share what they hold."""

    def __init__(self, **parts):
        self.parts = parts

    def __getitem__(self, name):
        return self.parts[name]

    def __setitem__(self, name, part):
        self.parts[name] = part

    def __delitem__(self, name):
        del self.parts[name]

    def __iter__(self):
        return iter(self.parts)

    def __len__(self):
        return len(self.parts)


def test_the_batch_that_was_given_stays_as_it_was():
    given = Shallow(image=IMAGES, label=LABELS, more=Shallow(size=NUMBERS))
    found = CutMix()(given)
    assert given["image"] is IMAGES and given["label"] is LABELS and list(found) == list(given)
    assert type(found["label"]) is MixTarget and found["more"]["size"] is NUMBERS


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (IMAGES, TypeError, r"labels must be given: mix\(images, labels\).* got Tensor alone"),
        ((IMAGES,), ValueError, r"a batch must be \(images, labels, \.\.\.\), got 1"),
        ({"image": IMAGES, "y": LABELS}, ValueError, "labels must be under a key like 'label', got the keys .*'y'"),
        (
            {"a": IMAGES, "b": IMAGES, "label": LABELS},
            ValueError,
            "images must be under one of the keys .*'b'",
        ),
        ({"image": IMAGES, "label": 3}, TypeError, "labels must be a Tensor, got int"),
        (({"image": IMAGES}, LABELS), ValueError, "images must be under one of the keys"),
        ((IMAGES, None), TypeError, "labels must be a Tensor, got NoneType"),
        (
            ([IMAGES[0]] * 6, LABELS),
            TypeError,
            "images must be a Tensor, got list of Tensor: mixers take whole batches",
        ),
        ((IMAGES.numpy(), LABELS), TypeError, "images must be a Tensor, got numpy.ndarray: mixers take whole batches"),
        ({"image": NAMES, "label": LABELS}, TypeError, "images must be a Tensor, got list of str"),
        (
            {"image": IMAGES, "label": LABELS, "boxes": torch.rand(6, 5, 4)},
            ValueError,
            r"batch\['boxes'\] must be \(N, ",
        ),
        ((IMAGES, {"label": LABELS, "b": torch.rand(6, 5, 4)}), ValueError, r"batch\[1\]\['b'\] must be"),
        ((IMAGES, LABELS, [torch.rand(6)] * 4), TypeError, r"batch\[2\] must be a Tensor, got list"),
        ({"image": IMAGES, "label": LABELS, "b": [torch.rand(4)] * 6}, TypeError, r"batch\['b'\] must be a Tensor"),
        ((IMAGES, LABELS, [torch.rand(2, 4)] * 6), TypeError, r"batch\[2\] must be a Tensor, got list"),
        ({"image": IMAGES, "label": LABELS, "d": IMAGES.numpy()}, TypeError, r"batch\['d'\] must be a Tensor, got nd"),
    ],
)
def test_what_does_not_fit_is_named(batch, error, message):
    for mix in (CutMix(), MixUp()):
        with pytest.raises(error, match=message):
            mix(batch)


def test_getters_that_do_not_fit_are_named():
    with pytest.raises(TypeError, match="labels_getter must be 'default' or a callable, got 'labels'"):
        CutMix(labels_getter="labels")
    with pytest.raises(ValueError, match="labels_getter must return one of the batch's tensors itself, got Tensor"):
        CutMix(labels_getter=lambda batch: batch[1] + 1)(IMAGES, LABELS)


def test_pictures_are_no_batch():
    picture = pytest.importorskip("PIL.Image").new("RGB", (10, 12))
    for images in (picture, [picture] * 6):
        with pytest.raises(
            TypeError, match=r"images must be a Tensor, got (list of Image|PIL\.Image\.Image): mixers take"
        ):
            CutMix()(images, LABELS)
    with pytest.raises(TypeError, match=r"batch\['mask'\] must be a Tensor, got list"):
        CutMix()({"image": IMAGES, "label": LABELS, "mask": [picture] * 6})


# ---- torchvision ----


@needs_torchvision
@pytest.mark.parametrize("name", ["CutMix", "MixUp", "RandomMix all"])
def test_tensors_of_torchvision_stay_what_they_are(name):
    from torchvision import tv_tensors

    class Mine(tv_tensors.Image):
        pass

    mix = MIXERS[name](ignore_index=255)
    mixed, target = mix(IMAGES, LABELS, seed=1)
    pixels, masks = (IMAGES * 255).byte(), torch.randint(0, 9, (6, 12, 10))
    for kind in (tv_tensors.Image, Mine):
        given = {
            "image": kind(IMAGES), "label": LABELS, "again": tv_tensors.Image(pixels), "mask": tv_tensors.Mask(masks)
        }  # fmt: skip
        found = mix(given, seed=1)
        assert [type(part) for part in found.values()] == [kind, MixTarget, tv_tensors.Image, tv_tensors.Mask]
        assert torch.equal(found["image"].as_subclass(torch.Tensor), mixed)
        assert torch.equal(found["again"].as_subclass(torch.Tensor), target.mix(pixels))  # pixels, whatever their dtype
        assert torch.equal(found["mask"].as_subclass(torch.Tensor), target.mix(masks, ignore_index=255))
        assert type(target.mix(kind(IMAGES))) is kind and type(found["label"].lam) is torch.Tensor
        assert type(mix(kind(IMAGES), LABELS)[0]) is kind
    unmixed = CutMix(normalize=(0.5, 0.5)).unmixed(tv_tensors.Image(pixels))
    assert type(unmixed) is tv_tensors.Image and unmixed.dtype == torch.float32


@needs_torchvision
def test_videos_of_torchvision():
    from torchvision import tv_tensors

    frames = torch.rand(6, 4, 3, 12, 10)  # (N, T, C, H, W)
    found, target = CutMix()(tv_tensors.Video(frames), LABELS, seed=1)
    assert type(found) is tv_tensors.Video and torch.equal(found.as_subclass(torch.Tensor), naive_mix(frames, target))
    with pytest.raises(ValueError, match=r"images must be volumes .* got a Video, which is \(N, T, C, H, W\)"):
        CutMix(volume=True)(tv_tensors.Video(frames), LABELS)


@needs_torchvision
@pytest.mark.filterwarnings("ignore:.*canvas.*")
def test_coordinates_are_refused_by_name():
    from torchvision import tv_tensors

    box = torch.tensor([[1.0, 2, 5, 6]])
    boxes = tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(12, 10))
    points = tv_tensors.KeyPoints(torch.rand(6, 2), canvas_size=(12, 10))
    for mix in (CutMix(), MixUp()):
        for value in (boxes, points):
            kind = type(value).__name__
            with pytest.raises(TypeError, match=rf"batch\['boxes'\] must be pixels to be mixed, got {kind}"):
                mix({"image": IMAGES, "label": LABELS, "boxes": value})
            with pytest.raises(TypeError, match=rf"x must be pixels to be mixed, got {kind}"):
                mix(IMAGES, LABELS)[1].mix(value)
        with pytest.raises(TypeError, match=r"batch\[1\]\['boxes'\] must be a Tensor, got list"):
            mix(IMAGES, {"labels": LABELS, "boxes": [boxes] * 6})
        with pytest.raises(ValueError, match=r"images must be a batch of images \(N, C, H, W\), got a single image"):
            mix(tv_tensors.Image(IMAGES[0]), LABELS[:3])
        with pytest.raises(ValueError, match=r"images must be a batch of images .* got masks"):
            mix(tv_tensors.Mask(IMAGES), LABELS)
    target = MixUp()(IMAGES, LABELS)[1]
    with pytest.raises(ValueError, match=r"ignore_index must be given to mix x, a Mask of torch\.int64"):
        target.mix(tv_tensors.Mask(LABELS.view(6, 1, 1).expand(6, 12, 10)))


@needs_torchvision
def test_inside_torchvisions_containers():
    images = v2.functional.to_image(IMAGES)
    pipeline = v2.Compose([v2.ToDtype(torch.float32), CutMix(num_classes=6), v2.Normalize([0.5] * 3, [0.25] * 3)])
    for found in (pipeline(images, LABELS), pipeline((images, LABELS))):
        assert type(found) is tuple and type(found[0]) is type(images) and found[1].shape == (6, 6)
    found = pipeline({"image": images, "labels": LABELS})
    assert found["image"].shape == IMAGES.shape and found["labels"].shape == (6, 6)
    found = v2.Compose([CutMix(), v2.Normalize([0.5] * 3, [0.25] * 3)])({"image": images, "labels": LABELS})
    assert type(found["labels"]) is MixTarget
    torch.testing.assert_close(
        found["image"].as_subclass(torch.Tensor), (found["labels"].mix(IMAGES) - 0.5) / 0.25, rtol=0, atol=1e-5
    )
    for given in ((images, LABELS), {"image": images, "labels": LABELS}):
        found = v2.RandomChoice([CutMix(num_classes=6), MixUp(num_classes=6), FMix(num_classes=6)])(given)
        assert type(found) is type(given)


@needs_torchvision
def test_labels_are_found_where_torchvision_finds_them():
    theirs, ours = v2.MixUp(num_classes=6), MixUp(num_classes=6)
    for given in (
        (IMAGES, LABELS),
        [IMAGES, LABELS],
        {"image": IMAGES, "labels": LABELS},
        {"image": IMAGES, "Labels": LABELS, "label": NUMBERS},
        {"image": IMAGES, "fine_label": LABELS},
        (IMAGES, {"label": LABELS, "index": NUMBERS}),
    ):
        shapes = [torch.utils._pytree.tree_map(lambda x: x.shape, mix(given)) for mix in (theirs, ours)]
        assert shapes[0] == shapes[1]
