"""One training step of every method that the study and the demo compare."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sumix
from sumix import Mixer, MixTarget, SUMixHead, SUMixLoss, forward_pair
from sumix.evidence import Evidence, NetworkEvidence
from sumix.reference import GATE

ALPHA = {"CutMix": 0.2, "SaliencyMix": 0.2, "FMix": 0.2, "ResizeMix": 1.0, "MixUp": 10.0}  # the papers'


@dataclass(frozen=True)
class Row:
    """A way to train.

    Attributes
    ----------
    about : str
        What tables call it.
    mixer : str or None
        A class of sumix.
    evidence : {"area", "network", "true"}
        What labels follow, and where ForegroundMix cuts: pixels, the maps of the network that is being trained, or the
        true masks.
    rule : str
        From what is visible to the labels' weights.
    p : float
        Probability of mixing, for each sample.
    smoothing : float
        Label smoothing.
    kind : {"plain", "published", "regmixup", "area labels", "feature labels", "wrong masks", "no gate"}
        The published SUMix loss; RegMixup's sum of the raw and the mixed batch's losses; controls of ForegroundMix: its
        pastes labelled by area, or by the evidence "feature"; pastes through the mask of another image's object,
        labelled by evidence; and pastes whether an object stands out or not.
    longer : float
        How many times as many steps as the others.
    """

    about: str
    mixer: str | None = None
    evidence: str = "area"
    rule: str = "relative"
    p: float = 1.0
    smoothing: float = 0.0
    kind: str = "plain"
    longer: float = 1.0


def _rows() -> dict[str, Row]:
    """Every row by its key; "-ls" are the same with label smoothing."""
    rows = {
        "none": Row("no mixing"),
        "none-2x": Row("no mixing, twice as long", longer=2.0),
        "cutmix": Row("CutMix, area", "CutMix"),
        "cutmix-half": Row("CutMix, area, p 0.5", "CutMix", p=0.5),
        "saliencymix": Row("SaliencyMix, area", "SaliencyMix"),
        "fmix": Row("FMix, area", "FMix"),
        "resizemix": Row("ResizeMix, area", "ResizeMix"),
        "published": Row("CutMix + published SUMix", "CutMix", kind="published"),
        "cutmix-fg": Row("CutMix, foreground", "CutMix", "network"),
        "cutmix-fg-uncertain": Row("CutMix, foreground, uncertain", "CutMix", "network", "uncertain"),
        "cutmix-fg-half": Row("CutMix, foreground, p 0.5", "CutMix", "network", p=0.5),
        "cutmix-true": Row("CutMix, true masks", "CutMix", "true"),
        "regmixup": Row("RegMixup", "MixUp", kind="regmixup"),
        "fgmix": Row("ForegroundMix", "ForegroundMix", "network", p=0.5),
        "fgmix-true": Row("ForegroundMix, true masks", "ForegroundMix", "true", p=0.5),
        "fgmix-area": Row("ForegroundMix's pastes, area", "ForegroundMix", "network", p=0.5, kind="area labels"),
        "fgmix-feature": Row("its pastes, feature", "ForegroundMix", "network", p=0.5, kind="feature labels"),
        "fgmix-wrong": Row("pastes of another's mask", "ForegroundMix", "network", p=0.5, kind="wrong masks"),
        "fgmix-open": Row("ForegroundMix without a gate", "ForegroundMix", "network", p=0.5, kind="no gate"),
    }
    smooth = {
        f"{key}-ls": Row(**{**vars(row), "about": f"{row.about}, smoothing", "smoothing": 0.1})
        for key, row in rows.items()
        if row.kind != "published"
    }
    return rows | smooth


ROWS = _rows()


class Step:
    """The loss of one batch, by a row's method.

    Parameters
    ----------
    row : Row
        The method.
    model : nn.Module
        In training mode; the published loss needs a SUMixHead, see `with_head`.
    num_classes : int
        K.
    statistics : dict
        `mean` and `std` of the images, for mixers that look at pixels.
    """

    def __init__(self, row: Row, model: nn.Module, num_classes: int, statistics: dict[str, Any]) -> None:
        self.row, self.model, self.num_classes = row, model, num_classes
        self.mix = None if row.mixer is None else mixer(row, statistics)
        self.criterion = SUMixLoss(gamma=0.5, ratio="published", weighting="batch") if row.kind == "published" else None
        gate = None if row.kind == "no gate" else GATE
        self.evidence = NetworkEvidence(model, gate=gate) if row.evidence == "network" else None
        self.feature = NetworkEvidence(model, "feature") if row.kind == "feature labels" else None

    def mixed(self, images: Tensor, labels: Tensor, masks: Tensor | None, seed: int) -> tuple[Tensor, MixTarget]:
        """Mixed images and their target."""
        row = self.row
        if row.evidence == "area":
            return self.mix(images, labels, seed=seed)
        evidence = Evidence(masks, None) if self.evidence is None else self.evidence(images)
        if row.kind == "feature labels":
            mixed, target = self.mix(images, labels, evidence, seed=seed)
            return mixed, target.relabel(Evidence(self.feature(images).map, evidence.gate), row.rule)
        if row.kind == "wrong masks":
            others = torch.arange(len(labels)).roll(1)
            mixed, target = self.mix(images, labels, evidence[others], seed=seed)
            return mixed, target.relabel(evidence, row.rule)
        return self.mix(images, labels, evidence, seed=seed)

    def __call__(self, images: Tensor, labels: Tensor, masks: Tensor | None, seed: int) -> Tensor:
        """The loss; equal seeds give equal partners and boxes whatever the row."""
        smoothing = self.row.smoothing
        if self.mix is None:
            return F.cross_entropy(self.model(images), labels, label_smoothing=smoothing)
        mixed, target = self.mixed(images, labels, masks, seed)
        if self.criterion is not None:
            return self.criterion(*forward_pair(self.model, mixed, images, in_turn=True), target)
        soft = target.soft(self.num_classes, smoothing)
        if self.row.kind == "regmixup":
            of_mixed, of_raw = forward_pair(self.model, mixed, images)
            return F.cross_entropy(of_raw, labels, label_smoothing=smoothing) + F.cross_entropy(of_mixed, soft)
        return F.cross_entropy(self.model(mixed), soft)


def mixer(row: Row, statistics: dict[str, Any]) -> Mixer:
    """The row's mixer."""
    options: dict[str, Any] = {"p": row.p}
    if row.mixer == "ForegroundMix":
        options["rule"] = None if row.kind in ("area labels", "feature labels", "wrong masks") else row.rule
    else:
        options["alpha"] = ALPHA[row.mixer]
        options["rule"] = None if row.evidence == "area" else row.rule
    if row.mixer == "SaliencyMix":
        options |= statistics
    return getattr(sumix, row.mixer)(**options)


def with_head(model: nn.Module, classifier: str) -> nn.Module:
    """The same network with a SUMixHead in place of its linear layer of this name, and with the same weights."""
    linear = model.get_submodule(classifier)
    head = SUMixHead(linear.in_features, linear.out_features)
    head.classifier.load_state_dict(linear.state_dict())
    setattr(model, classifier, head)
    return model
