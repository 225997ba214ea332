"""What can be said of GPU tensors without a GPU: of fake ones, which have shapes and devices, but no values.

Nothing may look at a value, which would wait for the device, nor bring numbers to the device or back, which waits too;
and every result is on the device of the images. tests/test_cuda_*.py say the rest where there is a GPU.
"""

import contextlib
import ctypes
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sumix import CutMix, SaliencyMix, SUMixHead, SUMixLoss, mix_accuracy, ops
from sumix.loss import RATIOS
from sumix.ops import dispatch
from sumix.ops.sample_box import share_of
from tests.mixers import MIXERS

GPU = torch.device("cuda:0")
N, K = 6, 10


class Crossing(AssertionError):
    """Something went from one device to another."""


class NothingCrosses(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        # A number, a tensor without dimensions, goes along with a launch.
        devices = {
            leaf.device.type
            for leaf in tree_leaves((args, kwargs, results))
            if isinstance(leaf, torch.Tensor) and leaf.dim() > 0 and leaf.numel() > 0
        }
        if len(devices) > 1:
            raise Crossing(f"{function} has tensors on {sorted(devices)}")
        return results


@pytest.fixture(autouse=True, scope="module")
def _device_guard():
    """Indexing makes the device of a tensor the current one, for which a torch without CUDA lacks the means.

    The CPU's, which do nothing, will do for what has no values.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    cpu, cuda = guards
    if cuda is None:
        guards[1] = cpu
    yield
    guards[1] = cuda


@contextlib.contextmanager
def fake():
    with FakeTensorMode(), NothingCrosses():
        yield


@pytest.fixture(params=["checked", "plain"], autouse=True)
def _either_way(request, monkeypatch):
    """What ordinary tensors take in eager mode, past the checks, and what all others do."""
    if request.param == "plain":
        monkeypatch.setattr(dispatch, "is_plain", lambda *tensors: all(isinstance(t, torch.Tensor) for t in tensors))


def batch(dtype=torch.float32, shape=(3, 20, 26)):
    return torch.empty(N, *shape, dtype=dtype, device=GPU), torch.zeros(N, dtype=torch.int64, device=GPU)


def assert_there(*results):
    tensors = [leaf for leaf in tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    assert tensors and {tensor.device for tensor in tensors} == {GPU}


def test_crossings_and_looks_are_found():
    with fake(), pytest.raises(Crossing):
        torch.zeros(3).to(GPU)
    with fake(), pytest.raises(Crossing):
        torch.zeros(3, device=GPU).cpu()
    with fake(), pytest.raises(DataDependentOutputException):
        bool((torch.zeros(3, device=GPU) > 0).any())


class DividesByNumber(AssertionError):
    """On a GPU torch multiplies by the number's reciprocal then: in float32 41 of 41 pixels are less than all."""


class NoDivisionByNumbers(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        by_number = function is torch.ops.aten.div.Tensor and not isinstance(args[1], torch.Tensor)
        if by_number and args[0].dtype is not torch.float64:
            raise DividesByNumber
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MIXERS)
def test_shares_of_the_image_are_rounded_as_on_the_cpu(name):
    with NoDivisionByNumbers(), pytest.raises(DividesByNumber):
        torch.arange(3) / 7
    images, labels = torch.rand(N, 3, 20, 26), torch.zeros(N, dtype=torch.int64)
    shapes = [images, images[:, :, 0]] if 3 in (MIXERS[name]().DIMS or ()) else [images]
    with NoDivisionByNumbers():
        for given in shapes:
            MIXERS[name]()(given, labels, seed=3)


def test_shares_survive_a_reciprocal():
    """What a GPU makes of share_of: float64, times the reciprocal."""
    for whole in [*range(1, 300), 224 * 224, 4096 * 4095, 2**24 - 1]:
        part = torch.arange(min(whole, 5000) + 1)
        part = torch.cat([part, whole - part])
        on_a_gpu = (part.double() * (1 / torch.tensor(whole, dtype=torch.float64))).float()
        assert torch.equal(share_of(part, whole), on_a_gpu)
        assert torch.equal(on_a_gpu, part.float() / torch.tensor(float(whole)))
    assert (torch.tensor(41.0) * (1 / torch.tensor(41.0))) < 1


@pytest.mark.parametrize("name", MIXERS)
def test_mixers_stay_on_the_gpu(name):
    with fake():
        images, labels = batch()
        depth = torch.empty(N, 20, 26, device=GPU)
        for options in ({"num_classes": K}, {"per_sample": False}, {"p": 0.5}):
            assert_there(MIXERS[name](**options)(images, labels))
        mixer = MIXERS[name]()
        assert_there(mixer(images.byte(), labels, seed=7))
        mixed, target, extra = mixer(images, labels, depth, seed=torch.zeros((), dtype=torch.int64, device=GPU))
        assert (mixed.shape, extra.shape) == (images.shape, depth.shape)
        assert_there(mixed, target, extra, target.soft(K), target.mix(images))
        assert_there(mix_accuracy(torch.empty(N, K, device=GPU), target))


def test_other_partners_and_labels_stay_on_the_gpu():
    with fake():
        images, labels = batch()
        for partners in ("no_fixed_points", "cross_class"):
            assert_there(CutMix(partners=partners)(images, labels))
        for soft in (torch.empty(N, K, device=GPU), torch.ones(N, K, device=GPU, dtype=torch.int64)):
            assert_there(CutMix(num_classes=K)(images, soft))


def test_numbers_a_channel_cross_unless_they_are_moved_with_the_mixer():
    normalize = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    for mixer in (CutMix, SaliencyMix):
        with fake():
            mix = mixer(normalize=normalize)
            images, labels = batch(torch.uint8)
            with pytest.raises(Crossing):
                mix(images, labels)
            for name in mix._names_kept:  # as `mix.cuda()` does, see below
                setattr(mix, name, torch.empty(3, device=GPU))
            assert_there(mix(images, labels), mix.unmixed(images))


def test_a_mixer_that_is_moved_takes_its_numbers_along():
    mix = SaliencyMix(mean=(0.4, 0.5, 0.6), std=0.5, normalize=(0.5, (0.2, 0.3, 0.4)))
    assert set(mix._names_kept) == {"_mean", "_std", "_mean_of_images", "_std_of_images"}
    moved = mix.half().to("meta")
    for name in mix._names_kept:
        assert (getattr(moved, name).device.type, getattr(moved, name).dtype) == ("meta", torch.float32)


CALLS = {
    "mix_box": lambda x, i, f: ops.mix_box(x, box(), i),
    "mix_box, signals": lambda x, i, f: ops.mix_box(x, box()[:, ::2], i),
    "mix_linear": lambda x, i, f: ops.mix_linear(x, f, i),
    "mix_linear, float64": lambda x, i, f: ops.mix_linear(x.double(), f.double(), i.int()),
    "mix_mask": lambda x, i, f: ops.mix_mask(x, torch.empty(N, 20, 26, device=GPU), i),
    "mix_mask, bool": lambda x, i, f: ops.mix_mask(x, torch.ones(N, 20, 26, device=GPU, dtype=torch.bool), i),
    "mix_resize": lambda x, i, f: ops.mix_resize(x, box(), i, "bilinear"),
    "mix_box_": lambda x, i, f: ops.mix_box_(x, box(), i),
    "mix_resize_": lambda x, i, f: ops.mix_resize_(x, box(), i, "nearest"),
    "mix_normalize": lambda x, i, f: ops.mix_normalize(x.byte(), i, lam=f, mean=(0.4, 0.5, 0.6), std=0.25),
    "mix_normalize, box": lambda x, i, f: ops.mix_normalize(
        x.byte(), i, box=box(), resize="nearest", mean=f[:3], std=f[:3]
    ),
    "saliency": lambda x, i, f: ops.saliency(x),
    "saliency_peak": lambda x, i, f: ops.saliency_peak(x, mean=(0.4, 0.5, 0.6), std=(1.0, 0.5, 0.25)),
    "saliency, bytes": lambda x, i, f: ops.saliency(x.byte(), mean=0.5, std=0.5),
    "sample_lam": lambda x, i, f: ops.sample_lam(N, device=GPU),
    "sample_perm": lambda x, i, f: ops.sample_perm(N, partners="cross_class", labels=i),
    "sample_box": lambda x, i, f: ops.sample_box(N, (20, 26), device=GPU, seed=3),
    "sample_uniform": lambda x, i, f: ops.sample_uniform(N, 5, seed=i[0]),
    "sample_normal": lambda x, i, f: ops.sample_normal(N, 5, seed=i[:1]),
    "sample_seed": lambda x, i, f: ops.sample_seed(N, device=GPU),
    "cut_box": lambda x, i, f: ops.cut_box(f, box()[:, :2], (20, 26)),
    "sample_top_k": lambda x, i, f: ops.sample_top_k(f, 520, max_soft=0.1),
    "mask_top_k": lambda x, i, f: ops.mask_top_k(x[:, 0], i, i),
    "mask_top_k, hard": lambda x, i, f: ops.mask_top_k(x[:, 0], i),
    "evidence_mask": lambda x, i, f: ops.evidence_mask(x[:, 0], (20, 26), paste=i > 0),
    "evidence_mask, soft": lambda x, i, f: ops.evidence_mask(x[:, 0, :3, :4], (20, 26), soft=0.1),
    "fmix_mask": lambda x, i, f: ops.fmix_mask(f, (20, 26)),
    "grid_mask": lambda x, i, f: ops.grid_mask(*ops.sample_grid(N, (20, 26), device=GPU), f, (20, 26)),
    "smooth_mask": lambda x, i, f: ops.smooth_mask(*ops.sample_smooth(N, (20, 26), device=GPU), (20, 26)),
    "uncertainty": lambda x, i, f: ops.uncertainty(x[:, 0, 0]),
    "semantic_distance": lambda x, i, f: ops.semantic_distance(x[:, 0, 0], x[:, 1, 0], i),
    "masked_similarity": lambda x, i, f: ops.masked_similarity(x, i, f, box=box(), size=(20, 26)),
    "masked_similarity, gate": lambda x, i, f: ops.masked_similarity(
        x, i, f, box=box(), size=(20, 26), gate=f, rule="uncertain", area_weight=0.5
    ),
    "masked_similarity, cam": lambda x, i, f: ops.masked_similarity(
        x, i, f, evidence="cam", labels=i, class_weight=torch.empty(K, 3, device=GPU), mask=x[:, 0]
    ),
    "foreground": lambda x, i, f: ops.foreground(x[:, :, :5, :5], x),
    "foreground, a mean": lambda x, i, f: ops.foreground(x, x, mean=torch.empty(3, device=GPU)),
}


def box():
    return torch.zeros(N, 4, dtype=torch.int64, device=GPU)


@pytest.mark.parametrize("name", CALLS)
def test_ops_stay_on_the_gpu(name):
    with fake():
        x, i = batch()
        assert_there(CALLS[name](x, i, torch.empty(N, device=GPU)))


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_loss_stays_on_the_gpu(ratio):
    with fake(), GPU:
        target = CutMix()(*batch())[1]
        maps, objects = torch.empty(N, 8, 4, 4), torch.empty(N, 20, 26)
        output = SUMixHead(8, K)(maps)
        assert_there(output)
        for dtype in (torch.float32, torch.float16, torch.float64):
            mixed, raw = output.to(dtype), output.to(dtype)
            for reduction in ("mean", "none"):
                criterion = SUMixLoss(gamma=0.5, ratio=ratio, reduction=reduction, return_parts=True)
                loss, parts = criterion(mixed, raw, target, objects=objects)
                assert_there(loss, parts)
                assert loss.shape == (() if reduction == "mean" else (N,)) and loss.requires_grad
