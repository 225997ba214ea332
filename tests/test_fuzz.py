"""The op table under hostile calls: a short run of the fuzzer, and whether it would find what it looks for."""

import faulthandler
import subprocess
import sys

import pytest
import torch

from tests import fuzz
from tests.emulated import ROOT
from tests.fuzz import SCHEMAS, Call, Generator, T


def test_a_short_run(tmp_path):
    journal = tmp_path / "call"
    options = ["--seed", "1", "--calls", "1000", "--seconds", "4", "--journal", journal]
    command = [sys.executable, "-m", "tests.fuzz", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\n{journal.read_text()}"
    assert len(done.stdout.splitlines()) == len(SCHEMAS)


@pytest.mark.parametrize("op", SCHEMAS)
def test_good_calls_are_good(op):
    """Else nothing but the checks would be tested."""
    generator = Generator(2)
    calls = [generator.good(op, n=3, t=2, h=2, w=3, height=5, width=6, k=4, d=5) for _ in range(12)]
    assert sum(call.check() for call in calls) >= 4


X = T("float32", (2, 3))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (lambda x, g: torch.rand_like(x), "differs the second time"),
        (lambda x, g: g.zero_() + x, "grad_u was written to"),
        (lambda x, g: x.double(), "its fake"),
        (lambda x, g: x.new_empty(x.shape, device="meta"), "another device"),
    ],
)
def test_what_no_op_may_do_is_found(kernel, message, monkeypatch):
    run = Call.run

    def wrong(call, arguments):
        return (kernel(*arguments),) if arguments[0].is_cpu else run(call, arguments)

    monkeypatch.setattr(Call, "run", wrong)
    with pytest.raises(AssertionError, match=message):
        Call("uncertainty_backward", (X, X)).check()


def test_a_call_that_fails_can_be_made_again(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(Call, "check", lambda call: calls.append(call) or 1 / 0)
    with pytest.raises(AssertionError, match="division by zero") as failed:
        fuzz.fuzz(3, 1, 1.0, fuzz.Journal(tmp_path / "call"))
    assert repr(calls[0]) in str(failed.value)
    assert eval(repr(calls[0])) == calls[0]
    assert (tmp_path / "call").read_text() == f"{calls[0]!r}.check()\n"


@pytest.fixture
def in_time():
    """Ends the process, and says where it was, rather than to wait for ever."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.usefixtures("in_time")
def test_nothing_to_do_ever_so_often_takes_no_time():
    many, perm = 2**46, torch.zeros(1, dtype=torch.long)
    u, pixels, seed = torch.empty(many, 0), torch.empty(1, 0, 2, many), torch.tensor(1)
    assert torch.ops.sumix.uncertainty_backward(u, u).shape == u.shape
    assert torch.ops.sumix.sample_uniform(seed, many, 0).shape == u.shape
    assert torch.ops.sumix.saliency(torch.empty(many, 3, 0, 1), *[torch.empty(0)] * 2, False).shape == (many, 0, 1)
    for mask in (torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)):
        assert torch.ops.sumix.mix_mask(pixels, mask, perm).shape == pixels.shape
        assert torch.ops.sumix.mix_mask_backward(pixels, mask, perm).shape == pixels.shape


@pytest.mark.usefixtures("in_time")
def test_sizes_whose_products_would_overflow_are_refused():
    lam, perm = torch.empty(0), torch.empty(0, dtype=torch.long)
    for shape in [(2**62, 0), (0, 2**62), (2**31, 2**31, 0), (0, 2**62, 2**62, 2**62)]:
        x = torch.empty(0).as_strided(shape, (1,) * len(shape))
        with pytest.raises(RuntimeError, match=r"x must have sizes whose product, .* is at most 2\^48"):
            torch.ops.sumix.mix_linear(x, lam, perm)
    with pytest.raises(RuntimeError, match="u must have sizes"):
        torch.ops.sumix.uncertainty_backward(torch.empty(2**62, 0), torch.empty(2**62, 0))
    with pytest.raises(RuntimeError, match="the result must have sizes"):
        torch.ops.sumix.sample_uniform(torch.tensor(1), 2**62, 0)
