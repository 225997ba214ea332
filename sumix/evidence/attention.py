"""What the class token of a vision transformer attends to, computed beside the model's own attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def find_attention(model: nn.Module) -> str:
    """Name of the last self-attention over a class token and patches.

    Raises
    ------
    ValueError
        If there is none that is known: timm's, torchvision's, or that of Hugging Face's vision transformers.
    """
    names = [name for name, module in model.named_modules() if _kind(module) is not None]
    has_token = any(name.rpartition(".")[2] in ("cls_token", "class_token") for name, _ in model.named_parameters())
    if not names or not has_token:
        raise ValueError(
            f'kind="attention" needs a vision transformer with a class token, of timm, torchvision or Hugging Face, '
            f"and {type(model).__name__} is none that is known"
        )
    return names[-1]


def class_attention(module: nn.Module, x: Tensor) -> Tensor:
    """(N, L): how the first token's attention is spread over all tokens (N, L, C), mean over heads, in float32."""
    kind = _kind(module)
    if kind == "timm":
        heads = module.num_heads
        query, key, _ = module.qkv(x).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = module.q_norm(query), module.k_norm(key)
    elif kind == "torch":
        heads = module.num_heads
        if module.in_proj_weight is None:
            raise ValueError('kind="attention" needs attention whose queries and keys have the same width')
        bias = [None, None] if module.in_proj_bias is None else module.in_proj_bias.chunk(3)[:2]
        query, key = (F.linear(x, w, b) for w, b in zip(module.in_proj_weight.chunk(3)[:2], bias, strict=True))
        query, key = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key))
    else:
        heads = module.num_attention_heads
        layers = (module.q_proj, module.k_proj) if kind == "projections" else (module.query, module.key)
        query, key = (layer(x).unflatten(2, (heads, -1)).transpose(1, 2) for layer in layers)
    scores = (query[:, :, :1].float() @ key.float().transpose(2, 3)).squeeze(2) / query.shape[3] ** 0.5
    return torch.softmax(scores, dim=2).mean(dim=1)


def tokens_of(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """The tokens (N, L, C) that the attention was called with."""
    given = [part for part in (*inputs, *named.values()) if isinstance(part, Tensor) and part.ndim == 3]
    if not given:
        raise ValueError(f'kind="attention" needs tokens (N, L, C), and {type(module).__name__} got none')
    x = given[0]
    return x.transpose(0, 1) if _kind(module) == "torch" and not module.batch_first else x


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, nn.MultiheadAttention):
        return "torch"
    if all(hasattr(module, name) for name in ("qkv", "num_heads", "q_norm", "k_norm")):
        return "timm"
    if hasattr(module, "num_attention_heads"):
        if hasattr(module, "q_proj") and hasattr(module, "k_proj"):
            return "projections"
        if hasattr(module, "query") and hasattr(module, "key"):
            return "named"
    return None
