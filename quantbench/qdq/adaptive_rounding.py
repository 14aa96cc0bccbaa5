"""Adaptive rounding: weights of the layers that miss most are rounded for the layer's output, not each to the nearest.

After AdaRound (Nagel et al., "Up or down? Adaptive rounding for post-training quantization", arXiv:2004.10568), in the
closed form of second moments (`round_matrix`). Inputs are the quantized network's own. A look at a few images tells
how much error rounding leaves at each layer's output; layers under `LEAST_DB` are rounded, the worst first, as long as
the work planned fits the limit of time. The plan counts multiply-adds and not seconds, so that the same model comes out
on every machine.

Moments are not centred, though bias correction, which follows, takes the mean error out: centred ones lead to no better
result (docs/accuracy.md), and where a bias is computed nothing follows.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.calibration.ort_outputs import Feed, images_of
from quantbench.graph.surgery import copied
from quantbench.qdq.moments import Inputs, Sum, as_matrix, as_weight, is_linear, matrix_shape
from quantbench.qdq.quantized_layers import QuantizedLayer, quantized_layers
from quantbench.qdq.round_matrix import SWEEPS, damped, output_error, round_matrix
from quantbench.qdq.simulate import simulated
from quantbench.records.rounding import RoundedLayer, RoundingFacts

LEAST_DB = 50.0
LIMIT_SECONDS = 120.0
# Multiply-adds a second of one core of a 2.1 GHz Xeon at these products, measured with all else that a layer takes.
_RATE = 4e9
_LOOKED_IMAGES, _LOOKED_ROWS = 16, 16
# Rows for each column of a second moment.
_ROWS_A_COLUMN = 4
_LEAST_ROWS = 1024
# Of second moments held at once, and of one layer's.
_MOST_BYTES = 500_000_000

Weights = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Rounding:
    """Calibration images that weights are rounded on: `feeds` opens them from the beginning, `images` is how many."""

    feeds: Callable[[], Iterable[Feed]]
    images: int
    threads: int = 0
    limit_seconds: float = LIMIT_SECONDS


@dataclass(frozen=True, slots=True)
class Rounded:
    """The model, its rounded weights as they were, by name, and the facts."""

    model: onnx.ModelProto
    floats: Mapping[str, onnx.TensorProto] = field(default_factory=dict)
    facts: RoundingFacts | None = None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A layer to round, how many dB nearest rounding leaves, and the most rows that it takes from each image."""

    layer: QuantizedLayer
    db: float
    rows: int


def round_adaptively(
    model: onnx.ModelProto, rounding: Rounding, on_batch: Callable[[int], None] | None = None
) -> Rounded:
    """A copy of the Q/DQ `model` (float weights behind Q and DQ) whose worst layers' weights lie on the grid of their
    Q, rounded for the output."""
    candidates = _candidates(model)
    plain = simulated(model)
    looked = _look(plain, candidates, rounding, on_batch)
    chosen, left_out = _within(looked, rounding)
    new: dict[str, NDArray[np.floating]] = {}
    layers = []
    for part in _parts(chosen):
        for one, moments in _moments(plain, part, rounding, on_batch):
            values, facts = _rounded(one.layer, moments)
            new[one.layer.tensor] = values
            layers.append(facts)
    found = RoundingFacts(
        least_db=LEAST_DB, limit_seconds=rounding.limit_seconds, images=rounding.images, layers=tuple(layers),
        left_out=left_out,
    )  # fmt: skip
    floats = {one.layer.tensor: one.layer.stored for one in chosen}
    return Rounded(_with_weights(model, new) if new else model, floats, found)


def planned_images(images: int) -> int:
    """Images that `round_adaptively` runs where its feeds hold `images`, give or take a batch."""
    return min(_LOOKED_IMAGES, images) + images


def _candidates(model: onnx.ModelProto) -> list[QuantizedLayer]:
    """Layers with a weight of their own that are one matrix over rows."""
    layers = list(quantized_layers(model))
    uses = Counter(name for node in model.graph.node for name in node.input)
    alone = [one for one in layers if uses[one.tensor] == 1 and uses[one.node.input[1]] == 1]
    return [one for one in alone if math.prod(one.shape) and is_linear(one) and _fits(one)]


def _fits(layer: QuantizedLayer) -> bool:
    groups, _, columns = matrix_shape(layer)
    return groups * columns * columns * 8 <= _MOST_BYTES


def _look(
    plain: onnx.ModelProto,
    layers: Sequence[QuantizedLayer],
    rounding: Rounding,
    on_batch: Callable[[int], None] | None,
) -> list[_Chosen]:
    """Each layer with the dB that nearest rounding leaves at its output, on a few rows of a few images."""
    if not layers:
        return []
    inputs = Inputs(plain, layers, threads=rounding.threads)
    power = np.zeros((len(layers), 2))
    most = dict.fromkeys((layer.node.name for layer in layers), _LOOKED_ROWS)
    seen = 0
    for part in (part for feed in rounding.feeds() for part in inputs.parts(feed)):
        for layer, rows, sums in zip(layers, inputs.rows(part, most), power, strict=True):
            weight, error = as_matrix(layer, layer.weight), _nearest_error(layer)
            sums += [np.square(rows @ values.transpose(0, 2, 1)).sum() for values in (weight, error)]
        count = images_of(part)
        seen += count
        if on_batch:
            on_batch(count)
        if seen >= _LOOKED_IMAGES:
            break
    return [
        _Chosen(layer, _db(signal, noise), _rows_of_each(layer, rounding.images))
        for layer, (signal, noise) in zip(layers, power, strict=True)
    ]


def _rows_of_each(layer: QuantizedLayer, images: int) -> int:
    """Rows to take from each image."""
    return -(-max(_LEAST_ROWS, _ROWS_A_COLUMN * matrix_shape(layer)[-1]) // max(images, 1))


def _nearest_error(layer: QuantizedLayer) -> NDArray[np.float64]:
    weight, scale = as_matrix(layer, layer.weight), _steps(layer)
    return np.asarray(np.clip(np.rint(weight / scale), -128, 127) * scale - weight)


def _steps(layer: QuantizedLayer) -> NDArray[np.float64]:
    """The weight's scale for each element of its matrix."""
    shape = [1] * len(layer.shape)
    if layer.axis is not None:
        shape[layer.axis] = -1
    return as_matrix(layer, np.broadcast_to(layer.scale.reshape(shape), layer.shape))


def _within(looked: Sequence[_Chosen], rounding: Rounding) -> tuple[list[_Chosen], tuple[str, ...]]:
    """Those that miss, the worst first, as far as the limit of time reaches, and the names of the others that miss."""
    missing = sorted((one for one in looked if one.db < LEAST_DB), key=lambda one: (one.db, one.layer.node.name))
    chosen, left, budget = [], [], rounding.limit_seconds * _RATE
    for one in missing:
        work = _work(one, rounding.images)
        if work <= budget:
            budget -= work
            chosen.append(one)
        else:
            left.append(one.layer.node.name)
    return chosen, tuple(left)


def _work(one: _Chosen, images: int) -> float:
    """Multiply-adds of a layer: its second moment, and the sweeps of its rounding."""
    groups, outputs, columns = matrix_shape(one.layer)
    return float(groups * columns**2 * (one.rows * images + (SWEEPS + 2) * outputs))


def _parts(chosen: Sequence[_Chosen]) -> Iterator[list[_Chosen]]:
    """`chosen` in runs whose second moments are held together."""
    part: list[_Chosen] = []
    held = 0
    for one in chosen:
        groups, _, columns = matrix_shape(one.layer)
        size = 8 * groups * columns**2
        if part and held + size > _MOST_BYTES:
            yield part
            part, held = [], 0
        part.append(one)
        held += size
    if part:
        yield part


def _moments(
    plain: onnx.ModelProto,
    part: Sequence[_Chosen],
    rounding: Rounding,
    on_batch: Callable[[int], None] | None,
) -> Iterator[tuple[_Chosen, NDArray[np.float64]]]:
    """Each layer of `part` with the second moments of its inputs over all images."""
    layers = [one.layer for one in part]
    inputs = Inputs(plain, layers, threads=rounding.threads)
    most = {one.layer.node.name: one.rows for one in part}
    sums = []
    for layer in layers:
        groups, _, columns = matrix_shape(layer)
        sums.append(Sum(np.zeros((groups, columns, columns))))
    for piece in (piece for feed in rounding.feeds() for piece in inputs.parts(feed)):
        for total, rows in zip(sums, inputs.rows(piece, most), strict=True):
            total.add(rows)
        if on_batch:
            on_batch(images_of(piece))
    del inputs  # and with it the network's session
    while sums:  # each let go of as soon as its layer is rounded
        total = sums.pop(0)
        yield part[len(part) - len(sums) - 1], total.moments()


def _rounded(layer: QuantizedLayer, moments: NDArray[np.float64]) -> tuple[NDArray[np.floating], RoundedLayer]:
    weight, scale, whole = as_matrix(layer, layer.weight), _steps(layer), damped(moments)
    integers, moved = round_matrix(weight, scale, whole)
    before, after = (output_error(error, moments) for error in (_nearest_error(layer), integers * scale - weight))
    signal = output_error(weight, moments)
    facts = RoundedLayer(
        node=layer.node.name, before_db=round(_db(signal, before), 2), after_db=round(_db(signal, after), 2),
        moved=round(moved / max(weight.size, 1), 4),
    )  # fmt: skip
    # On the grid as DequantizeLinear computes it: in the scale's own dtype.
    steps = as_weight(layer, scale).astype(layer.scale.dtype)
    return (as_weight(layer, integers).astype(layer.scale.dtype) * steps).astype(layer.weight.dtype), facts


def _db(signal: float, noise: float) -> float:
    """Power of `signal` over that of `noise`; 200 where there is none of the latter, as of a layer that adds none."""
    return min(10 * math.log10(signal / noise), 200.0) if signal > 0 and noise > 0 else 200.0


def _with_weights(model: onnx.ModelProto, new: Weights) -> onnx.ModelProto:
    result = copied(model)
    for tensor in result.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(new[tensor.name], tensor.name))
    return result
