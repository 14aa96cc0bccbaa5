"""Second moments E[x x^T] of what quantized layers are given, as a Q/DQ network runs: one batch held at a time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, InnerTensors
from quantbench.calibration.sums import Levels
from quantbench.graph.ops import CONVS, MATRIX
from quantbench.qdq.patches import Floats, conv_rows, matrix_rows, window_of
from quantbench.qdq.quantized_layers import QuantizedLayer


def matrix_shape(layer: QuantizedLayer) -> tuple[int, int, int]:
    """Groups, outputs of each, and K, inputs of each output: the shape of `as_matrix`."""
    shape = layer.shape
    if layer.node.op_type in CONVS:
        groups = window_of(layer.node, shape[2:]).groups
        return groups, shape[0] // groups, math.prod(shape[1:])
    return (1, shape[0], shape[1]) if _turned(layer) else (1, shape[1], shape[0])


def as_matrix(layer: QuantizedLayer, values: NDArray[np.generic]) -> NDArray[np.float64]:
    """`values` of the shape of the layer's weight as [groups, outputs, K], as `rows_of` has its inputs."""
    wide: NDArray[np.float64] = values.astype(np.float64)
    if layer.node.op_type in CONVS:
        return wide.reshape(matrix_shape(layer))
    return wide[None] if _turned(layer) else wide.T[None]


def as_weight(layer: QuantizedLayer, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `as_matrix`."""
    if layer.node.op_type in CONVS:
        return matrix.reshape(layer.shape)
    return np.asarray(matrix[0] if _turned(layer) else matrix[0].T)


def is_linear(layer: QuantizedLayer) -> bool:
    """Whether the layer is one matrix over rows of its input: a Conv, a MatMul with [K, outputs], a Gemm with rows."""
    if layer.node.op_type == "Conv":
        return True
    return len(layer.shape) == 2 and layer.node.op_type in MATRIX and not _has(layer.node, "transA")


def rows_of(layer: QuantizedLayer, values: Floats, most: int, random: np.random.Generator) -> Floats:
    """What the layer multiplies its weight with, of its float input, once that is quantized: [groups, rows, K]."""
    levels: Levels = layer.levels
    step = np.float32(levels.scale)
    wide = values.astype(np.float32, copy=False)
    if layer.node.op_type in CONVS:
        rows = conv_rows(wide, window_of(layer.node, layer.shape[2:]), most, random)
    else:
        rows = matrix_rows(wide, most, random)
    return np.asarray(np.clip(np.rint(rows / step), levels.low, levels.high) * step)


@dataclass
class Sum:
    """Sum of x x^T over `count` rows, `outer` [groups, K, K]."""

    outer: NDArray[np.float64]
    count: int = 0

    def add(self, rows: Floats) -> None:
        """Add rows [groups, rows, K]."""
        self.outer += rows.transpose(0, 2, 1) @ rows
        self.count += rows.shape[1]

    def moments(self) -> NDArray[np.float64]:
        """E[x x^T]."""
        return self.outer / max(self.count, 1)


class Inputs:
    """A running Q/DQ network (weights as float constants: `quantbench.qdq.simulate.simulated`) and its layers' rows."""

    def __init__(self, model: onnx.ModelProto, layers: Sequence[QuantizedLayer], *, threads: int = 0) -> None:
        self._layers = layers
        self._random = np.random.default_rng(0)
        sources = list(dict.fromkeys(layer.source for layer in layers))
        self._inner = InnerTensors(model, sources, threads=threads, fuse_qdq=False)

    def parts(self, feed: Feed) -> list[Feed]:
        """`feed` in parts small enough that all inner tensors of one are held at once."""
        return self._inner.cached_parts(feed)

    def rows(self, feed: Feed, most: Mapping[str, int]) -> list[Floats]:
        """Rows of each layer for one batch, at most `most` (by the node's name) of each image."""
        found = dict(self._inner.run(feed))
        return [rows_of(layer, found[layer.source], most[layer.node.name], self._random) for layer in self._layers]


def _turned(layer: QuantizedLayer) -> bool:
    return layer.node.op_type == "Gemm" and _has(layer.node, "transB")


def _has(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
