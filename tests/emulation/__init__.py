"""What to run of each stem: a module a stem, with CASES. The header of tests/test_cuda_emulation.py says how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of the op `op`.

    make: returns the op's arguments, the same ones every time (seed what is random).
    tolerance: None where the CUDA kernel promises the CPU kernel's bits; else rtol and atol, as for assert_close.
    thorough: too long for every run of the tests; `make emulate` runs it.
    """

    op: str
    name: str
    make: Callable[[], tuple[Any, ...]]
    tolerance: dict[str, float] | None = None
    thorough: bool = False

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"
