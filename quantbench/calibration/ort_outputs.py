"""Run a network in onnxruntime and hand out chosen inner tensors, one batch in flight, nothing kept."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench import limits
from quantbench.calibration.blocked import create_blocked_session
from quantbench.calibration.sweep import FLOAT16, FLOAT32, Block, block_of
from quantbench.cores import usable_cores
from quantbench.errors import QuantbenchError
from quantbench.ort import create_session, run_bound
from quantbench.ort import run as ort_run
from quantbench.runnable import runnable_part

if TYPE_CHECKING:
    import onnxruntime

Feed = Mapping[str, NDArray[np.generic]]
_DTYPES = {"tensor(float)": FLOAT32, "tensor(float16)": FLOAT16}


class Bound(NamedTuple):
    """A tensor of one batch: its name, its memory and its shape."""

    name: str
    block: Block
    shape: tuple[int, ...]


class InnerTensors:
    """A session of the network that also yields `tensors`, none of them behind a plugin that onnxruntime lacks.

    A batch smaller than a static batch dimension is padded by repetition and the padding cut off again.
    """

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[str], *, threads: int = 0, fuse_qdq: bool = True,
        free: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Of `free` tensors elements may stand in blocks of channels, which is faster (`blocked.py`); `blocked` says of
        which they do."""
        self.tensors = tuple(tensors)
        self._batch = static_batch(model)
        self._threads = threads or usable_cores()
        self._inputs = {value.name for value in model.graph.input}
        self._given = [name for name in self.tensors if name in self._inputs]
        self._inner = [name for name in self.tensors if name not in self._inputs]
        part, self._given_as = runnable_part(model), self._inner
        if free:
            self._session, self._given_as = create_blocked_session(part, self._inner, free, threads=threads,
                                                                   fuse_qdq=fuse_qdq)  # fmt: skip
        else:
            self._session = create_session(part, threads=threads, fuse_qdq=fuse_qdq, outputs=self._inner)
        pairs = zip(self._inner, self._given_as, strict=True)
        self.blocked = frozenset(name for name, given in pairs if name != given)

    def cached_parts(self, feed: Feed) -> list[Feed]:
        """`feed` in parts so small that activations stay in the caches while two networks are compared; as it is where
        the batch is static."""
        return [feed] if self._batch else parts_of(feed, max(2, self._threads))

    def run(self, feed: Feed) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield (tensor, array) for one batch."""
        for name in self._given:
            yield name, np.asarray(feed[name], np.float32)
        if not self._inner:
            return
        count = images_of(feed)
        outputs = ort_run(self._session, self._given_as, padded(feed, self._batch))
        outputs.reverse()
        for name in self._inner:
            array = outputs.pop()  # the list lets go of each array, so memory falls while the caller works
            yield name, unpadded(array, self._batch, count)

    @contextmanager
    def bound(self, feed: Feed) -> Iterator[list[Bound]]:
        """Each tensor of one batch where onnxruntime wrote it, not copied; valid within the `with`.

        onnxruntime takes the memory from its arena, so the next batch reuses it.
        """
        given = [np.ascontiguousarray(feed[name], np.float32) for name in self._given]
        blocks = [Bound(name, block_of(array), array.shape) for name, array in zip(self._given, given, strict=True)]
        if not self._inner:
            yield blocks
            return
        count = images_of(feed)
        binding = self._session.io_binding()
        inputs = {name: np.ascontiguousarray(array) for name, array in padded(feed, self._batch).items()}
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name in self._given_as:
            binding.bind_output(name, "cpu")
        run_bound(self._session, binding)
        values = binding.get_outputs()
        keep: list[NDArray[Any]] = []
        for name, value in zip(self._inner, values, strict=True):
            shape = unpadded_shape(value.shape(), self._batch, count)
            kind = _DTYPES.get(value.data_type())
            if kind is None:
                keep.append(unpadded(value.numpy(), self._batch, count).astype(np.float32))
                blocks.append(Bound(name, block_of(keep[-1]), tuple(shape)))
            else:
                size = int(np.prod(shape, dtype=np.int64))
                block = Block(-1, value.data_ptr() if size else 0, size, kind)
                blocks.append(Bound(name, block, tuple(shape)))
        yield blocks


def images_of(feed: Feed) -> int:
    """How many samples `feed` holds: the length of its first input."""
    return int(next(iter(feed.values())).shape[0])


def first_feeds(feeds: Iterable[Feed], images: int) -> Iterator[Feed]:
    """Feeds until they hold `images` samples."""
    seen = 0
    for feed in feeds:
        yield feed
        seen += images_of(feed)
        if seen >= images:
            return


def runner(session: "onnxruntime.InferenceSession", batch: int) -> Callable[[Feed], list[NDArray[Any]]]:
    """A function from feed to outputs that pads for a static `batch` (0: dynamic) and cuts the padding off again."""

    def run(feed: Feed) -> list[NDArray[Any]]:
        count = images_of(feed)
        return [unpadded(array, batch, count) for array in ort_run(session, None, padded(feed, batch))]

    return run


def padded(feed: Feed, batch: int) -> dict[str, NDArray[np.generic]]:
    """`feed` with its images repeated up to `batch`; as it is where `batch` is 0 or already met.

    Raises QuantbenchError where there are more images than a static batch holds.
    """
    count = images_of(feed)
    if not batch or count == batch:
        return dict(feed)
    if count > batch:
        raise QuantbenchError(f"batch of {count} images for a model with static batch {batch}")
    size = sum(array.nbytes for array in feed.values()) // max(count, 1) * batch
    limits.check(f"a batch of {batch:,} images, as the model has it,", size, limits.INPUT_BYTES)
    # An input that does not grow with the batch (a table, a scalar) stays as it is.
    return {
        name: np.resize(array, (batch, *array.shape[1:])) if array.shape[:1] == (count,) else array
        for name, array in feed.items()
    }


def parts_of(feed: Feed, size: int) -> list[Feed]:
    """`feed` in parts of at most `size` images; what does not grow with the batch goes with each of them."""
    count = images_of(feed)
    if count <= size:
        return [feed]
    return [
        {name: array[at : at + size] if array.shape[:1] == (count,) else array for name, array in feed.items()}
        for at in range(0, count, size)
    ]


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


def unpadded_shape(shape: Sequence[int], batch: int, count: int) -> list[int]:
    """The shape of `unpadded` of an output of `shape`."""
    if not batch or count == batch or not shape:
        return list(shape)
    return [shape[0] // batch * count, *shape[1:]]
