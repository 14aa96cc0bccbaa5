"""Pieces counted by processes on this machine; one that dies costs its piece, which another does."""

import contextlib
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.ptq.piece_job import CountJob, count_piece
from quantbench.ptq.pieces import Piece

Counted = tuple[Piece, bytes]
# A piece that takes three processes with it will take the fourth.
_TRIES = 3


@dataclass
class _Worker:
    process: SpawnProcess
    line: Connection
    piece: Piece | None = None


def count_on_processes(
    job: CountJob, pieces: Sequence[Piece], key_of: Callable[[Piece], str], processes: int, progress: Progress
) -> Iterator[Counted]:
    """Each piece with the file of its histograms, as they are done.

    Raises QuantbenchError for what is wrong with the data, and for a piece that ends `_TRIES` processes.
    """
    waiting, tries, workers = deque(pieces), Counter[Piece](), list[_Worker]()
    try:
        while waiting or any(worker.piece for worker in workers):
            while waiting and len(workers) < min(processes, len(pieces)):
                workers.append(_started(job))
            for worker in workers:
                if worker.piece is None and waiting:
                    worker.piece = waiting.popleft()
                    with contextlib.suppress(OSError):  # dead already: told below
                        worker.line.send((worker.piece, key_of(worker.piece)))
            busy = {worker.line: worker for worker in workers if worker.piece is not None}
            for line in connection.wait(list(busy)):
                worker = busy[line]  # type: ignore[index]
                assert worker.piece is not None
                try:
                    found: bytes | str = worker.line.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.process.join()
                    tries[worker.piece] += 1
                    _told(worker, tries[worker.piece], progress)
                    waiting.appendleft(worker.piece)
                    continue
                if isinstance(found, str):
                    raise QuantbenchError(found)
                yield worker.piece, found
                worker.piece = None
    finally:
        for worker in workers:
            worker.line.close()
            worker.process.terminate()
            worker.process.join()


def _told(worker: _Worker, times: int, progress: Progress) -> None:
    piece, code = worker.piece, worker.process.exitcode
    assert piece is not None
    if times >= _TRIES:
        raise QuantbenchError(
            f"{times} processes died over samples {piece.start} to {piece.stop - 1} (exit code {code}; -9 is most "
            f"often memory): give fewer --processes, or a smaller --batch-size"
        )
    progress.note(f"A process died (exit code {code}); samples {piece.start} to {piece.stop - 1} go to another")


def _started(job: CountJob) -> _Worker:
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, job), daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the line
    return _Worker(process, here)


def _serve(line: Connection, job: CountJob) -> None:
    """Count what comes down the line until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that has the run
    while True:
        try:
            piece, key = line.recv()
        except (EOFError, OSError):
            return
        try:
            found: bytes | str = count_piece(job, piece, key)
        except (QuantbenchError, OSError) as error:
            found = str(error)
        try:
            line.send(found)
        except OSError:
            return
