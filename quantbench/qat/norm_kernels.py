"""The kernels of `held_norm.cu`, launched on torch's current stream: batch norms with held statistics in bfloat16,
channels-last, with what stands behind them.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from quantbench.qat.launch import Launch, loaded
from quantbench.qat.layout import EACH
from quantbench.qat.nvrtc import ELEMENTS, compiled

_SOURCE = Path(__file__).with_name("held_norm.cu")
MOST_CHANNELS = 256 * EACH
_KINDS = ("norm", "norm_silu", "norm_silu_quantize", "norm_silu_learned")
_NORM, _PIXELS = "PPPPfI", "Pq"
# Arguments as `struct` has them; 0P: up to the next multiple of 8.
FORMS = {
    **dict.fromkeys(_KINDS, f"PPPP{_NORM}Pffq"),
    **{f"{kind}_backward": f"P{_PIXELS * 2}P{_NORM}PPf0Pq" for kind in _KINDS},
    "norm_sums": f"PPPP{_NORM}fI",
}
# Blocks that one processor of a card holds, by their registers, and pixels that make a thread worth its start.
_FORWARD, _BACKWARD, _PIXELS_EACH = 3, 2, 4


class Statistics(NamedTuple):
    """What a norm normalizes with, each float32 [channels]."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float


class Follows(NamedTuple):
    """What stands behind a norm: SiLU or not, and a quantizer of its result with `scale`: none, a number (and its
    reciprocal, as torch's kernels have it) or a learned one (float32 [], on the card)."""

    silu: bool = False
    scale: float | Tensor | None = None
    inverse: float = 0.0

    @property
    def kind(self) -> str:
        """The kernel that does it."""
        if self.scale is None:
            return "norm_silu" if self.silu else "norm"
        return "norm_silu_learned" if isinstance(self.scale, Tensor) else "norm_silu_quantize"


class NormKernels:
    """Those of one card. Tensors are bfloat16 [N, C, H, W], channels-last, without gaps."""

    def __init__(self, launches: Mapping[str, Any], device: torch.device, stream: Any, processors: int) -> None:
        """`launches`: by name; `stream()`: the current one, as a number."""
        self._launches, self._device, self._stream, self._processors = launches, device, stream, processors

    def forward(self, x: Tensor, norm: Statistics, follows: Follows) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Normalized `x`, its SiLU, and that quantized; None for what does not follow."""
        scale, z = follows.scale, torch.empty_like(x)
        y = torch.empty_like(x) if follows.silu else None
        q = None if scale is None else torch.empty_like(x)
        learned = scale.data_ptr() if isinstance(scale, Tensor) else 0
        blocks, pixels = self._blocks(x, _FORWARD)
        self._launches[follows.kind](
            blocks, self._stream(), x.data_ptr(), z.data_ptr(), 0 if y is None else y.data_ptr(),
            0 if q is None else q.data_ptr(), *_pointers(norm), norm.eps, x.shape[1], learned,
            0.0 if scale is None or learned else scale, follows.inverse, pixels,
        )  # fmt: skip
        return z, y, q

    def backward(
        self, x: Tensor, norm: Statistics, follows: Follows, g: tuple[Tensor, int],
        direct: tuple[Tensor, int] | None, damping: float, wanted: tuple[bool, bool],
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
        """Gradients of `x`, of weight and bias where `wanted`, and of a learned scale, times `damping`. `g`: that of
        the last of what follows, and how far apart its pixels begin; `direct`: that of the SiLU by other readers."""
        channels, stream, pointers, kind = x.shape[1], self._stream(), _pointers(norm), follows.kind
        learned = follows.scale.data_ptr() if isinstance(follows.scale, Tensor) else 0
        out, (blocks, pixels) = torch.empty_like(x), self._blocks(x, _BACKWARD)
        parts = torch.empty(blocks * (2 * channels + 1), dtype=torch.float32, device=self._device)
        self._launches[f"{kind}_backward"](
            blocks, stream, x.data_ptr(), g[0].data_ptr(), g[1],
            *((0, 0) if direct is None else (direct[0].data_ptr(), direct[1])), out.data_ptr(), *pointers, norm.eps,
            channels, parts.data_ptr(), learned, follows.inverse, pixels,
        )  # fmt: skip
        weight = torch.empty(channels, dtype=torch.float32, device=self._device) if wanted[0] else None
        bias = torch.empty(channels, dtype=torch.float32, device=self._device) if wanted[1] else None
        total = torch.empty((), dtype=torch.float32, device=self._device) if learned else None
        if any(wanted) or learned:
            self._launches["norm_sums"](
                2 * channels // 32 + 1, stream, parts.data_ptr(), 0 if bias is None else bias.data_ptr(),
                0 if weight is None else weight.data_ptr(), 0 if total is None else total.data_ptr(), *pointers,
                norm.eps, channels, damping, blocks,
            )  # fmt: skip
        return out, weight, bias, total

    def _blocks(self, x: Tensor, each: int) -> tuple[int, int]:
        pixels = x.numel() // x.shape[1]
        at_once = _PIXELS_EACH * (256 // (x.shape[1] // EACH))
        return min(-(-pixels // at_once), each * self._processors), pixels


def _pointers(norm: Statistics) -> tuple[int, int, int, int]:
    return norm.mean.data_ptr(), norm.variance.data_ptr(), norm.weight.data_ptr(), norm.bias.data_ptr()


@functools.cache
def norm_kernels(device: torch.device) -> NormKernels | None:
    """The kernels for a CUDA `device`; None elsewhere, where they cannot be compiled, and where torch's batch norm has
    other numbers than they."""
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    functions = compiled((ELEMENTS, _SOURCE), tuple(FORMS), index, dtypes=(torch.bfloat16,))
    if functions is None or not loaded():
        return None
    launches = {name: Launch(int(function), FORMS[name]) for (name, _), function in functions.items()}
    processors = torch.cuda.get_device_properties(index).multi_processor_count
    found = NormKernels(launches, device, functools.partial(torch._C._cuda_getCurrentRawStream, index), processors)
    with torch.cuda.device(index):
        return found if agrees(found, device) else None


@torch.no_grad()
def agrees(found: NormKernels, device: torch.device) -> bool:
    """Whether they normalize to the bit as this torch does, which might round otherwise in another version."""
    channels = torch.arange(64, device=device, dtype=torch.float32)
    norm = Statistics(torch.sin(channels), 0.01 + channels.cos() ** 2, torch.sin(3 * channels), channels.cos(), 1e-3)
    x = torch.sin(torch.arange(2 * 64 * 31 * 17, device=device, dtype=torch.float32) * 0.7).view(2, 31, 17, 64) * 4
    x = x.to(torch.bfloat16).permute(0, 3, 1, 2)
    plain = F.batch_norm(x, norm.mean, norm.variance, norm.weight, norm.bias, eps=norm.eps)
    return bool(torch.equal(found.forward(x, norm, Follows())[0], plain))
