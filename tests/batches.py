"""What the tests of the loss share: batches, and how near a result must be to its float64 twin."""

import torch

from sumix import ops

# Relative to the largest value of the tensor that is compared. Inputs of half precision are rounded before both sides
# see them; the loss then is float32, and the gradients are rounded once.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def assert_near(got, want, tolerance):
    """Compare with a float64 result, element by element, NaN and inf in the same places."""
    scale = want.abs().nan_to_num(0, 0, 0).max().item() if want.numel() else 0.0
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance * max(scale, 0.01), equal_nan=True)


def batch(n, k, dtype=torch.float32, *, plain=False, perm=None, spread=1.0, lam=None, grad=True):
    """Arguments of `ops.sumix_loss` up to lam. Leaves that require grad, unless `grad` is False."""
    z, r = (torch.randn(n, k, dtype=torch.float64) * spread for _ in range(2))
    v = u = None
    if not plain:
        v, u = (ops.uncertainty(torch.randn(n, k, dtype=torch.float64)) for _ in range(2))
    y = torch.randint(k, (n,))
    perm = torch.randperm(n) if perm is None else perm
    lam = torch.rand(n) if lam is None else lam
    rows = [None if t is None else t.to(dtype).requires_grad_(grad) for t in (z, r, v, u)]
    return [*rows, y, y[perm], perm, lam]


def widened(arguments):
    """The same batch for the float64 twin, leaves of its own."""
    rows = [None if t is None else t.detach().double().requires_grad_(t.requires_grad) for t in arguments[:4]]
    return [*rows, *arguments[4:7], arguments[7].double()]


def leaves(arguments):
    """The tensors that gradients flow into: mixed logits, then raw logits (plain form) or both uncertainties."""
    z, r, v, u = arguments[:4]
    return [z, r] if v is None else [z, v, u]
