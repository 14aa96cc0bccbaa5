"""nn.MultiheadAttention in the open: the same numbers by calls that quantizers can stand at.

torch computes attention in one function, past whatever stands at its projections, and in evaluation mode whole
TransformerEncoder layers in one kernel (the "fast path"), which reads their weights and calls no module. So quantizers
in there would see nothing. Modules change class alone: parameters, their names and the state dict stay.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OpenAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention as two or four linears, two products and a softmax."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's: [N, T, E] (or [T, N, E], or [T, E]) to the same and, if wanted, the attention weights."""
        same = query is key and key is value
        batched = query.dim() == 3
        if not batched:
            query, key, value = query[None], key[None], value[None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        projected = self._together(query) if same else self._apart(query, key, value)
        n, rows, width = projected[0].shape
        q, k, v = (t.reshape(n, t.shape[1], self.num_heads, self.head_dim).transpose(1, 2) for t in projected)
        scores = torch.matmul(q * self.head_dim**-0.5, k.transpose(2, 3))
        for mask in (_by_head(attn_mask, n, self.num_heads), _by_key(key_padding_mask)):
            if mask is not None:
                scores = scores + _additive(mask, scores.dtype)
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        mixed = torch.matmul(weights, v).transpose(1, 2).reshape(n, rows, width)
        result: Tensor = self.out_proj(mixed)
        if not batched:
            result = result[0]
        elif not self.batch_first:
            result = result.transpose(0, 1)
        if not need_weights:
            return result, None
        shown = weights.mean(1) if average_attn_weights else weights
        return result, shown if batched else shown[0]

    def _together(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)

    def _apart(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        biases = self.in_proj_bias.chunk(3) if self.in_proj_bias is not None else (None, None, None)
        parts = zip(inputs, self.in_proj_weight.chunk(3), biases, strict=True)
        return tuple(F.linear(x, weight, bias) for x, weight, bias in parts)


def _by_head(mask: Tensor | None, n: int, heads: int) -> Tensor | None:
    """[T, S], or [N * heads, T, S] as [N, heads, T, S]."""
    return mask if mask is None or mask.dim() == 2 else mask.reshape(n, heads, *mask.shape[1:])


def _by_key(mask: Tensor | None) -> Tensor | None:
    """[N, S] as [N, 1, 1, S]."""
    return None if mask is None else mask[:, None, None, :]


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of booleans (true: look away) as one of numbers to add."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))


def open_attention(model: nn.Module) -> None:
    """Let every plain nn.MultiheadAttention of `model` compute in the open, and switch torch's fast path off.

    Off for the whole process: a quantized model must never take it. Attention with keys of another width, a bias on
    keys or a zero key stays as it is, in float.
    """
    torch.backends.mha.set_fastpath_enabled(False)
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and _is_plain(module):
            module.__class__ = OpenAttention


def _is_plain(module: nn.MultiheadAttention) -> bool:
    return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
