"""A network's maps as the ops take them: where the places are, and which axis of memory is innermost."""

import math
from typing import Any

from torch import Tensor

from sumix.ops import checks

MOST_PREFIX_TOKENS = 16  # a class token, a distillation token, registers


def places(
    value: Any, grid: Any, name: str = "features", grid_name: str = "grid"
) -> tuple[Tensor, int, int, int, bool]:
    """The maps as the ops have them, (N, L, D) where channels are innermost in memory, else (N, D, places).

    And frames, h and w, and whether they are (N, L, D).
    """
    x = checks.floating(value, name).detach()
    if grid is not None:
        sides = _sides(grid, grid_name)
        count, (frames, h, w) = math.prod(sides), (1,) * (3 - len(sides)) + sides
        if x.ndim == 3 and 0 < x.shape[1] < count == x.shape[2]:
            return dense(x), frames, h, w, False
        if x.ndim != 3 or x.shape[1] < count or x.shape[2] == 0:
            raise ValueError(
                f"{name} must be (N, L, D) with L >= {count} for {grid_name} {sides}, got {checks.shape(x)}"
            )
        if x.shape[1] > count + MOST_PREFIX_TOKENS and x.shape[2] == count:
            raise ValueError(
                f"{name} with {grid_name} {sides} must be tokens (N, L, D), got {checks.shape(x)}, which could be (N, "
                f"D, L): pass {name}.unflatten(2, {sides}) without {grid_name}, or if they are tokens, only the last "
                f"{count}"
            )
        return dense(x), frames, h, w, True
    if x.ndim not in (3, 4, 5) or 0 in x.shape[1:]:
        raise ValueError(
            f"{name} must be (N, D, h, w), (N, D, T, h, w), (N, D, l), or tokens (N, L, D) with {grid_name}=(h, w), "
            f"got {checks.shape(x)}"
        )
    frames, h, w = (1,) * (5 - x.ndim) + tuple(x.shape[2:])
    if x.stride(1) == 1 and x.shape[1] > 1:
        return dense(x.movedim(1, -1).flatten(1, -2)), frames, h, w, True
    return dense(x.flatten(2)), frames, h, w, False


def dense(x: Tensor) -> Tensor:
    """Itself if each sample is contiguous, whatever the step from one to the next; else a copy."""
    is_dense = (x.shape[2] == 1 or x.stride(2) == 1) and (x.shape[1] == 1 or x.stride(1) == x.shape[2])
    return x if is_dense else x.contiguous()


def _sides(grid: Any, name: str) -> tuple[int, ...]:
    if not isinstance(grid, (tuple, list)) or not 1 <= len(grid) <= 3:
        raise ValueError(f"{name} must be (h, w), or (l,) for signals, or (t, h, w) for videos, got {grid!r}")
    return tuple(checks.count(side, name) for side in grid)
