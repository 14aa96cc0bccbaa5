"""A network run once over some images, its tensors kept at a few places, so that what changes behind one of them is run
again from there on and not from the image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import images_of, static_batch, unpadded
from quantbench.graph.tail import Cut, cuts_at
from quantbench.ort import create_session
from quantbench.ort import run as ort_run

# Places that are kept, at most, and the memory that their tensors may take.
_CUTS = 8
_KEPT_BYTES = 512_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """`count` images of `size` (H, W); `feed` is padded to the model's batch where that is fixed."""

    feed: dict[str, NDArray[Any]]
    count: int
    size: tuple[int, int]


class Trunk:
    """`model` run over `batches`, with what has to be kept at `cuts`. Q and DQ are computed as they stand."""

    def __init__(self, model: onnx.ModelProto, cuts: Sequence[Cut], batches: Sequence[Batch], threads: int) -> None:
        self._names = [value.name for value in model.graph.output]
        self._batches, self._threads, self._fixed = batches, threads, static_batch(model)
        wanted = dict.fromkeys((*self._names, *(name for cut in cuts for name in cut.tensors)))
        inner = [name for name in wanted if name not in batches[0].feed]
        session = create_session(model, threads=threads, fuse_qdq=False, outputs=inner)
        self._kept = [
            batch.feed | dict(zip(inner, ort_run(session, inner, batch.feed), strict=True)) for batch in batches
        ]

    def outputs(self) -> Iterator[list[NDArray[Any]]]:
        """Those of the model, for each batch."""
        for batch, kept in zip(self._batches, self._kept, strict=True):
            yield self._cut_off(batch, [kept[name] for name in self._names])

    def with_tail(self, changed: onnx.ModelProto, cut: Cut) -> Iterator[list[NDArray[Any]]]:
        """The outputs for each batch where `changed` takes the place of what stands behind `cut`."""
        session = create_session(changed, threads=self._threads, fuse_qdq=False)
        late = [name for name in self._names if name not in cut.made]
        for batch, kept in zip(self._batches, self._kept, strict=True):
            made = dict(zip(late, ort_run(session, late, {name: kept[name] for name in cut.reads}), strict=True))
            yield self._cut_off(batch, [made[name] if name in made else kept[name] for name in self._names])

    def _cut_off(self, batch: Batch, arrays: Sequence[Any]) -> list[NDArray[Any]]:
        return [unpadded(np.asarray(array), self._fixed, batch.count) for array in arrays]


def good_cuts(
    model: onnx.ModelProto, starts: Sequence[int], batches: Sequence[Batch], work: Mapping[str, int], threads: int
) -> list[Cut]:
    """Where to keep tensors so that going on at each of the nodes `starts` repeats little: at most `_CUTS` cuts that
    fit into `_KEPT_BYTES` besides that at the very beginning, in order. `work`: multiply-adds by node, as far as
    known."""
    whole, *others = cuts_at(model, [0, *sorted({start for start in starts if start > 0})])
    sizes = _bytes_an_image(model, others, batches[0], threads)
    images = sum(images_of(batch.feed) for batch in batches)
    # What a node costs: its multiply-adds, and a few for each byte that it writes.
    cost = [work.get(node.name, 0) + sum(sizes.get(out, 0) for out in node.output) for node in model.graph.node]
    behind = np.concatenate([np.cumsum(cost[::-1], dtype=np.float64)[::-1], [0.0]])
    chosen = [whole]
    for _ in range(_CUTS):
        best = _repeated(chosen, starts, behind), chosen
        for cut in others:
            more = sorted((*chosen, cut), key=lambda one: one.position)
            kept = {name for one in more[1:] for name in one.tensors}
            if images * sum(sizes.get(name, _KEPT_BYTES) for name in kept) <= _KEPT_BYTES:
                best = min(best, (_repeated(more, starts, behind), more), key=lambda pair: pair[0])
        if len(best[1]) == len(chosen):
            break
        chosen = best[1]
    return chosen


def nearest(cuts: Sequence[Cut], start: int) -> Cut:
    """The last of `cuts`, the first of which is at the very beginning, from which node `start` can be reached."""
    return max((cut for cut in cuts if cut.position <= start), key=lambda cut: cut.position)


def _repeated(cuts: Sequence[Cut], starts: Sequence[int], behind: NDArray[np.float64]) -> float:
    return float(sum(behind[nearest(cuts, start).position] for start in starts))


def _bytes_an_image(model: onnx.ModelProto, cuts: Sequence[Cut], batch: Batch, threads: int) -> dict[str, int]:
    """Of each tensor at `cuts`, measured on one image; one that is no array is left out."""
    fixed = static_batch(model)
    size = fixed or 1
    feed = {n: a[:size] if a.shape[:1] == (images_of(batch.feed),) else a for n, a in batch.feed.items()}
    inner = list(dict.fromkeys(name for cut in cuts for name in cut.tensors if name not in feed))
    if not inner:
        return {}
    found = ort_run(create_session(model, threads=threads, outputs=inner), inner, feed)
    made = feed | dict(zip(inner, found, strict=True))
    return {name: array.nbytes // size for name, array in made.items() if isinstance(array, np.ndarray)}
