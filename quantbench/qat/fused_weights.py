"""Many weights fake-quantized at once: on a CUDA device one launch for up to 64 of them, forward and backward.

torch's operator for one weight makes the host wait for the card twice (it looks whether the zero points are in range):
a training step then never runs ahead. Numbers are its numbers, to the bit.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from quantbench.qat.kernels import ALIGNED, BLOCK, MOST, Kernels, kernels
from quantbench.qat.layout import layout

_MIN, _MAX = -128, 127
# DistributedDataParallel sends gradients off in buckets of this size: a launch has no more, so that it need not wait.
_BYTES = 25 << 20


class Weights:
    """Weights that are quantized together: `axes` of their channels (None: one scale), as `tensors` lie now."""

    def __init__(self, tensors: Sequence[Tensor], axes: Sequence[int | None]) -> None:
        """`tensors`: those of one group of `groups`."""
        self.axes, self.dtype = tuple(axes), tensors[0].dtype
        self.found = _kernels(tensors)
        if self.found is None:
            return
        lies = [layout(t.shape, t.stride()) for t in tensors]
        self.orders = [each.order for each in lies if each is not None]  # all are: `_kernels` took them
        self.strides, self.count = [t.stride() for t in tensors], len(tensors)
        sizes = [t.numel() for t in tensors]
        first = list(accumulate((-(-size // BLOCK) for size in sizes), initial=0))
        self.blocks = first[-1]
        channels = [1 if axis is None else t.shape[axis] for t, axis in zip(tensors, axes, strict=True)]
        inner = [
            1 if axis is None or t.shape[axis] == 1 else t.stride(axis) for t, axis in zip(tensors, axes, strict=True)
        ]
        self.none = (0,) * (MOST - self.count)
        self.facts = (*first, *self.none, *(n for part in (inner, channels, sizes) for n in (*part, *self.none)))

    def quantize(self, weights: Sequence[Tensor], scales: Sequence[Tensor], dtype: torch.dtype, masked: bool) -> Any:
        """Quantized `weights` in `dtype` and, if `masked`, what `pass_on` needs; without autograd."""
        if self.found is None:
            return _with_operators(weights, scales, self.axes, dtype)
        results = [torch.empty_strided(w.shape, w.stride(), dtype=dtype, device=w.device) for w in weights]
        mask = torch.empty(self.blocks * 256, dtype=torch.uint8, device=weights[0].device) if masked else None
        pointers = [
            *(w.data_ptr() for w in weights), *self.none, *(r.data_ptr() for r in results), *self.none,
            *(s.data_ptr() for s in scales), *self.none,
        ]  # fmt: skip
        facts = (*self.facts, 0 if mask is None else mask.data_ptr(), self.count)
        self.found.weights(dtype, self.blocks, pointers, facts)
        return results, mask

    def pass_on(self, mask: Any, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Gradients of the weights, in their dtype, out of those of the results."""
        if self.found is None:
            return [g if g is None else g.to(self.dtype) * m for g, m in zip(grads, mask, strict=True)]
        given = [g if g is None else self._as_lies(g, i) for i, g in enumerate(grads)]
        present = next((g for g in given if g is not None), None)
        if present is None:
            return given
        out = [
            g if g is None else torch.empty_strided(g.shape, stride, dtype=torch.float32, device=g.device)
            for g, stride in zip(given, self.strides, strict=True)
        ]
        pointers = [
            *(0 if g is None else g.data_ptr() for g in given), *self.none,
            *(0 if g is None else g.data_ptr() for g in out), *self.none, *(0,) * MOST,
        ]  # fmt: skip
        self.found.weights_backward(present.dtype, self.blocks, pointers, (*self.facts, mask.data_ptr(), self.count))
        return out

    def _as_lies(self, g: Tensor, i: int) -> Tensor:
        lies = layout(g.shape, g.stride())
        if lies is not None and lies.order == self.orders[i] and not lies.width and g.data_ptr() % ALIGNED == 0:
            return g
        return torch.empty_strided(g.shape, self.strides[i], dtype=g.dtype, device=g.device).copy_(g)


def groups(weights: Sequence[Tensor]) -> list[list[int]]:
    """Which of `weights` can be quantized together, in order."""
    found: list[list[int]] = []
    kind: object = None
    size = 0
    for i, weight in enumerate(weights):
        own = (weight.device, weight.dtype, _kernels([weight]) is None)
        if own != kind or len(found[-1]) == MOST or size + 4 * weight.numel() > _BYTES:
            found.append([])
            kind, size = own, 0
        found[-1].append(i)
        size += 4 * weight.numel()
    return found


def quantize_weights(
    group: Weights, weights: Sequence[Tensor], scales: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """`weights` with the scales of their channels, clipped to INT8, as torch's operators have it, in `dtype`; gradients
    pass where they were in range."""
    if torch.is_grad_enabled() and any(w.requires_grad for w in weights):
        function: Any = _Quantized
        results: tuple[Tensor, ...] = function.apply(group, scales, dtype, *weights)
        return results
    return tuple(group.quantize(weights, scales, dtype, masked=False)[0])


class _Quantized(torch.autograd.Function):
    # The mask is kept past `save_for_backward`: checkpointing counts what is saved, and must count alike whether a
    # weight was quantized with the others or, in its second run, alone.
    @staticmethod
    def forward(
        ctx: Any, group: Weights, scales: Sequence[Tensor], dtype: torch.dtype, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        results, ctx.mask = group.quantize(weights, scales, dtype, masked=True)
        ctx.group = group
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, None, None, *ctx.group.pass_on(ctx.mask, grads)


def _kernels(weights: Sequence[Tensor]) -> Kernels | None:
    """The kernels, if all `weights` can be given to them: float32 on one card, without gaps."""
    found = kernels(weights[0].device)
    if found is None:
        return None
    for weight in weights:
        lies = layout(weight.shape, weight.stride())
        if lies is None or lies.width or weight.dtype != torch.float32 or weight.data_ptr() % ALIGNED:
            return None
        if not 0 < weight.numel() < 1 << 31:
            return None
    return found


def _with_operators(
    weights: Sequence[Tensor], scales: Sequence[Tensor], axes: Sequence[int | None], dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    results, masks = [], []
    for weight, scale, axis in zip(weights, scales, axes, strict=True):
        if axis is None:
            y, mask = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(weight, float(scale), 0, _MIN, _MAX)
        else:
            zero = torch.zeros_like(scale, dtype=torch.int32)
            y, mask = torch.ops.aten.fake_quantize_per_channel_affine_cachemask(weight, scale, zero, axis, _MIN, _MAX)
        results.append(y.to(dtype))
        masks.append(mask)
    return results, masks
