"""Generators in a DataLoader's workers: how they get there, and what tells the workers' copies apart."""

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def apart(seed: Tensor) -> Tensor:
    """A seed that a generator gave, made this worker's and this epoch's own; itself outside of workers.

    Every worker of every epoch starts with a copy of the generator, all in one state; but each has a seed of its own,
    which the DataLoader draws. A worker that persists goes on with its copy.
    """
    worker = get_worker_info()
    return seed if worker is None else seed + ((worker.seed + 2**63) % 2**64 - 2**63)


def _rebuilt(device: str, state: bytes) -> torch.Generator:
    generator = torch.Generator(device)
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator


def _reduced(generator: torch.Generator) -> tuple[Callable[..., Any], tuple[str, bytes]]:
    return _rebuilt, (str(generator.device), generator.get_state().numpy().tobytes())


# torch sends the state to workers that are spawned as shared memory that it frees before they have opened it.
if torch.Generator not in ForkingPickler._extra_reducers:
    ForkingPickler.register(torch.Generator, _reduced)
