"""Calibration data in pieces: each is counted by whoever has time, kept in the run folder, and added up exactly."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from quantbench.calibration.collect import Begin, Counts
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.store import load_histograms, save_histograms
from quantbench.data.sources import AnySource, feeds, some
from quantbench.errors import QuantbenchError
from quantbench.images.stream import NothingUsableError
from quantbench.run_folder import PIECES

# Unless the user says how many: whatever counts them, so that what is done can be gone on with by another number of
# processes, and small enough that a lost one costs little.
_PIECES = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples from `start` up to `stop`, whole batches of the data but for the last."""

    start: int
    stop: int


def pieces_of(samples: int, batch: int, count: int = 0) -> tuple[Piece, ...]:
    """`samples` in `count` pieces of nearly as many batches each (0: 32), or in as many as there are batches.

    A batch is never cut, so that an image is computed among the same others whoever computes it.
    """
    batches = -(-samples // batch)
    number = min(count or _PIECES, batches)
    edges = [batches * place // number * batch for place in range(number)]
    return tuple(Piece(a, b) for a, b in zip(edges, [*edges[1:], samples], strict=True))


class PieceStore:
    """Counted pieces of what has `key`, in the run folder's `state`."""

    def __init__(self, state: Path, key: str) -> None:
        self.folder = state / PIECES
        self._key = key

    def path(self, piece: Piece) -> Path:
        """Its file. Raises QuantbenchError where that is a link, which quantbench does not make."""
        path = self.folder / f"{self._key[:16]}-{piece.start}-{piece.stop}.npz"
        if path.is_symlink() or self.folder.is_symlink():
            raise QuantbenchError(f"{path} is a link, which quantbench does not make; remove it")
        return path

    def has(self, piece: Piece) -> bool:
        """Whether it was counted."""
        return self.path(piece).exists()

    def save(self, piece: Piece, histograms: dict[str, Histogram], images: int) -> None:
        """Keep the histograms of the piece, atomically."""
        save_histograms(self.path(piece), histograms, images=images, key=self.key_of(piece))

    def load(self, piece: Piece) -> tuple[dict[str, Histogram], int]:
        """What was counted, and of how many images; nothing and 0 where the file is damaged or of something else, and
        then it is removed."""
        found = load_histograms(self.path(piece), self.key_of(piece))
        if not found[0]:
            self.path(piece).unlink(missing_ok=True)
        return found

    def clear(self) -> None:
        """Remove the pieces, of whatever they are."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def key_of(self, piece: Piece) -> str:
        """What its file is marked with."""
        return f"{self._key} {piece.start} {piece.stop}"


@dataclass(frozen=True, slots=True)
class Sampled:
    """A source, the input of its images, and how it is fed."""

    source: AnySource
    input_name: str
    batch: int
    max_bad: int


class PieceCounter:
    """Counts pieces one after the other, with one session of the network."""

    def __init__(
        self, model: onnx.ModelProto, tensors: tuple[str, ...], data: Sampled, begin: Begin, threads: int
    ) -> None:
        self._model, self._tensors, self._data = model, tensors, data
        self._begin, self._threads = begin, threads
        self._collector: Counts | None = None

    def count(
        self, piece: Piece, *, wanted: Callable[[], bool] = lambda: True
    ) -> tuple[dict[str, Histogram], int] | None:
        """Histograms of the piece, and of how many images; None where it is no longer `wanted`, which is asked after
        each batch.

        Raises QuantbenchError as the whole data would; where some may be bad a piece may be bad in whole.
        """
        self._collector = self._collector or self._begin(self._model, self._tensors, self._threads)
        self._collector.restart()
        images = 0
        for feed in self._feeds(piece):
            images += self._collector.add(feed)
            if not wanted():
                return None
        return self._collector.histograms(), images

    def _feeds(self, piece: Piece) -> Iterator[Feed]:
        data = self._data
        part = some(data.source, tuple(range(piece.start, piece.stop)))
        try:
            yield from feeds(part, data.input_name, data.batch, max_bad=data.max_bad)
        except NothingUsableError:
            if data.max_bad < len(part):
                raise
