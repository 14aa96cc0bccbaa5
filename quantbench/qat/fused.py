"""Fake quantization in training: forward and backward in as little memory traffic as they need.

A bit an element says what was in range, instead of torch's byte. Where the tensor is the SiLU of another one, the
gradient goes to that one directly: SiLU's own backward pass reads it anyway, so nothing is kept and nothing more is
read. On a CUDA device kernels of our own do it (`kernels.py`); elsewhere torch's operators, with the same numbers.
"""

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quantbench.qat.kernels import ALIGNED, DENSE, DTYPES, Kernels, kernels
from quantbench.qat.layout import Layout, layout

QMIN, QMAX = -128, 127
_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
# Kernels, and how the tensor lies that they are to take.
Ready = tuple[Kernels, Layout]


def ready(x: Tensor) -> Ready | None:
    """What quantizes `x` by kernels, where a gradient of it will be wanted; None where torch's operators must."""
    if type(x) is not Tensor or not x.requires_grad or not torch.is_grad_enabled() or torch._C._get_tracing_state():
        return None
    found = kernels(x.device)
    if found is None or x.dtype not in DTYPES or x.data_ptr() % ALIGNED or not x.numel():
        return None
    lies = layout(x.shape, x.stride())
    return None if lies is None else (found, lies)


def fake_quantize(x: Tensor, scale: float, found: Ready | None = None) -> Tensor:
    """`x` on the grid of `scale`, clipped to INT8, as `torch.fake_quantize_per_tensor_affine` has it; gradients pass
    where `x` was in range. `found`: `ready(x)`."""
    a = silu_input(x)
    result: Tensor = (
        _apply(_FakeQuantized, x, scale, found) if a is None else _apply(_OfSilu, a, x.detach(), scale, found)
    )
    return result


def learned_quantize(x: Tensor, scale: Tensor, found: Ready | None = None) -> Tensor:
    """`quantbench.qat.quantizer.lsq`: gradients to `x` and to `scale` (float32 []). `found`: `ready(x)`."""
    a = silu_input(x)
    if a is None:
        return _result(_apply(_Learned, x, scale, None, found))
    return _result(_apply(_Learned, a, scale, x.detach(), found))


def silu_and_quantized(a: Tensor, scale: float | Tensor, found: Ready | None = None) -> tuple[Tensor, Tensor]:
    """SiLU of `a` and that fake-quantized, by a number or by a learned scale (float32 []). `found`: `ready(a)`, without
    gaps."""
    function = _SiluAndLearned if isinstance(scale, Tensor) else _SiluAndQuantized
    y, q = _apply(function, a, scale, found)
    return y, q


def _apply(function: Any, *given: Any) -> Any:
    return function.apply(*given)  # torch leaves it untyped


def _result(value: Any) -> Tensor:
    result: Tensor = value
    return result


def packed_away() -> bool:
    """Whether what autograd keeps goes through hooks (checkpointing, offloading): then it is not ours to look at, and
    nobody knows what a second run of the same code would keep. True where torch cannot tell (before 2.8)."""
    return _hooks is None or _hooks(True) is not None


def silu_input(x: Tensor) -> Tensor | None:
    """The tensor whose SiLU `x` is, if autograd knows it and wants its gradient."""
    node: Any = x.grad_fn
    if node is None or node.name() != "SiluBackward0" or packed_away():
        return None
    try:
        a: Tensor = node._saved_self
    except RuntimeError:  # changed in place since
        return None
    alike = a.shape == x.shape and a.dtype == x.dtype and a.stride() == x.stride() and a.data_ptr() % ALIGNED == 0
    lies = layout(a.shape, a.stride())
    return a if alike and a.requires_grad and lies is not None and not lies.width else None


def _as_lies(g: Tensor, like: Tensor) -> tuple[Tensor, Layout]:
    """`g` in the dtype and the order of dimensions of `like`, and how it lies."""
    lies, wanted = layout(g.shape, g.stride()), layout(like.shape, like.stride())
    if lies and wanted and lies.order == wanted.order and g.dtype == like.dtype and g.data_ptr() % ALIGNED == 0:
        return g, lies
    return torch.empty_like(like).copy_(g), DENSE


@functools.lru_cache(4096)
def reciprocal(scale: float) -> float:
    """1 / scale as torch's kernels have it, in float32."""
    return float(np.float32(1.0) / np.float32(scale))


class _FakeQuantized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, found: Ready | None) -> Tensor:
        ctx.found = found
        if found is None:
            ctx.save_for_backward(in_range(x, scale))
            return torch.fake_quantize_per_tensor_affine(x, scale, 0, QMIN, QMAX)
        kernel, lies = found
        y, mask = kernel.quantize(x, lies, scale, reciprocal(scale), masked=True)
        ctx.save_for_backward(mask)
        ctx.like = y.stride()
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (mask,), g = ctx.saved_tensors, grads[0]
        if ctx.found is None:
            return g * mask, None, None
        kernel, lies = ctx.found
        own = layout(g.shape, g.stride())
        if own is None or own.order != lies.order or g.data_ptr() % ALIGNED:
            g, own = torch.empty_strided(g.shape, ctx.like, dtype=g.dtype, device=g.device).copy_(g), DENSE
        return kernel.pass_masked(g, own, mask, ctx.like), None, None


class _OfSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, scale: float, found: Ready | None) -> Tensor:
        ctx.found, ctx.scale = found, scale
        ctx.save_for_backward(a)
        if found is None:
            return torch.fake_quantize_per_tensor_affine(x, scale, 0, QMIN, QMAX)
        return found[0].quantize(x, found[1], scale, reciprocal(scale), masked=False)[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None]:
        (a,) = ctx.saved_tensors
        return _silu_gradient(ctx.found, a, None, grads[0], ctx.scale), None, None, None


class _SiluAndQuantized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, scale: float, found: Ready | None) -> tuple[Tensor, Tensor]:
        ctx.found, ctx.scale = found, scale
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(a)
        if found is not None:
            return found[0].silu_quantize(a, scale, reciprocal(scale))
        y = F.silu(a)
        return y, torch.fake_quantize_per_tensor_affine(y, scale, 0, QMIN, QMAX)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None]:
        (a,), (direct, g) = ctx.saved_tensors, grads
        return _silu_gradient(ctx.found, a, direct, g, ctx.scale), None, None


def _silu_gradient(
    found: Ready | None, a: Tensor, direct: Tensor | None, g: Tensor | None, scale: float
) -> Tensor | None:
    """Gradient of `a` where `direct` is that of silu(a) and `g` that of the fake-quantized one."""
    if g is None:
        return None if direct is None else torch.ops.aten.silu_backward(direct, a)
    if found is not None:
        other = None if direct is None else _as_lies(direct, a)
        return found[0].silu_backward(a, *_as_lies(g, a), reciprocal(scale), other)
    out: Tensor = torch.ops.aten.silu_backward(g * in_range(F.silu(a), scale), a)
    return out if direct is None else out + torch.ops.aten.silu_backward(direct, a)


class _Learned(torch.autograd.Function):
    """LSQ; `x` is `given`'s SiLU, or None: then `given` itself is quantized."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, scale: Tensor, x: Tensor | None, found: Ready | None) -> Tensor:
        ctx.found, ctx.silu = found, x is not None
        ctx.save_for_backward(given, scale)
        values = given if x is None else x
        return _on_grid(values, scale) if found is None else found[0].learned(values, found[1], scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        given, scale = ctx.saved_tensors
        if ctx.silu:
            return *_silu_learned_gradients(ctx.found, given, scale, None, grads[0]), None, None
        g, lies = _as_lies(grads[0], given) if ctx.found is not None else (grads[0], DENSE)
        if ctx.found is not None:
            return *ctx.found[0].learned_backward(given, ctx.found[1], g, lies, scale, _damping(given)), None, None
        return *_learned_gradients(given, scale, g), None, None


class _SiluAndLearned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, scale: Tensor, found: Ready | None) -> tuple[Tensor, Tensor]:
        ctx.found = found
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(a, scale)
        if found is not None:
            return found[0].silu_learned(a, scale)
        y = F.silu(a)
        return y, _on_grid(y, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        (a, scale), (direct, g) = ctx.saved_tensors, grads
        return *_silu_learned_gradients(ctx.found, a, scale, direct, g), None


def _silu_learned_gradients(
    found: Ready | None, a: Tensor, scale: Tensor, direct: Tensor | None, g: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    if g is None:
        return (None if direct is None else torch.ops.aten.silu_backward(direct, a)), None
    if found is not None:
        other = None if direct is None else _as_lies(direct, a)
        return found[0].silu_learned_backward(a, *_as_lies(g, a), scale, _damping(a), other)
    passed, gradient = _learned_gradients(F.silu(a), scale, g)
    out: Tensor = torch.ops.aten.silu_backward(passed, a)
    return (out if direct is None else out + torch.ops.aten.silu_backward(direct, a)), gradient


def _damping(x: Tensor) -> float:
    return float((x.numel() * QMAX) ** -0.5)


def _on_grid(x: Tensor, scale: Tensor) -> Tensor:
    return (torch.round(torch.clamp(x.float() / scale, QMIN, QMAX)) * scale).to(x.dtype)


def _learned_gradients(x: Tensor, scale: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    ratio = x.float() / scale
    inside = (ratio >= QMIN) & (ratio <= QMAX)
    part = g.float() * (torch.round(ratio.clamp(QMIN, QMAX)) - ratio * inside)
    return g * inside, (part.sum() * _damping(x)).reshape(scale.shape)


def in_range(x: Tensor, scale: float) -> Tensor:
    """Whether each element of `x` becomes an INT8 level without clipping, as torch rounds it."""
    level = torch.round(x.float() * reciprocal(scale))
    return (level >= QMIN) & (level <= QMAX)
