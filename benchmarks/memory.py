"""Peak memory of a call, measured twice: by what torch's allocator hands out, and by what the process occupies.

The first is exact, and blind to a scratch buffer that bypasses torch; the second sees everything, in pages of 4 KiB.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# For the environment of a process that calls resident_peak: glibc then gives freed arrays back to the system at once,
# instead of keeping them for the next call, which would not show as growth.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


def allocated_peak(call: Callable[[], Any]) -> int:
    """Most bytes of CPU tensors that `call` keeps alive at one time, its result included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = call()
    del result
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        live += event["args"]["Bytes"]
        peak = max(peak, live)
    return peak


def resident_peak(call: Callable[[], Any]) -> int | None:
    """Bytes by which the process's peak resident memory exceeds what it occupies before `call`; None without Linux.

    Call it in a fresh process whose environment has `MALLOC`, after one call that is not measured.
    """
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        reset.write_text("5")  # the peak starts again from the present
        before = _kibibytes(status, "VmRSS")
        result = call()
        peak = _kibibytes(status, "VmHWM")
    except OSError:
        return None
    del result
    return (peak - before) * 1024


def _kibibytes(status: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{key}:"))
