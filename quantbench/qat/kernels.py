"""The kernels of `fake_quantize.cu`, launched on torch's current stream.

CUDA C rather than Triton, whose launches cost a training step more than the kernels save (51 quantizers, YOLOv8n).
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantbench.qat.nvrtc import compiled

_SOURCE = Path(__file__).with_name("fake_quantize.cu")
_NAMES = ("quantize", "pass_masked", "learned", "silu_backward", "learned_backward", "learned_silu_backward")
_BLOCK = 256 * 8  # elements
ALIGNED = 16


class Kernels:
    """Those of one card."""

    def __init__(self, functions: dict[tuple[str, torch.dtype], Any], device: torch.device) -> None:
        from cuda.bindings import driver

        self._functions, self._device, self._launch = functions, device, driver.cuLaunchKernel

    def quantize(self, x: Tensor, scale: float, inverse: float, *, masked: bool) -> tuple[Tensor, Tensor | None]:
        """Fake-quantized dense `x` and, if `masked`, a bit an element: whether it was in range (uint8, 8 a byte)."""
        y = torch.empty_like(x)
        mask = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8, device=x.device) if masked else None
        self._run("quantize", x, x, y, mask, ctypes.c_float(scale), ctypes.c_float(inverse))
        return y, mask

    def pass_masked(self, g: Tensor, mask: Tensor) -> Tensor:
        """`g` where the bit of `mask` is set, else 0."""
        out = torch.empty_like(g)
        self._run("pass_masked", g, g, mask, out)
        return out

    def silu_backward(self, a: Tensor, g: Tensor, inverse: float) -> Tensor:
        """Gradient of `a`, of which silu(a) was fake-quantized."""
        out = torch.empty_like(a)
        self._run("silu_backward", a, a, g, out, ctypes.c_float(inverse))
        return out

    def learned(self, x: Tensor, scale: Tensor) -> Tensor:
        """`x` quantized by `scale` (float32 [], on the card)."""
        y = torch.empty_like(x)
        self._run("learned", x, x, y, scale)
        return y

    def learned_backward(self, x: Tensor, g: Tensor, scale: Tensor, *, silu: bool) -> tuple[Tensor, Tensor]:
        """Gradients of `x` (with `silu`: of the tensor whose SiLU was quantized) and, undamped, of `scale`."""
        out, sums = torch.empty_like(x), torch.empty(_blocks(x), device=x.device)
        self._run("learned_silu_backward" if silu else "learned_backward", x, x, g, out, sums, scale)
        return out, sums.sum()

    def _run(self, name: str, x: Tensor, *given: Any) -> None:
        """Launch over the elements of `x`: pointers of tensors (None: null), numbers as they are, the size last."""
        values: list[Any] = [
            v if isinstance(v, ctypes.c_float) else ctypes.c_void_p(None if v is None else v.data_ptr()) for v in given
        ]
        values.append(ctypes.c_longlong(x.numel()))
        arguments = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        (status,) = self._launch(
            self._functions[name, x.dtype], _blocks(x), 1, 1, 256, 1, 1, 0,
            torch.cuda.current_stream(self._device).cuda_stream, ctypes.addressof(arguments), 0,
        )  # fmt: skip
        if int(status) != 0:
            raise RuntimeError(f"CUDA: fake quantization failed: {status}")


def _blocks(x: Tensor) -> int:
    return max(1, -(-x.numel() // _BLOCK))


@functools.cache
def kernels(device: torch.device) -> Kernels | None:
    """The kernels for a CUDA `device`, or None where they cannot be compiled."""
    index = torch.cuda.current_device() if device.index is None else device.index
    functions = compiled(_SOURCE, _NAMES, index)
    return None if functions is None else Kernels(functions, device)
