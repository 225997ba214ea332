"""Where and when the operators run: the stream of the moment, the tensors' own GPU, CUDA graphs, and never waiting."""

import gc

import pytest
import torch
from torch.utils._pytree import tree_map_only

from sumix import MixTarget, RandomMix, SUMixLoss, mix_accuracy, ops
from tests import gpu
from tests.gpu import CALLS, DEVICE, GRADIENTS, ON_GPU, K, N, bits, nothing_waits, only_gpu, results, tensors
from tests.mixers import MIXERS

pytestmark = pytest.mark.cuda
several = pytest.mark.skipif(not ON_GPU or torch.cuda.device_count() < 2, reason="needs two GPUs")


def same(got, want):
    assert len(got) == len(want)
    assert all(torch.equal(bits(one), bits(other)) for one, other in zip(got, want, strict=True))


def late(given, stream):
    """Copies that hold zeros until the stream has slept: who reads them on another stream finds the zeros."""
    held = {name: torch.zeros_like(tensor) for name, tensor in given.items()}
    torch.cuda.synchronize(DEVICE)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(gpu.SLEEP)
        for name, tensor in held.items():
            tensor.copy_(given[name])
    return held


@only_gpu
@pytest.mark.parametrize("name", CALLS)
def test_on_the_stream_of_the_moment(name):
    given = tensors(1)
    want, stream = results(CALLS[name](given)), torch.cuda.Stream(DEVICE)
    held = late(given, stream)
    with torch.cuda.stream(stream):
        got = results(CALLS[name](held))
    stream.synchronize()
    same(got, want)


@only_gpu
@pytest.mark.parametrize("name", GRADIENTS)
def test_backward_on_the_stream_of_the_moment(name):
    given = tensors(1)
    want, stream = gpu.gradients(name, given), torch.cuda.Stream(DEVICE)
    held = late(given, stream)
    with torch.cuda.stream(stream):
        got = gpu.gradients(name, held)
    stream.synchronize()
    same(got, want)


@only_gpu
@pytest.mark.parametrize("name", MIXERS)
def test_mixers_on_the_stream_of_the_moment(name):
    given, mixer, stream = tensors(1), MIXERS[name](num_classes=K), torch.cuda.Stream(DEVICE)
    given = {part: given[part] for part in ("x", "y", "seed")}
    want = results(mixer(given["x"], given["y"], seed=given["seed"]))
    for _ in range(2):  # what FMix keeps is not there yet on this stream, and then is
        held = late(given, stream)
        with torch.cuda.stream(stream):
            got = results(mixer(held["x"], held["y"], seed=held["seed"]))
        stream.synchronize()
        same(got, want)


# ---- Several GPUs ----


@several
@pytest.mark.parametrize("name", CALLS)
def test_on_a_gpu_that_is_not_the_current_one(name):
    other = torch.device("cuda", (DEVICE.index + 1) % torch.cuda.device_count())
    given = tensors(1)
    want = results(CALLS[name](given))
    with torch.cuda.device(DEVICE):
        got = results(CALLS[name]({part: tensor.to(other) for part, tensor in given.items()}))
        assert torch.cuda.current_device() == DEVICE.index
        assert all(tensor.device == other for tensor in got)
    same(got, want)


@several
@pytest.mark.parametrize("name", MIXERS)
def test_mixers_on_a_gpu_that_is_not_the_current_one(name):
    other = torch.device("cuda", (DEVICE.index + 1) % torch.cuda.device_count())
    images, labels = gpu.batch()
    want = results(MIXERS[name]()(images, labels, seed=3))
    with torch.cuda.device(DEVICE):
        same(results(MIXERS[name]()(images.to(other), labels.to(other), seed=3)), want)
        assert MIXERS[name]()(images.to(other), labels.to(other))[0].device == other


ELSEWHERE = {
    "mix_box": ("perm", "perm must be on the device of x"),
    "mix_linear": ("lam", "lam must be on the device of x"),
    "mix_mask": ("mask", "mask must be on the device of x"),
    "mix_resize": ("box", "box must be on the device of x"),
    "mix_box_": ("perm", "perm must be on the device of x"),
    "mix_normalize, box": ("channel", "mean must be on the device of x"),
    "sample_perm, cross_class": ("y", "seed must be on|labels must be on"),
    "cut_box": ("box", "centre must be on the device of lam"),
    "sample_top_k": ("seed", "seed must be on the device of lam"),
    "mask_top_k": ("k", "k must be on the device of grey"),
    "semantic_distance": ("y", "masked must be on the device of logits"),
    "masked_similarity": ("lam", "lam must be on the device of features"),
    "foreground": ("fine", "fine must be on the device of features"),
    "foreground, a mean": ("channel", "mean must be on the device of fine"),
    "sumix_loss": ("lam", "lam must be on the device of logits"),
    "soft_labels": ("lam", "must be on the device of lam"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=several)])
def test_tensors_of_several_devices_are_refused(name, where):
    other = torch.device("cuda", (DEVICE.index + 1) % 2) if where == "cuda" else "cpu" if ON_GPU else "meta"
    which, message = ELSEWHERE[name]
    given = tensors()
    given[which] = given[which].to(other)
    with pytest.raises(ValueError, match=message):
        CALLS[name](given)


@only_gpu
def test_seeds_and_generators_of_another_device_are_refused():
    images, labels = gpu.batch()
    mix = MIXERS["CutMix"]()
    with pytest.raises(ValueError, match="seed must be on cuda"):
        mix(images, labels, seed=torch.tensor(3))
    with pytest.raises(ValueError, match="generator must be on cuda"):
        mix(images, labels, generator=torch.Generator())


# ---- CUDA graphs ----


def capture(function):
    """The function in a graph, after it has run a few times on another stream, as torch asks for; and its results."""
    stream = torch.cuda.Stream(DEVICE)
    stream.wait_stream(torch.cuda.current_stream(DEVICE))
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream(DEVICE).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        made = function()
    return graph, results(made)


def check_replays(static, function):
    """A graph with other tensors in the place of those it was captured with gives what the function gives of those."""
    graph, made = capture(function)
    for seed in (2, 3, 2):
        for name, tensor in tensors(seed).items():
            if name in static:
                static[name].copy_(tensor)
        graph.replay()
        got = [tensor.clone() for tensor in made]
        same(got, results(function()))


@only_gpu
@pytest.mark.parametrize("name", CALLS)
def test_captured_in_a_graph(name):
    static = tensors(1)
    check_replays(static, lambda: CALLS[name](static))


@only_gpu
@pytest.mark.parametrize("name", GRADIENTS)
def test_backward_captured_in_a_graph(name):
    static = tensors(1)
    check_replays(static, lambda: gpu.gradients(name, static))


@only_gpu
@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("options", [{}, {"num_classes": K, "per_sample": False}], ids=str)
def test_mixers_captured_in_a_graph(name, options):
    static, mixer = tensors(1), MIXERS[name](**options)
    check_replays(static, lambda: mixer(static["x"], static["y"], seed=static["seed"]))


@only_gpu
@pytest.mark.parametrize("name", MIXERS)
def test_every_replay_draws_anew(name):
    images, labels = gpu.batch()
    mixer = MIXERS[name]()
    graph, (mixed, *_) = capture(lambda: mixer(images, labels))
    seen = []
    for _ in range(6):
        graph.replay()
        seen.append(mixed.clone())
    assert not any(torch.equal(seen[i], seen[j]) for i in range(6) for j in range(i))


@only_gpu
def test_a_graph_that_was_captured_first_leaves_nothing_unfinished_behind():
    lam, seed, stream = tensors()["lam"], torch.tensor(1, device=DEVICE), torch.cuda.Stream(DEVICE)
    # Kernels and the FFT's plan, which cannot be loaded in a graph; but not the size that the graph is of, for which
    # FMix then has nothing kept.
    ops.fmix_mask(lam, (18, 24), seed=seed)
    torch.fft.irfft2(torch.zeros(N, 24, 10, dtype=torch.complex64, device=DEVICE), s=(24, 18))
    torch.cuda.synchronize(DEVICE)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        captured = ops.fmix_mask(lam, (24, 18), seed=seed)
    with torch.cuda.stream(stream):
        eager = ops.fmix_mask(lam, (24, 18), seed=seed)  # before any replay has computed what the graph would
    stream.synchronize()
    graph.replay()
    same(list(captured), list(eager))
    del graph, captured
    gc.collect()
    same(list(ops.fmix_mask(lam, (24, 18), seed=seed)), list(eager))


@only_gpu
def test_a_training_step_captured_in_a_graph():
    model, criterion, mix = gpu.network(), SUMixLoss(gamma=0.5), MIXERS["CutMix"]()
    parameters, static = list(model.parameters()), tensors(1)

    def step():
        mixed, target = mix(static["x"], static["y"], seed=static["seed"])
        loss = criterion(model(mixed), model(static["x"]), target)
        return loss.detach(), *torch.autograd.grad(loss, parameters)

    graph, made = capture(step)
    for seed in (2, 3):
        for name, tensor in tensors(seed).items():
            static[name].copy_(tensor)
        graph.replay()
        for one, other in zip([tensor.clone() for tensor in made], step(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


# ---- Nothing waits ----


def quietly(function):
    """Call it once to load what there is to load, and then where nothing may wait."""
    function()
    with nothing_waits():
        made = function()
    return made


@only_gpu
def test_waiting_is_noticed():
    x = torch.ones(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="synchroniz"), nothing_waits():
        x.sum().item()
    with pytest.raises(AssertionError, match="something waited"), nothing_waits():
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize(DEVICE)


@pytest.mark.parametrize("name", CALLS)
def test_operators_wait_for_nothing(name):
    given = tensors()
    quietly(lambda: CALLS[name](given))


@pytest.mark.parametrize("name", GRADIENTS)
def test_backward_waits_for_nothing(name):
    given = tensors()
    quietly(lambda: gpu.gradients(name, given))


@pytest.mark.parametrize("name", MIXERS)
def test_mixers_wait_for_nothing(name):
    images, labels = gpu.batch()
    generator = torch.Generator(DEVICE).manual_seed(1)
    seed, depth = torch.tensor(5, device=DEVICE), images[:, 0].clone()
    for options in ({}, {"num_classes": K, "label_smoothing": 0.1}, {"per_sample": False}, {"p": 0.5}):
        mixer = MIXERS[name](**options)
        for given in ({}, {"generator": generator}, {"seed": seed}, {"seed": 7}):
            made = quietly(lambda mixer=mixer, given=given: mixer(images, labels, depth, **given))
            assert made[0].shape == images.shape and made[0].device == images.device


@pytest.mark.parametrize("name", ["CutMix", "SaliencyMix", "FMix", "RandomMix all"])
def test_mixers_that_normalise_wait_for_nothing(name):
    images, labels = gpu.batch(torch.uint8)
    soft = torch.nn.functional.one_hot(labels, K)
    for partners in ("no_fixed_points", "cross_class"):
        mixer = MIXERS[name](partners=partners, normalize=((0.4, 0.5, 0.6), 0.25), dtype=torch.float16)
        quietly(lambda mixer=mixer: (mixer(images, labels), mixer.unmixed(images)))
        moved = MIXERS[name](partners=partners, normalize=((0.4, 0.5, 0.6), 0.25), dtype=torch.float16).to(DEVICE)
        with nothing_waits():  # at the first call, too
            moved(images, labels)
    quietly(lambda: MIXERS[name](num_classes=K)(images, soft))


def test_in_place_waits_for_nothing():
    images, labels = gpu.batch()
    for name in ("CutMix", "SaliencyMix", "ResizeMix"):
        mixer = MIXERS[name](inplace=True)
        quietly(lambda mixer=mixer: mixer(images, labels))


def test_targets_wait_for_nothing():
    images, _, target = gpu.mix()
    logits = tensors()["z"]
    quietly(lambda: (target.soft(K, 0.1), target.mix(images), target.mix(images[:, 0].long(), ignore_index=255)))
    quietly(lambda: mix_accuracy(logits, target))
    assert isinstance(target, MixTarget)


@pytest.mark.parametrize("ratio", ["semantic", "published", "area", "feature", "cam", "object"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_loss_waits_for_nothing(ratio, reduction):
    model, (images, mixed, target) = gpu.network(), gpu.mix()
    objects, weight = images[:, 0] > 0.5, torch.rand(K, device=DEVICE)
    for options in ({}, {"weighting": "batch"}, {"weight": weight, "label_smoothing": 0.1}):
        criterion = SUMixLoss(gamma=0.5, ratio=ratio, reduction=reduction, return_parts=True, **options).to(DEVICE)

        def step(criterion=criterion):
            loss, parts = criterion(model(mixed), model(images), target, objects=objects)
            loss.sum().backward()
            return loss, parts

        quietly(step)
        quietly(lambda criterion=criterion: criterion(model(mixed), model(images), target, objects=objects))


def test_a_mixer_that_is_moved_takes_its_numbers_along():
    mixer = RandomMix([MIXERS["CutMix"](), MIXERS["SaliencyMix"](mean=0.5, std=0.25)], normalize=(0.5, (0.2, 0.3, 0.4)))
    moved = mixer.half().to(DEVICE)
    kept = [moved._mean, moved._std, moved.mixers[1]._mean_of_images, moved.mixers[1]._std_of_images]
    assert all((value.device, value.dtype) == (DEVICE, torch.float32) for value in kept)
    copies = tree_map_only(torch.Tensor, torch.Tensor.cpu, kept)
    assert torch.equal(copies[1], torch.tensor([0.2, 0.3, 0.4]))
