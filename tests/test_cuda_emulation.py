"""The CUDA kernels without a GPU: run on the CPU by tests/cuda_emulation, against the CPU kernels.

Every op of tests/emulation/<stem>.py runs in several orders of blocks and threads, which must all give the same bits,
and those must be the CPU kernel's, or as near as the case says. SUMIX_EMULATE=thorough runs the long cases too.
"""

import importlib
import os
import pathlib
import signal
import subprocess

import emulated
import pytest
import torch

import sumix  # noqa: F401  registers what the emulated ops are compared with

STEMS = sorted(path.stem for path in (emulated.ROOT / "tests" / "emulation").glob("[a-z]*.py"))
CASES = [case for stem in STEMS for case in importlib.import_module(f"emulation.{stem}").CASES]
THOROUGH = os.environ.get("SUMIX_EMULATE") == "thorough"


def call(ops, case):
    """The results, and the arguments, which an in-place op has changed."""
    arguments = case.make()
    results = getattr(ops, case.op)(*arguments)
    results = results if isinstance(results, tuple) else () if results is None else (results,)
    return [*results, *(value for value in arguments if isinstance(value, torch.Tensor))]


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("case", [case for case in CASES if THOROUGH or not case.thorough], ids=str)
def test_same_as_cpu(case):
    ops, set_order = emulated.load()
    expected = call(torch.ops.sumix, case)
    first = None
    for order in emulated.ORDERS:
        set_order(order)
        results = call(ops, case)
        first = first or results
        for result, again in zip(first, results, strict=True):
            assert torch.equal(bits(result), bits(again)), f"other bits in order {order}"
    for result, cpu in zip(first, expected, strict=True):
        assert result.stride() == cpu.stride()
        torch.testing.assert_close(result, cpu, equal_nan=True, **(case.tolerance or {"rtol": 0, "atol": 0}))


def test_every_kernel_has_a_case():
    ops = {name.split("(")[0] for name in registered()}
    assert ops - {case.op for case in CASES} == set()


def registered():
    """The ops that have kernels: those that take numbers as a tensor call others, and one is torch's FFT."""
    return [
        op.removeprefix("sumix::")
        for op in torch._C._dispatch_get_all_op_names()
        if op.startswith("sumix::") and "low_frequency" not in op and not op.endswith("_numbers")
    ]


# ---- The emulator tells what is wrong ----

TOLD = {
    ("race_within", "thread"): "data race",
    ("race_between", "thread"): "data race",
    ("last", "thread"): "data race",
    ("reused", "thread"): "data race",
    ("between_barriers", "thread"): "data race",
    ("same_value", "thread"): "data race",
    ("by_vote", "thread"): "data race",
    ("to_next_warp", "thread"): "data race",
    ("half_warps", "thread"): "data race",
    ("atomic_and_plain", "thread"): "data race",
    ("vote_or_shuffle", "plain"): "lanes of one mask wait for different things",
    ("beyond_global", "address"): "heap-buffer-overflow",
    ("beyond_shared", "address"): "buffer-overflow",
    ("beyond_dynamic", "address"): "heap-buffer-overflow",
    ("divergent", "plain"): "threads wait for each other at different places",
    ("left", "plain"): "a lane named in a mask has returned",
    ("refused", "plain"): 'assertion `numbers[threadIdx.x] < 40 && "numbers is out of range"` failed',
}


@pytest.fixture(scope="module")
def planted() -> dict[str, pathlib.Path]:
    return {kind: emulated.build(f"build/planted/{kind}") for kind in ("plain", "address", "thread")}


def run(program, what, order=0):
    # ThreadSanitizer waits for a second at the end of a program, for reports of threads, of which there are none.
    environment = os.environ | {"TSAN_OPTIONS": "atexit_sleep_ms=0"}
    return subprocess.run([program, what, str(order)], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("order", emulated.ORDERS)
@pytest.mark.parametrize(("what", "kind"), TOLD)
def test_planted_error_is_told(planted, what, kind, order):
    done = run(planted[kind], what, order)
    assert done.returncode != 0
    assert TOLD[what, kind] in done.stderr


@pytest.mark.parametrize("what", ["misaligned_load", "misaligned_store"])
def test_a_misaligned_vector_traps(planted, what):
    assert run(planted["plain"], what).returncode in (-signal.SIGILL, -signal.SIGTRAP)


@pytest.mark.parametrize("order", emulated.ORDERS)
def test_a_failed_assertion_is_no_race(planted, order):
    done = run(planted["thread"], "refused_late", order)
    assert "thread 33" in done.stderr and "data race" not in done.stderr


@pytest.mark.parametrize("kind", ["plain", "address", "thread"])
@pytest.mark.parametrize("order", emulated.ORDERS)
def test_nothing_is_told_of_what_is_right(planted, kind, order):
    done = run(planted[kind], "right", order)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == run(planted["plain"], "right").stdout


@pytest.mark.parametrize("what", ["race_within", "last", "uninitialised", "uninitialised_dynamic"])
def test_planted_error_gives_other_bits_in_other_orders(planted, what):
    assert len({run(planted["plain"], what, order).stdout for order in emulated.ORDERS}) > 1
