"""Which layers of a classifier give its feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sumix.head import SUMixHead, unwrapped
from sumix.maps import arranged
from sumix.ops import checks
from sumix.ops.maps import MOST_PREFIX_TOKENS

_POOLS_1D = (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)


@dataclass(frozen=True)
class Layers:
    """The layers of a model that give its maps and class weights: by name, so that a copy of the model finds its own.

    The maps are made of what a pass kept of the layers: a tensor; the type of what there was instead, as a str; or None
    where the layer did not run.
    """

    coarse: str
    """The layer of the last map."""
    incoming: bool
    """Whether that map is what the layer takes, not what it gives."""
    classifier: str | None
    """The last linear layer, or the SUMixHead."""
    grid: tuple[int, ...] | None = None
    """(h, w) of tokens, where the user gave it."""
    fine: str | None = None
    """The layer of the finer map."""
    fine_named: bool = False
    """Whether the user named it; else there may be no finer map after all."""

    def coarse_module(self, model: nn.Module) -> nn.Module:
        """The layer of the last map, out of its wrappers."""
        return unwrapped(model.get_submodule(self.coarse))

    def fine_module(self, model: nn.Module) -> nn.Module | None:
        """The layer of the finer map, out of its wrappers."""
        return None if self.fine is None else unwrapped(model.get_submodule(self.fine))

    def linear(self, model: nn.Module) -> nn.Linear | None:
        """The layer that has the class weights."""
        if self.classifier is None:
            return None
        classifier = unwrapped(model.get_submodule(self.classifier))
        return unwrapped(classifier.classifier) if isinstance(classifier, SUMixHead) else classifier

    def arranged(self, model: nn.Module, kept: Tensor, inputs: Sequence[Any]) -> Tensor | str:
        """The last map, or why there is none; `inputs` are those of the model."""
        linear = self.linear(model)
        return arranged(
            model,
            self.coarse,
            kept,
            inputs,
            width=None if linear is None else linear.in_features,
            grid=self.grid,
            channels_first=self.incoming and isinstance(self.coarse_module(model), _POOLS_1D),
        )

    def maps(
        self,
        model: nn.Module,
        kept: Tensor | str | None,
        fine: Tensor | str | None,
        inputs: Sequence[Any],
        samples: int,
    ) -> tuple[Tensor, Tensor | None]:
        """The last map and the finer one, of as many samples."""
        why = _missing(self.coarse, kept)
        features = self.arranged(model, kept, inputs) if why is None else why
        if not isinstance(features, Tensor):
            raise ValueError(f"{features}; name another layer, of {candidates(model)}")
        if features.shape[0] != samples:
            raise ValueError(
                f"layer {self.coarse!r} gave {checks.shape(features)}, but the logits are of {samples} samples: name "
                f"another, of {candidates(model)}"
            )
        if features.shape[2:].numel() == 1:
            raise ValueError(
                f"the map of layer {self.coarse!r} has only one place, so it cannot say what lies where: the images "
                f"are too small for this model; name an earlier layer, of {candidates(model)}"
            )
        if self.fine is None:
            return features, None
        why = _missing(self.fine, fine)
        finer = arranged(model, self.fine, fine, inputs, grid=self._fine_grid(fine)) if why is None else why
        if isinstance(finer, Tensor) and not is_finer(finer, features):
            finer = (
                f"layer {self.fine!r} gave {checks.shape(finer)}, whose sides must be at least those of the map "
                f"{checks.shape(features)}"
            )
        if isinstance(finer, Tensor):
            return features, finer
        if self.fine_named:
            raise ValueError(f"{finer}; for fine= name another layer, of {candidates(model)}")
        return features, None

    def _fine_grid(self, fine: Tensor) -> tuple[int, ...] | None:
        """The grid that the user gave, if it is that of the finer layer's tokens too, but for leading ones."""
        if self.grid is None or fine.ndim != 3:
            return None
        return self.grid if 0 <= fine.shape[1] - math.prod(self.grid) <= MOST_PREFIX_TOKENS else None


def _missing(layer: str, kept: Tensor | str | None) -> str | None:
    if isinstance(kept, Tensor):
        return None
    return f"layer {layer!r} was not used" if kept is None else f"layer {layer!r} gave a {kept}"


def is_finer(fine: Tensor, features: Tensor) -> bool:
    """Whether a map is of the same samples and has sides at least as large."""
    same = fine.ndim == features.ndim and fine.shape[0] == features.shape[0]
    return same and all(one >= other for one, other in zip(fine.shape[2:], features.shape[2:], strict=True))


def named(model: nn.Module, layer: Any, argument: str) -> str:
    """Name of the layer that an argument means."""
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        for name, module in modules.items():
            if module is layer:
                return name
        raise ValueError(f"{argument} must be a module of the model, and this {type(layer).__name__} is not")
    if not isinstance(layer, str):
        other = ", or False" if argument == "fine" else ""
        raise TypeError(f"{argument} must be a module or its name{other}, got {type(layer).__name__}")
    if layer not in modules or layer == "":
        raise ValueError(f"{argument} must be the name of a module, got {layer!r}; there are {candidates(model)}")
    return layer


def candidates(model: nn.Module) -> str:
    """Names to choose from: the model's parts and their parts, down to a depth with at most 40 names."""
    names, level, depth = [], [name for name, _ in model.named_children()], 0
    while level and len(names) + len(level) <= 40:
        names, depth = names + level, depth + 1
        level = [name for name, _ in model.named_modules() if name.count(".") == depth]
    return ", ".join(map(repr, names or level[:40])) or "no modules"


def classifier_of(model: nn.Module) -> str | None:
    """Name of the last linear layer, or of the SUMixHead."""
    last = None
    for name, module in model.named_modules():
        if isinstance(module, SUMixHead):
            return name
        if isinstance(module, nn.Linear):
            last = name
    return last


def _is_global_pool(module: nn.Module) -> bool:
    """Whether it is AdaptiveAvgPool2d or similar, including timm's SelectAdaptivePool2d."""
    return "Adaptive" in type(module).__name__ and "Pool" in type(module).__name__


def find(model: nn.Module, classifier: str | None) -> tuple[str, bool]:
    """The layer, and whether the map is its input (of a pooling layer) or its output."""
    modules = dict(model.named_modules())
    parts = [name for name, part in model.named_children() if next(part.parameters(), None) is not None]
    if len(parts) == 1 and classifier is not None and classifier.startswith(f"{parts[0]}."):  # an adapter
        name, incoming = find(modules[parts[0]], classifier.removeprefix(f"{parts[0]}."))
        return f"{parts[0]}.{name}", incoming
    if isinstance(base := getattr(model, "base_model_prefix", None), str):  # transformers: its last_hidden_state
        for name in (base, "vision_model"):
            if name in modules and name != "":
                return name, False
    # The names in timm (two), torchvision and transformers, valid even if a convolution follows.
    for name in ("global_pool", "head.global_pool", "avgpool", "avg_pool"):
        if name in modules and _is_global_pool(modules[name]):
            return name, True
    if hasattr(model, "num_prefix_tokens") and "norm" in modules:  # timm's transformers; an Identity if they pool
        return "norm", False

    # Elsewhere: the last pooling layer, if no convolution follows it (as one does within squeeze and excitation); the
    # last norm of as many features as the classifier takes; the last part of the model that convolves.
    names, pool, norm = list(modules), None, None
    width, classes = _width(modules.get(classifier)), _classes(modules.get(classifier))
    for place, name in enumerate(names):
        if _is_global_pool(modules[name]) and not any(is_convolution(modules[later]) for later in names[place:]):
            pool = pool or name
        if isinstance(modules[name], nn.LayerNorm) and modules[name].normalized_shape == (width,):
            owners = [name[:at] for at, letter in enumerate(name) if letter == "."]
            if not any(_is_head(modules[owner], classes) for owner in owners):  # which pools first
                norm = name
    if pool is not None:
        return pool, True
    if norm is not None:
        return _block(modules, norm), False
    body = _body(model, classifier)
    if body is None:
        raise ValueError(f"no feature map was found in {type(model).__name__}: name its layer, of {candidates(model)}")
    return body, False


def _block(modules: dict[str, nn.Module], norm: str) -> str:
    """The block that a norm is the first half of, where it is one of a list of blocks; else the norm itself."""
    for at, letter in enumerate(norm):
        name = norm[:at]
        if letter == "." and isinstance(modules[name.rpartition(".")[0]], nn.ModuleList):
            return norm if isinstance(modules[name], nn.ModuleList) else name
    return norm


def _body(model: nn.Module, classifier: str | None) -> str | None:
    """The last part that comes before the classifiers and may give a map, after something that convolves."""
    body, convolves = None, False
    classes = None if classifier is None else _classes(model.get_submodule(classifier))
    for name, module in model.named_children():
        if _is_head(module, classes) or (classifier is not None and f"{classifier}.".startswith(f"{name}.")):
            break
        convolves |= any(is_convolution(part) for part in module.modules())
        if convolves and not isinstance(module, (nn.Flatten, nn.Dropout, nn.Linear)):
            body = name
            while isinstance(module, nn.ModuleList) and len(module) > 0:  # which is not called itself
                body, module = f"{body}.{len(module) - 1}", module[-1]
    return body


def _is_head(module: nn.Module, classes: int | None) -> bool:
    """A classifier, with what goes with it: there may be several."""
    parts = list(module.modules())
    ends = any(isinstance(part, nn.Linear) and part.out_features == classes for part in parts)
    return ends and not any(is_convolution(part) for part in parts)


def is_convolution(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))


def _width(classifier: nn.Module | None) -> int | None:
    return None if classifier is None else classifier.in_features


def _classes(classifier: nn.Module | None) -> int | None:
    return classifier.num_classes if isinstance(classifier, SUMixHead) else getattr(classifier, "out_features", None)
