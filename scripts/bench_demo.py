"""The seconds of `quantbench ptq` step by step: wall clock, processor time of this process and, of it, of the main
thread, beside which other cores may wait; what the processes that it starts take besides, and its memory.

    python scripts/bench_demo.py ptq --calib-dir imgs/ --out /tmp/run --overwrite

Takes the command line of `quantbench`. A row is a task of the progress display, or what lies before it.
"""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quantbench import progress

_Row = tuple[str, float, float, float]


class _Clock:
    """Rows since the process began."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        # Processor time counts from the interpreter's start on.
        self._wall, self._used, self._main = time.perf_counter(), 0.0, 0.0

    def mark(self, title: str) -> None:
        wall, spent, main = time.perf_counter(), os.times(), time.thread_time()
        used = spent.user + spent.system
        self.rows.append((title, wall - self._wall, used - self._used, main - self._main))
        self._wall, self._used, self._main = wall, used, main


_CLOCK = _Clock()


class _Timed(progress.Progress):
    """Marks the begin and the end of each task in place of showing it."""

    def note(self, text: str) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def task(self, title: str, total: int, unit: str = "images") -> Iterator[progress.Advance]:
        """As the class has it."""
        _CLOCK.mark(f"before: {title}")
        yield lambda count: None
        _CLOCK.mark(title)


def main() -> None:
    """Command line: see the module's first lines."""
    progress.Progress = _Timed  # type: ignore[misc]
    from quantbench.cli.main import main as run

    with contextlib.suppress(SystemExit):
        run()
    _CLOCK.mark("after that")
    rows = _CLOCK.rows
    others = os.times()
    rows.append(("beside that, in processes of their own", 0.0, others.children_user + others.children_system, 0.0))
    rows.append(("in all", sum(row[1] for row in rows), sum(row[2] for row in rows), sum(row[3] for row in rows)))
    print("   wall  processor  main thread")
    for title, wall, used, main_thread in rows:
        print(f"{wall:7.2f} {used:10.2f} {main_thread:12.2f}  {title}")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f} GB at most")


if __name__ == "__main__":
    main()
