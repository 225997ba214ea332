import os

import emulated
import pytest
import torch

if os.environ.get("SUMIX_TEST_EMULATED") == "1":  # every test tests the CUDA kernels, run on the CPU
    emulated.replace()

from tests import gpu  # which imports sumix

torch.set_num_threads(1)  # where cores are busy, threads that wait for one another take many times as long


@pytest.fixture(autouse=True)
def _same_every_run():
    torch.manual_seed(20240719)


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem():
    """Leave out what is marked `cuda` where there is no GPU: thousands of tests, which could only be skipped."""
    made = yield
    if gpu.MISSING is None or not isinstance(made, list):
        return made
    return [item for item in made if item.get_closest_marker("cuda") is None]


def pytest_terminal_summary(terminalreporter):
    if gpu.MISSING is not None:
        terminalreporter.write_line(f"Tests that need a GPU were not collected: {gpu.MISSING}.")
