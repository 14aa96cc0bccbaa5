"""Whether the kernels of quantbench/qat (`fake_quantize.cu`, `held_norm.cu`) give torch's operators' numbers, on the
card at hand.

    python scripts/qat_kernel_check.py

Values to the bit; gradients too in 16 bits, and to the last bits of float32. Exits with 1 where they do not.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.qat import fused, held_norms
from quantbench.qat.fused_weights import Weights, quantize_weights
from quantbench.qat.norm_kernels import norm_kernels
from quantbench.qat.quantizer import lsq, weight_scale

SCALE = 0.0173
LAYOUTS = ("channels-last", "contiguous", "slice", "slice of contiguous", "gradient in a slice", "odd size")


def run(work: Callable[..., Tensor], dtype: torch.dtype, lies: str, *learned: Tensor) -> list[Tensor]:
    """Result and gradients of `work` of a tensor that lies so."""
    g = torch.Generator().manual_seed(4)
    shape = (3, 7, 5, 3) if lies == "odd size" else (3, 32, 31, 17)
    x = 3 * torch.randn(*shape, generator=g)
    x.view(-1)[:4] = torch.tensor([127.4, 127.6, -128.4, -129.0]) * SCALE
    channels_last = "contiguous" not in lies
    x = x.to("cuda", dtype)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    scales = [s.detach().clone().requires_grad_() for s in learned]
    half = (x * 1).chunk(2, 1)[1] if lies.startswith("slice") else x * 1
    y = work(half, *scales)
    grad = torch.randn(y.shape, generator=g).to("cuda", dtype)
    if channels_last:
        grad = grad.contiguous(memory_format=torch.channels_last)
    if lies == "gradient in a slice":
        grad = torch.cat([grad, grad], 1).chunk(2, 1)[1]
    torch.autograd.backward(y, grad)
    assert x.grad is not None
    return [y.detach(), x.grad, *(s.grad for s in scales if s.grad is not None)]


def check() -> bool:
    """Print a line for each kind of tensor, and whether all agree."""
    good = True
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for lies in LAYOUTS:
            told = [_fake(dtype, lies), _learned(dtype, lies)]
            told += [] if lies.startswith("slice") else [_silu_too(dtype, lies, False), _silu_too(dtype, lies, True)]
            good &= all(ok for ok, _ in told)
            print("agree " if all(ok for ok, _ in told) else "DIFFER", str(dtype)[6:], lies, *(t for _, t in told))
    good &= _weights()
    for channels, size in ((16, 63), (24, 31), (80, 17), (256, 9), (2048, 3)):
        good &= _norms(channels, size)
    return good


def _agree(found: list[Tensor], plain: list[Tensor]) -> tuple[bool, str]:
    values = torch.equal(found[0], plain[0])
    gradients = float((found[1].float() - plain[1].float()).abs().max())
    close = gradients <= (4e-7 * float(plain[1].abs().max()) if found[1].dtype == torch.float32 else 0)
    scales = [float((a - b).abs() / b.abs()) for a, b in zip(found[2:], plain[2:], strict=True)]
    told = f"[{'same' if values else 'OTHER VALUES'}, gradients {gradients:.1e}" + "".join(f", {s:.1e}" for s in scales)
    return values and close and all(s < 1e-3 for s in scales), told + "]"


def _fake(dtype: torch.dtype, lies: str) -> tuple[bool, str]:
    for before in (lambda x: x, F.silu):
        plain = run(lambda x, f=before: torch.fake_quantize_per_tensor_affine(f(x), SCALE, 0, -128, 127), dtype, lies)

        def ours(x: Tensor, f: Callable[[Tensor], Tensor] = before) -> Tensor:
            y = f(x)
            found = fused.ready(y)
            assert found is not None
            return fused.fake_quantize(y, SCALE, found)

        result = _agree(run(ours, dtype, lies), plain)
        if not result[0]:
            break
    return result


def _learned(dtype: torch.dtype, lies: str) -> tuple[bool, str]:
    scale = torch.tensor(SCALE, device="cuda")
    for before in (lambda x: x, F.silu):
        plain = run(lambda x, s, f=before: lsq(f(x), s), dtype, lies, scale)

        def ours(x: Tensor, s: Tensor, f: Callable[[Tensor], Tensor] = before) -> Tensor:
            y = f(x)
            found = fused.ready(y)
            assert found is not None
            return fused.learned_quantize(y, s, found)

        result = _agree(run(ours, dtype, lies, scale), plain)
        if not result[0]:
            break
    return result


def _silu_too(dtype: torch.dtype, lies: str, learned: bool) -> tuple[bool, str]:
    """SiLU and quantizer in one kernel; the SiLU has another reader as well."""
    scales = [torch.tensor(SCALE, device="cuda")] if learned else []

    def before(x: Tensor, *s: Tensor) -> Tensor:
        y = F.silu(x)
        found = fused.ready(y)
        assert found is not None
        q = fused.learned_quantize(y, s[0], found) if s else fused.fake_quantize(y, SCALE, found)
        return q + 2 * y

    def ours(x: Tensor, *s: Tensor) -> Tensor:
        y, q = fused.silu_and_quantized(x, s[0] if s else SCALE, fused.ready(x))
        return q + 2 * y

    return _agree(run(ours, dtype, lies, *scales), run(before, dtype, lies, *scales))


def _weights() -> bool:
    g = torch.Generator().manual_seed(1)
    shapes = [(16, 3, 3, 3), (256, 128, 3, 3), (64, 64, 1, 1), (8, 16, 2, 2), (40, 17), (7,), (1, 33, 1, 1)]
    axes = [0, 0, 0, 1, 0, None, 0]
    weights = [torch.randn(s, generator=g).cuda() for s in shapes]
    weights = [w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 and i % 2 else w
               for i, w in enumerate(weights)]  # fmt: skip
    weights = [w.requires_grad_() for w in weights]
    scales = [0.8 * weight_scale(w.detach(), a) for w, a in zip(weights, axes, strict=True)]
    plain = []
    for w, s, a in zip(weights, scales, axes, strict=True):
        if a is None:
            plain.append(torch.fake_quantize_per_tensor_affine(w, float(s), 0, -128, 127))
        else:
            zero = torch.zeros_like(s, dtype=torch.int32)
            plain.append(torch.fake_quantize_per_channel_affine(w, s, zero, a, -128, 127))
    good = True
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        group = Weights(weights, axes)
        assert group.found is not None
        found = quantize_weights(group, weights, scales, dtype)
        grads = [torch.randn(w.shape, generator=g).cuda().to(dtype) for w in weights]
        ours = torch.autograd.grad(found, weights, grads)
        theirs = torch.autograd.grad([p.to(dtype) for p in plain], weights, grads, retain_graph=True)
        same = all(torch.equal(a, b.to(dtype)) for a, b in zip(found, plain, strict=True))
        passed = all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        print("agree " if same and passed else "DIFFER", "weights to", str(dtype)[6:])
        good &= same and passed
    return good


def _norms(channels: int, size: int) -> bool:
    """Batch norms with held statistics, alone and with what follows them, against torch's operators."""
    good = True
    if norm_kernels(torch.device("cuda:0")) is None:
        print("DIFFER norms: no kernels, or torch's batch norm has other numbers than they")
        return False
    for scale in (None, 0.0, SCALE, torch.tensor(SCALE, device="cuda")):
        for lies in ("channels-last", "gradient in a slice", "contiguous gradient", "two readers"):
            if lies == "two readers" and (scale is None or scale == 0.0):
                continue
            plain, ours = (_norm(channels, size, scale, lies, kernels) for kernels in (False, True))
            values = all(torch.equal(a, b) for a, b in zip(plain[0], ours[0], strict=True))
            passed = torch.equal(plain[1], ours[1]) and plain[1].shape == ours[1].shape
            dense = ours[1].is_contiguous(memory_format=torch.channels_last)
            sums = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(plain[2], ours[2], strict=True)]
            fine = values and passed and dense and all(s < 1e-4 for s in sums[:2]) and all(s < 1e-3 for s in sums[2:])
            kind = "learned" if isinstance(scale, Tensor) else {None: "norm", 0.0: "SiLU"}.get(scale, "quantized")
            print(
                "agree " if fine else "DIFFER", f"{kind}, {channels} channels, {lies}:",
                "same" if values else "OTHER VALUES", "gradient same" if passed and dense else "OTHER GRADIENT",
                *(f"{s:.1e}" for s in sums),
            )  # fmt: skip
            good &= fine
    return good


def _norm(
    channels: int, size: int, scale: float | Tensor | None, lies: str, kernels: bool
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Results, gradient of the input, and those of weight, bias and a learned scale. A scale of 0: SiLU alone."""
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels).cuda().eval()
    with torch.no_grad():
        for name, held in (*norm.named_buffers(), ("bias", norm.bias)):
            if name in ("running_mean", "bias"):
                held.normal_()
            elif name == "running_var":
                held.uniform_(0.2, 2)
        norm.weight.normal_(1, 0.5)
    x = (2 * torch.randn(3, channels, size, size + 2)).to("cuda", torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    learned = scale.detach().clone().requires_grad_() if isinstance(scale, Tensor) else None
    number = None if isinstance(scale, Tensor) else scale or None
    if kernels:
        found = held_norms.ready(x, norm)
        assert found is not None
        made = [held_norms.normalized(x, norm, found)]
        if scale is not None:
            made = [*held_norms.normalized_with_silu(x, norm, number if learned is None else learned, found)]
    else:
        made = [norm(x)]
        if scale is not None:
            made.append(F.silu(made[0]))
        if learned is not None:
            made.append(lsq(made[1], learned))
        elif number is not None:
            made.append(torch.fake_quantize_per_tensor_affine(made[1], number, 0, -128, 127))
    g = torch.randn(x.shape).to("cuda", torch.bfloat16)
    if lies != "contiguous gradient" or not kernels:
        g = g.contiguous(memory_format=torch.channels_last)
    if lies == "gradient in a slice" and kernels:
        g = torch.cat([g, g], 1).chunk(2, 1)[1]
    torch.autograd.backward([made[-1], *([made[1]] if lies == "two readers" else [])],
                            [g, *([g.flip(0)] if lies == "two readers" else [])])  # fmt: skip
    gradients = [t.grad for t in (x, norm.weight, norm.bias, learned) if t is not None and t.grad is not None]
    return [m.detach() for m in made], gradients[0], gradients[1:]


if __name__ == "__main__":
    sys.exit(0 if check() else 1)
