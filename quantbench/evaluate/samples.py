"""Samples: what one model scored on each image, so that any two models can be compared on the same resamples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantbench.evaluate.mean_ap import ClassMatches, average_precision
from quantbench.evaluate.statistics import mcnemar, of_draws, paired_difference, resampled, share
from quantbench.records.evaluation import Measured

Floats = NDArray[np.float64]
# Matching is done once, but averages over ten thresholds cost milliseconds a resample.
_MAP_RESAMPLES = 300


class Sample(Protocol):
    """Scores of one model on some images."""

    @property
    def images(self) -> int:
        """Number of images that have a score."""
        ...

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Least and greatest value that the measure can take, None where there are none."""
        ...

    @property
    def value(self) -> float:
        """The measure over all images."""
        ...

    @property
    def draws(self) -> Floats:
        """The measure over bootstrap resamples, the same ones for any two samples of a kind and a number of images."""
        ...

    def by_class(self) -> Mapping[int, tuple[float, int]]:
        """For each class that occurs: its value and how many labelled things it rests on."""
        ...


@dataclass(frozen=True, eq=False)
class Hits:
    """Right or wrong, [images] booleans; `labels` [images] are the true classes."""

    hits: NDArray[np.bool_]
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    bounds: tuple[float, float] | None = (0.0, 1.0)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.hits)

    @property
    def value(self) -> float:
        """Share of hits."""
        return float(self.hits.mean())

    @cached_property
    def draws(self) -> Floats:
        """Share of hits of each resample."""
        drawn: Floats = resampled(self.images) @ self.hits / self.images
        return drawn

    def by_class(self) -> Mapping[int, tuple[float, int]]:
        """Share of hits among the images of each class (recall)."""
        found = {}
        for label in np.unique(self.labels):
            own = self.hits[self.labels == label]
            found[int(label)] = (float(own.mean()), len(own))
        return found


@dataclass(frozen=True, eq=False)
class Means:
    """A number an image, [images] float64, whose mean counts: a user's own metric, an error in pixels."""

    values: Floats
    bounds: tuple[float, float] | None = None

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.values)

    @property
    def value(self) -> float:
        """The mean."""
        return float(self.values.mean())

    @cached_property
    def draws(self) -> Floats:
        """The mean of each resample."""
        drawn: Floats = resampled(self.images) @ self.values / self.images
        return drawn

    def by_class(self) -> Mapping[int, tuple[float, int]]:
        """Nothing: a number is of no class."""
        return {}


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pixels of each class in each image, [images, classes]: in both masks, and in either. mIoU is the mean over
    classes that occur of their pixels in both over those in either, over all images (as Cityscapes and mmseg count)."""

    both: NDArray[np.int64]
    either: NDArray[np.int64]
    bounds: tuple[float, float] | None = (0.0, 1.0)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.both)

    @property
    def value(self) -> float:
        """mIoU, 0 to 1."""
        return float(_mean_iou(self.both.sum(axis=0)[None], self.either.sum(axis=0)[None])[0])

    @cached_property
    def draws(self) -> Floats:
        """mIoU of each resample."""
        weights = resampled(self.images)
        return _mean_iou(weights @ self.both, weights @ self.either)

    def by_class(self) -> Mapping[int, tuple[float, int]]:
        """IoU of each class that occurs, and its pixels."""
        both, either = self.both.sum(axis=0), self.either.sum(axis=0)
        return {int(c): (float(both[c] / either[c]), int(either[c])) for c in np.flatnonzero(either)}


def _mean_iou(both: NDArray[np.int64], either: NDArray[np.int64]) -> Floats:
    """[resamples, classes] pixels to [resamples] mIoU."""
    there = either > 0
    ratio = np.divide(both, either, out=np.zeros(both.shape), where=there)
    found: Floats = ratio.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return found


@dataclass(frozen=True, eq=False)
class Matches:
    """Matched boxes of all classes, and their AP over resamples, worked out once for all measures of it."""

    classes: tuple[ClassMatches, ...]

    @property
    def images(self) -> int:
        """Number of labelled images."""
        return len(self.classes[0].truths)

    @cached_property
    def precision(self) -> Floats:
        """AP at each of the 10 IoU thresholds."""
        return average_precision(self.classes)

    @cached_property
    def draws(self) -> Floats:
        """[resamples, 10] AP."""
        return np.stack([average_precision(self.classes, w) for w in resampled(self.images, _MAP_RESAMPLES)])


@dataclass(frozen=True, eq=False)
class MeanAP:
    """mAP of `matches` over the first `last` of the IoU thresholds 0.5, 0.55 … 0.95: 10 for mAP50-95, 1 for mAP50."""

    matches: Matches
    last: int
    bounds: tuple[float, float] | None = (0.0, 1.0)

    @property
    def images(self) -> int:
        """Number of labelled images."""
        return self.matches.images

    @property
    def value(self) -> float:
        """mAP, 0 to 1."""
        return float(self.matches.precision[: self.last].mean())

    @property
    def draws(self) -> Floats:
        """mAP of each resample."""
        drawn: Floats = self.matches.draws[:, : self.last].mean(axis=1)
        return drawn

    def by_class(self) -> Mapping[int, tuple[float, int]]:
        """AP of each class that occurs, and how many boxes are labelled with it."""
        counted = {label: int(one.truths.sum()) for label, one in enumerate(self.matches.classes)}
        return {
            label: (float(average_precision([self.matches.classes[label]])[: self.last].mean()), count)
            for label, count in counted.items()
            if count
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """What lies between two models on the same images, second minus first; `p` of McNemar's exact test for hits.

    `real`: whether it may be called a difference: p under 0.05, or else a 95 % interval without 0.
    """

    measured: Measured
    p: float | None
    real: bool


def measured(sample: Sample) -> Measured:
    """Value with its interval: Wilson's for hits, else the bootstrap's."""
    if isinstance(sample, Hits):
        return share(int(sample.hits.sum()), sample.images)
    return of_draws(sample.value, sample.draws, sample.images, bounds=sample.bounds)


def difference(first: Sample, second: Sample) -> Difference:
    """Second minus first, in pairs. Both hold scores of the same images in the same order."""
    if isinstance(first, Hits) and isinstance(second, Hits):
        p = mcnemar(first.hits, second.hits)
        return Difference(paired_difference(first.hits, second.hits), p, p < 0.05)
    span = (first.bounds[0] - first.bounds[1], first.bounds[1] - first.bounds[0]) if first.bounds else None
    found = of_draws(second.value - first.value, second.draws - first.draws, first.images, bounds=span)
    return Difference(found, None, found.low > 0 or found.high < 0)
