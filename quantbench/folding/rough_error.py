"""What quantizing costs a layer, told roughly: in place of products of rows, moments of the rounding errors.

The error of an input's channel, as its rows show it, goes through that channel's weights, the error of a weight through
what its channel varies by; with all errors independent of each other their energies add up. That takes a pass over the
weights where `quantbench.folding.layer_error` takes products, and is within a decibel of it on the networks of
docs/accuracy.md: enough to tell where a better look is worth it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.folding.channels import Reader
from quantbench.folding.layer_error import CLIPS, Floats, channel_weights, rounded, step_of, with_rows
from quantbench.folding.rows import Rows
from quantbench.qdq.weights import INT8_MAX

# Channels by outputs of a layer, whose steps are computed for each candidate: of more some outputs stand for all.
_ELEMENTS = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class RoughLayer:
    """A layer as moments: rows [n, C] of samples that its range is taken from and of others, the `variance` [C] of the
    latter; `power` [C]: energy of the weights that read each channel, `most` [groups, I, O]: their largest magnitudes
    by output, of which the step is that of `share` weights. `largest` and `weights` as
    `quantbench.folding.layer_error.Layer` has them."""

    reader: Reader
    seen: NDArray[np.float32]
    held: NDArray[np.float32]
    variance: Floats
    power: Floats
    most: NDArray[np.float32]
    share: float
    largest: Floats
    weights: Floats

    def error(self, scale: Floats) -> float:
        """Energy of the error of its outputs, of which only ratios mean something, with the input's channels scaled by
        `scale` [C] and the weight by its inverse. The input is clipped where the rows of seen samples have the least
        error; the error is that of the held ones."""
        by = scale.astype(np.float32)
        step = step_of(self.seen * by, float((self.largest * scale).max()), CLIPS[::2])
        held = self.held * by
        noise = (rounded(held, step) - held).var(axis=0, dtype=np.float64) @ (self.power / scale**2)
        shape = self.most.shape[:2]
        steps = (self.most / by.reshape(*shape, 1)).max(axis=1).astype(np.float64) / INT8_MAX
        varies = (self.variance * scale**2).reshape(shape).sum(axis=1)
        return float(noise + (steps**2).sum(axis=1) @ varies * self.share / 12)


def rough_layers_of(model: onnx.ModelProto, readers: Sequence[Reader], rows: Mapping[str, Rows]) -> list[RoughLayer]:
    """The readers of which there are rows."""
    found = []
    for one in with_rows(model, readers, rows):
        groups, size, made = one.weight.shape
        taps = made // one.outputs
        shaped = one.weight.reshape(groups, size, one.outputs, taps)
        most = np.maximum(shaped.max(axis=3), -shaped.min(axis=3)) if taps > 1 else np.abs(shaped[..., 0])
        power = np.einsum("gio,gio->gi", one.weight, one.weight).reshape(-1).astype(np.float64)
        seen, held = one.rows.seen, one.rows.held
        variance = held.var(axis=0, dtype=np.float64)
        some = most[:, :, :: max(1, most.size // _ELEMENTS)]
        share = taps * one.outputs / some.shape[2]
        weights = channel_weights(most)
        found.append(RoughLayer(one.reader, seen, held, variance, power, some, share, one.largest, weights))
    return found
