"""Masks cut from maps of evidence, against torch's interpolation, and against their twin to the bit."""

import math

import pytest
import torch
import torch.nn.functional as F

from sumix import ops, reference

SIZES = [((1, 1), (1, 1)), ((7, 7), (32, 32)), ((3, 17), (257, 31)), ((14, 14), (224, 224)), ((9, 8), (5, 3))]


def maps(n, h, w, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, h, w, generator=generator) ** 3, torch.rand(n, generator=generator) < 0.7


@pytest.mark.parametrize(("cells", "size"), SIZES)
@pytest.mark.parametrize(("threshold", "soft"), [(0.25, 0.0), (0.6, 0.0), (0.25, 0.5), (0.5, 0.1)])
def test_against_interpolation_and_the_twin(cells, size, threshold, soft):
    evidence, paste = maps(6, *cells)
    evidence[4] = 0
    mask, lam = ops.evidence_mask(evidence, size, threshold=threshold, soft=soft, paste=paste)
    wide = F.interpolate(evidence.double().unsqueeze(1), size, mode="bilinear").squeeze(1)
    most = evidence.double().amax((1, 2), keepdim=True)
    if soft:
        partner = ((wide / most - threshold) / soft + 0.5).clamp(0, 1).nan_to_num(0)
        assert mask.dtype == torch.float32
        torch.testing.assert_close(mask.double(), 1 - partner * paste.view(-1, 1, 1), rtol=0, atol=1e-4 / soft)
    else:
        clear = (wide - threshold * most).abs() > 1e-6 * most  # elsewhere rounding may decide
        want = ~((wide > threshold * most) & paste.view(-1, 1, 1))
        assert mask.dtype == torch.bool
        assert torch.equal(mask[clear], want[clear])
    torch.testing.assert_close(lam.double(), mask.double().mean((1, 2)), rtol=0, atol=1e-6)
    twin, exact = reference.evidence_mask(evidence, paste.to(torch.uint8), *size, soft == 0, threshold, soft)
    assert torch.equal(mask.to(twin.dtype), twin)
    assert torch.equal(lam, exact)


def test_what_shows_nothing():
    evidence = torch.rand(5, 4, 4)
    evidence[0], evidence[1], evidence[2, 1:], evidence[3, 1, 1] = 0, math.nan, math.inf, math.nan
    mask, lam = ops.evidence_mask(evidence, (16, 16), paste=torch.tensor([True, True, True, True, False]))
    for i in (0, 1, 2, 4):  # infinity is above nothing of its own share
        assert mask[i].all()
        assert lam[i] == 1
    assert not mask[3].all()
    assert ops.evidence_mask(evidence[:0], (16, 16))[0].shape == (0, 16, 16)


def test_dtypes_layouts_and_signals():
    evidence, paste = maps(4, 6, 6)
    want = ops.evidence_mask(evidence, (20, 30))[0]
    for given in (
        evidence.double(),
        evidence.transpose(1, 2).contiguous().transpose(1, 2),
        torch.stack([evidence] * 2, 3)[..., 0],
    ):
        assert torch.equal(ops.evidence_mask(given, (20, 30))[0], want)
    objects = evidence > 0.5
    assert torch.equal(
        ops.evidence_mask(objects, (20, 20))[0], ops.evidence_mask(objects.to(torch.uint8) * 255, (20, 20))[0]
    )
    signal, share = ops.evidence_mask(evidence[:, 0], 257, paste=paste)
    assert signal.shape == (4, 257)
    assert torch.equal(share, ops.evidence_mask(evidence[:, :1], (1, 257), paste=paste)[1])


def test_threads_change_nothing():
    evidence, paste = maps(31, 14, 14)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(ops.evidence_mask(evidence, (64, 64), soft=0.2, paste=paste))
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_registration_compile_and_no_gradient():
    evidence, paste = maps(3, 5, 5)
    for hard, soft in ((True, 0.0), (False, 0.2)):
        arguments = (evidence, paste.to(torch.uint8), 16, 16, hard, 0.25, soft)
        torch.library.opcheck(torch.ops.sumix.evidence_mask.default, arguments)
        compiled = torch.compile(ops.evidence_mask, fullgraph=True, backend="aot_eager")
        got, want = (call(evidence, (16, 16), soft=soft, paste=paste) for call in (compiled, ops.evidence_mask))
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])
    with pytest.raises(RuntimeError, match="no gradient"):
        torch.ops.sumix.evidence_mask(evidence.requires_grad_(), paste.to(torch.uint8), 8, 8, False, 0.25, 0.2)[
            0
        ].sum().backward()
    assert not ops.evidence_mask(evidence, (8, 8))[1].requires_grad


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"evidence": [[1.0]]}, TypeError, "evidence must be a Tensor"),
        ({"evidence": torch.ones(3, 4)}, ValueError, r"evidence must be \(N, h, w\)"),
        ({"evidence": torch.ones(3, 0, 4)}, ValueError, r"evidence must be \(N, h, w\)"),
        ({"evidence": torch.ones(3, 4, 4, dtype=torch.complex64)}, TypeError, "evidence must be floating point"),
        ({"evidence": -torch.ones(3, 4, 4)}, ValueError, r"evidence\[0\] has values below 0"),
        ({"size": (0, 4)}, ValueError, "size must be"),
        ({"size": "large"}, TypeError, "size must be"),
        ({"size": (2**20, 2**20)}, ValueError, "fewer than 2.31 pixels"),
        ({"threshold": 1.5}, ValueError, "threshold must be"),
        ({"threshold": math.nan}, ValueError, "threshold must be"),
        ({"soft": 0.6}, ValueError, "soft must be at most"),
        ({"soft": "edge"}, TypeError, "soft must be"),
        ({"paste": torch.ones(3)}, TypeError, "paste must be bool"),
        ({"paste": torch.ones(2, dtype=torch.bool)}, ValueError, r"paste must be \(N,\)"),
        ({"paste": torch.ones(3, dtype=torch.bool, device="meta")}, ValueError, "paste must be on the device"),
    ],
)
def test_bad_input(change, error, message):
    given = {"evidence": torch.ones(3, 4, 4), "size": (8, 8), **change}
    with pytest.raises(error, match=message):
        ops.evidence_mask(given.pop("evidence"), given.pop("size"), **given)
