"""How well a device predicts an engine that it has not learnt: errors, order, totals, and whether intervals cover."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantbench.latency.device import Device, Estimate
from quantbench.latency.engine_time import Total, time_of_works
from quantbench.latency.from_engine import EngineLayer
from quantbench.latency.work import OPAQUE, Work

# Half of what a first layer takes besides is its standard deviation; 1.645 of it cover 90 %.
_START = 0.82


@dataclass(frozen=True, slots=True)
class Judged:
    """One layer: what a profile says and what was predicted of it, both in µs, with the predicted interval."""

    layer: EngineLayer
    work: Work
    estimate: Estimate
    true: float
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """|ln(predicted / true)|."""
        return abs(float(np.log(self.predicted / self.true)))

    @property
    def covered(self) -> bool:
        return self.low <= self.true <= self.high


@dataclass(frozen=True)
class Score:
    """`layers` that run a kernel of known work; `true_ms` and `total` (the profile sum) of all that have a time, in so
    far as their works are known; `opaque_ms` of Myelin nodes and plugins, which have no model and are in neither."""

    layers: tuple[Judged, ...]
    true_ms: float
    total: Total
    opaque_ms: float

    def of(self, *, weighted: bool) -> "tuple[Judged, ...]":
        """Products, or the others."""
        return tuple(j for j in self.layers if j.work.weighted == weighted)

    @property
    def off(self) -> float:
        """Total predicted over true, less 1."""
        return self.total.ms / self.true_ms - 1

    @property
    def rank(self) -> float:
        """Spearman's rank correlation of layer times."""
        return spearman([j.true for j in self.layers], [j.predicted for j in self.layers])

    @property
    def common(self) -> float:
        """ln of the total's error."""
        return float(np.log(self.total.ms / self.true_ms))


def judge(device: Device, layers: Sequence[EngineLayer]) -> Score:
    """`device` against the profile of an engine whose formats are given."""
    found: list[Judged] = []
    works: list[tuple[str, str, Work]] = []
    true = opaque = 0.0
    offset = device.profile.mean
    for layer in layers:
        if layer.work is None or not layer.ms:
            continue
        estimate = device.estimate(layer.work)
        if layer.work.kind in OPAQUE:
            opaque += layer.ms
            continue
        if estimate.sure == "free":
            continue
        true += layer.ms
        works.append((layer.name, layer.kind, layer.work))
        start = device.profile.first if layer.first else 0.0
        predicted = max(estimate.us + offset, 0.3 * estimate.us) + start
        spread = float(np.hypot(device.profile.spread, start * _START))
        centre = predicted - estimate.us
        low = predicted - np.hypot(estimate.us - estimate.low, spread)
        high = centre + estimate.us + np.hypot(estimate.high - estimate.us, spread)
        found.append(Judged(layer, layer.work, estimate, layer.ms * 1e3, predicted, float(low), float(high)))
    total = time_of_works(device, works, whole=any(layer.first for layer in layers)).profile
    return Score(tuple(found), true, total, opaque)


def median(judged: Sequence[Judged]) -> float:
    """Median error; 0 without layers."""
    return float(np.median([j.error for j in judged])) if judged else 0.0


def quantile(judged: Sequence[Judged], share: float) -> float:
    """Error that `share` of the layers stay below."""
    return float(np.quantile([j.error for j in judged], share)) if judged else 0.0


def coverage(judged: Sequence[Judged]) -> float:
    """Share of the layers within their intervals."""
    return float(np.mean([j.covered for j in judged])) if judged else 1.0


def half_width(judged: Sequence[Judged]) -> float:
    """Median of half the interval over the prediction."""
    return float(np.median([(j.high - j.low) / 2 / j.predicted for j in judged])) if judged else 0.0


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation, ties by their mean rank."""
    a, b = _ranks(first), _ranks(second)
    if len(a) < 2 or not a.std() or not b.std():
        return 1.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Sequence[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    # Times within 0.1 % are ties: profiles state no more.
    data = np.array(values, dtype=np.float64)
    order = np.argsort(data, kind="stable")
    ranks = np.empty(len(data))
    start = 0
    for end in range(1, len(data) + 1):
        if end == len(data) or data[order[end]] > data[order[start]] * 1.001:
            ranks[order[start:end]] = (start + end - 1) / 2
            start = end
    return ranks
