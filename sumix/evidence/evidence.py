"""Where each image's object is, and whether it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sumix import tv_tensors
from sumix.ops import checks
from sumix.rows import Rows


@dataclass(eq=False)
class Evidence(Rows):
    """What says where the label of each *unmixed* image comes from: a map per image, and how far to trust it.

    Mixers take it, `mix(images, labels, evidence)`, and `MixTarget.relabel`. `sumix.evidence.NetworkEvidence` makes it
    from a network's own feature maps; masks that somebody has drawn are evidence as they are.
    """

    ADVICE = "its tensors are evidence.map and evidence.gate"

    map: Tensor
    """(N, h, w), or (N, l) for signals, in any resolution; floating point, bool or integer. Not negative; only ratios
    within a map count."""
    gate: Tensor | None = None
    """(N,), 0 to 1: 0 where no object stands out, so that labels are by area, 1 where the map is to be believed. None:
    1 for all."""

    def checked(self, images: Tensor) -> Evidence:
        """The same, without gradient; fail unless there is a map, and a gate if any, for each of the images."""
        found, n = checks.batch(self.map, "evidence"), images.shape[0]
        found = found.squeeze(1) if found.ndim == 4 and found.shape[1] == 1 else found
        if found.ndim not in (2, 3) or found.shape[0] != n or 0 in found.shape[1:]:
            raise ValueError(f"evidence must be (N, h, w), N = {n}, or (N, l), got {checks.shape(self.map)}")
        if found.is_complex():
            raise TypeError(f"evidence must be floating point, bool or integer, got {found.dtype}")
        checks.same_device(found, "evidence", images, "images")
        gate = self.gate
        if gate is not None:
            gate = checks.ratios(gate, "evidence.gate", images, "images", torch.float32)
        return Evidence(found.detach(), gate)


def as_evidence(given: Any, name: str = "evidence") -> Evidence:
    """Evidence, also of bare masks (N, H, W) or (N, 1, H, W), torchvision's `Mask` included."""
    if isinstance(given, Evidence):
        return given
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be an Evidence or masks (N, H, W), got {checks.kind_of(given)}")
    return Evidence(tv_tensors.plain(given) if tv_tensors.kind_of(given, name) else given)
