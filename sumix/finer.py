"""The layer of the finer map: the last of the stage before the one that gives a network's last map.

Names of layers say nothing across libraries, and only a forward pass shows which maps have which sides. So the model is
copied without its numbers, and the copy runs once on torch's meta device, which computes shapes alone: no data, no
random numbers, nothing written to the model.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import random
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sumix.layers import Layers, is_convolution
from sumix.maps import arranged, tensor_in

_SIZES = ((224, 224), (64, 64), (32, 32))
_SAMPLES = 2


def find_finer(model: nn.Module, layers: Layers) -> str | None:
    """Name of the layer with the finer map, or None: there is none, or the copy does not run.

    It is the last to finish before the last map does, of the layers whose map has larger sides; but not one within the
    last stage, whose first block begins with large maps, nor within a stem, which is where a vision transformer has
    larger maps.
    """
    try:
        copied = _without_numbers(model)
    except Exception:  # whatever a copy may raise: of process groups, of sharded parameters
        return None
    for size in _sizes(model):
        runs = _Runs(copied, layers)
        if runs.run(_images(copied, size)):
            return runs.finer()
    return None


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Run what has been compiled as it was written, so that hooks run that were added since."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and the import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _without_numbers(model: nn.Module) -> nn.Module:
    """A copy in eval mode with every tensor on the meta device, and without hooks."""
    twins: dict[int, Any] = {}
    for module in model.modules():
        own = vars(module)
        for value in itertools.chain(module._parameters.values(), module._buffers.values(), own.values()):
            if isinstance(value, Tensor) and id(value) not in twins:
                twin = torch.empty(value.shape, dtype=value.dtype, device="meta")  # of a DTensor: of the whole
                is_parameter = isinstance(value, nn.Parameter)
                twins[id(value)] = nn.Parameter(twin, requires_grad=False) if is_parameter else twin
        for name, value in own.items():
            if "_hooks" in name and isinstance(value, dict):
                twins[id(value)] = OrderedDict()
    return copy.deepcopy(model, twins).eval()


def _sizes(model: nn.Module) -> list[tuple[int, ...]]:
    """Sizes of images to try: what the model says about itself, then usual ones."""
    sizes = []
    for module in model.modules():
        config = getattr(module, "config", None)
        known = getattr(module, "default_cfg", None) or getattr(module, "pretrained_cfg", None)
        sizes += [getattr(owner, name, None) for owner in (module, config) for name in ("image_size", "img_size")]
        sizes += [known.get("input_size")] if isinstance(known, dict) else []
    pairs = [(size, size) if isinstance(size, int) else size for size in sizes]
    pairs = [tuple(pair[-2:]) for pair in pairs if isinstance(pair, (tuple, list)) and len(pair) > 1]
    return list(dict.fromkeys([*pairs, *_SIZES]))


def _images(model: nn.Module, size: tuple[int, ...]) -> Tensor:
    """Images without numbers, or signals or videos, as the first convolution takes them."""
    first = next((module for module in model.modules() if is_convolution(module)), None)
    channels = 3 if first is None else first.in_channels
    shape = {nn.Conv1d: size[-1:], nn.Conv3d: (16, *size)}.get(type(first), size)
    dtype = next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), None)
    return torch.empty(_SAMPLES, channels, *shape, dtype=dtype, device="meta")


@dataclass(eq=False)
class _Run:
    """A layer's run: the sides of the maps that it took and gave, None where those are none; and when it ran.

    Time is how many layers with parameters of their own have finished.
    """

    name: str
    is_block: bool
    within: list[_Run]
    began: int
    taken: tuple[int, ...] | None
    given: tuple[int, ...] | None = None
    ended: int = 0


class _Runs:
    """The layers' runs in one pass of the copy."""

    def __init__(self, model: nn.Module, layers: Layers) -> None:
        self.model, self.layers = model, layers
        self.last: tuple[int, ...] | None = None  # the sides of the last map
        self.time = self.end = 0  # now, and when there was the last map
        self.before: list[_Run] = []  # those that had finished by then
        self.finished: list[_Run] = []
        self.running: list[_Run] = []

    def run(self, images: Tensor) -> bool:
        """Whether there was a last map. What comes after it may fail, as a linear layer for another size does."""
        self.images = images
        hooks = []
        for name, module in self.model.named_modules():
            hooks.append(module.register_forward_pre_hook(functools.partial(self._begin, name), with_kwargs=True))
            hooks.append(module.register_forward_hook(functools.partial(self._finish, name)))
        state = random.getstate()  # torch draws no numbers on the meta device
        with contextlib.suppress(Exception), warnings.catch_warnings(), torch.no_grad(), torch.device("meta"):
            warnings.simplefilter("ignore")
            with eagerly():
                self.model(images)
        random.setstate(state)
        for hook in hooks:
            hook.remove()
        return self.last is not None

    def finer(self) -> str | None:
        """The name that `find_finer` returns."""
        for run in reversed(self.before):
            if run.ended < self.end / 8:
                return None  # a stem's
            if self._is_larger(run.given) and not any(self._is_last_stage(whole, run) for whole in run.within):
                return run.name
        return None

    def _is_larger(self, sides: tuple[int, ...] | None) -> bool:
        if sides is None or len(sides) != len(self.last):
            return False
        return sides != self.last and all(one >= other for one, other in zip(sides, self.last, strict=True))

    def _is_last_stage(self, whole: _Run, run: _Run) -> bool:
        """Whether `whole` makes the last map's sides out of those of `run`, which is a part of it.

        Then `run` is within the first block of the last stage, unless it is itself a block, and no small part of
        `whole`: that may be the stage before with the layer that shrinks its map, as in Hugging Face's Swin, or both.
        """
        if whole.given != self.last or whole.taken is None or math.prod(whole.taken) > math.prod(run.given):
            return False
        is_part = run.ended - whole.began > 0.3 * (whole.ended - whole.began)
        return not (run.is_block and whole.taken == run.given and is_part)

    def _begin(self, name: str, module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
        taken = (*inputs, *named.values())
        if self.layers.incoming and module is self.layers.coarse_module(self.model):
            self._keep_last(taken)
        is_block = sum(1 for part in module.modules() if part._parameters) > 2
        self.running.append(_Run(name, is_block, list(self.running), self.time, self._sides(name, taken)))

    def _finish(self, name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        if not self.layers.incoming and module is self.layers.coarse_module(self.model):
            self._keep_last(output)
        self.time += bool(module._parameters)
        run = self.running.pop()
        run.given, run.ended = self._sides(name, output), self.time
        self.finished.append(run)

    def _keep_last(self, output: Any) -> None:
        found = tensor_in(output)
        features = None if found is None else self.layers.arranged(self.model, found, (self.images,))
        if isinstance(features, Tensor) and features.shape[2:].numel() > 1:
            self.last, self.end, self.before = tuple(features.shape[2:]), self.time, list(self.finished)

    def _sides(self, name: str, output: Any) -> tuple[int, ...] | None:
        found = tensor_in(output)
        if found is None or not found.is_floating_point() or found.ndim < 3 or found.shape[0] != _SAMPLES:
            return None
        features = arranged(self.model, name, found, (self.images,))
        return tuple(features.shape[2:]) if isinstance(features, Tensor) else None
