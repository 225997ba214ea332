"""The containers in which batches come: tuples, lists and dictionaries, as torchvision's v2 transforms take them."""

import copy
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree

from sumix import tv_tensors
from sumix.evidence.evidence import Evidence, as_evidence

ABSENT: Any = object()  # labels that were not given
IMAGE_NAMES = ("image", "images", "pixel_values", "img", "imgs", "input", "inputs", "x", "video", "videos")

Path = tuple[Any, ...]


class Extra(NamedTuple):
    """A tensor that is mixed along."""

    plain: Tensor  # an ordinary tensor
    name: str  # in messages
    kind: str  # what torchvision calls it, or ""
    given: Tensor  # as the caller passed it


class Batch(NamedTuple):
    """What a mixer works on, and what it makes of the result."""

    images: Tensor
    labels: Tensor
    seed: Tensor
    evidence: Evidence | None
    extras: list[Extra]
    like: Tensor | None  # the images as they came, if they are torchvision's
    inputs: "Inputs | None"  # the container, if there was one

    def returned(self, mixed: Tensor, target: Any, others: list[Tensor]) -> Any:
        """Images, target and extras in the types and the container in which they came."""
        if self.like is not None:
            mixed = tv_tensors.wrap(mixed, self.like)
        if others:
            pairs = zip(others, self.extras, strict=True)
            others = [tv_tensors.wrap(x, extra.given) if extra.kind else x for x, extra in pairs]
        if self.inputs is None:
            return mixed, target, *others
        return self.inputs.rebuilt(mixed, target, *others)


def check_getter(value: Any) -> None:
    """Fail unless `value` is what labels can be found by."""
    if value != "default" and not callable(value):
        raise TypeError(f"labels_getter must be 'default' or a callable, got {value!r}: there is no mix without labels")


class Inputs:
    """A batch in one container, and where in it the images and the labels are.

    Parameters
    ----------
    container : tuple, list or mapping
        (images, labels, ...), or a mapping that holds both, or (images, mapping that holds the labels, ...).
    labels_getter : "default" or callable
        As in torchvision: what finds the labels in the container. By default they are the second item, or what the
        mapping has under "labels", "label", or the first key in which "label" occurs.
    """

    def __init__(self, container: Any, labels_getter: str | Callable[[Any], Any] = "default") -> None:
        if not isinstance(container, (tuple, list, Mapping)):
            raise TypeError(
                "labels must be given: mix(images, labels), mix((images, labels)) or mix({'image': images, 'label': "
                f"labels}}), got {type(container).__name__} alone"
            )
        self.container = container
        self.parts = dict(_parts(container))
        self.labels_at = self._labels() if labels_getter == "default" else self._found_by(labels_getter)
        self.images_at = self._images()
        self.images, self.labels = self.parts[self.images_at], self.parts[self.labels_at]
        self.evidence_at: Path | None = None

    def _labels(self) -> Path:
        within: Path = ()
        labelled = self.container
        if not isinstance(labelled, Mapping):
            if len(labelled) < 2:
                raise ValueError(f"a batch must be (images, labels, ...), got {len(labelled)} of them")
            within, labelled = (1,), labelled[1]
            if not isinstance(labelled, Mapping):
                return within
        names = [key for key in labelled if isinstance(key, str)]
        for fits in (lambda key: key == "labels", lambda key: key == "label", lambda key: "label" in key):
            for key in names:
                if fits(key.lower()):
                    return (*within, key)
        raise ValueError(
            f"labels must be under a key like 'label', got the keys {list(labelled)}; labels_getter= helps"
        )

    def _found_by(self, getter: Callable[[Any], Any]) -> Path:
        labels = getter(self.container)
        for path, part in self.parts.items():
            if part is labels:
                return path
        raise ValueError(f"labels_getter must return one of the batch's tensors itself, got {type(labels).__name__}")

    def _images(self) -> Path:
        others = {path: part for path, part in self.parts.items() if path != self.labels_at and len(path) == 1}
        for path, part in others.items():
            if tv_tensors.is_image(part):
                return path
        if not isinstance(self.container, Mapping):
            if self.labels_at[0] == 1 and (0,) in others:
                return (0,)
            for path, part in others.items():
                if isinstance(part, Tensor) and part.ndim > 1:
                    return path
        else:
            named = {key.lower(): (key,) for (key,) in others if isinstance(key, str)}
            for name in IMAGE_NAMES:
                if name in named:
                    return named[name]
        found = [path for path, part in others.items() if isinstance(part, Tensor) and part.ndim >= 3]
        if len(found) == 1:
            return found[0]
        raise ValueError(
            f"images must be under one of the keys {', '.join(map(repr, IMAGE_NAMES))}, or the only tensor of three "
            f"dimensions or more; got {[path[0] for path in self.parts]}"
        )

    def evidence(self) -> Any:
        """The part that is Evidence, or under the key "evidence", or the first after images and labels; else None.

        Bare maps bring their gates along, if they have any.
        """
        others = [path for path in self.parts if path not in (self.images_at, self.labels_at)]
        kept = [path for path in others if isinstance(self.parts[path], Evidence)]
        named = [path for path in others if path[-1] == "evidence"]
        third = [] if isinstance(self.container, Mapping) else [path for path in others if len(path) == 1]
        for path in (*kept, *named, *third):
            self.evidence_at = path
            return self._gated(path)
        return None

    def _gated(self, path: Path) -> Any:
        """The evidence there, with the gates (N,) after it or under "gate", as EvidenceDataset's items have them."""
        found = self.parts[path]
        gate = self.parts.get((*path[:-1], path[-1] + 1 if isinstance(path[-1], int) else "gate"))
        if isinstance(found, Tensor) and isinstance(gate, Tensor) and gate.ndim == 1 and gate.is_floating_point():
            return replace(as_evidence(found), gate=gate)
        return found

    def along(self) -> tuple[list[Any], list[str]]:
        """The parts that are mixed like the images, and their names; what describes a sample is left out."""
        self.mixed_at: list[Path] = []
        for path, part in self.parts.items():
            if path not in (self.images_at, self.labels_at, self.evidence_at) and _has_places(part):
                self.mixed_at.append(path)
        names = ["batch" + "".join(f"[{key!r}]" for key in path) for path in self.mixed_at]
        return [self.parts[path] for path in self.mixed_at], names

    def rebuilt(self, images: Any, target: Any, *others: Any) -> Any:
        """The container, with these in place of what they were made from."""
        changed = {self.images_at: images, self.labels_at: target, **dict(zip(self.mixed_at, others, strict=True))}
        return _replaced(self.container, changed)


def _parts(container: Any) -> Iterator[tuple[Path, Any]]:
    """Each value of a container with its place, and each value of a mapping in it."""
    items = container.items() if isinstance(container, Mapping) else enumerate(container)
    for key, value in items:
        if isinstance(value, Mapping):
            yield from (((key, inner), part) for inner, part in value.items())
        else:
            yield (key,), value


def _has_places(part: Any) -> bool:
    """Whether there is anything in it that a mix would have to move: more than one number or text per sample."""
    if isinstance(part, Mapping):
        return any(_has_places(inner) for inner in part.values())
    most = 1 if hasattr(part, "ndim") else 0  # a list of tensors (N,), as of boxes, holds several numbers per sample
    leaves = [part] if isinstance(part, Tensor) else _pytree.tree_leaves(part)
    return any(
        getattr(leaf, "ndim", 0) > most or tv_tensors.is_one(leaf) or tv_tensors.is_picture(leaf) for leaf in leaves
    )


def _replaced(container: Any, changed: dict[Path, Any]) -> Any:
    first = {path[0]: value for path, value in changed.items() if len(path) == 1}
    for key in {path[0] for path in changed if len(path) == 2}:
        first[key] = _replaced(container[key], {path[1:]: value for path, value in changed.items() if path[0] == key})
    if isinstance(container, Mapping):
        # A copy of another mapping may hold the same dictionary, and the batch that was given must stay as it was.
        keeps_kind = isinstance(container, (dict, UserDict)) and type(container) is not dict
        rebuilt = copy.copy(container) if keeps_kind else dict(container)
        for key, value in first.items():
            rebuilt[key] = value
        return rebuilt
    values = [first.get(at, value) for at, value in enumerate(container)]
    return type(container)(*values) if hasattr(container, "_fields") else type(container)(values)
