"""Models held against the float network's outputs on calibration samples, which are computed once.

Figures are two, of the worst output. Norms: 20 log10 (sum of |x| / sum of |x - x_int8|), the Euclidean norms of each
sample, hangs less on chance. SQNR, the ratio of energies, is that of the few samples with the most signal or noise, but
these may be all that matters (a detector of text on pictures without text).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.collect import Begin, on_cpu
from quantbench.calibration.ort_outputs import Feed, images_of, parts_of, runner, static_batch
from quantbench.core.quantize import BIAS_IMAGES, for_onnxruntime
from quantbench.evaluate.pairs import Noise, worst
from quantbench.evaluate.task import Task, facts_of, find_task
from quantbench.ort import create_session
from quantbench.progress import Advance
from quantbench.qdq.carry_out import Correction
from quantbench.qdq.plan import Plan
from quantbench.records.evaluation import Measured
from quantbench.records.judged import JudgedDb
from quantbench.runnable import runnable_part
from quantbench.side_by_side import Sharing, in_order, shared_out

JUDGED = 64
# Of judged and of correcting samples each.
_KEPT_BYTES = 256_000_000
# With fewer others than this, samples that correct biases are judged on too.
_FEW = 16

OpenFeeds = Callable[[], Iterable[Feed]]


@dataclass(frozen=True, slots=True)
class Judging:
    """What candidates are made and judged with. `samples` opens the `count` samples that they are judged on;
    `correction`: the result's own (None: biases stay); `apart`: no judged sample corrects biases; `begin`: where
    tensors are counted."""

    model: onnx.ModelProto
    plan: Plan
    samples: OpenFeeds
    count: int
    correction: Correction | None
    apart: bool
    residual_db: float = 0.0
    threads: int = 0
    begin: Begin = on_cpu


def judged_samples(count: int) -> tuple[tuple[int, ...], bool]:
    """Indices of those of `count` calibration samples that candidates are judged on, spread evenly, and whether they
    are apart from those that correct biases (`BIAS_IMAGES`, spread evenly)."""
    correcting = set(spread(range(count), BIAS_IMAGES))
    others = [index for index in range(count) if index not in correcting]
    apart = len(others) >= _FEW
    return spread(others if apart else range(count), JUDGED), apart


def figures(noise: Noise) -> JudgedDb | None:
    """The two of the worst output; None where no output could be compared."""
    sqnr = worst(noise.result())
    lowest = min((_norms_db(one) for one in noise.norms().values()), default=math.inf)
    return JudgedDb(norms=lowest, sqnr=sqnr.value) if isinstance(sqnr, Measured) and lowest < math.inf else None


def _norms_db(norms: NDArray[np.float64]) -> float:
    signal, noise = norms.sum(axis=1)
    return 20.0 * math.log10(signal / noise) if signal > 0 and noise > 0 else math.inf


def lead(one: JudgedDb | None, safe: JudgedDb | None) -> float:
    """How far `one` leads by the figure in which it leads less, in dB."""
    if one is None or safe is None:
        return -math.inf
    return min(one.norms - safe.norms, one.sqnr - safe.sqnr)


def spread(indices: Sequence[int], count: int) -> tuple[int, ...]:
    if len(indices) <= count:
        return tuple(indices)
    return tuple(indices[int(place)] for place in np.linspace(0, len(indices) - 1, count))


def once(opened: OpenFeeds) -> OpenFeeds:
    """`opened`, decoded once where the feeds are at most `_KEPT_BYTES`: every candidate walks them."""
    kept: list[Feed] = []
    state = {"whole": False, "bytes": 0}

    def walk() -> Iterator[Feed]:
        if state["whole"]:
            yield from kept
            return
        kept.clear()
        state["bytes"] = 0
        for feed in opened():
            state["bytes"] += sum(np.asarray(array).nbytes for array in feed.values())
            if state["bytes"] <= _KEPT_BYTES:
                kept.append(feed)
            else:
                kept.clear()
            yield feed
        state["whole"] = state["bytes"] <= _KEPT_BYTES

    return walk


class FloatNetwork:
    """The float `model` in onnxruntime; what of it can be run there."""

    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        plain = runnable_part(model)
        self.names = tuple(value.name for value in plain.graph.output)
        self.batch, self.threads = static_batch(plain), threads
        self._outputs = _Outputs(plain, self.batch, threads)
        self._facts = facts_of(model)

    def outputs(self, feeds: Iterable[Feed]) -> Iterator[tuple[Feed, list[NDArray[Any]]]]:
        """Each feed with what it makes of it, in order."""
        yield from self._outputs.of(feeds)

    def task(self, outputs: Sequence[NDArray[Any]]) -> Task:
        """What its `outputs` tell of."""
        return find_task(outputs, self._facts, "auto")

    def held(
        self, samples: OpenFeeds, task: Task | None = None, known: Sequence[list[NDArray[Any]]] | None = None
    ) -> "Held":
        """`samples` with what it makes of them; `known`: that it was asked for before, feed by feed."""
        outputs = tuple(each for _, each in self.outputs(samples())) if known is None else tuple(known)
        return Held(samples, outputs, task or self.task(outputs[0]), self.names, self.batch, self.threads)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The float network's `outputs` for the feeds that `samples` opens, and their `names`: what INT8 models are held
    against."""

    samples: OpenFeeds
    outputs: tuple[list[NDArray[Any]], ...]
    task: Task
    names: tuple[str, ...]
    batch: int
    threads: int

    def noise(self, quantized: onnx.ModelProto, advance: Advance) -> Noise:
        """What the Q/DQ model makes of the samples, beside that."""
        outputs = _Outputs(for_onnxruntime(runnable_part(quantized)), self.batch, self.threads)
        noise = Noise(self.task, self.names)
        for (feed, found), reference in zip(outputs.of(self.samples()), self.outputs, strict=True):
            count = images_of(feed)
            noise.update(reference, found, count)
            advance(count)
        return noise


class _Outputs:
    """A network through which the parts of a batch run side by side, where all its outputs grow with the batch; else
    batches run whole."""

    def __init__(self, model: onnx.ModelProto, batch: int, threads: int) -> None:
        self._model, self._batch, self._threads = model, batch, threads
        self._sharing: Sharing | None = None

    def of(self, feeds: Iterable[Feed]) -> Iterator[tuple[Feed, list[NDArray[Any]]]]:
        for feed in feeds:
            if self._sharing is None:
                self._begin(shared_out(self._threads, images_of(feed)) if not self._batch else _whole(self._threads))
            yield feed, self._outputs(feed)

    def _begin(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._run = runner(create_session(self._model, threads=sharing.threads), self._batch)

    def _outputs(self, feed: Feed) -> list[NDArray[Any]]:
        assert self._sharing is not None
        if self._sharing.batches == 1:
            return self._run(feed)
        parts = parts_of(feed, self._sharing.size)
        found = list(in_order(parts, self._run, self._sharing.batches))
        if all(a.shape[:1] == (images_of(p),) for p, own in zip(parts, found, strict=True) for a in own):
            return [np.concatenate(arrays) for arrays in zip(*found, strict=True)]
        self._begin(_whole(self._threads))
        return self._run(feed)


def _whole(threads: int) -> Sharing:
    return Sharing(1, 0, threads)
