"""The warnings of sumix: each is given once per process, with the user's line that led to it."""

import sys
import warnings

_said: set[str] = set()


class SUMixWarning(UserWarning):
    """Something is valid but unwise; `warnings.simplefilter("ignore", sumix.SUMixWarning)` hides the warning."""


def once(about: str, message: str) -> None:
    """Give the warning, unless one about the same thing was given before. Each message begins with "sumix"."""
    if about in _said:
        return
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("sumix", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, SUMixWarning, stacklevel=level)
    _said.add(about)  # only now, so that every call fails where warnings are errors
