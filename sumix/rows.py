"""What `MixTarget` and `SUMixOutput` have in common: named tensors with one row per sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import _pytree
from typing_extensions import Self


class Rows:
    """Base of dataclasses of tensors, whose length, slices and chunks are those of the batch.

    They are not tuples, because code that takes batches apart (DataLoaders, trainers, data parallelism) would take the
    parts of a tuple for samples. They are registered with torch's pytrees, so FSDP, torch.export and torch.func find
    their tensors.
    """

    WHOLE: ClassVar[tuple[str, ...]] = ()  # the tensors that do not have one row per sample
    STATIC: ClassVar[tuple[str, ...]] = ()  # the fields that are not tensors
    ADVICE: ClassVar[str] = ""  # what an error message suggests where code expects a tensor

    def __init_subclass__(cls) -> None:
        """Let torch's pytrees and torch.load(weights_only=True) know the class."""
        _pytree.register_pytree_node(
            cls,
            cls._flatten,
            cls._unflatten,
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
            flatten_with_keys_fn=cls._flatten_with_keys,
        )
        _make_safe(cls)

    def _flatten(self) -> tuple[list[Any], list[list[Any]]]:
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in self.STATIC}
        given = [name for name, part in named.items() if part is not None]
        static = [getattr(self, name) for name in self.STATIC]
        static = [list(value) if isinstance(value, tuple) else value for value in static]  # as JSON gives it back
        return [named[name] for name in given], [given, static]

    def _flatten_with_keys(self) -> tuple[list[Any], Any]:
        parts, context = self._flatten()
        return [(_pytree.GetAttrKey(name), part) for name, part in zip(context[0], parts, strict=True)], context

    @classmethod
    def _unflatten(cls, parts: Any, context: Any) -> Self:
        given, static = context
        static = [tuple(value) if isinstance(value, list) else value for value in static]
        return cls(**dict(zip(given, parts, strict=True)), **dict(zip(cls.STATIC, static, strict=True)))

    def _map(self, fn: Callable[[Tensor], Any], whole: bool = True) -> Self:
        """A copy with `fn` applied to each tensor; if `whole`, also to those that do not have one row per sample."""
        changed = {}
        for field in fields(self):
            part = getattr(self, field.name)
            apply = isinstance(part, Tensor) and (whole or field.name not in self.WHOLE)
            changed[field.name] = fn(part) if apply else part
        return type(self)(**changed)

    def __len__(self) -> int:
        """N, the number of samples."""
        return getattr(self, fields(self)[0].name).shape[0]

    def __getitem__(self, rows: Any) -> Self:
        """Some of the samples, given by a slice, a tensor or list of their indices, or a bool mask (N,)."""
        if isinstance(rows, list):
            rows = torch.tensor(rows, dtype=None if rows else torch.int64, device="cpu")
        if not isinstance(rows, slice) and not (isinstance(rows, Tensor) and rows.ndim == 1):
            kind = type(self).__name__
            raise TypeError(
                f"samples of a {kind} are picked by a slice, or by a tensor or list of their indices, got {rows!r}; "
                f"its parts have names: {', '.join(field.name for field in fields(self))}"
            )
        return self._map(lambda part: part[rows.to(part.device) if isinstance(rows, Tensor) else rows], whole=False)

    def split(self, size: int) -> tuple[Self, ...]:
        """The samples in parts of `size`, the last of which may be smaller, like torch.split."""
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"size must be an int of at least 1, got {size!r}")
        return tuple(self[start : start + size] for start in range(0, max(len(self), 1), size))

    def chunk(self, chunks: int) -> tuple[Self, ...]:
        """The samples in at most this many parts, like torch.chunk."""
        if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
            raise ValueError(f"chunks must be an int of at least 1, got {chunks!r}")
        return self.split(max(-(-len(self) // chunks), 1))

    def pin_memory(self) -> Self:
        """A copy in pinned memory; a DataLoader with pin_memory calls it."""
        return self._map(Tensor.pin_memory)

    def detach(self) -> Self:
        """A copy without gradient."""
        return self._map(Tensor.detach)

    def cpu(self) -> Self:
        """A copy on the CPU."""
        return self._map(Tensor.cpu)

    def __getattr__(self, name: str) -> Any:
        """Fail, with advice for code that expects a tensor."""
        kind = type(self).__name__
        advice = "" if name.startswith("_") else f"; it is no tensor: {self.ADVICE}"
        raise AttributeError(f"{kind!r} object has no attribute {name!r}{advice}", name=name, obj=self)


def _make_safe(cls: type) -> None:
    """Let torch.load(weights_only=True) read the class, but not its predecessor where sumix was imported twice."""
    known = torch.serialization.get_safe_globals()
    kept = [
        other
        for other in known
        if getattr(other, "__module__", None) != cls.__module__ or other.__name__ != cls.__name__
    ]
    if len(kept) < len(known):
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(kept)
    torch.serialization.add_safe_globals([cls])
