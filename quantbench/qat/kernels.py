"""The kernels of `fake_quantize.cu`, launched on torch's current stream.

CUDA C rather than Triton, whose launches cost a training step more than the kernels save (51 quantizers, YOLOv8n).
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantbench.qat.launch import Launch, loaded
from quantbench.qat.layout import EACH, Layout
from quantbench.qat.nvrtc import ELEMENTS, compiled

_SOURCE = Path(__file__).with_name("fake_quantize.cu")
ALIGNED = 16  # bytes
MOST = 64  # weights of a launch
BLOCK = 256 * EACH  # elements
_READ, _GRADIENT = "Pqq", "PPPf0P"
# Arguments as `struct` has them; 0P: up to the next multiple of 8.
_FORMS = {
    "quantize": "PPPffqqq", "pass_masked": "PPPqqq", "learned": "PPPqqq", "silu_quantize": "PPPffq",
    "silu_learned": "PPPPq", "silu_backward": f"{_READ * 3}Pfq", "learned_backward": f"{_READ * 2}P{_GRADIENT}Pq",
    "silu_learned_backward": f"{_READ * 3}P{_GRADIENT}Pq",
    **dict.fromkeys(("weights", "weights_backward"), f"{3 * MOST}P{MOST + 1}I{3 * MOST}IPI0P"),
}  # fmt: skip
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DENSE = Layout((), 0, 0)


class Kernels:
    """Those of one card. Results lie as what they are made of, without gaps; layouts are those of `layout.py`."""

    def __init__(self, launches: dict[str, dict[torch.dtype, Any]], device: torch.device, stream: Any) -> None:
        """`launches`: by name and dtype; `stream()`: the current one, as a number."""
        self._device, self._stream = device, stream
        self._quantize, self._pass_masked = launches["quantize"], launches["pass_masked"]
        self._learned, self._learned_backward = launches["learned"], launches["learned_backward"]
        self._silu_quantize, self._silu_backward = launches["silu_quantize"], launches["silu_backward"]
        self._silu_learned = launches["silu_learned"]
        self._silu_learned_backward = launches["silu_learned_backward"]
        self._weights, self._weights_backward = launches["weights"], launches["weights_backward"]
        self._done: dict[int, Tensor] = {}  # by stream: blocks of a launch that have ended, 0 between launches

    def quantize(
        self, x: Tensor, lies: Layout, scale: float, inverse: float, *, masked: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Fake-quantized `x` and, if `masked`, a bit an element: whether it was in range (uint8, 8 a byte)."""
        y, size = torch.empty_like(x), x.numel()
        mask = torch.empty((size + 7) // 8, dtype=torch.uint8, device=self._device) if masked else None
        self._quantize[x.dtype](
            -(-size // BLOCK), self._stream(), x.data_ptr(), y.data_ptr(), 0 if mask is None else mask.data_ptr(),
            scale, inverse, lies.width, lies.pitch, size,
        )  # fmt: skip
        return y, mask

    def pass_masked(self, g: Tensor, lies: Layout, mask: Tensor, like: tuple[int, ...]) -> Tensor:
        """`g` where the bit of `mask` is set, else 0, with strides `like`."""
        out, size = torch.empty_strided(g.shape, like, dtype=g.dtype, device=self._device), g.numel()
        self._pass_masked[g.dtype](
            -(-size // BLOCK), self._stream(), g.data_ptr(), mask.data_ptr(), out.data_ptr(), lies.width, lies.pitch,
            size,
        )  # fmt: skip
        return out

    def learned(self, x: Tensor, lies: Layout, scale: Tensor) -> Tensor:
        """`x` quantized by `scale` (float32 [], on the card)."""
        y, size = torch.empty_like(x), x.numel()
        self._learned[x.dtype](
            -(-size // BLOCK), self._stream(), x.data_ptr(), y.data_ptr(), scale.data_ptr(), lies.width, lies.pitch,
            size,
        )  # fmt: skip
        return y

    def silu_quantize(self, a: Tensor, scale: float, inverse: float) -> tuple[Tensor, Tensor]:
        """SiLU of `a`, which has no gaps, and that fake-quantized."""
        y, q, size = torch.empty_like(a), torch.empty_like(a), a.numel()
        self._silu_quantize[a.dtype](
            -(-size // BLOCK), self._stream(), a.data_ptr(), y.data_ptr(), q.data_ptr(), scale, inverse, size
        )
        return y, q

    def silu_learned(self, a: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """SiLU of `a`, which has no gaps, and that quantized by `scale` (float32 [], on the card)."""
        y, q, size = torch.empty_like(a), torch.empty_like(a), a.numel()
        self._silu_learned[a.dtype](
            -(-size // BLOCK), self._stream(), a.data_ptr(), y.data_ptr(), q.data_ptr(), scale.data_ptr(), size
        )
        return y, q

    def silu_backward(
        self, a: Tensor, g: Tensor, lies: Layout, inverse: float, direct: tuple[Tensor, Layout] | None = None
    ) -> Tensor:
        """Gradient of `a`, which has no gaps and of which silu(a) was fake-quantized: `g` is that of the result,
        `direct` that of silu(a) by its other readers."""
        out, size = torch.empty_like(a), a.numel()
        other = (0, 0, 0) if direct is None else (direct[0].data_ptr(), direct[1].width, direct[1].pitch)
        self._silu_backward[a.dtype](
            -(-size // BLOCK), self._stream(), a.data_ptr(), 0, 0, g.data_ptr(), lies.width, lies.pitch, *other,
            out.data_ptr(), inverse, size,
        )  # fmt: skip
        return out

    def learned_backward(
        self, x: Tensor, lies: Layout, g: Tensor, g_lies: Layout, scale: Tensor, damping: float
    ) -> tuple[Tensor, Tensor]:
        """Gradients of `x` and of `scale`, times `damping`."""
        out, size, stream = torch.empty_like(x), x.numel(), self._stream()
        parts, done, total = self._sums(size, stream)
        self._learned_backward[x.dtype](
            -(-size // BLOCK), stream, x.data_ptr(), lies.width, lies.pitch, g.data_ptr(), g_lies.width, g_lies.pitch,
            out.data_ptr(), parts.data_ptr(), done.data_ptr(), total.data_ptr(), damping, scale.data_ptr(), size,
        )  # fmt: skip
        return out, total

    def silu_learned_backward(
        self, a: Tensor, g: Tensor, lies: Layout, scale: Tensor, damping: float,
        direct: tuple[Tensor, Layout] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """As `silu_backward`, and the gradient of `scale`, times `damping`."""
        out, size, stream = torch.empty_like(a), a.numel(), self._stream()
        parts, done, total = self._sums(size, stream)
        other = (0, 0, 0) if direct is None else (direct[0].data_ptr(), direct[1].width, direct[1].pitch)
        self._silu_learned_backward[a.dtype](
            -(-size // BLOCK), stream, a.data_ptr(), 0, 0, g.data_ptr(), lies.width, lies.pitch, *other,
            out.data_ptr(), parts.data_ptr(), done.data_ptr(), total.data_ptr(), damping, scale.data_ptr(), size,
        )  # fmt: skip
        return out, total

    def weights(self, dtype: torch.dtype, blocks: int, pointers: Sequence[int], facts: Sequence[int]) -> None:
        """MOST weights or fewer, as `Weights` of the source has them; results are `dtype`."""
        self._weights[dtype](blocks, self._stream(), *pointers, *facts)

    def weights_backward(self, dtype: torch.dtype, blocks: int, pointers: Sequence[int], facts: Sequence[int]) -> None:
        """Their gradients, which come as `dtype` and leave as float32."""
        self._weights_backward[dtype](blocks, self._stream(), *pointers, *facts)

    def _sums(self, size: int, stream: int) -> tuple[Tensor, Tensor, Tensor]:
        done = self._done.get(stream)
        if done is None:
            done = self._done[stream] = torch.zeros((), dtype=torch.int32, device=self._device)
        return torch.empty(-(-size // BLOCK), device=self._device), done, torch.empty((), device=self._device)


@functools.cache
def kernels(device: torch.device) -> Kernels | None:
    """The kernels for a CUDA `device`, or None elsewhere and where they cannot be compiled."""
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    functions = compiled((ELEMENTS, _SOURCE), tuple(_FORMS), index)
    if functions is None or not loaded():
        return None
    launches: dict[str, dict[torch.dtype, Any]] = {name: {} for name in _FORMS}
    for (name, dtype), function in functions.items():
        launches[name][dtype] = Launch(int(function), _FORMS[name])
    return Kernels(launches, device, functools.partial(torch._C._cuda_getCurrentRawStream, index))
