"""Generators in a DataLoader's workers: how they are sent there, and how the copies are made to differ."""

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def apart(seed: Tensor) -> Tensor:
    """The seed from a generator, made different for each worker and epoch; unchanged outside of workers.

    Every worker of every epoch starts with a copy of the generator in the same state, but the DataLoader draws a
    separate seed for each. A persistent worker continues with its copy.
    """
    worker = get_worker_info()
    return seed if worker is None else seed + ((worker.seed + 2**63) % 2**64 - 2**63)


def _rebuilt(device: str, state: bytes) -> torch.Generator:
    generator = torch.Generator(device)
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator


def _reduced(generator: torch.Generator) -> tuple[Callable[..., Any], tuple[str, bytes]]:
    return _rebuilt, (str(generator.device), generator.get_state().numpy().tobytes())


# torch sends the state to spawned workers in shared memory, which it frees before they have opened it.
if torch.Generator not in ForkingPickler._extra_reducers:
    ForkingPickler.register(torch.Generator, _reduced)
