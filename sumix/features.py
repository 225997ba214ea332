"""The last feature map of an existing classifier, and a finer one, without editing it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sumix import warn
from sumix.finer import find_finer
from sumix.head import SUMixOutput, lasting, unwrapped
from sumix.layers import Layers, classifier_of, find, named
from sumix.maps import map_in, part_of, parts
from sumix.ops import checks

COARSE = 9  # the most places of a map that is not worth much

_SLOT = "_sumix_forward_pass"  # attribute of the watched layers: the forward pass that they report to


class CaptureHandle:
    """What `capture_features` returns: `remove()` undoes it, and so does leaving it as a context manager."""

    def __init__(
        self, layers: Layers, hooks: Sequence[torch.utils.hooks.RemovableHandle], reporting: Sequence[nn.Module]
    ) -> None:
        self.layer = layers.coarse
        """Name of the layer whose map is captured."""
        self.fine = layers.fine
        """Name of the layer of the finer map, or None."""
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
        return f"CaptureHandle(layer={self.layer!r}, fine={self.fine!r})"


def capture_features(
    model: nn.Module,
    layer: str | nn.Module | None = None,
    *,
    fine: str | nn.Module | bool | None = None,
    grid: Sequence[int] | None = None,
) -> CaptureHandle:
    """Make a classifier return its last feature map and a finer one too, in training mode, as evidence for `SUMixLoss`.

    Forward hooks change the model itself. From then on, in training mode, it returns `SUMixOutput(logits,
    uncertainty, features, class_weight, fine)`, with an uncertainty where its head is a `SUMixHead`. In eval mode it
    returns what it always did. The maps are those that the forward pass computes anyway, detached; nothing is copied.

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
    fine : str, nn.Module or False, optional
        The layer whose output is the finer map (N, d, H, W), in the forms that `layer` has; its sides must be at least
        those of the map. Found automatically, it is the last map of the stage before: layer3 of a ResNet, features.5 of
        torchvision's EfficientNet. The output's `fine` is None with False, and where there is none: vision transformers
        have maps of one size, and evidence then takes `features` for both.
    grid : (int, int), optional
        (h, w) of tokens, the last h * w of which are places; (l,) for signals, (t, h, w) for videos. Without it the
        tokens are arranged as a timm model says, or else as square patches of the images, after up to 16 leading tokens
        (class, registers).

    Returns
    -------
    CaptureHandle
        With `remove()`, and the names of the layers that were found, `layer` and `fine`; usable in a with statement.

    Raises
    ------
    TypeError
        If `model` is not a module, or `layer` or `fine` is of another type.
    ValueError
        If no layer is found (the message names those that there are), or `layer` or `fine` is not part of the model. At
        the first forward pass, also if a layer's output is not a map of the same samples, or the last map has a single
        place, or the finer one is smaller, or there are no logits.

    Warns
    -----
    SUMixWarning
        Once, at a forward pass whose last map has 3 x 3 places or fewer: what it says about places is worth little.

    Notes
    -----
    Hooks live on the modules and find one another by name, so the model can be copied, pickled, wrapped for data
    parallelism, sharded by FSDP, and compiled (fullgraph). The map has shape (N, D, h, w); for tokens and channels-last
    maps it is a view. The hooks keep it only during the forward pass, and not at all if the layer runs outside of one.

    The finer map's layer is found by one forward pass of a copy of the model on torch's meta device, which has shapes
    and no numbers: a second at most, and the model is not touched. Where no such copy can be made or run (a model that
    FSDP has sharded, one that reads values inside tensors), there is no finer map unless `fine` names its layer, or
    capture_features is called before sharding.

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
    layers = choose(model, layer, fine, grid)
    capture = _Capture(layers)
    hooks = watch(model, layers, _keep_output, _keep_input, _keep_fine)
    linear = layers.linear(model)
    if linear is not None:
        hooks.append(linear.register_forward_pre_hook(_keep_weight))
    hooks.append(model.register_forward_pre_hook(capture.open))
    hooks.append(model.register_forward_hook(capture.close, with_kwargs=True, always_call=True))
    reporting = capture.reporting(model)
    for module in reporting:
        setattr(module, _SLOT, None)
    _prepare_compiling()
    return CaptureHandle(layers, hooks, reporting)


def choose(model: nn.Module, layer: Any, fine: Any, grid: Any) -> Layers:
    """The layers that give a model's maps, by what the user said of them."""
    if grid is not None:
        if not (isinstance(grid, (tuple, list)) and 1 <= len(grid) <= 3):
            raise ValueError(f"grid must be (h, w), or (l,) for signals, or (t, h, w) for videos, got {grid!r}")
        grid = tuple(checks.count(side, "grid") for side in grid)
    classifier = classifier_of(model)
    coarse, incoming = find(model, classifier) if layer is None else (named(model, layer, "layer"), False)
    layers = Layers(coarse, incoming, classifier, grid)
    if fine is None:
        return replace(layers, fine=find_finer(model, layers))
    if fine is False:
        return layers
    name = named(model, fine, "fine")
    return layers if name == coarse and not incoming else replace(layers, fine=name, fine_named=True)


def watch(
    model: nn.Module, layers: Layers, on_output: Callable, on_input: Callable, on_fine: Callable
) -> list[torch.utils.hooks.RemovableHandle]:
    """Hooks on the layers that give the maps."""
    coarse, fine = layers.coarse_module(model), layers.fine_module(model)
    if layers.incoming:
        hooks = [coarse.register_forward_pre_hook(on_input, with_kwargs=True)]
    else:
        hooks = [coarse.register_forward_hook(on_output)]
    if fine is not None:
        hooks.append(fine.register_forward_hook(on_fine))
    return hooks


def captures_of(model: nn.Module) -> "list[_Capture]":
    """What `capture_features` has put on this module."""
    owners = [getattr(hook, "__self__", None) for hook in model._forward_hooks.values()]
    return [owner for owner in owners if isinstance(owner, _Capture)]


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, in which it returns its maps if it was given to `capture_features`.

    Afterwards every module is in the mode in which it was.
    """
    modes = [(module, module.training) for module in model.modules()]
    captures = [own for module, _ in modes for own in captures_of(module)]
    try:
        for own in captures:
            own.in_eval = True
        for module, _ in modes:
            vars(module)["training"] = False  # not by Module.__setattr__, which takes several times as long
        yield
    finally:
        for own in captures:
            own.in_eval = False
        for module, mode in modes:
            vars(module)["training"] = mode


def _prepare_compiling() -> None:
    """Let torch.compile distinguish modules with hooks from those without, which it skips by default to save time."""
    import torch._dynamo  # takes seconds, unless an optimizer has been made before

    if torch._dynamo.config.skip_nnmodule_hook_guards:
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # because existing graphs have no such guard
    torch.compiler.assume_constant_result(warn_of_coarse_maps)  # then it runs while a graph is made


def is_coarse(features: Tensor) -> bool:
    """Whether the map has so few places that it cannot say what lies where."""
    return features.ndim == 4 and features.shape[2] * features.shape[3] <= COARSE


def warn_of_coarse_maps() -> None:
    """Say so once."""
    warn.once(
        "coarse maps",
        "sumix: the network's last map has 3 x 3 places or fewer for images of this size, so its evidence of what lies "
        "where is worth little. Take larger images, or name an earlier layer: capture_features(model, layer)",
    )


class _Pass:
    """One forward pass of a captured model: what its layers report."""

    def __init__(self, outer: "_Pass | None", wanted: bool) -> None:
        self.outer = outer  # the pass during which the model called itself, or one that Ctrl-C interrupted
        self.wanted = wanted  # whether the model returns the map
        self.map: Tensor | str | None = None  # a str: the type of what was found instead
        self.fine: Tensor | str | None = None
        self.weight: Tensor | None = None

    def __reduce__(self) -> Any:
        """Copies and pickles of the model do not contain the current pass."""
        return _nothing, ()


def _nothing() -> None:
    pass


def _keep_output(module: nn.Module, inputs: tuple, output: Any) -> None:
    current = getattr(module, _SLOT, None)
    if current is not None and current.wanted:
        current.map = map_in(output)


def _keep_input(module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
    _keep_output(module, inputs, (*inputs, *named.values()))


def _keep_fine(module: nn.Module, inputs: tuple, output: Any) -> None:
    current = getattr(module, _SLOT, None)
    if current is not None and current.wanted:
        current.fine = map_in(output)


def _keep_weight(module: nn.Module, inputs: tuple) -> None:
    """Keep the weight now, because FSDP gathers it just before the layer runs and frees it right after."""
    current = getattr(module, _SLOT, None)
    if current is not None and current.wanted:
        current.weight = lasting(module.weight)


def logits_in(output: Any, classes: int | None) -> Tensor | SUMixOutput | None:
    """The part named logits, else the first (N, K), with the classifier's K where that is known."""
    if isinstance(output, (Tensor, SUMixOutput)):
        return None if isinstance(output, Tensor) and output.ndim < 2 else output
    named = part_of(output, "logits")
    if isinstance(named, (Tensor, SUMixOutput)):
        return named
    rows = []
    for part in parts(output):
        logits = part.logits if isinstance(part, SUMixOutput) else part
        if isinstance(logits, Tensor) and logits.ndim == 2 and logits.is_floating_point():
            if logits.shape[1] == classes:
                return part
            rows.append(part)
    return rows[0] if rows else None


class _Capture:
    """The model's own hooks: they open a pass before it runs, and return the maps with the logits after it."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.in_eval = False  # whether to return the maps in eval mode too

    def reporting(self, model: nn.Module) -> list[nn.Module]:
        """The layers that report to a pass, the one of the last map first."""
        layers = self.layers
        found = [layers.coarse_module(model), layers.fine_module(model), layers.linear(model)]
        return [module for module in found if module is not None]

    def open(self, model: nn.Module, inputs: tuple) -> None:
        """Let the layers report to a new pass; in eval mode none is needed but within another."""
        reporting = self.reporting(model)
        outer, wanted = getattr(reporting[0], _SLOT, None), model.training or self.in_eval
        if wanted or outer is not None:
            current = _Pass(outer, wanted)
            for module in reporting:
                setattr(module, _SLOT, current)

    def close(self, model: nn.Module, inputs: tuple, named: dict[str, Any], output: Any) -> SUMixOutput | None:
        """End it; `output` is None where the model raised an exception."""
        reporting = self.reporting(model)
        current = getattr(reporting[0], _SLOT, None)
        if current is None:  # in eval mode
            return None
        for module in reporting:
            setattr(module, _SLOT, current.outer)
        if output is None or not current.wanted:
            return None
        return self._output(model, (*inputs, *named.values()), output, current)

    def _output(self, model: nn.Module, inputs: tuple, output: Any, current: _Pass) -> SUMixOutput:
        linear = self.layers.linear(model)
        found = logits_in(output, None if linear is None else linear.out_features)
        if found is None:
            raise ValueError(
                f"the model must return logits (N, K) for capture_features, alone or as part of a tuple, dict or "
                f"ModelOutput, got {type(output).__name__}"
            )
        logits, uncertainty = (found, None) if isinstance(found, Tensor) else (found.logits, found.uncertainty)
        features, fine = self.layers.maps(model, current.map, current.fine, inputs, logits.shape[0])
        if is_coarse(features):
            warn_of_coarse_maps()
        weight = current.weight
        if weight is not None and weight.shape != (logits.shape[-1], features.shape[1]):
            weight = None
        returned = None if found is output else output
        return SUMixOutput(logits, uncertainty, features, weight, fine, returned)
