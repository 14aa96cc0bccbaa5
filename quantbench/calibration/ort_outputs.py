"""Run a network in onnxruntime and hand out chosen inner tensors, one batch in flight, nothing kept."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantbench.errors import QuantbenchError
from quantbench.graph.surgery import copied
from quantbench.ort import create_session

Feed = Mapping[str, NDArray[np.generic]]
_MAX_SUFFIX = "__quantbench_amax"


class InnerTensors:
    """A session of the network that also yields `tensors`.

    With `maxima` the network itself reduces each tensor to max |x| and only scalars leave it; without, arrays do.
    A batch smaller than a static batch dimension is padded by repetition and the padding cut off again.
    """

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[str], *, maxima: bool = False, threads: int = 0
    ) -> None:
        self.tensors = tuple(tensors)
        self._batch = static_batch(model)
        self._inputs = {value.name for value in model.graph.input}
        self._given = [name for name in self.tensors if name in self._inputs]
        inner = [name for name in self.tensors if name not in self._inputs]
        self._maxima = maxima
        self._fetch = [name + _MAX_SUFFIX for name in inner] if maxima else inner
        self._names = inner
        self._session = create_session(with_outputs(model, inner, maxima=maxima), threads=threads)

    def run(self, feed: Feed) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield (tensor, array) for one batch; with `maxima` the array is a scalar max |x|."""
        for name in self._given:
            values = np.asarray(feed[name], np.float32)
            yield name, np.max(np.abs(values)) if self._maxima else values
        if not self._fetch:
            return
        count = next(iter(feed.values())).shape[0]
        outputs = self._session.run(self._fetch, padded(feed, self._batch))
        outputs.reverse()
        for name in self._names:
            array = outputs.pop()  # the list lets go of each array, so memory falls while the caller counts
            yield name, array if self._maxima else unpadded(array, self._batch, count)


def padded(feed: Feed, batch: int) -> dict[str, NDArray[np.generic]]:
    """`feed` with its images repeated up to `batch`; as it is where `batch` is 0 or already met.

    Raises QuantbenchError where there are more images than a static batch holds.
    """
    count = next(iter(feed.values())).shape[0]
    if not batch or count == batch:
        return dict(feed)
    if count > batch:
        raise QuantbenchError(f"batch of {count} images for a model with static batch {batch}")
    return {name: np.resize(array, (batch, *array.shape[1:])) for name, array in feed.items()}


def unpadded(array: NDArray[Any], batch: int, count: int) -> NDArray[Any]:
    """The part of an output that belongs to the first `count` images of `batch` (0: dynamic, nothing was padded)."""
    if not batch or count == batch or not array.ndim:
        return array
    return array[: array.shape[0] // batch * count]


def static_batch(model: onnx.ModelProto) -> int:
    """The fixed batch size of the first network input, 0 where it is dynamic."""
    stored = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in stored and value.type.tensor_type.shape.dim:
            return int(value.type.tensor_type.shape.dim[0].dim_value)
    return 0


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str], *, maxima: bool = False) -> onnx.ModelProto:
    """Copy of `model` whose outputs are `tensors`, or with `maxima` the scalars max |tensor| (ReduceMax of Abs)."""
    copy = copied(model)
    del copy.graph.output[:]
    if not tensors:
        copy.graph.output.extend(model.graph.output)
    for name in tensors:
        if maxima:
            absolute, reduced = f"{name}__quantbench_abs", name + _MAX_SUFFIX
            copy.graph.node.append(helper.make_node("Abs", [name], [absolute]))
            copy.graph.node.append(helper.make_node("ReduceMax", [absolute], [reduced], keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(reduced, TensorProto.FLOAT, []))
        else:
            copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    return copy
