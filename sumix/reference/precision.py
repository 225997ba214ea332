"""What half precision is computed in."""

import torch
from torch import Tensor


def real(tensor: Tensor) -> Tensor:
    """Half precision in float32; anything else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
