import pytest
import torch

torch.set_num_threads(1)  # where cores are busy, threads that wait for one another take many times as long


@pytest.fixture(autouse=True)
def _same_every_run():
    torch.manual_seed(20240719)
