"""Convolutions and products of integers, exact: what INT8 kernels sum up in int32.

Integers are held as float64, whose sums are exact below 2^53 and which BLAS multiplies; whether a sum fits int32 is
for the caller to check. Float layers are computed by the same functions, in double precision. Shapes and attributes as
ONNX has them (operator specifications of Conv and ConvTranspose).
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError

Array = NDArray[np.float64]


def conv(
    x: Array, w: Array, *, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int], group: int
) -> Array:
    """[N, C, ...] by [M, C/group, ...] to [N, M, ...]; `pads` are all begins, then all ends, filled with zeros.

    Raises QuantbenchError for a kernel that is larger than its input.
    """
    rank = w.ndim - 2
    wide = _padded(x, pads[:rank], pads[rank:])
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(w.shape[2:], dilations, strict=True)]
    if any(have < need for have, need in zip(wide.shape[2:], reach, strict=True)):
        raise QuantbenchError(f"a kernel of {list(w.shape)} is larger than its input {list(x.shape)} with its padding")
    seen = sliding_window_view(wide, reach, axis=tuple(range(2, 2 + rank)))
    seen = seen[(slice(None), slice(None), *(slice(None, None, step) for step in (*strides, *dilations)))]
    out = seen.shape[2 : 2 + rank]
    parts = seen.reshape(x.shape[0], group, w.shape[1], *out, *w.shape[2:])
    columns = parts.transpose(1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    kernels = w.reshape(group, w.shape[0] // group, -1).transpose(0, 2, 1)
    found = columns.reshape(group, x.shape[0] * int(np.prod(out)), -1) @ kernels
    by_channel = found.reshape(group, x.shape[0], *out, -1).transpose(1, 0, 2 + rank, *range(2, 2 + rank))
    return by_channel.reshape(x.shape[0], w.shape[0], *out)


def conv_transpose(
    x: Array, w: Array, *, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int], group: int,
    output_padding: Sequence[int],
) -> Array:  # fmt: skip
    """[N, C, ...] by [C, M/group, ...] to [N, M, ...]: a conv with the kernel turned over, on values that stand
    `strides` apart."""
    rank = w.ndim - 2
    apart = np.zeros((*x.shape[:2], *((size - 1) * step + 1 for size, step in zip(x.shape[2:], strides, strict=True))))
    apart[(slice(None), slice(None), *(slice(None, None, step) for step in strides))] = x
    reach = [(size - 1) * dilation for size, dilation in zip(w.shape[2:], dilations, strict=True)]
    begins = [far - begin for far, begin in zip(reach, pads[:rank], strict=True)]
    ends = [far - end + more for far, end, more in zip(reach, pads[rank:], output_padding, strict=True)]
    turned = np.flip(w, axis=tuple(range(2, 2 + rank)))
    grouped = turned.reshape(group, x.shape[1] // group, *w.shape[1:]).swapaxes(1, 2)
    kernels = grouped.reshape(group * w.shape[1], x.shape[1] // group, *w.shape[2:])
    return conv(apart, kernels, strides=[1] * rank, pads=[*begins, *ends], dilations=dilations, group=group)


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], *, upper: bool
) -> list[int]:
    """Pads of auto_pad SAME_UPPER or SAME_LOWER for a Conv on `sizes`."""
    begins, ends = [], []
    for size, width, step, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // step) - 1) * step + (width - 1) * dilation + 1 - size, 0)
        begins.append(total // 2 if upper else total - total // 2)
        ends.append(total - begins[-1])
    return [*begins, *ends]


def _padded(x: Array, begins: Sequence[int], ends: Sequence[int]) -> Array:
    """`x` with zeros around its last axes; what is negative is cut off."""
    more = [(max(begin, 0), max(end, 0)) for begin, end in zip(begins, ends, strict=True)]
    wide = np.pad(x, [(0, 0), (0, 0), *more])
    cuts = [slice(max(-begin, 0), size - max(-end, 0))
            for begin, end, size in zip(begins, ends, wide.shape[2:], strict=True)]  # fmt: skip
    return wide[(slice(None), slice(None), *cuts)]
