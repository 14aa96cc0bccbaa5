"""Triton kernels of fake quantization; imported only where there are Triton and a CUDA device (`fused.py`).

Each reads what it needs once. x / s is computed as torch does it, x times the float32 reciprocal of s; adding and
subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even. The kernels themselves bear no hints: Triton reads
annotations as its own.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 2048


@triton.jit
def _quantize(x_ptr, y_ptr, mask_ptr, scale, inverse, size, MASK: tl.constexpr, BLOCK: tl.constexpr):
    """y = fake-quantized x; with MASK a bit for each element, set where x was in range."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = start + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < size, other=0.0).to(tl.float32)
    level = tl.minimum(tl.maximum(x * inverse, -200.0), 200.0)
    level = (level + 12582912.0) - 12582912.0
    y = tl.minimum(tl.maximum(level, -128.0), 127.0) * scale
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=at < size)
    if MASK:
        inside = ((level >= -128.0) & (level <= 127.0)).to(tl.int32)
        bits = tl.sum(tl.reshape(inside, (BLOCK // 8, 8)) << tl.arange(0, 8)[None, :], axis=1)
        byte = start // 8 + tl.arange(0, BLOCK // 8)
        tl.store(mask_ptr + byte, bits.to(tl.uint8), mask=byte < (size + 7) // 8)


@triton.jit
def _pass_masked(g_ptr, mask_ptr, out_ptr, size, BLOCK: tl.constexpr):
    """out = g where the bit is set, else 0."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(g_ptr + at, mask=at < size, other=0.0)
    inside = (tl.load(mask_ptr + at // 8, mask=at < size, other=0).to(tl.int32) >> (at % 8).to(tl.int32)) & 1
    tl.store(out_ptr + at, tl.where(inside == 1, g, 0.0), mask=at < size)


@triton.jit
def _backward(
    x_ptr, g_ptr, out_ptr, sums_ptr, scale_ptr, inverse, size,
    SILU: tl.constexpr, LEARNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of the input of fake quantization, or with SILU of the SiLU before it; with LEARNED the scale lies on
    the card, and each program leaves its part of the scale's gradient in `sums`."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    given = tl.load(x_ptr + at, mask=at < size, other=0.0)
    g = tl.load(g_ptr + at, mask=at < size, other=0.0).to(tl.float32)
    x = given.to(tl.float32)
    gate = 1.0 / (1.0 + tl.exp(-x))
    slope = gate * (1.0 + x * (1.0 - gate))
    if SILU:
        # As the forward pass stored it: rounded to the tensor's type.
        x = (x * gate).to(x_ptr.dtype.element_ty).to(tl.float32)
    if LEARNED:
        ratio = x / tl.load(scale_ptr)
    else:
        ratio = (tl.minimum(tl.maximum(x * inverse, -200.0), 200.0) + 12582912.0) - 12582912.0
    inside = (ratio >= -128.0) & (ratio <= 127.0)
    out = tl.where(inside, g, 0.0)
    if SILU:
        out = out * slope
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=at < size)
    if LEARNED:
        clamped = tl.minimum(tl.maximum(ratio, -128.0), 127.0)
        level = (clamped + 12582912.0) - 12582912.0
        part = tl.sum(g * (level - tl.where(inside, ratio, 0.0)), axis=0)
        tl.store(sums_ptr + tl.program_id(0), part)


@triton.jit
def _learned(x_ptr, y_ptr, scale_ptr, size, BLOCK: tl.constexpr):
    """y = x quantized by a scale that lies on the card."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < size, other=0.0).to(tl.float32)
    scale = tl.load(scale_ptr)
    level = tl.minimum(tl.maximum(x / scale, -128.0), 127.0)
    y = ((level + 12582912.0) - 12582912.0) * scale
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=at < size)


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), _BLOCK),)


def quantize(x: Tensor, scale: float, inverse: float, *, masked: bool) -> tuple[Tensor, Tensor]:
    """Fake-quantized dense `x` and, if `masked`, a bit an element: whether it was in range (uint8 [ceil(n / 8)])."""
    y = torch.empty_like(x)
    mask = torch.empty((x.numel() + 7) // 8 if masked else 0, dtype=torch.uint8, device=x.device)
    with torch.cuda.device(x.device):
        _quantize[_grid(x)](x, y, mask, scale, inverse, x.numel(), MASK=masked, BLOCK=_BLOCK)
    return y, mask


def pass_masked(g: Tensor, mask: Tensor) -> Tensor:
    """`g` where the bit of `mask` is set, else 0."""
    out = torch.empty_like(g)
    with torch.cuda.device(g.device):
        _pass_masked[_grid(g)](g, mask, out, g.numel(), BLOCK=_BLOCK)
    return out


def silu_backward(a: Tensor, g: Tensor, inverse: float) -> Tensor:
    """Gradient of `a`, of which silu(a) was fake-quantized."""
    out = torch.empty_like(a)
    with torch.cuda.device(a.device):
        _backward[_grid(a)](
            a, g, out, a, a, inverse, a.numel(), SILU=True, LEARNED=False, BLOCK=_BLOCK
        )  # fmt: skip
    return out


def learned(x: Tensor, scale: Tensor) -> Tensor:
    """`x` quantized by `scale` (float32 [], on the card)."""
    y = torch.empty_like(x)
    with torch.cuda.device(x.device):
        _learned[_grid(x)](x, y, scale, x.numel(), BLOCK=_BLOCK)
    return y


def learned_backward(x: Tensor, g: Tensor, scale: Tensor, *, silu: bool) -> tuple[Tensor, Tensor]:
    """Gradients of `x` (or, with `silu`, of the tensor whose SiLU was quantized) and, undamped, of `scale`."""
    out, sums = torch.empty_like(x), torch.empty(_grid(x)[0], device=x.device)
    with torch.cuda.device(x.device):
        _backward[_grid(x)](
            x, g, out, sums, scale, 1.0, x.numel(), SILU=silu, LEARNED=True, BLOCK=_BLOCK
        )  # fmt: skip
    return out, sums.sum()
