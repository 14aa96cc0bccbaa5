"""The calibration stage: two passes over the images, histograms kept in the run folder, resumed where they stopped."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import onnx

from quantbench.atomic import write_json
from quantbench.calibration.collect import collect_histograms, collect_maxima, merge_histograms
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.store import load_histograms, save_histograms
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress

MAXIMA = "maxima.json"
HISTOGRAMS = "histograms.npz"
# Work that a kill can cost: a part of the second pass is saved when it took this long.
_SAVE_EVERY_SECONDS = 20.0

OpenFeeds = Callable[[], Iterable[Feed]]


def calibrate(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    open_feeds: OpenFeeds,
    total: int,
    folder: Path,
    key: str,
    progress: Progress,
    *,
    threads: int = 0,
) -> dict[str, Histogram]:
    """Histograms of `tensors` over all feeds. `folder` keeps finished and partial passes of the same `key`.

    `open_feeds` starts the images from the beginning; `total` is their number, for the progress bar.
    """
    maxima = _known_maxima(folder / MAXIMA, key)
    if maxima is None:
        with progress.task("Pass 1: maxima", total) as advance:
            maxima = collect_maxima(model, open_feeds(), tensors, threads=threads, on_batch=advance)
        write_json(folder / MAXIMA, {"key": key, "maxima": maxima})
        (folder / HISTOGRAMS).unlink(missing_ok=True)
    done: dict[str, Histogram] = {}
    images = 0
    if (folder / HISTOGRAMS).exists():
        done, images = load_histograms(folder / HISTOGRAMS)
        if images:
            progress.note(f"Going on after {images} images that an earlier run has counted")
    with progress.task("Pass 2: histograms", total) as advance:
        advance(images)
        rest = _skip(open_feeds(), images)
        while part := _until(rest, time.monotonic() + _SAVE_EVERY_SECONDS):
            counted = collect_histograms(model, part, maxima, threads=threads, on_batch=advance)
            done = merge_histograms(done, counted) if done else counted
            images += part.images
            save_histograms(folder / HISTOGRAMS, done, images=images)
    if not done:
        raise QuantbenchError("no calibration images; give a folder with images (--calib-dir)")
    return done


class _Part:
    """Feeds from a shared iterator until a deadline; true while there was at least one to give."""

    def __init__(self, first: Feed, rest: Iterator[Feed], deadline: float) -> None:
        self._first, self._rest, self._deadline = first, rest, deadline
        self.images = 0

    def __iter__(self) -> Iterator[Feed]:
        feed: Feed | None = self._first
        while feed is not None:
            self.images += _count(feed)
            yield feed
            feed = next(self._rest, None) if time.monotonic() < self._deadline else None


def _until(rest: Iterator[Feed], deadline: float) -> _Part | None:
    first = next(rest, None)
    return None if first is None else _Part(first, rest, deadline)


def _skip(feeds: Iterable[Feed], images: int) -> Iterator[Feed]:
    passed = 0
    for feed in feeds:
        passed += _count(feed)
        if passed > images:
            yield feed


def _known_maxima(path: Path, key: str) -> dict[str, float] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data["maxima"] if data.get("key") == key else None


def _count(feed: Feed) -> int:
    return int(next(iter(feed.values())).shape[0])
