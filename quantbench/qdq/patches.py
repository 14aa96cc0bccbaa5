"""What a linear layer multiplies its weight with, as rows: the patches of a conv at some positions, or a matrix's rows.

A conv's output at one position is its weight, as a matrix [outputs, K], times the K input values under the kernel
(im2col). Of large maps a sample of positions is enough for second moments: neighbours say the same twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Window:
    """A conv's kernel over its input: groups, then for each spatial dimension size, stride and dilation; `pads` before
    all of them and then behind all, unless `auto_pad` says them."""

    groups: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str

    def reads(self, axis: int, size: int) -> NDArray[np.int64]:
        """[positions, kernel]: indices into an input of `size` along a spatial `axis` that each output position reads;
        those under 0 or from `size` on lie in the padding."""
        reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        before, behind = self._pads(axis, size, reach)
        starts = np.arange(0, size + before + behind - reach + 1, self.strides[axis]) - before
        return np.asarray(starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis])

    def _pads(self, axis: int, size: int, reach: int) -> tuple[int, int]:
        if self.auto_pad.startswith("SAME"):
            outputs = -(-size // self.strides[axis])
            total = max((outputs - 1) * self.strides[axis] + reach - size, 0)
            small, large = total // 2, total - total // 2
            return (small, large) if self.auto_pad == "SAME_UPPER" else (large, small)
        return (0, 0) if self.auto_pad == "VALID" else (self.pads[axis], self.pads[axis + len(self.kernel)])


def window_of(node: onnx.NodeProto, kernel: tuple[int, ...]) -> Window:
    """The window of a Conv `node` whose weight is [outputs, inputs / groups, *kernel]."""
    given: Mapping[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    ones = (1,) * len(kernel)
    return Window(
        int(given.get("group", 1)),
        kernel,
        tuple(given.get("strides", ones)),
        tuple(given.get("dilations", ones)),
        tuple(given.get("pads", (0,) * (2 * len(kernel)))),
        bytes(given.get("auto_pad", b"NOTSET")).decode(),
    )


def conv_rows(values: Floats, window: Window, most: int, random: np.random.Generator) -> Floats:
    """Patches of `values` [N, C, *spatial] at all output positions, or `most` of them drawn by `random`:
    [groups, N * positions, K], K = C / groups times the kernel, as the weight [outputs, K] has them."""
    count, channels, spatial = values.shape[0], values.shape[1], values.shape[2:]
    reads = [window.reads(axis, size) for axis, size in enumerate(spatial)]
    outputs = tuple(len(one) for one in reads)
    total, taps = int(np.prod(outputs)), int(np.prod(window.kernel))
    chosen = np.arange(total) if total <= most else np.sort(random.choice(total, most, replace=False))
    flat, inside = np.zeros((len(chosen), *window.kernel), np.int64), np.ones((), np.bool_)
    for axis, (size, places) in enumerate(zip(spatial, np.unravel_index(chosen, outputs), strict=True)):
        shape = [len(chosen)] + [size if other == axis else 1 for other, size in enumerate(window.kernel)]
        index = reads[axis][places].reshape(shape)
        inside = inside & (index >= 0) & (index < size)
        flat = flat * size + np.clip(index, 0, size - 1)
    taken = values.reshape(count, channels, -1)[:, :, flat.reshape(len(chosen), taps)]
    taken = taken * inside.reshape(len(chosen), taps).astype(values.dtype)
    grouped = taken.reshape(count, window.groups, channels // window.groups, len(chosen), taps)
    return np.asarray(grouped.transpose(1, 0, 3, 2, 4).reshape(window.groups, count * len(chosen), -1))


def matrix_rows(values: Floats, most: int, random: np.random.Generator) -> Floats:
    """Rows of `values` [N, ..., K], or N times `most` of them drawn by `random`: [1, rows, K]."""
    rows = values.reshape(-1, values.shape[-1])
    limit = most * len(values)
    if len(rows) > limit:
        rows = rows[np.sort(random.choice(len(rows), limit, replace=False))]
    return rows[None]
