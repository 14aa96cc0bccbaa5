"""Mean inputs of linear layers, and what the layers make of them: how far quantizing moves each channel on average.

The mean over images of W x is W applied to the mean of x. So the network runs once, each float input of a layer is
summed beside the integers that it becomes (`quantbench.calibration.sums`), and each layer runs on the two means alone,
whatever its strides, pads and groups are. Its weights are inputs of these runs, so that onnxruntime copies none.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantbench.calibration.blocked import NCHWC, rearranged
from quantbench.calibration.ort_outputs import Bound, Feed, InnerTensors, images_of, parts_of, static_batch
from quantbench.calibration.sums import Levels, Means, Sums
from quantbench.cores import usable_cores
from quantbench.graph.ops import CONVS
from quantbench.graph.surgery import bytes_of_tensor
from quantbench.ort import create_session, run
from quantbench.side_by_side import in_order, in_pairs, in_turn

if TYPE_CHECKING:
    import onnxruntime

# Weights of the layers that run together on their means.
_MOST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class MeanLayer:
    """A layer of a Q/DQ network: the node, the float tensor behind whose Q and DQ it stands, how that is quantized, and
    the layer's float weight.
    """

    node: onnx.NodeProto
    source: str
    levels: Levels
    weight: TensorProto


@dataclass(frozen=True, slots=True)
class _Key:
    """A mean that some layers share. `width`: of rows that are averaged; 0: images are (the first axis); -1: nothing,
    because each matrix of a stack has weights of its own."""

    source: str
    levels: Levels
    width: int


class MeanInputs:
    """A running network whose layers' inputs are averaged: `over` batches, then read `errors`."""

    def __init__(self, model: onnx.ModelProto, layers: Sequence[MeanLayer], *, threads: int = 0) -> None:
        """`model`: with the quantized weights as float constants (`quantbench.qdq.simulate.simulated`)."""
        self._layers = layers
        self._keys = [_Key(layer.source, layer.levels, _width(layer)) for layer in layers]
        self._quantized = _quantized_weights(model, layers)
        self._model = model
        self._parts = _parts(layers)
        self._only: onnxruntime.InferenceSession | None = None
        self._threads = threads
        self._means: dict[_Key, Means] = {}
        self._shapes: dict[_Key, tuple[int, ...]] = {}
        self._rows: dict[_Key, int] = {}
        self._images = self._all_images = 0
        self._errors: list[NDArray[np.float64]] = []
        self._blocked: frozenset[str] = frozenset()

    def over(self, feeds: Iterable[Feed]) -> Iterator[int]:
        """Run all batches, a few images at a time; yields how many were added. While those of one part are summed, in
        order, the next part runs: for the same sums to the bit."""
        opened = iter(feeds)
        first = next(opened, None)
        if first is None:
            return
        fixed = static_batch(self._model)
        sharing = in_pairs(self._threads, images_of(first), fixed)
        sources = list(dict.fromkeys(key.source for key in self._keys))
        # Of means over images elements may stand in any order meanwhile.
        rows = {key.source for key in self._keys if key.width}
        free = [source for source in sources if source not in rows]
        inner = InnerTensors(self._model, sources, threads=sharing.threads, fuse_qdq=False, free=free)
        self._blocked = inner.blocked

        def run_part(part: Feed) -> tuple[int, list[Bound], ExitStack]:
            memory = ExitStack()
            return images_of(part), memory.enter_context(inner.bound(part)), memory

        parts = (
            part for feed in chain([first], opened) for part in ([feed] if fixed else parts_of(feed, sharing.size))
        )

        def add_part(ran: tuple[int, list[Bound], ExitStack]) -> int:
            count, blocks, memory = ran
            with memory:
                self._add(blocks, sums)
            self._images += count
            return count

        with Sums(sharing.threads) as sums:
            yield from in_turn(parts, run_part, add_part, sharing.batches)

    def _add(self, blocks: Sequence[Bound], sums: Sums) -> None:
        found = {bound.name: bound for bound in blocks}
        shapes = {key: _mean_shape(key, found[key.source]) for key in dict.fromkeys(self._keys)}
        if shapes != self._shapes:
            self._flush()
            self._shapes = shapes
            self._rows = dict.fromkeys(shapes, 0)
            self._means = {k: Means(*np.zeros((2, int(np.prod(shape))))) for k, shape in shapes.items()}
        sums.add_means([(found[k.source].block, k.levels, means) for k, means in self._means.items()])
        for key, means in self._means.items():
            self._rows[key] += found[key.source].block.size // max(len(means.sums), 1)

    def errors(self) -> list[NDArray[np.float64]]:
        """Mean over images and positions of the float minus the quantized result: [channels] of each layer. Once
        `over` has ended, and with it the network's session."""
        self._flush()
        found = self._errors or [np.zeros(()) for _ in self._layers]
        return [error / max(self._all_images, 1) for error in found]

    def _flush(self) -> None:
        """Images of another size begin, or the end is reached: what was summed goes through the layers."""
        if not self._images:
            return
        errors = [
            self._images * _over_positions(self._layers[index].node, a.astype(np.float64) - b)
            for part in self._parts
            for index, a, b in zip(part, *self._results(part), strict=True)
        ]
        self._errors = [a + b for a, b in zip(self._errors, errors, strict=True)] if self._errors else errors
        self._all_images += self._images
        self._images = 0

    def _results(self, part: range) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """What each layer of `part` makes of the mean float input with the float weight, and of the mean quantized one
        with the quantized weight; both at once, for layers on one image gain little from threads of their own."""
        total = self._threads or usable_cores()
        session = self._only
        if session is None:
            # Each layer runs twice: optimizing it would take longer.
            alone = _alone([self._layers[index].node for index in part], self._channels(part), self._model)
            session = create_session(alone, threads=max(total // 2, 1), optimize=False)
            if len(self._parts) == 1:  # images of many sizes would build it again and again
                self._only = session
        only = session
        plain, other = in_order(
            (False, True), lambda quantized: run(only, None, self._given(part, quantized=quantized)), min(total, 2)
        )
        return plain, other

    def _channels(self, part: range) -> list[int]:
        """Of the mean input of each layer where it stands in blocks of them, else 0."""
        keys = [self._keys[index] for index in part]
        return [self._shapes[key][1] if key.source in self._blocked else 0 for key in keys]

    def _given(self, part: range, *, quantized: bool) -> dict[str, NDArray[np.float32]]:
        """Mean inputs and weights of the layers of `part`."""
        given = {}
        for place, index in enumerate(part):
            key = self._keys[index]
            means, rows = self._means[key], max(self._rows[key], 1)
            mean = means.levels * (key.levels.scale / rows) if quantized else means.sums / rows
            given[f"mean_{place}"] = mean.astype(np.float32).reshape(self._shapes[key])
            weight = self._quantized[index] if quantized else self._layers[index].weight
            given[f"weight_{place}"] = np.ascontiguousarray(numpy_helper.to_array(weight), np.float32)
        return given


def _parts(layers: Sequence[MeanLayer]) -> list[range]:
    """Runs of layers whose weights together are at most `_MOST_BYTES`, or one layer's: they are held twice."""
    parts: list[range] = []
    start, held = 0, 0
    for index, layer in enumerate(layers):
        size = bytes_of_tensor(layer.weight)
        if held and held + size > _MOST_BYTES:
            parts.append(range(start, index))
            start, held = index, 0
        held += size
    return [*parts, range(start, len(layers))] if layers else []


def _width(layer: MeanLayer) -> int:
    if layer.node.op_type == "MatMul":
        return int(layer.weight.dims[0]) if len(layer.weight.dims) == 2 else -1
    turned = any(attribute.name == "transA" and attribute.i for attribute in layer.node.attribute)
    return -1 if turned else 0


def _mean_shape(key: _Key, bound: Bound) -> tuple[int, ...]:
    if key.width > 0:
        return 1, key.width
    return bound.shape if key.width < 0 else (1, *bound.shape[1:])


def _over_positions(node: onnx.NodeProto, error: NDArray[np.float64]) -> NDArray[np.float64]:
    if node.op_type in CONVS:
        return np.asarray(error.mean(axis=(0, *range(2, error.ndim))))
    return np.asarray(error.reshape(-1, error.shape[-1]).mean(axis=0))


def _quantized_weights(model: onnx.ModelProto, layers: Sequence[MeanLayer]) -> list[onnx.TensorProto]:
    """Of each layer, as they stand in `model`."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    read = {node.name: node.input[1] for node in model.graph.node if len(node.input) > 1}
    return [stored[read[layer.node.name]] for layer in layers]


def _alone(nodes: Sequence[onnx.NodeProto], channels: Sequence[int], model: onnx.ModelProto) -> onnx.ModelProto:
    """These layers of `model` alone, without bias, in float32: `result_0` of `mean_0` and `weight_0` …; a mean with
    `channels` comes in blocks of them and is rearranged first."""
    graph = onnx.GraphProto(name="layers")
    for place, (node, blocks) in enumerate(zip(nodes, channels, strict=True)):
        given = [f"mean_{place}", f"weight_{place}"]
        graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in given)
        if blocks:
            given[0] = f"mean_{place}_rearranged"
            graph.node.append(rearranged(f"mean_{place}", given[0], blocks))
        own = graph.node.add()
        own.CopyFrom(node)
        del own.input[:], own.output[:]
        own.input.extend(given)
        own.output.append(f"result_{place}")
        graph.output.append(helper.make_tensor_value_info(own.output[0], TensorProto.FLOAT, None))
    opsets = [*model.opset_import, helper.make_opsetid(NCHWC, 1)] if any(channels) else model.opset_import
    return helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
