"""The calibration stage: one pass over the images, histograms kept in the run folder, resumed where it stopped."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from quantbench.calibration.collect import Begin, Counts, merge_histograms, on_cpu, usable
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ort_outputs import Feed, images_of
from quantbench.calibration.store import load_histograms, save_histograms
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress

HISTOGRAMS = "histograms.npz"
# Work that a kill can cost.
_SAVE_EVERY_SECONDS = 20.0

OpenFeeds = Callable[[], Iterable[Feed]]


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass: `tensors` of the model over all feeds. `open_feeds` starts the images from the beginning; `total` is
    their number, for the progress bar; `needed` are tensors that must come out of it; `begin` makes it."""

    model: onnx.ModelProto
    tensors: Sequence[str]
    open_feeds: OpenFeeds
    total: int
    needed: Sequence[str] = ()
    threads: int = 0
    begin: Begin = on_cpu


def calibrate(wanted: Pass, folder: Path, key: str, progress: Progress) -> dict[str, Histogram]:
    """Histograms of one pass. `folder` keeps the finished or partial pass of the same `key`.

    A tensor that reaches infinity or NaN is left out with a note; raises QuantbenchError where it is needed.
    """
    path, tensors, total = folder / HISTOGRAMS, wanted.tensors, wanted.total
    known, images = load_histograms(path, key)
    if images:
        progress.note(f"Going on after {images} images that an earlier run has counted")
    elif total:
        progress.note(f"Calibrating {len(tensors)} tensors on {total} images")
    collector: Counts | None = None
    with progress.task("Calibration", total) as advance:
        advance(images)
        began = saved = time.monotonic()
        for feed in _skip(wanted.open_feeds(), images):
            collector = collector or wanted.begin(wanted.model, tensors, wanted.threads)
            count = collector.add(feed)
            images += count
            advance(count)
            if time.monotonic() - saved > _SAVE_EVERY_SECONDS:
                save_histograms(path, _together(known, collector), images=images, key=key)
                saved = time.monotonic()
    if not images:
        raise QuantbenchError("no calibration images; give a folder with images (--calib-dir)")
    found = known if collector is None else _together(known, collector)
    if time.monotonic() - began > _SAVE_EVERY_SECONDS:
        # Also where the ranges are refused next: what took long is kept, what did not leaves nothing.
        save_histograms(path, found, images=images, key=key)
    return keep(found, images, wanted.needed, folder, key, progress)


def keep(
    found: dict[str, Histogram], images: int, needed: Sequence[str], folder: Path, key: str, progress: Progress
) -> dict[str, Histogram]:
    """The finished pass, saved in `folder` for its `key`; what of it can be used.

    Raises QuantbenchError, naming the tensor, where one of `needed` reached infinity or NaN.
    """
    kept, left_out = usable(found, needed)
    if left_out:
        progress.note(
            f"{left_out[0]} reaches infinity or NaN{_and_more(left_out)}; nothing quantizes it, so it gets no range"
        )
    save_histograms(folder / HISTOGRAMS, found, images=images, key=key)
    return kept


def _together(known: dict[str, Histogram], collector: Counts) -> dict[str, Histogram]:
    counted = collector.histograms()
    return merge_histograms(known, counted) if known else counted


def _and_more(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} more tensors" if len(names) > 1 else ""


def _skip(feeds: Iterable[Feed], images: int) -> Iterator[Feed]:
    passed = 0
    for feed in feeds:
        passed += images_of(feed)
        if passed > images:
            yield feed
