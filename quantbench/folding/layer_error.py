"""What quantizing costs a layer at its output, told from rows of its input, under any scale of its channels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.folding.channels import Reader
from quantbench.folding.rows import Rows
from quantbench.graph.ops import MATRIX
from quantbench.qdq.weights import INT8_MAX

Floats = NDArray[np.float64]
# Shares of the largest magnitude at which clipping is tried.
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
# Rows are so many that a product takes about this many multiplications, and has at most so many elements.
_WORK, _ELEMENTS, _LEAST_ROWS = 1 << 26, 1 << 22, 128


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A layer as taps: rows [n, groups, I] of samples that its range is taken from and of others, weight [groups, I,
    taps * O]; `plain`: what it makes of the held rows, less the mean, and the `energy` of that. `largest` [C]: of each
    channel of its input over the seen samples; `weights` [C]: the largest weight that each meets, over the largest of
    its output channel, which is what a step of the weight hangs on (zeros where every channel has steps of its own:
    depthwise)."""

    reader: Reader
    seen: NDArray[np.float32]
    held: NDArray[np.float32]
    weight: NDArray[np.float32]
    outputs: int
    plain: NDArray[np.float32]
    energy: float
    largest: Floats
    weights: Floats

    def error(self, scale: Floats) -> float:
        """Energy of the error over that of the output, sum of the taps, with the input's channels scaled by `scale` [C]
        and the weight by its inverse: input symmetric INT8 per tensor, weight per output channel, both rounded to
        nearest.

        The mean error of each tap is left out, as bias correction takes it. The input is clipped where its rows of seen
        samples have the least error; the error is that of the held ones.
        """
        groups, size, _ = self.weight.shape
        by = scale.reshape(groups, size).astype(np.float32)
        weight = self.weight / by[:, :, None]
        step = step_of(self.seen * by, float((self.largest * scale).max()))
        error = _centred(_product(rounded(self.held * by, step), _weights(weight, self.outputs))) - self.plain
        return _energy(error) / max(self.energy, 1e-30)


def layers_of(model: onnx.ModelProto, readers: Sequence[Reader], rows: Mapping[str, Rows]) -> list[Layer]:
    """The readers of which there are rows."""
    found = []
    for one in with_rows(model, readers, rows):
        groups, size, made = one.weight.shape
        meets = channel_weights(np.abs(one.weight).reshape(groups, size, one.outputs, -1).max(axis=3))
        few = max(_LEAST_ROWS, min(_WORK // max(one.weight.size, 1), _ELEMENTS // max(groups * made, 1)))
        seen, held = (
            rows[:: max(1, len(rows) // few)].reshape(-1, groups, size) for rows in (one.rows.seen, one.rows.held)
        )
        plain = _centred(_product(held, one.weight))
        energy = _energy(plain)
        found.append(Layer(one.reader, seen, held, one.weight, one.outputs, plain, energy, one.largest, meets))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class WithRows:
    """A reader, the rows of its input, its weight and outputs as `_taps_of` has them, and `Layer.largest`."""

    reader: Reader
    rows: Rows
    weight: NDArray[np.float32]
    outputs: int
    largest: Floats


def with_rows(model: onnx.ModelProto, readers: Sequence[Reader], rows: Mapping[str, Rows]) -> Iterator[WithRows]:
    """The readers of which there are rows, one weight in memory at a time."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for reader in readers:
        if (known := rows.get(reader.tensor)) is not None:
            weight, outputs = _taps_of(reader, numpy_helper.to_array(stored[reader.node.inputs[1]]))
            largest = np.abs(known.ends).max(axis=0).astype(np.float64)
            yield WithRows(reader, known, weight, outputs, largest)


def _taps_of(reader: Reader, weight: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """The weight as [groups, I, O * taps], the taps of one output channel together; and O, of a group."""
    node = reader.node
    if node.op in MATRIX:
        two = weight.T if node.attributes.get("transB", 0) else weight
        return np.ascontiguousarray(two)[None], two.shape[1]
    groups = int(node.attributes.get("group", 1))
    if node.op == "ConvTranspose":
        return weight.reshape(groups, weight.shape[0] // groups, -1), weight.shape[1]
    out = weight.shape[0] // groups
    grouped = weight.reshape(groups, out, weight.shape[1], -1).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grouped).reshape(groups, weight.shape[1], -1), out


def channel_weights(most: NDArray[np.float32]) -> Floats:
    """`Layer.weights` [C] from the largest magnitude of a weight by channel and output, [groups, I, O]."""
    groups, size, _ = most.shape
    steps = np.maximum(most.max(axis=1, keepdims=True), 1e-30)
    found: Floats = (most / steps).max(axis=2).reshape(-1).astype(np.float64) if size > 1 else np.zeros(groups)
    return found


def _centred(made: NDArray[np.float32]) -> NDArray[np.float32]:
    made -= made.mean(axis=1, keepdims=True)
    return made


def _energy(values: NDArray[np.float32]) -> float:
    flat = values.reshape(-1)
    return float(np.dot(flat, flat))


def _product(x: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """[groups, n, O * taps]."""
    turned = x.transpose(1, 0, 2)
    found: NDArray[np.float32] = turned * weight if weight.shape[1] == 1 else np.matmul(turned, weight)
    return found


def step_of(x: NDArray[np.float32], largest: float, clips: Sequence[float] = CLIPS) -> np.float32:
    """The step with which `x` has the least error: INT8 to one of the shares `clips` of `largest`."""
    steps = [np.float32(max(largest * clip / INT8_MAX, 1e-30)) for clip in clips]
    return min(steps, key=lambda step: float(((rounded(x, step) - x) ** 2).sum()))


def rounded(x: NDArray[np.float32], step: np.float32) -> NDArray[np.float32]:
    """`x` on the grid of `step`, clipped to INT8."""
    found: NDArray[np.float32] = np.clip(np.rint(x / step), -INT8_MAX - 1, INT8_MAX) * step
    return found


def _weights(weight: NDArray[np.float32], outputs: int) -> NDArray[np.float32]:
    groups, size, _ = weight.shape
    shaped = weight.reshape(groups, size, outputs, -1)
    step = np.maximum(np.abs(shaped).max(axis=(1, 3), keepdims=True) / INT8_MAX, 1e-30)
    found: NDArray[np.float32] = (np.rint(shaped / step) * step).reshape(weight.shape)
    return found
