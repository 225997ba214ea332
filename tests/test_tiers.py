"""Which tests are collected where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import gpu

ROOT = Path(gpu.__file__).parents[1]


@pytest.mark.package
@pytest.mark.parametrize("device", ["", "cpu"])
def test_what_needs_a_gpu_is_collected_where_there_is_something_to_run_it_on(device):
    marked, other = "tests/test_cuda_streams.py", "tests/test_collate.py"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", marked, other]
    environment = {**os.environ, "SUMIX_TEST_DEVICE": device}
    out = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    missing = device == "" and gpu.MISSING is not None
    assert f"{other}::" in out
    assert (f"{marked}::" in out) != missing
    assert ("Tests that need a GPU were not collected: " in out) == missing
