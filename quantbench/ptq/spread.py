"""Calibration spread over processes of this machine, a Ray cluster, or what torchrun started."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from quantbench.atomic import write_bytes
from quantbench.calibration.collect import merge_histograms
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.store import is_counted, load_histograms
from quantbench.cores import decoding_with
from quantbench.data.sources import AnySource
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.ptq.calibrate import HISTOGRAMS, keep
from quantbench.ptq.calibrate_on import place_of
from quantbench.ptq.on_ray import count_on_ray
from quantbench.ptq.piece_job import CountJob
from quantbench.ptq.pieces import Piece, PieceCounter, PieceStore, Sampled, pieces_of
from quantbench.ptq.processes import Counted, count_on_processes
from quantbench.ptq.ranks import Group, count_share, order
from quantbench.ptq.request import Spread


@dataclass(frozen=True, slots=True)
class Spreading:
    """How, by whom, and what: the `job` for processes that open model and data themselves; `refresh`: nothing counted
    before is taken. `needed` as in `Pass`."""

    spread: Spread
    group: Group | None
    job: CountJob
    needed: tuple[str, ...]
    refresh: bool = False


def calibrate_in_pieces(
    how: Spreading, model: onnx.ModelProto, source: AnySource, state: Path, key: str, progress: Progress
) -> dict[str, Histogram]:
    """Histograms of one pass over `source`, those of one process to the bit; `state` keeps what is done.

    Raises QuantbenchError as `calibrate` does, and for processes that die again and again.
    """
    known, images = load_histograms(state / HISTOGRAMS, key)
    if images == len(source):
        return keep(known, images, how.needed, state, key, progress)
    store = PieceStore(state, key)
    if how.refresh and how.group is None:
        store.clear()
    pieces = pieces_of(len(source), how.job.batch, how.spread.pieces)
    missing = [piece for piece in pieces if not store.has(piece)]
    _introduce(how, pieces, missing, progress)
    with progress.task("Calibration", len(source)) as advance:
        advance(sum(piece.stop - piece.start for piece in pieces if piece not in missing))
        if how.group is not None:
            counter, here = _counter(how, model, source), 0
            with decoding_with(how.job.decoders):
                for piece in (piece for piece in order(how.group, pieces) if piece in missing):
                    here += count_share([piece], store, counter, lambda: False)
                    advance(piece.stop - piece.start)
            if here == len(missing) > 1:
                progress.note(f"The other processes counted nothing: they ended, or do not see {state}")
        else:
            for piece, data in _elsewhere(how, missing, store, progress):
                write_bytes(store.path(piece), data)
                advance(piece.stop - piece.start)
    found, images = _together(pieces, store, lambda: _counter(how, model, source))
    bad = len(source) - images
    if not images or bad > how.job.data.max_bad:
        raise QuantbenchError(
            f"{bad} of {len(source)} samples cannot be used, more than --max-bad {how.job.data.max_bad} allows; each "
            f"is named above"
        )
    kept = keep(found, images, how.needed, state, key, progress)
    store.clear()
    return kept


def count_for_first(
    how: Spreading, model: onnx.ModelProto, source: AnySource, state: Path, key: str, dropped: Callable[[], bool]
) -> tuple[int, int]:
    """What a process of torchrun's does that is not the first: count its share, and what is left, unless the whole is
    `dropped`. How many pieces it counted, and how many there are."""
    assert how.group is not None
    pieces = pieces_of(len(source), how.job.batch, how.spread.pieces)
    least = len(source) - how.job.data.max_bad
    fresh = not how.refresh

    def over() -> bool:
        nonlocal fresh
        counted = is_counted(state / HISTOGRAMS, key, least)
        fresh = fresh or not counted  # what lies there when all is to be counted anew is of an earlier run
        return (fresh and counted) or dropped()

    todo, store = order(how.group, pieces), PieceStore(state, key)
    with decoding_with(how.job.decoders):
        return count_share(todo, store, _counter(how, model, source), over), len(pieces)


def _together(
    pieces: tuple[Piece, ...], store: PieceStore, counter: Callable[[], PieceCounter]
) -> tuple[dict[str, Histogram], int]:
    """All pieces added up; one whose file is damaged is counted here."""
    found: dict[str, Histogram] = {}
    images = 0
    for piece in pieces:
        part, count = store.load(piece)
        if not part:
            count_share([piece], store, counter(), lambda: False)
            part, count = store.load(piece)
        if not part:
            raise QuantbenchError(f"{store.path(piece)} cannot be kept; run again when nothing else writes there")
        found = merge_histograms(found, part) if found else part
        images += count
    return found, images


def _counter(how: Spreading, model: onnx.ModelProto, source: AnySource) -> PieceCounter:
    job = how.job
    data = Sampled(source, job.input_name, job.batch, job.data.max_bad)
    return PieceCounter(model, job.tensors, data, place_of(job.device).begin, job.threads)


def _elsewhere(how: Spreading, missing: list[Piece], store: PieceStore, progress: Progress) -> Iterator[Counted]:
    if not missing:
        return iter(())
    if how.spread.ray:
        return count_on_ray(how.job, missing, store.key_of, how.spread.ray)
    return count_on_processes(how.job, missing, store.key_of, how.spread.processes, progress)


def _introduce(how: Spreading, pieces: tuple[Piece, ...], missing: list[Piece], progress: Progress) -> None:
    if how.group is not None:
        by = f"{how.group.world} processes of torchrun"
    else:
        by = f"Ray at {how.spread.ray}" if how.spread.ray else _some(how.spread.processes, "process", "processes")
    done = len(pieces) - len(missing)
    before = f", {done} of which an earlier run has counted" if done else ""
    parts = _some(len(pieces), "piece", "pieces")
    progress.note(f"Calibrating {len(how.job.tensors)} tensors by {by} in {parts}{before}")


def _some(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
