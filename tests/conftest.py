import os

import emulated
import pytest
import torch

if os.environ.get("SUMIX_TEST_EMULATED") == "1":  # every test tests the CUDA kernels, run on the CPU
    emulated.replace()

torch.set_num_threads(1)  # where cores are busy, threads that wait for one another take many times as long


@pytest.fixture(autouse=True)
def _same_every_run():
    torch.manual_seed(20240719)
