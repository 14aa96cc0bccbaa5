"""The scales of one site: candidates between range and weight, judged at the outputs of the layers that read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantbench.folding.channels import Channels, Reader, Site
from quantbench.folding.fold import Scales
from quantbench.folding.layer_error import Floats
from quantbench.folding.rows import Rows

# Ranges and weights below this share of the largest are taken for this: a channel that was almost never seen may be
# larger in the next sample.
_LEAST = 1.0 / 1024
# Before a Clip bites that did not a channel may grow by this factor over what was seen, and up to this share of the
# limit whatever was seen: one that no sample made speak may speak yet.
_ROOM, _ALWAYS = 2.0, 0.5
# Of the error of the layers of a site, in dB, under which a change is not worth it.
_WORTH_DB = 0.1
# By which a larger alpha must be better: the larger, the more channels are clipped once they say more than was seen.
_EVEN_DB = 0.3


class Layer(Protocol):
    """A layer that reads a site: `largest` magnitude [C] of each channel of its input, the largest of the `weights` [C]
    that each meets, and the `error` at its output where the channels are scaled."""

    @property
    def reader(self) -> Reader: ...

    @property
    def largest(self) -> Floats: ...

    @property
    def weights(self) -> Floats: ...

    def error(self, scale: Floats) -> float: ...


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The best candidate of a site: alpha (None: as it is), the scales of its classes, and the relative error of its
    layers before and after, the geometric mean of theirs: what one of many loses in dB counts as what another gains."""

    alpha: float | None
    scales: Scales
    before: float
    after: float

    @property
    def gain_db(self) -> float:
        """What it takes off the noise of its layers, in dB."""
        return float(10 * np.log10(max(self.before, 1e-30) / max(self.after, 1e-30)))


def best_scales(
    channels: Channels, site: Site, layers: Sequence[Layer], rows: Mapping[str, Rows], alphas: Sequence[float]
) -> Choice:
    """The candidate of `alphas` (rising) with the least error at the outputs of `layers`, the readers of `site`; the
    least alpha of those that are even.

    s = weights^(1 - alpha) / range^alpha for each channel, both over the largest: alpha 1 gives all channels one
    range, 0 all weights of it; scaled so that the largest range stays, and within the bounds of the site's Clips.
    """
    place = np.full(channels.count, -1)
    place[site.classes] = np.arange(len(site.classes))
    ranges, weights = np.zeros((2, len(site.classes)))
    for layer in layers:
        at = place[channels.class_of[layer.reader.ids]]
        largest = max(float(layer.largest.max()), 1e-30)
        np.maximum.at(ranges, at[at >= 0], (layer.largest / largest)[at >= 0])
        np.maximum.at(weights, at[at >= 0], layer.weights[at >= 0])
    seen = ranges > 0
    unscaled = np.ones(len(site.classes))
    before = _error(channels, site, layers, unscaled)
    best = Choice(None, unscaled, before, before)
    if not seen.any():
        return best
    most = _most(channels, site, rows, place)
    for alpha in alphas:
        scales = _candidate(ranges, weights, alpha, seen)
        if site.bounds:
            scales = np.clip(scales, 1.0, most)
        error = _error(channels, site, layers, scales)
        if error < best.after * 10 ** (-(_EVEN_DB if best.alpha else 0.0) / 10):
            best = Choice(alpha, scales, before, error)
    return best if best.gain_db > _WORTH_DB else Choice(None, unscaled, before, before)


def _most(channels: Channels, site: Site, rows: Mapping[str, Rows], place: NDArray[np.int64]) -> Scales:
    """How far each class may be scaled before a Clip bites that did not (at least 1)."""
    most = np.full(len(site.classes), np.inf)
    for bound in site.bounds:
        at = place[channels.class_of[bound.ids]]
        known = rows.get(bound.tensor)
        room = np.ones(len(at))
        if known is not None:
            largest = np.abs(known.all_ends).max(axis=0) * _ROOM
            room = bound.limit / np.maximum(largest, bound.limit * _ALWAYS)
        np.minimum.at(most, at[at >= 0], room[at >= 0])
    limited: Scales = np.maximum(most, 1.0)
    return limited


def _candidate(ranges: Floats, weights: Floats, alpha: float, seen: NDArray[np.bool_]) -> Scales:
    limited = np.maximum(ranges, ranges.max() * _LEAST)
    met = np.maximum(weights, max(weights.max(), 1e-30) * _LEAST)
    scales = met ** (1 - alpha) / limited**alpha
    scales *= ranges.max() / (scales * ranges)[seen].max()
    return np.where(seen, scales, 1.0)


def _error(channels: Channels, site: Site, layers: Sequence[Layer], scales: Scales) -> float:
    whole = np.ones(channels.count)
    whole[site.classes] = scales
    errors = [max(layer.error(whole[channels.class_of[layer.reader.ids]]), 1e-30) for layer in layers]
    return float(np.exp(np.mean(np.log(errors))))
