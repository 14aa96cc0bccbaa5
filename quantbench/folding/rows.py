"""What folding looks at: shapes of all tensors, and of those that layers read some rows and the ends of each channel.

A row is the channels of one position (pixel, token) of one sample. Every second sample is held: scales are made from
the ends that the others have, and judged on rows of the held ones. For a channel that seldom speaks may say more in a
sample that was not seen, and scales that fill its range to the brim then clip it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, InnerTensors, images_of, parts_of, static_batch
from quantbench.cores import usable_cores
from quantbench.graph.onnx_view import infer_shapes
from quantbench.graph.view import GraphView
from quantbench.side_by_side import in_order, in_pairs

# Of each half, spread over its samples by chance with a fixed seed; few tell roughly.
ROWS, FEW_ROWS = 2048, 256
_SEED = 0


@dataclass(frozen=True, slots=True)
class Samples:
    """`count` samples, which `opened` opens."""

    opened: Callable[[], Iterable[Feed]]
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Of one tensor: rows [n, C] of the samples that are `seen` and of those that are `held`; least and largest value
    of each channel, `ends` [2, C] of the seen samples and `held_ends` of the others."""

    seen: NDArray[np.float32]
    held: NDArray[np.float32]
    ends: NDArray[np.float32]
    held_ends: NDArray[np.float32]

    @property
    def all_ends(self) -> NDArray[np.float32]:
        """Least and largest value [2, C] over all samples."""
        (low, high), (other_low, other_high) = self.ends, self.held_ends
        return np.stack([np.minimum(low, other_low), np.maximum(high, other_high)])

    def swapped(self) -> "Rows":
        """The seen samples in place of the held ones, and these in place of those."""
        return Rows(self.held, self.seen, self.held_ends, self.ends)


def known_shapes(model: onnx.ModelProto, view: GraphView, feed: Feed) -> dict[str, tuple[int, ...]] | None:
    """Shapes of the float tensors of `model` for the first sample of `feed` without a run, as shape inference has them;
    None where it leaves one open (`shapes_of` runs it)."""
    first = feed if static_batch(model) else parts_of(feed, 1)[0]
    graph = infer_shapes(model, {name: array.shape for name, array in first.items()}).graph
    known = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.value_info, *graph.output)
             if value.type.tensor_type.HasField("shape")}  # fmt: skip
    found = {}
    for name in _with_values(view):
        if name not in known or any(size.dim_value < 1 for size in known[name]):
            return None
        found[name] = tuple(size.dim_value for size in known[name])
    return found


def _with_values(view: GraphView) -> list[str]:
    """The float tensors that a run gives values."""
    return [name for name in dict.fromkeys([*view.inputs, *(out for node in view.nodes for out in node.outputs)])
            if name in view.tensors and view.tensors[name].dtype == "float32" and not view.is_constant(name)
            and name not in view.without_values]  # fmt: skip


def shapes_of(model: onnx.ModelProto, view: GraphView, feed: Feed, *, threads: int = 0) -> dict[str, tuple[int, ...]]:
    """Shapes of the float tensors of `model` for the first sample of `feed`. `model` must run here as a whole."""
    first = feed if static_batch(model) else parts_of(feed, 1)[0]
    with InnerTensors(model, _with_values(view), threads=threads).bound(first) as found:
        return {bound.name: bound.shape for bound in found}


def rows_of(
    model: onnx.ModelProto,
    axes: Mapping[str, int],
    open_feeds: Callable[[], Iterable[Feed]],
    count: int,
    *,
    rows: int = ROWS,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Rows]:
    """Up to `rows` of each half of the tensors in `axes`, which says where their channels are, over the `count` samples
    of the feeds; none of a tensor that reaches infinity or NaN."""
    opened, fixed, total = iter(open_feeds()), static_batch(model), threads or usable_cores()
    begin = next(opened, None)
    sharing = in_pairs(total, images_of(begin) if begin else 1, fixed)
    inner = InnerTensors(model, list(axes), threads=sharing.threads)

    def tensors_of(part: Feed) -> tuple[int, list[tuple[str, NDArray[np.float32]]]]:
        return images_of(part), list(inner.run(part))

    feeds = chain([begin] if begin else [], opened)
    # Which rows are drawn hangs on the size of the parts.
    parts = (part for feed in feeds for part in ([feed] if fixed else parts_of(feed, max(2, total))))
    random = np.random.default_rng(_SEED)
    halves: list[dict[str, list[NDArray[np.float32]]]] = [{}, {}]
    ends: list[dict[str, NDArray[np.float32]]] = [{}, {}]
    each, turn = max(1, 2 * rows // max(count, 1)), 0
    for images, found in in_order(parts, tensors_of, sharing.batches):
        for name, array in found:
            for image in range(images):
                half = (turn + image) % 2
                own = _channels_first(_sample(array, image, images), axes[name])
                taken = random.integers(0, own.shape[2], min(each, own.shape[2]))
                first = random.integers(0, own.shape[0], len(taken))
                halves[half].setdefault(name, []).append(own[first, :, taken])
                _widen(ends[half], name, own)
        turn += images
        if on_batch:
            on_batch(images)
    together = {name: _together(halves, ends, name) for name in axes if name in ends[0]}
    return {name: one for name, one in together.items() if np.isfinite(one.all_ends).all()}


def _sample(array: NDArray[np.float32], image: int, images: int) -> NDArray[np.float32]:
    """What belongs to one sample: a part of the first axis (windows of one picture stand on it too)."""
    size = array.shape[0] // images
    return array[image * size : (image + 1) * size] if size else array


def _channels_first(array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """[outer, C, inner] of what lies before the channels, these, and what lies behind; no copy."""
    before, behind = array.shape[:axis], array.shape[axis + 1 :] if axis != -1 else ()
    if axis == -1:
        before = array.shape[:-1]
    return array.reshape(int(np.prod(before)), array.shape[axis], int(np.prod(behind)))


def _widen(ends: dict[str, NDArray[np.float32]], name: str, own: NDArray[np.float32]) -> None:
    if own.shape[2] == 1:  # channels last
        own = own.transpose(2, 1, 0)
        low, high = own[0].min(axis=1), own[0].max(axis=1)
    else:
        low, high = own.min(axis=2).min(axis=0), own.max(axis=2).max(axis=0)
    known = ends.get(name)
    ends[name] = np.stack([low, high] if known is None else [np.minimum(known[0], low), np.maximum(known[1], high)])


def _together(
    halves: Sequence[Mapping[str, list[NDArray[np.float32]]]],
    ends: Sequence[Mapping[str, NDArray[np.float32]]],
    name: str,
) -> Rows:
    seen = np.concatenate(halves[0][name])
    if name not in ends[1]:  # a single sample
        return Rows(seen, seen, ends[0][name], ends[0][name])
    return Rows(seen, np.concatenate(halves[1][name]), ends[0][name], ends[1][name])
