"""What folding looks at: shapes of all tensors, and of those that layers read some rows and the ends of each channel.

A row is the channels of one position (pixel, token) of one sample. Every second sample is held: scales are made from
the ends that the others have, and judged on rows of the held ones. For a channel that seldom speaks may say more in a
sample that was not seen, and scales that fill its range to the brim then clip it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, InnerTensors, images_of, parts_of, static_batch
from quantbench.graph.view import GraphView

# Of each half, spread over its samples by chance with a fixed seed.
ROWS = 2048
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Of one tensor: rows [n, C] of the samples that are `seen` and of those that are `held`; least and largest value
    of each channel, `ends` [2, C] of the seen samples and `all_ends` of both."""

    seen: NDArray[np.float32]
    held: NDArray[np.float32]
    ends: NDArray[np.float32]
    all_ends: NDArray[np.float32]


def shapes_of(model: onnx.ModelProto, view: GraphView, feed: Feed, *, threads: int = 0) -> dict[str, tuple[int, ...]]:
    """Shapes of the float tensors of `model` for the first sample of `feed`. `model` must run here as a whole."""
    first = feed if static_batch(model) else parts_of(feed, 1)[0]
    names = [name for name in dict.fromkeys([*view.inputs, *(out for node in view.nodes for out in node.outputs)])
             if name in view.tensors and view.tensors[name].dtype == "float32" and not view.is_constant(name)
             and name not in view.without_values]  # fmt: skip
    with InnerTensors(model, names, threads=threads).bound(first) as found:
        return {bound.name: bound.shape for bound in found}


def rows_of(
    model: onnx.ModelProto,
    axes: Mapping[str, int],
    open_feeds: Callable[[], Iterable[Feed]],
    count: int,
    *,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Rows]:
    """Rows of the tensors in `axes`, which says where their channels are, over the `count` samples of the feeds."""
    inner = InnerTensors(model, list(axes), threads=threads)
    random = np.random.default_rng(_SEED)
    halves: list[dict[str, list[NDArray[np.float32]]]] = [{}, {}]
    ends: list[dict[str, NDArray[np.float32]]] = [{}, {}]
    each, turn = max(1, 2 * ROWS // max(count, 1)), 0
    for feed in open_feeds():
        for part in inner.cached_parts(feed):
            images = images_of(part)
            for name, array in inner.run(part):
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
    return {name: _together(halves, ends, name) for name in axes if name in ends[0]}


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
    both = np.stack([ends[0][name], ends[1][name]])
    return Rows(seen, np.concatenate(halves[1][name]), ends[0][name], np.stack([both[:, 0].min(0), both[:, 1].max(0)]))
