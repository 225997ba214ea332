"""The warnings of sumix: each once a process, pointing at the line of the user's that led to it."""

import sys
import warnings

_said: set[str] = set()


class SUMixWarning(UserWarning):
    """What sumix finds right but unwise: `warnings.simplefilter("ignore", sumix.SUMixWarning)` hides it."""


def once(about: str, message: str) -> None:
    """Warn of something, unless that was done before. Each message begins with "sumix"."""
    if about in _said:
        return
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("sumix", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, SUMixWarning, stacklevel=level)
    _said.add(about)  # not before: where warnings are errors, each call fails
