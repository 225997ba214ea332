import pytest
import torch


@pytest.fixture(autouse=True)
def _same_every_run():
    torch.manual_seed(20240719)
