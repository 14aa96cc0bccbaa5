"""Batch norms with held statistics in training, by kernels of our own: their results are torch's to the bit.

torch's gradient of such a norm is not made for channels-last memory: it writes it in the other order of dimensions, one
element at a time, and the convolution before copies it back, twice. Here one pass gives the gradient of the norm, the
SiLU behind it and that one's quantizer, from the norm's input alone, and the sums for scale and shift.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantbench.qat import fused
from quantbench.qat.kernels import ALIGNED
from quantbench.qat.layout import EACH, layout
from quantbench.qat.norm_kernels import MOST_CHANNELS, Follows, NormKernels, Statistics, norm_kernels


def ready(x: Tensor, norm: nn.BatchNorm2d) -> NormKernels | None:
    """What does `norm`, which holds its statistics, of `x` where a gradient of it will be wanted; None where torch's
    operators must."""
    if type(x) is not Tensor or x.dtype != torch.bfloat16 or not x.requires_grad or not torch.is_grad_enabled():
        return None
    found = norm_kernels(x.device)
    if found is None or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    channels, size = x.shape[1], x.numel()
    if channels % EACH or channels > MOST_CHANNELS or not 0 < size < 1 << 31 or x.data_ptr() % ALIGNED:
        return None
    for held in _held(norm):
        if held is None or type(held) not in (Tensor, nn.Parameter) or held.dtype != torch.float32:
            return None
        if held.device != x.device or held.shape != (channels,) or held.stride() != (1,):
            return None
    return found


def normalized(x: Tensor, norm: nn.BatchNorm2d, found: NormKernels | None = None) -> Tensor:
    """`norm` of `x`. `found`: `ready(x, norm)`."""
    return _apply(x, norm, found, Follows())[0]


def normalized_with_silu(
    x: Tensor, norm: nn.BatchNorm2d, scale: float | Tensor | None, found: NormKernels | None = None
) -> tuple[Tensor, ...]:
    """`norm` of `x`, SiLU of that, and, but for a `scale` of None, that fake-quantized, by a number or by a learned
    scale (float32 []). `found`: `ready(x, norm)`."""
    inverse = fused.reciprocal(scale) if isinstance(scale, float) else 0.0
    return _apply(x, norm, found, Follows(True, scale, inverse))


def _apply(x: Tensor, norm: nn.BatchNorm2d, found: NormKernels | None, follows: Follows) -> tuple[Tensor, ...]:
    learned = follows.scale if isinstance(follows.scale, Tensor) else None
    mean, variance, weight, bias = _held(norm)
    results: tuple[Tensor, ...] = _run(x, weight, bias, learned, (found, (mean, variance), norm.eps, follows))
    return results


def _held(norm: nn.BatchNorm2d) -> tuple[Tensor | None, ...]:
    """Mean, variance, weight and bias, without nn.Module's search for them (a microsecond each, 57 norms, twice)."""
    buffers, parameters = norm._buffers, norm._parameters
    return buffers.get("running_mean"), buffers.get("running_var"), parameters.get("weight"), parameters.get("bias")


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, learned: Tensor | None, given: Any
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        found, (mean, variance), eps, follows = given
        # Not the learned scale itself: `learned` is what autograd keeps.
        ctx.given = found, eps, follows.silu, None if learned is not None else follows.scale, follows.inverse
        ctx.save_for_backward(x, mean, variance, weight, bias, learned)
        norm = Statistics(mean, variance, weight, bias, eps)
        results = _results(x, norm, follows) if found is None else found.forward(x, norm, follows)
        return tuple(result for result in results if result is not None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, mean, variance, weight, bias, learned = ctx.saved_tensors
        found, eps, silu, scale, inverse = ctx.given
        norm, follows = Statistics(mean, variance, weight, bias, eps), Follows(silu, learned, inverse)
        if learned is None:
            follows = Follows(silu, scale, inverse)
        z, y, q = (*grads, None, None)[:3]
        if z is None and y is None and q is None:
            return None, None, None, None, None
        if found is None or torch.is_grad_enabled() or (z is not None and (y is not None or q is not None)):
            return *_by_operators(x, norm, follows, (z, y, q), ctx.needs_input_grad[:4]), None
        direct = None
        if q is None:  # nobody read what was quantized, or the SiLU
            follows, g = Follows(y is not None), z if y is None else y
        else:
            g, direct = q, y
        damping = float((x.numel() * fused.QMAX) ** -0.5)
        needs = ctx.needs_input_grad
        passed, *others = found.backward(
            x, norm, follows, _pixels(g, x), None if direct is None else _pixels(direct, x), damping,
            (needs[1], needs[2]),
        )  # fmt: skip
        return passed, *others, None


# Past Function.apply, which only looks for functorch's wrappers: `eager()` has seen that there are none.
_run: Any = super(torch.autograd.Function, _Held).apply


def _pixels(g: Any, x: Tensor) -> tuple[Tensor, int]:
    """`g` as the kernels read it, and how far apart its pixels begin."""
    channels, lies = x.shape[1], layout(g.shape, g.stride())
    if g.dtype == x.dtype and lies is not None and g.data_ptr() % ALIGNED == 0 and lies.width in (0, channels):
        wanted = layout(x.shape, x.stride())
        if wanted is not None and lies.order == wanted.order:
            return g, lies.pitch or channels
    return torch.empty_like(x).copy_(g), channels


def _by_operators(
    x: Tensor, norm: Statistics, follows: Follows, grads: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients of x, weight, bias and a learned scale by torch's operators: where they will be differentiated again,
    or the norm has other readers than its SiLU."""
    with torch.enable_grad():
        results = _results(x, norm, follows)
        pairs = [(result, g) for result, g in zip(results, grads, strict=True) if g is not None]
        inputs: tuple[Any, ...] = (x, norm.weight, norm.bias, follows.scale)
        wanted = [i for i, need in enumerate(needed) if need]
    found = torch.autograd.grad(
        [result for result, _ in pairs], [inputs[i] for i in wanted], [g for _, g in pairs],
        create_graph=torch.is_grad_enabled(), allow_unused=True,
    )  # fmt: skip
    gradients: list[Tensor | None] = [None] * 4
    for i, gradient in zip(wanted, found, strict=True):
        gradients[i] = gradient
    return gradients


def _results(x: Tensor, norm: Statistics, follows: Follows) -> tuple[Any, Any, Any]:
    z = F.batch_norm(x, norm.mean, norm.variance, norm.weight, norm.bias, eps=norm.eps)
    y = F.silu(z) if follows.silu else None
    if y is None or follows.scale is None:
        return z, y, None
    if isinstance(follows.scale, Tensor):
        return z, y, fused.learned_quantize(y, follows.scale)
    return z, y, torch.fake_quantize_per_tensor_affine(y, follows.scale, 0, fused.QMIN, fused.QMAX)
