"""The last feature map of an existing classifier, without editing it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sumix.head import SUMixHead, SUMixOutput
from sumix.ops import checks

_SLOT = "_sumix_captured"  # attribute of the layer that hands its map to the model's own hook
_MOST_PREFIX_TOKENS = 16  # a class token, a distillation token, registers


class CaptureHandle:
    """What `capture_features` returns: `remove()` undoes it, and so does leaving it as a context manager."""

    def __init__(self, layer: str, hooks: Sequence[torch.utils.hooks.RemovableHandle]) -> None:
        self.layer = layer
        """Name of the layer whose map is captured."""
        self._hooks = tuple(hooks)

    def remove(self) -> None:
        """Let the model return what it used to."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "CaptureHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"CaptureHandle(layer={self.layer!r})"


def capture_features(
    model: nn.Module, layer: str | nn.Module | None = None, *, grid: tuple[int, int] | None = None
) -> CaptureHandle:
    """Make a classifier return its last feature map too, in training mode, as `SUMixLoss(ratio="feature")` needs it.

    The model itself is changed, by forward hooks, once: from then on, in training mode, it returns `SUMixOutput(logits,
    uncertainty, features, class_weight)`, with an uncertainty where its head is a `SUMixHead`. In eval mode it returns
    what it always did. The map is the one that the forward pass computes anyway, detached: nothing is copied.

    Parameters
    ----------
    model : nn.Module
        A classifier that returns logits (N, K) or, from a `SUMixHead`, SUMixOutput. The layer is found by itself in
        torchvision's and timm's classifiers, and in most others: it is what goes into the global pooling, or the
        tokens after the last norm, or what comes before the classifier. A model in DistributedDataParallel,
        DataParallel or torch.compile may be given as it is.
    layer : str or nn.Module, optional
        The layer whose output is the map, if it is to be another: "layer4" of a ResNet. (N, D, h, w), (N, h, w, D),
        which is recognised by the classifier's D input features, or tokens (N, L, D).
    grid : (int, int), optional
        (h, w) of tokens, the last h * w of which are places. Without it they are taken for square patches of the
        images, after up to 16 leading tokens (class, registers), or for what timm's models say of themselves.

    Returns
    -------
    CaptureHandle
        With `remove()`, and the name of the `layer` that was found; usable in a with statement.

    Raises
    ------
    TypeError
        If `model` is no module.
    ValueError
        If no layer is found, naming those that there are; if `layer` is none of the model's. At the first forward pass
        also if the layer's output is no map, or one of a single place, or the model's are no logits.

    Notes
    -----
    Hooks live on the modules and know one another by name: the model can be copied, pickled, wrapped for data
    parallelism and compiled (fullgraph) afterwards, in this order. The map comes as (N, D, h, w), of tokens and
    channels-last maps as a view.

    class_weight is the weight of the last linear layer if that sees D features, else None: then there is no
    `ratio="cam"`.

    Examples
    --------
    >>> model = torchvision.models.resnet50(weights="DEFAULT")
    >>> capture_features(model)
    >>> criterion = SUMixLoss(gamma=0.1, ratio="feature")
    >>> loss = criterion(model(mixed), model(images), target)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    model = _unwrap(model)
    if any(isinstance(hook, _Return) for hook in model._forward_hooks.values()):
        raise ValueError("model has been given to capture_features before: remove() that handle first")
    if grid is not None and not (isinstance(grid, (tuple, list)) and len(grid) == 2):
        raise ValueError(f"grid must be (h, w), got {grid!r}")
    grid = None if grid is None else (checks.count(grid[0], "grid"), checks.count(grid[1], "grid"))
    classifier = _classifier(model)
    if layer is None:
        name, incoming = _find(model, classifier)
    else:
        name, incoming = _name(model, layer), False
    module = model.get_submodule(name)
    hook = module.register_forward_pre_hook(_keep_input) if incoming else module.register_forward_hook(_keep_output)
    back = model.register_forward_hook(_Return(name, classifier, grid))
    return CaptureHandle(name, (hook, back))


def _unwrap(model: nn.Module) -> nn.Module:
    """The model itself, out of torch.compile's and data parallelism's wrappers."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            return model


def _name(model: nn.Module, layer: Any) -> str:
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        for name, module in modules.items():
            if module is layer:
                return name
        raise ValueError(f"layer must be a module of the model, and this {type(layer).__name__} is not")
    if not isinstance(layer, str):
        raise TypeError(f"layer must be a module or its name, got {type(layer).__name__}")
    if layer not in modules or layer == "":
        raise ValueError(f"layer must be the name of a module, got {layer!r}; there are {_candidates(model)}")
    return layer


def _candidates(model: nn.Module) -> str:
    """Names to choose from: the model's parts, and theirs where there are few."""
    names = [name for name, _ in model.named_children()]
    if len(names) < 4:
        names += [name for name, _ in model.named_modules() if name.count(".") == 1]
    return ", ".join(map(repr, names[:40])) or "no modules"


def _classifier(model: nn.Module) -> str | None:
    """Name of the last linear layer, or of the SUMixHead."""
    last = None
    for name, module in model.named_modules():
        if isinstance(module, SUMixHead):
            return name
        if isinstance(module, nn.Linear):
            last = name
    return last


def _is_global_pool(module: nn.Module) -> bool:
    """AdaptiveAvgPool2d and its kin, timm's SelectAdaptivePool2d too."""
    return "Adaptive" in type(module).__name__ and "Pool" in type(module).__name__


def _find(model: nn.Module, classifier: str | None) -> tuple[str, bool]:
    """The layer, and whether the map is what goes into it (a pooling layer) or comes out."""
    modules = dict(model.named_modules())
    for name in (
        "global_pool",
        "head.global_pool",
        "avgpool",
    ):  # timm, timm, torchvision: even if a convolution follows
        if name in modules and _is_global_pool(modules[name]):
            return name, True
    if (
        hasattr(model, "num_prefix_tokens") and "norm" in modules
    ):  # timm's transformers; an Identity before mean pooling
        return "norm", False

    # Elsewhere: the last pooling layer, if no convolution follows it (as one does within squeeze and excitation); the
    # last norm of as many features as the classifier takes; the last part of the model that convolves.
    names, pool, norm = list(modules), None, None
    width = _width(modules[classifier]) if classifier is not None else None
    for place, name in enumerate(names):
        if _is_global_pool(modules[name]) and not any(_is_convolution(modules[later]) for later in names[place:]):
            pool = pool or name
        if isinstance(modules[name], nn.LayerNorm) and modules[name].normalized_shape == (width,):
            norm = name
    if pool is not None:
        return pool, True
    if norm is not None:
        return norm, False
    body = _body(model, classifier)
    if body is None:
        raise ValueError(f"no feature map was found in {type(model).__name__}: name its layer, of {_candidates(model)}")
    return body, False


def _body(model: nn.Module, classifier: str | None) -> str | None:
    """The last part that comes before the classifier and may give a map, after something that convolves."""
    body, convolves = None, False
    for name, module in model.named_children():
        if classifier is not None and (name == classifier or classifier.startswith(name + ".")):
            break
        convolves |= any(_is_convolution(part) for part in module.modules())
        if convolves and not isinstance(module, (nn.Flatten, nn.Dropout, nn.Linear)):
            body = name
    return body


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))


def _width(classifier: nn.Module) -> int:
    return classifier.in_features


def _keep_output(module: nn.Module, inputs: tuple, output: Any) -> None:
    setattr(module, _SLOT, output)


def _keep_input(module: nn.Module, inputs: tuple) -> None:
    setattr(module, _SLOT, inputs[0] if inputs else None)


class _Return:
    """The model's own forward hook: takes the map from its layer and returns it beside the logits.

    It knows the layers by name, so that a copy of the model, or a replica on another device, finds its own.
    """

    def __init__(self, layer: str, classifier: str | None, grid: tuple[int, int] | None) -> None:
        self.layer, self.classifier, self.grid = layer, classifier, grid

    def __call__(self, model: nn.Module, inputs: tuple, output: Any) -> SUMixOutput | None:
        layer = model.get_submodule(self.layer)
        kept = getattr(layer, _SLOT, None)
        setattr(layer, _SLOT, None)
        if not model.training:
            return None
        if not isinstance(output, (Tensor, SUMixOutput)):
            raise ValueError(
                f"the model must return logits for capture_features, got {type(output).__name__}; switch off its other "
                "outputs"
            )
        if not isinstance(kept, Tensor):
            found = "was not used" if kept is None else f"gave a {type(kept).__name__}"
            raise ValueError(f"layer {self.layer!r} {found}: name another, of {_candidates(model)}")
        classifier = None if self.classifier is None else model.get_submodule(self.classifier)
        width = None if classifier is None else _width(classifier)
        features = self._as_map(model, inputs, kept.detach(), width)
        if features.shape[2:].numel() == 1:
            raise ValueError(
                f"the map of layer {self.layer!r} has but one place, and says nothing of what lies where: the images "
                f"are small for this model; name an earlier layer, of {_candidates(model)}"
            )
        weight = None
        if classifier is not None and features.shape[1] == width:
            linear = classifier.classifier if isinstance(classifier, SUMixHead) else classifier
            weight = linear.weight.detach()
        if isinstance(output, Tensor):
            return SUMixOutput(output, None, features, weight)
        return SUMixOutput(output.logits, output.uncertainty, features, weight)

    def _as_map(self, model: nn.Module, inputs: tuple, x: Tensor, width: int | None) -> Tensor:
        """(N, D, h, w), or (N, D, l) for signals."""
        if type(model).__module__ == "torchvision.models.densenet":  # whose last ReLU is no module
            x = F.relu(x)
        if self.grid is None and (x.ndim in (4, 5) or (x.ndim == 3 and x.shape[1] == width != x.shape[2])):
            last = x.ndim > 3 and x.shape[1] != width and x.shape[-1] == width
            return x.movedim(-1, 1) if last else x
        if x.ndim != 3:
            raise ValueError(
                f"layer {self.layer!r} gave {checks.shape(x)}, no map (N, D, h, w) and no tokens (N, L, D): name "
                f"another, of {_candidates(model)}"
            )
        h, w = self.grid or _grid(model, inputs, x.shape[1])
        return x[:, x.shape[1] - h * w :].transpose(1, 2).unflatten(2, (h, w))


def _grid(model: nn.Module, inputs: tuple, length: int) -> tuple[int, int]:
    """(h, w) of so many tokens: what timm's models say if it fits, else the images cut into square patches."""
    prefix = getattr(model, "num_prefix_tokens", None)
    known = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if prefix is not None and known is not None and math.prod(known) + prefix == length:
        return tuple(known)
    if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4:
        height, width = inputs[0].shape[2:]
        for places in range(length, max(length - _MOST_PREFIX_TOKENS, 1) - 1, -1):
            patch = math.isqrt(height * width // places)
            h, w = height // max(patch, 1), width // max(patch, 1)
            if h * w == places and (h * patch, w * patch) == (height, width):
                return h, w
    raise ValueError(f"{length} tokens are no image cut into patches: give capture_features their grid=(h, w)")
