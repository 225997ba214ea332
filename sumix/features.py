"""The last feature map of an existing classifier, without editing it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sumix.head import SUMixHead, SUMixOutput, lasting, unwrapped
from sumix.ops import checks
from sumix.ops.maps import MOST_PREFIX_TOKENS

_SLOT = "_sumix_forward_pass"  # attribute of the watched layers: the forward pass that they report to
_POOLS_1D = (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)


class CaptureHandle:
    """What `capture_features` returns: `remove()` undoes it, and so does leaving it as a context manager."""

    def __init__(
        self, layer: str, hooks: Sequence[torch.utils.hooks.RemovableHandle], reporting: Sequence[nn.Module]
    ) -> None:
        self.layer = layer
        """Name of the layer whose map is captured."""
        self._hooks, self._reporting = tuple(hooks), tuple(reporting)

    def remove(self) -> None:
        """Let the model return what it used to."""
        for hook in self._hooks:
            hook.remove()
        for module in self._reporting:
            vars(module).pop(_SLOT, None)

    def __enter__(self) -> "CaptureHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"CaptureHandle(layer={self.layer!r})"


def capture_features(
    model: nn.Module, layer: str | nn.Module | None = None, *, grid: Sequence[int] | None = None
) -> CaptureHandle:
    """Make a classifier return its last feature map too, in training mode, as `SUMixLoss(ratio="feature")` needs.

    Forward hooks change the model itself. From then on, in training mode, it returns `SUMixOutput(logits,
    uncertainty, features, class_weight)`, with an uncertainty where its head is a `SUMixHead`. In eval mode it returns
    what it always did. The map is the one that the forward pass computes anyway, detached; nothing is copied.

    Parameters
    ----------
    model : nn.Module
        A classifier. It returns logits (N, K), the SUMixOutput of a `SUMixHead`, or a tuple, a dict or a ModelOutput of
        Hugging Face's transformers that holds logits: the part of that name, else the first (N, K). What it returned is
        then the SUMixOutput's `returned`, and can be accessed as before: `output.loss`, `output["loss"]`, `output[0]`.
        The layer is found automatically in the classifiers of torchvision, timm and transformers, and in most others:
        it is what goes into the global pooling, or the tokens after the last norm, or what comes before the classifier.
        A model wrapped by DistributedDataParallel, DataParallel or torch.compile may be given as it is.
    layer : str or nn.Module, optional
        The layer whose output is the map, if it should be another, as "layer4" of a ResNet. (N, D, h, w), (N, h, w, D),
        which is recognised by the classifier's D input features or the images' proportions, or tokens (N, L, D) or (N,
        D, L); or a tuple or ModelOutput that holds one: its `last_hidden_state`, else the first. If a layer
        runs more than once in a forward pass, its last output counts.
    grid : (int, int), optional
        (h, w) of tokens, the last h * w of which are places; (l,) for signals, (t, h, w) for videos. Without it the
        tokens are arranged as a timm model says, or else as square patches of the images, after up to 16 leading tokens
        (class, registers).

    Returns
    -------
    CaptureHandle
        With `remove()`, and the name of the `layer` that was found; usable in a with statement.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If no layer is found (the message names those that there are), or `layer` is not part of the model. At the first
        forward pass, also if the layer's output is not a map of the same samples, or has a single place, or there are
        no logits.

    Notes
    -----
    Hooks live on the modules and find one another by name, so the model can be copied, pickled, wrapped for data
    parallelism, sharded by FSDP, and compiled (fullgraph). The map has shape (N, D, h, w); for tokens and channels-last
    maps it is a view. The hooks keep it only during the forward pass, and not at all if the layer runs outside of one.

    class_weight is the weight of the last linear layer if that sees D features, else None: then there is no
    `ratio="cam"`. Where torch.distributed is initialised it is a copy, because FSDP frees the weight.

    The first call sets `torch._dynamo.config.skip_nnmodule_hook_guards` to False and calls `torch.compiler.reset()`.
    Otherwise torch.compile would reuse a graph that it made without the hooks, of this model or of another one of its
    class. Whatever was compiled before is compiled again at its next call.

    Examples
    --------
    >>> model = torchvision.models.resnet50(weights="DEFAULT")
    >>> capture_features(model)
    >>> criterion = SUMixLoss(gamma=0.1, ratio="feature")
    >>> loss = criterion(*forward_pair(model, mixed, images), target)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    model = unwrapped(model, ("_orig_mod",))
    if any(captures_of(module) for module in model.modules()):
        raise ValueError("model has been given to capture_features before: remove() that handle first")
    if grid is not None:
        if not (isinstance(grid, (tuple, list)) and 1 <= len(grid) <= 3):
            raise ValueError(f"grid must be (h, w), or (l,) for signals, or (t, h, w) for videos, got {grid!r}")
        grid = tuple(checks.count(side, "grid") for side in grid)
    classifier = _classifier(model)
    if layer is None:
        name, incoming = _find(model, classifier)
    else:
        name, incoming = _name(model, layer), False
    watched = unwrapped(model.get_submodule(name))
    capture = _Capture(name, classifier, grid, incoming and isinstance(watched, _POOLS_1D))
    if incoming:
        hooks = [watched.register_forward_pre_hook(_keep_input, with_kwargs=True)]
    else:
        hooks = [watched.register_forward_hook(_keep_output)]
    linear = capture.linear(model)
    if linear is not None:
        hooks.append(linear.register_forward_pre_hook(_keep_weight))
    hooks.append(model.register_forward_pre_hook(capture.open))
    hooks.append(model.register_forward_hook(capture.close, with_kwargs=True, always_call=True))
    reporting = [watched] if linear is None else [watched, linear]
    for module in reporting:
        setattr(module, _SLOT, None)
    _guard_hooks()
    return CaptureHandle(name, hooks, reporting)


def captures_of(model: nn.Module) -> "list[_Capture]":
    """What `capture_features` has put on this module."""
    owners = [getattr(hook, "__self__", None) for hook in model._forward_hooks.values()]
    return [owner for owner in owners if isinstance(owner, _Capture)]


def _guard_hooks() -> None:
    """Let torch.compile distinguish modules with hooks from those without, which it skips by default to save time."""
    import torch._dynamo  # takes seconds, unless an optimizer has been made before

    if torch._dynamo.config.skip_nnmodule_hook_guards:
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # because existing graphs have no such guard


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
    """Names to choose from: the model's parts and their parts, down to a depth with at most 40 names."""
    names, level, depth = [], [name for name, _ in model.named_children()], 0
    while level and len(names) + len(level) <= 40:
        names, depth = names + level, depth + 1
        level = [name for name, _ in model.named_modules() if name.count(".") == depth]
    return ", ".join(map(repr, names or level[:40])) or "no modules"


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
    """Whether it is AdaptiveAvgPool2d or similar, including timm's SelectAdaptivePool2d."""
    return "Adaptive" in type(module).__name__ and "Pool" in type(module).__name__


def _find(model: nn.Module, classifier: str | None) -> tuple[str, bool]:
    """The layer, and whether the map is its input (of a pooling layer) or its output."""
    modules = dict(model.named_modules())
    parts = [name for name, part in model.named_children() if next(part.parameters(), None) is not None]
    if len(parts) == 1 and classifier is not None and classifier.startswith(f"{parts[0]}."):  # an adapter
        name, incoming = _find(modules[parts[0]], classifier.removeprefix(f"{parts[0]}."))
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
        if _is_global_pool(modules[name]) and not any(_is_convolution(modules[later]) for later in names[place:]):
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
        raise ValueError(f"no feature map was found in {type(model).__name__}: name its layer, of {_candidates(model)}")
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
        convolves |= any(_is_convolution(part) for part in module.modules())
        if convolves and not isinstance(module, (nn.Flatten, nn.Dropout, nn.Linear)):
            body = name
            while isinstance(module, nn.ModuleList) and len(module) > 0:  # which is not called itself
                body, module = f"{body}.{len(module) - 1}", module[-1]
    return body


def _is_head(module: nn.Module, classes: int | None) -> bool:
    """A classifier, with what goes with it: there may be several."""
    parts = list(module.modules())
    ends = any(isinstance(part, nn.Linear) and part.out_features == classes for part in parts)
    return ends and not any(_is_convolution(part) for part in parts)


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))


def _width(classifier: nn.Module | None) -> int | None:
    return None if classifier is None else classifier.in_features


def _classes(classifier: nn.Module | None) -> int | None:
    return classifier.num_classes if isinstance(classifier, SUMixHead) else getattr(classifier, "out_features", None)


class _Pass:
    """One forward pass of a captured model: what its layers report."""

    def __init__(self, outer: "_Pass | None", wanted: bool) -> None:
        self.outer = outer  # the pass during which the model called itself, or one that Ctrl-C interrupted
        self.wanted = wanted  # whether the model returns the map
        self.map: Tensor | str | None = None  # a str: the type of what was found instead
        self.weight: Tensor | None = None

    def __reduce__(self) -> Any:
        """Copies and pickles of the model do not contain the current pass."""
        return _nothing, ()


def _nothing() -> None:
    pass


def _keep(module: nn.Module, output: Any) -> None:
    current = getattr(module, _SLOT, None)
    if current is not None and current.wanted:
        found = _tensor_in(output)
        current.map = type(output).__name__ if found is None else found.detach()


def _keep_output(module: nn.Module, inputs: tuple, output: Any) -> None:
    _keep(module, output)


def _keep_input(module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
    _keep(module, (*inputs, *named.values()))


def _keep_weight(module: nn.Module, inputs: tuple) -> None:
    """Keep the weight now, because FSDP gathers it just before the layer runs and frees it right after."""
    current = getattr(module, _SLOT, None)
    if current is not None and current.wanted:
        current.weight = lasting(module.weight)


def _parts(output: Any) -> list[Any]:
    if isinstance(output, Mapping):
        return list(output.values())
    return list(output) if isinstance(output, (tuple, list)) else [output]


def _part(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _tensor_in(output: Any) -> Tensor | None:
    """A layer's map: the output itself, its `last_hidden_state` (transformers), or the first part that may be a map."""
    last = None if isinstance(output, Tensor) else _part(output, "last_hidden_state")
    parts = [part for part in [last, *_parts(output)] if isinstance(part, Tensor)]
    return next((part for part in parts if part.ndim > 2), parts[0] if parts else None)


def _logits_in(output: Any, classes: int | None) -> Tensor | SUMixOutput | None:
    """The part named logits, else the first (N, K), with the classifier's K where that is known."""
    if isinstance(output, (Tensor, SUMixOutput)):
        return None if isinstance(output, Tensor) and output.ndim < 2 else output
    named = _part(output, "logits")
    if isinstance(named, (Tensor, SUMixOutput)):
        return named
    rows = []
    for part in _parts(output):
        logits = part.logits if isinstance(part, SUMixOutput) else part
        if isinstance(logits, Tensor) and logits.ndim == 2 and logits.is_floating_point():
            if logits.shape[1] == classes:
                return part
            rows.append(part)
    return rows[0] if rows else None


class _Capture:
    """The model's own hooks: they open a pass before it runs, and return the map with the logits after it.

    They know layers by name, so that a copy of the model, or a replica on another device, finds its own.
    """

    def __init__(self, layer: str, classifier: str | None, grid: tuple[int, ...] | None, channels_first: bool) -> None:
        self.layer, self.classifier, self.grid, self.channels_first = layer, classifier, grid, channels_first
        self.in_eval = False  # whether to return the map in eval mode too

    def linear(self, model: nn.Module) -> nn.Linear | None:
        """The layer that has the class weights."""
        if self.classifier is None:
            return None
        classifier = unwrapped(model.get_submodule(self.classifier))
        return unwrapped(classifier.classifier) if isinstance(classifier, SUMixHead) else classifier

    def open(self, model: nn.Module, inputs: tuple) -> None:
        """Let the layers report to a new pass; in eval mode none is needed but within another."""
        layer, linear = unwrapped(model.get_submodule(self.layer)), self.linear(model)
        outer, wanted = getattr(layer, _SLOT, None), model.training or self.in_eval
        if wanted or outer is not None:
            current = _Pass(outer, wanted)
            setattr(layer, _SLOT, current)
            if linear is not None:
                setattr(linear, _SLOT, current)

    def close(self, model: nn.Module, inputs: tuple, named: dict[str, Any], output: Any) -> SUMixOutput | None:
        """End it; `output` is None where the model raised an exception."""
        layer, linear = unwrapped(model.get_submodule(self.layer)), self.linear(model)
        current = getattr(layer, _SLOT, None)
        if current is None:  # in eval mode
            return None
        setattr(layer, _SLOT, current.outer)
        if linear is not None:
            setattr(linear, _SLOT, current.outer)
        if output is None or not current.wanted:
            return None
        return self._output(model, (*inputs, *named.values()), output, current, linear)

    def _output(
        self, model: nn.Module, inputs: tuple, output: Any, current: _Pass, linear: nn.Linear | None
    ) -> SUMixOutput:
        found = _logits_in(output, None if linear is None else linear.out_features)
        if found is None:
            raise ValueError(
                f"the model must return logits (N, K) for capture_features, alone or as part of a tuple, dict or "
                f"ModelOutput, got {type(output).__name__}"
            )
        logits, uncertainty = (found, None) if isinstance(found, Tensor) else (found.logits, found.uncertainty)
        if not isinstance(current.map, Tensor):
            what = "was not used" if current.map is None else f"gave a {current.map}"
            raise ValueError(f"layer {self.layer!r} {what}: name another, of {_candidates(model)}")
        width = None if linear is None else linear.in_features
        features = self._as_map(model, inputs, current.map, width)
        if features.shape[0] != logits.shape[0]:
            raise ValueError(
                f"layer {self.layer!r} gave {checks.shape(features)}, but the logits are of "
                f"{logits.shape[0]} samples: name another, of {_candidates(model)}"
            )
        if features.shape[2:].numel() == 1:
            raise ValueError(
                f"the map of layer {self.layer!r} has only one place, so it cannot say what lies where: the images "
                f"are too small for this model; name an earlier layer, of {_candidates(model)}"
            )
        weight = current.weight
        if weight is not None and weight.shape != (logits.shape[-1], features.shape[1]):
            weight = None
        return SUMixOutput(logits, uncertainty, features, weight, None if found is output else output)

    def _as_map(self, model: nn.Module, inputs: tuple, x: Tensor, width: int | None) -> Tensor:
        """(N, D, h, w), (N, D, t, h, w) for videos, or (N, D, l) for signals."""
        owners = _owners(model, self.layer)
        if self.layer.endswith("features") and any(
            kind.__module__ == "torchvision.models.densenet" for kind in type(owners[-1]).__mro__
        ):
            x = F.relu(x)  # its last ReLU is no module
        given = [part for one in inputs for part in _parts(one)]
        images = next((part for part in given if isinstance(part, Tensor) and part.ndim > 2), None)
        if x.ndim in (4, 5) and self.grid is None:
            return x.movedim(-1, 1) if _is_channels_last(x, images, width) else x
        if x.ndim != 3:
            takes = "" if self.grid is None else " that grid could arrange"
            raise ValueError(
                f"layer {self.layer!r} gave {checks.shape(x)}, which is no map (N, D, h, w) and no tokens "
                f"(N, L, D){takes}: name another, of {_candidates(model)}"
            )
        channels_first = self.channels_first or x.shape[1] == width != x.shape[2]
        if channels_first and self.grid is None and images is not None and images.ndim == 3:
            return x
        tokens = x if channels_first else x.transpose(1, 2)
        grid = self.grid or _grid(owners, images, tokens.shape[2])
        places = math.prod(grid)
        if places > tokens.shape[2]:
            raise ValueError(f"grid must fit the {tokens.shape[2]} tokens of layer {self.layer!r}, got {grid}")
        return tokens[:, :, tokens.shape[2] - places :].unflatten(2, grid)


def _is_channels_last(x: Tensor, images: Tensor | None, width: int | None) -> bool:
    """Decided by the classifier's input features, else by which layout has the images' proportions."""
    if width in (x.shape[1], x.shape[-1]):
        return x.shape[1] != width
    if images is None or images.ndim != x.ndim:
        return False

    def skew(h: int, w: int) -> float:
        ratio = h * images.shape[-1] / (w * images.shape[-2])
        return max(ratio, 1 / ratio)

    return skew(*x.shape[-3:-1]) < skew(*x.shape[-2:])


def _owners(model: nn.Module, layer: str) -> list[nn.Module]:
    """The modules that the layer is a part of, the model first."""
    names = layer.split(".")
    return [unwrapped(model.get_submodule(".".join(names[:depth]))) for depth in range(len(names))]


def _grid(owners: Sequence[nn.Module], images: Tensor | None, length: int) -> tuple[int, int]:
    """(h, w) of that many tokens: what a timm model says, if it fits, else that of images cut into square patches."""
    for model in owners:
        prefix = getattr(model, "num_prefix_tokens", None)
        known = getattr(getattr(model, "patch_embed", None), "grid_size", None)
        if prefix is not None and known is not None and math.prod(known) + prefix == length:
            return tuple(known)
    if images is not None and images.ndim == 4:
        height, width = images.shape[2:]
        for places in range(length, max(length - MOST_PREFIX_TOKENS, 1) - 1, -1):
            patch = math.isqrt(height * width // places)
            h, w = height // max(patch, 1), width // max(patch, 1)
            if h * w == places and (h * patch, w * patch) == (height, width):
                return h, w
    raise ValueError(f"{length} tokens do not fit images cut into squares: give capture_features their grid=(h, w)")
