"""The classifier head with an uncertainty branch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from sumix import ops
from sumix.ops import checks, dispatch
from sumix.rows import Rows

# Attributes in which torch.compile, FSDP1 and activation checkpointing keep the module that they wrap.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(eq=False)
class SUMixOutput(Rows):
    """What `SUMixHead`, or a model under `capture_features`, returns in training mode and `SUMixLoss` takes.

    `len`, slices, `chunk` and `split` are those of the samples, and `to` is that of its tensors. It unpacks into its
    five parts, logits to fine. Where the model `returned` more than logits, that is accessed as before,
    `output.loss`, `output["loss"]`, `output[0]`, so that code for Hugging Face's models keeps working.
    """

    WHOLE = ("class_weight",)
    ADVICE = "metrics and other losses take output.logits"

    logits: Tensor
    """(N, K)."""
    uncertainty: Tensor | None = None
    """(N, K), or None in the plain form, where the loss uses the logits."""
    features: Tensor | None = None
    """(N, D, h, w): the feature map that the head was given, without gradient; None if it was given pooled features."""
    class_weight: Tensor | None = None
    """(K, D): the classifier's weight, without gradient."""
    fine: Tensor | None = None
    """(N, d, H, W): the last map of the stage before, without gradient; None if there is none, or no finer one."""
    returned: Any = None
    """What the model itself returned under `capture_features`, where that is more than logits: a ModelOutput, dict or
    tuple. Slices of the output are without it."""

    def __post_init__(self) -> None:
        """Take the parts from an iterator too: torch.nn.DataParallel gathers the replicas' outputs that way."""
        if isinstance(self.logits, Iterator):
            for field, part in zip(fields(self), list(self.logits), strict=False):
                setattr(self, field.name, part)

    def __iter__(self) -> Iterator[Any]:
        """The five parts, and `returned` if there is one."""
        parts = [getattr(self, field.name) for field in fields(self)]
        return iter(parts[:-1] if self.returned is None else parts)

    def __getitem__(self, rows: Any) -> Any:
        """Some of the samples, or, for a name or number, that part of what the model returned."""
        if isinstance(rows, (str, int)) and self.returned is not None:
            return self.returned[rows]
        return super().__getitem__(rows)

    def __contains__(self, name: object) -> bool:
        """Whether what the model returned has a part of this name."""
        return isinstance(self.returned, Mapping) and name in self.returned

    def __getattr__(self, name: str) -> Any:
        """Look the name up in what the model returned."""
        returned = vars(self).get("returned")
        if returned is not None and not name.startswith("_") and hasattr(returned, name):
            return getattr(returned, name)
        return super().__getattr__(name)

    def _map(self, fn: Callable[[Tensor], Any], whole: bool = True) -> SUMixOutput:
        """A copy with `fn` applied to each tensor; what the model returned is dropped where samples are selected."""
        mapped = super()._map(fn, whole)
        mapped.returned = _pytree.tree_map_only(Tensor, fn, self.returned) if whole else None
        return mapped

    def to(self, *args: Any, **kwargs: Any) -> SUMixOutput:
        """A copy on another device or in another floating point type, like Tensor.to."""
        return self._map(lambda part: part.to(*args, **kwargs))

    def float(self) -> SUMixOutput:
        """A copy in float32."""
        return self.to(torch.float32)


class SUMixHead(nn.Module):
    r"""Linear classifier that also estimates its uncertainty: in place of a network's last linear layer.

    In training mode it returns `SUMixOutput(logits, uncertainty, features, class_weight)`, in eval mode the logits
    alone, so that evaluation code needs no change. The uncertainty is :math:`u = q / \|q\|_2` with
    :math:`q = \mathrm{softmax}(W_u f + b_u)` of a second linear layer (`ops.uncertainty`).

    Parameters
    ----------
    in_features : int
        D, the number of features.
    num_classes : int
        K.
    normalized : bool
        False is the plain form, which the paper uses for ImageNet: no second layer, the logits are the uncertainty.
        Mind the note on it at `SUMixLoss`.
    bias : bool
        Whether the linear layers have one.

    Notes
    -----
    It takes checkpoints of the layer that it replaces: `load_state_dict` reads `fc.weight` and `fc.bias` as its
    classifier's, and warns that the uncertainty branch keeps the values it has. `plain_state_dict` is the way back.

    class_weight is the classifier's own weight, or a copy of it where torch.distributed is initialised, because FSDP
    frees the weight itself.

    Shape
    -----
    Input (N, D), or a feature map (N, D, h, w), which is averaged over its places. Logits and uncertainty (N, K).

    Examples
    --------
    >>> model = torchvision.models.resnet18()
    >>> model.fc = SUMixHead(512, num_classes=100)

    References
    ----------
    Qin et al., "SUMix: Mixup with Semantic and Uncertain Information", ECCV 2024, section 3.
    """

    __prepare_scriptable__ = dispatch.refuse_script

    def __init__(self, in_features: int, num_classes: int, *, normalized: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.in_features = checks.count(in_features, "in_features")
        self.num_classes = checks.count(num_classes, "num_classes")
        self.normalized = checks.flag(normalized, "normalized")
        checks.flag(bias, "bias")
        self.classifier = nn.Linear(in_features, num_classes, bias=bias)
        self.uncertainty = nn.Linear(in_features, num_classes, bias=bias) if normalized else None

    def forward(self, features: Tensor) -> SUMixOutput | Tensor:
        """Logits of (N, D) or (N, D, h, w) features, in training mode with their uncertainty."""
        checks.floating(features, "features", distributed=True)
        fits = features.ndim in (2, 4) and features.shape[1] == self.in_features
        if not fits or (features.ndim == 4 and 0 in features.shape[2:]):
            d = self.in_features
            raise ValueError(f"features must be (N, {d}) or (N, {d}, h, w), got {checks.shape(features)}")
        pooled = features if features.ndim == 2 else features.mean(dim=(2, 3))
        logits = self.classifier(pooled)
        if not self.training:
            return logits
        uncertainty = None if self.uncertainty is None else ops.uncertainty(self.uncertainty(pooled))
        maps = features.detach() if features.ndim == 4 else None
        return SUMixOutput(logits, uncertainty, maps, lasting(self.classifier.weight))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the weight and bias of a plain linear layer for the classifier's."""
        plain = [name for name in ("weight", "bias") if prefix + name in state_dict]
        if plain and not any(key.startswith(prefix + "classifier.") for key in state_dict):
            for name in plain:
                state_dict[f"{prefix}classifier.{name}"] = state_dict.pop(prefix + name)
            if self.uncertainty is not None and not any(key.startswith(f"{prefix}uncertainty.") for key in state_dict):
                own = self.uncertainty.state_dict(prefix=f"{prefix}uncertainty.")
                state_dict.update(own)
                warnings.warn(
                    f"{prefix[:-1] or 'SUMixHead'}: the checkpoint has a plain linear layer, which becomes the "
                    "classifier; the uncertainty branch keeps the values it has",
                    stacklevel=2,
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """The options, for repr()."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}, normalized={self.normalized}"


def lasting(weight: Tensor) -> Tensor | None:
    """The weight without gradient, for use after the forward pass, when FSDP may have freed or sharded it.

    None if it has been freed already, which FSDP1 does where the linear layer is a unit of its own.
    """
    weight = weight.detach()
    if hasattr(weight, "full_tensor"):
        return weight.full_tensor()
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return weight
    if not torch.compiler.is_compiling() and weight.untyped_storage().size() == 0:
        return None
    return weight.clone()


def plain_state_dict(model: nn.Module) -> dict[str, Any]:
    """`model.state_dict()` as if each `SUMixHead` were a torch.nn.Linear, for use without sumix.

    Parameters
    ----------
    model : nn.Module
        With or without a SUMixHead; out of DistributedDataParallel, DataParallel and torch.compile.

    Returns
    -------
    dict of str to Tensor
        `fc.classifier.weight` of the head "fc" is `fc.weight`; the uncertainty branch is left out.

    Raises
    ------
    TypeError
        If `model` is no module.

    Examples
    --------
    >>> torch.save(sumix.plain_state_dict(model), "plain.pt")
    >>> torchvision.models.resnet18(num_classes=100).load_state_dict(torch.load("plain.pt"))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    model = unwrapped(model, ("_orig_mod",))  # FSDP is needed for what it has sharded
    state = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, SUMixHead):
            prefix = f"{name}." if name else ""
            for key in [key for key in state if key.startswith(prefix)]:
                part, _, rest = key[len(prefix) :].partition(".")
                if part == "classifier":
                    state[prefix + rest] = state[key]
                if part in ("classifier", "uncertainty"):
                    del state[key]
    return state


def unwrapped(model: nn.Module, wrappers: tuple[str, ...] = WRAPPERS) -> nn.Module:
    """The module itself, out of data parallelism's wrappers and those that keep it as one of these attributes."""
    while True:
        names = ("module",) if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else wrappers
        inner = next((model._modules[name] for name in names if name in model._modules), None)
        if inner is None:
            return model
        model = inner
