import pytest
import torch
from batches import TOLERANCE, assert_near

from sumix import ops, reference


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (17, 257), (0, 5)])
@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_matches_the_float64_twin(shape, dtype, spread, published):
    n, k = shape
    z, r = ((torch.randn(shape) * spread).to(dtype) for _ in range(2))
    masked = torch.randint(-1, k, (n,))
    alpha = ops.semantic_distance(z, r, masked, scale=2.5, published=published)
    assert alpha.dtype == dtype and not alpha.requires_grad
    assert_near(alpha, reference.semantic_distance(z.double(), r.double(), masked, 2.5, published), TOLERANCE[dtype])


def test_large_where_the_mix_has_lost_a_class():
    raw, mixed = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 5.0]])
    nothing = torch.tensor([-1])
    assert ops.semantic_distance(mixed, raw, nothing).argmax() == 0
    assert ops.semantic_distance(mixed, raw, nothing, published=True).argmin() == 0


def test_strided_inputs_opcheck_compile():
    z, r, masked = torch.randn(4, 5, 2)[..., 0], torch.randn(5, 4).t(), torch.tensor([0, -1, 4, 2], dtype=torch.int8)
    want = reference.semantic_distance(z, r, masked.long(), 1.0)
    torch.testing.assert_close(ops.semantic_distance(z, r, masked), want)
    compiled = torch.compile(ops.semantic_distance, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, r, masked), want)
    torch.library.opcheck(
        torch.ops.sumix.semantic_distance.default, (z.contiguous(), r.contiguous(), masked.long(), 2.0, True)
    )


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("logits", torch.zeros(3), ValueError),
        ("logits", torch.zeros(3, 4, dtype=torch.long), TypeError),
        ("raw_logits", torch.zeros(2, 4), ValueError),
        ("raw_logits", torch.zeros(3, 4, dtype=torch.float64), TypeError),
        ("masked", torch.tensor([0, 4, 0]), ValueError),
        ("masked", torch.tensor([0, -2, 0]), ValueError),
        ("masked", torch.tensor([0.0, 1.0, 2.0]), TypeError),
        ("masked", torch.tensor([0]), ValueError),
        ("scale", -1.0, ValueError),
        ("scale", None, TypeError),
        ("published", 1, TypeError),
    ],
)
def test_bad_input_is_named(name, value, error):
    good = {"logits": torch.zeros(3, 4), "raw_logits": torch.zeros(3, 4), "masked": torch.zeros(3, dtype=torch.long)}
    ops.semantic_distance(**good)
    with pytest.raises(error, match=name):
        ops.semantic_distance(**{**good, name: value})
