"""Which samples hold the energy of a network's outputs, each output whole, as the network gives it.

A detector of text finds none in most pictures: a few samples hold nearly all that it puts out, and the error of these
is the error that counts. With w_n = |y_n|^2 / sum |y|^2 the effective number of samples is 1 / sum w_n^2 (Kish, Survey
Sampling, 1965): all of them where each holds as much, few where few hold all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, images_of

# With fewer effective samples than this share of all, those that hold `_NEARLY_ALL` of the energy stand for all.
_FEW = 0.5
_NEARLY_ALL = 0.9
# Of fewer samples a histogram says little.
_LEAST = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """Energies [samples] of each float output whose first axis is the batch, by name."""

    energies: Mapping[str, Floats]

    def holders(self) -> tuple[int, ...]:
        """Indices of the samples that hold nearly all energy of the output of which the fewest do; () where no output
        has few such samples."""
        found: tuple[int, ...] = ()
        fewest = np.inf
        for energies in self.energies.values():
            share = shares(energies)
            effective = 1.0 / float((share**2).sum()) if share.any() else np.inf
            if effective < min(fewest, _FEW * len(share)):
                order = np.argsort(-share, kind="stable")
                count = int(np.searchsorted(np.cumsum(share[order]), _NEARLY_ALL)) + 1
                fewest = effective
                found = tuple(int(i) for i in np.sort(order[: max(count, _LEAST)]))
        return found


def energies_of(outputs: Mapping[str, NDArray[Any]], count: int) -> dict[str, Floats]:
    """Energy [count] of each float output of a batch of `count` samples whose first axis is the batch."""
    found = {}
    for name, output in outputs.items():
        if np.issubdtype(output.dtype, np.floating) and output.shape[:1] == (count,):
            with np.errstate(over="ignore", invalid="ignore"):
                found[name] = np.square(output.reshape(count, -1), dtype=np.float64).sum(axis=1)
    return found


def together(batches: Sequence[Mapping[str, Floats]]) -> Signal:
    """The signal of all batches, of the outputs that each of them has."""
    names = [name for name in (batches[0] if batches else {}) if all(name in batch for batch in batches)]
    return Signal({name: np.concatenate([batch[name] for batch in batches]) for name in names})


def shares(energies: Floats) -> Floats:
    """w_n of the module; zeros where nothing has energy."""
    total = energies.sum()
    return energies / total if total > 0 and np.isfinite(total) else np.zeros_like(energies)


def rows_of(feeds: Iterable[Feed], indices: Sequence[int]) -> Iterator[Feed]:
    """Those samples of `feeds`, numbered through from 0, batch by batch. What does not grow with the batch stays."""
    wanted, start = np.asarray(indices, np.int64), 0
    for feed in feeds:
        count = images_of(feed)
        rows = wanted[(wanted >= start) & (wanted < start + count)] - start
        if len(rows):
            yield {n: a[rows] if np.shape(a)[:1] == (count,) else a for n, a in feed.items()}
        start += count
