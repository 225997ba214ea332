"""The options of mixers: their names, and a check that no other attribute is set."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from sumix.ops import checks

FIXED = ("DIMS", "blends", "looks", "volume")  # attributes of classes, unless the class has an option of that name


@functools.cache
def defaults(kind: type) -> dict[str, Any]:
    """The options that the constructors of a class and of its bases take by keyword, with their defaults."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                if parameter.default is not parameter.empty:
                    found.setdefault(name, parameter.default)
    return found


def completing(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor after which, if it is the outermost one, the options are checked and no others can be set."""

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is construct:
            self.check_options()
            self._complete = self._checked = True

    return construct


def refuse_unknown(mixer: Any, name: str) -> None:
    """Fail if a complete mixer has no attribute of this name, because nothing would read it."""
    if name.startswith("_") or name in vars(mixer) or not getattr(mixer, "_complete", False):
        return
    kind = type(mixer)
    if name in defaults(kind) or (hasattr(mixer, name) and name not in FIXED):
        return
    known = ", ".join(sorted({*defaults(kind), "mixup_enabled"}))
    raise AttributeError(f"{kind.__name__} has no option {name!r}; there are {known}", name=name, obj=mixer)


def alike(a: Any, b: Any) -> bool:
    """Whether two mixers have the same value of an option; `normalize` may hold tensors."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        pairs = zip(a, b, strict=True)
        return all(torch.equal(*(checks.per_channel(value, "normalize") for value in pair)) for pair in pairs)
    return a == b
