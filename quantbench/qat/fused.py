"""Fake quantization in training: forward and backward in as little memory traffic as they need.

A bit an element says what was in range, instead of torch's byte. Where the tensor is the SiLU of another one, the
gradient goes to that one directly: SiLU's own backward pass reads it anyway, so nothing is kept and nothing more is
read. On a CUDA device kernels of our own do it (`kernels.py`); elsewhere torch's operators, with the same numbers.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantbench.qat.kernels import ALIGNED, Kernels, kernels

QMIN, QMAX = -128, 127


def usable(x: Tensor) -> bool:
    """Whether the kernels can take `x`, of whose quantization a gradient will be wanted."""
    return (
        x.is_cuda and x.requires_grad and torch.is_grad_enabled() and not torch._C._get_tracing_state()
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16) and x.data_ptr() % ALIGNED == 0
        and _dense(x) and kernels(x.device) is not None
    )  # fmt: skip


def _kernels(x: Tensor) -> Kernels | None:
    return kernels(x.device) if x.is_cuda else None


def fake_quantize(x: Tensor, scale: float) -> Tensor:
    """`x` on the grid of `scale`, clipped to INT8, as `torch.fake_quantize_per_tensor_affine` has it; gradients pass
    where `x` was in range."""
    a = silu_input(x)
    result: Tensor = _apply(_FakeQuantized, x, scale) if a is None else _apply(_OfSilu, a, x.detach(), scale)
    return result


def learned_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """`quantbench.qat.quantizer.lsq`: gradients to `x` and to `scale` (float32 [])."""
    a = silu_input(x)
    result: Tensor = _apply(_Learned, x, scale, None) if a is None else _apply(_Learned, a, scale, x.detach())
    return result


def _apply(function: Any, *given: Any) -> Tensor:
    result: Tensor = function.apply(*given)  # torch leaves it untyped
    return result


def silu_input(x: Tensor) -> Tensor | None:
    """The tensor whose SiLU `x` is, if autograd knows it and wants its gradient."""
    node: Any = x.grad_fn
    if node is None or node.name() != "SiluBackward0":
        return None
    try:
        a: Tensor = node._saved_self
    except RuntimeError:  # changed in place since, or packed away
        return None
    alike = a.shape == x.shape and a.dtype == x.dtype and a.stride() == x.stride() and a.data_ptr() % ALIGNED == 0
    return a if alike and a.requires_grad else None


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _as_lies(g: Tensor, x: Tensor) -> Tensor:
    """`g` in the memory order and dtype of `x`."""
    if g.stride() == x.stride() and g.dtype == x.dtype and g.data_ptr() % ALIGNED == 0:
        return g
    return torch.empty_like(x).copy_(g)


def _reciprocal(scale: float) -> float:
    """1 / scale as torch's kernels have it, in float32."""
    return float(np.float32(1.0) / np.float32(scale))


class _FakeQuantized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        found = _kernels(x)
        ctx.found, ctx.like = found, x.stride()
        if found is None:
            ctx.save_for_backward(in_range(x, scale))
            return torch.fake_quantize_per_tensor_affine(x, scale, 0, QMIN, QMAX)
        y, mask = found.quantize(x, scale, _reciprocal(scale), masked=True)
        ctx.save_for_backward(mask)
        result: Tensor = y
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (mask,), g = ctx.saved_tensors, grads[0]
        if ctx.found is None:
            return g * mask, None
        if g.stride() != ctx.like or g.data_ptr() % ALIGNED:
            g = torch.empty_strided(g.shape, ctx.like, dtype=g.dtype, device=g.device).copy_(g)
        return ctx.found.pass_masked(g, mask), None


class _OfSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, scale: float) -> Tensor:
        ctx.found, ctx.scale = _kernels(x), scale
        ctx.save_for_backward(a)
        if ctx.found is None:
            return torch.fake_quantize_per_tensor_affine(x, scale, 0, QMIN, QMAX)
        y: Tensor = ctx.found.quantize(x, scale, _reciprocal(scale), masked=False)[0]
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (a,) = ctx.saved_tensors
        g = _as_lies(grads[0], a)
        if ctx.found is None:
            x = torch.nn.functional.silu(a)
            return torch.ops.aten.silu_backward(g * in_range(x, ctx.scale), a), None, None
        return ctx.found.silu_backward(a, g, _reciprocal(ctx.scale)), None, None


class _Learned(torch.autograd.Function):
    """LSQ; `x` is `given`'s SiLU, or None: then `given` itself is quantized."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, scale: Tensor, x: Tensor | None) -> Tensor:
        ctx.found, ctx.silu = _kernels(given), x is not None
        ctx.save_for_backward(given, scale)
        values = given if x is None else x
        if ctx.found is not None:
            y: Tensor = ctx.found.learned(values, scale)
            return y
        ratio = torch.clamp(values.float() / scale, QMIN, QMAX)
        return (torch.round(ratio) * scale).to(given.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        given, scale = ctx.saved_tensors
        g = _as_lies(grads[0], given)
        damping = (given.numel() * QMAX) ** -0.5
        if ctx.found is not None:
            out, sums = ctx.found.learned_backward(given, g, scale, silu=ctx.silu)
            return out, (sums * damping).reshape(scale.shape), None
        x = torch.nn.functional.silu(given) if ctx.silu else given
        ratio = x.float() / scale
        inside = (ratio >= QMIN) & (ratio <= QMAX)
        part = g.float() * (torch.round(ratio.clamp(QMIN, QMAX)) - ratio * inside)
        out = g * inside
        out = torch.ops.aten.silu_backward(out, given) if ctx.silu else out
        return out, (part.sum() * damping).reshape(scale.shape), None


def in_range(x: Tensor, scale: float) -> Tensor:
    """Whether each element of `x` becomes an INT8 level without clipping, as torch rounds it."""
    level = torch.round(x.float() * _reciprocal(scale))
    return (level >= QMIN) & (level <= QMAX)
