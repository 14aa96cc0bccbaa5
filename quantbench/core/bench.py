"""Models held against the float network's outputs on calibration samples, which are computed once.

Figures are two, of the worst output. Norms: 20 log10 (sum of |x| / sum of |x - x_int8|), the Euclidean norms of each
sample, hangs less on chance. SQNR, the ratio of energies, is that of the few samples with the most signal or noise, but
these may be all that matters (a detector of text on pictures without text).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, padded, static_batch, unpadded
from quantbench.calibration.ranges import Ranges
from quantbench.core.quantize import BIAS_IMAGES, for_onnxruntime
from quantbench.evaluate.pairs import Noise, worst
from quantbench.evaluate.task import OutputFacts, Task, facts_of, find_task
from quantbench.ort import create_session
from quantbench.progress import Advance
from quantbench.qdq.carry_out import CarriedOut, Correction, carry_out
from quantbench.qdq.plan import Plan
from quantbench.records.evaluation import Measured
from quantbench.records.judged import JudgedDb
from quantbench.runnable import runnable_part

JUDGED = 64
# Of judged and of correcting samples each.
_KEPT_BYTES = 256_000_000
# With fewer others than this, samples that correct biases are judged on too.
_FEW = 16

OpenFeeds = Callable[[], Iterable[Feed]]


@dataclass(frozen=True, slots=True)
class Judging:
    """What candidates are made and judged with. `samples` opens the `count` samples that they are judged on;
    `correction`: the result's own (None: biases stay); `apart`: no judged sample corrects biases."""

    model: onnx.ModelProto
    plan: Plan
    samples: OpenFeeds
    count: int
    correction: Correction | None
    apart: bool
    residual_db: float = 0.0
    threads: int = 0


def judged_samples(count: int) -> tuple[tuple[int, ...], bool]:
    """Indices of those of `count` calibration samples that candidates are judged on, spread evenly, and whether they
    are apart from those that correct biases (`BIAS_IMAGES`, spread evenly)."""
    correcting = set(spread(range(count), BIAS_IMAGES))
    others = [index for index in range(count) if index not in correcting]
    apart = len(others) >= _FEW
    return spread(others if apart else range(count), JUDGED), apart


@dataclass(frozen=True, slots=True)
class Figures:
    """What a candidate came to: norms [2, samples] by output, reference and noise, and the record of the worst."""

    norms: Mapping[str, NDArray[np.float64]]
    db: JudgedDb


def _norms_db(norms: NDArray[np.float64]) -> float:
    signal, noise = norms.sum(axis=1)
    return 20.0 * math.log10(signal / noise) if signal > 0 and noise > 0 else math.inf


def lead(one: Figures | None, safe: Figures | None) -> float:
    """How far `one` leads by the figure in which it leads less, in dB."""
    if one is None or safe is None:
        return -math.inf
    return min(one.db.norms - safe.db.norms, one.db.sqnr - safe.db.sqnr)


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


class Bench:
    """Makes candidates and holds them against the float outputs of the judged samples, which are computed once."""

    def __init__(self, judging: Judging) -> None:
        held = judging.correction
        self._judging = replace(
            judging,
            samples=once(judging.samples),
            correction=held and replace(held, feeds=once(held.feeds)),
        )
        self._plain = runnable_part(judging.model)
        self._batch = static_batch(self._plain)
        self._names = tuple(value.name for value in self._plain.graph.output)
        self._facts: OutputFacts = facts_of(judging.model)
        self._task: Task | None = None
        self._float: list[list[NDArray[Any]]] = []

    def inserted(self, ranges: Ranges) -> CarriedOut:
        """The Q/DQ model of the plan with `ranges`, biases as they are."""
        judging = self._judging
        return carry_out(judging.model, judging.plan, ranges, residual_db=judging.residual_db)

    def finished(self, ranges: Ranges) -> CarriedOut:
        """The same as the result would be."""
        judging = self._judging
        return carry_out(judging.model, judging.plan, ranges, judging.correction, residual_db=judging.residual_db)

    def judge(self, made: CarriedOut, limit: int, advance: Advance) -> Figures | None:
        """Figures of the worst output on `limit` samples, or up to a batch more; None where none can be compared."""
        if not self._float:
            plain = create_session(self._plain, threads=self._judging.threads)
            self._float = [self._run(plain, feed) for feed in self._judging.samples()]
        session = create_session(for_onnxruntime(runnable_part(made.model)), threads=self._judging.threads)
        self._task = self._task or find_task(self._float[0], self._facts, "auto")
        noise, seen = Noise(self._task, self._names), 0
        for feed, reference in zip(self._judging.samples(), self._float, strict=True):
            count = len(next(iter(feed.values())))
            noise.update(reference, self._run(session, feed), count)
            advance(count)
            seen += count
            if seen >= limit:
                break
        norms, sqnr = noise.norms(), worst(noise.result())
        lowest = min((_norms_db(one) for one in norms.values()), default=math.inf)
        if not isinstance(sqnr, Measured) or lowest == math.inf:
            return None
        return Figures(norms, JudgedDb(norms=lowest, sqnr=sqnr.value))

    def _run(self, session: Any, feed: Feed) -> list[NDArray[Any]]:
        count = len(next(iter(feed.values())))
        return [unpadded(array, self._batch, count) for array in session.run(None, padded(feed, self._batch))]
