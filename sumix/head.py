"""The classifier head with an uncertainty branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from sumix import ops
from sumix.ops import checks, dispatch
from sumix.rows import Rows


@dataclass(eq=False)
class SUMixOutput(Rows):
    """What `SUMixHead`, or a model under `capture_features`, returns in training mode and `SUMixLoss` takes.

    `len`, slices, `chunk` and `split` are those of the samples, and `to` is that of its tensors. It unpacks into its
    four parts.
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

    def __post_init__(self) -> None:
        """Take the parts from an iterator, too: torch.nn.DataParallel gathers the replicas' outputs so."""
        if isinstance(self.logits, Iterator):
            self.logits, self.uncertainty, self.features, self.class_weight = self.logits

    def __iter__(self) -> Iterator[Tensor | None]:
        """The four parts."""
        return iter([getattr(self, field.name) for field in fields(self)])

    def to(self, *args: Any, **kwargs: Any) -> SUMixOutput:
        """The same on another device, or in another floating point type: as Tensor.to."""
        return self._map(lambda part: part.to(*args, **kwargs))

    def float(self) -> SUMixOutput:
        """The same in float32."""
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
        return SUMixOutput(logits, uncertainty, maps, self.classifier.weight.detach())

    def extra_repr(self) -> str:
        """The options, for repr()."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}, normalized={self.normalized}"
