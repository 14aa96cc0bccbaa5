"""Progress of long stages: a bar with rate and ETA in a terminal, plain lines elsewhere, silence for --json."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from quantbench.terminal import console, echo

Advance = Callable[[int], None]
# Of tasks that run the same images more than once.
PASSES = "image passes"
Mode = Literal["bar", "lines", "none"]
_EVERY_SECONDS = 5.0


class Progress:
    """Shows stages on stderr. `note` prints one line that stays."""

    def __init__(self, mode: Mode | None = None) -> None:
        self.mode: Mode = mode or ("bar" if sys.stderr.isatty() else "lines")

    def note(self, text: str) -> None:
        """One plain line."""
        if self.mode != "none":
            echo(text, err=True)

    @contextlib.contextmanager
    def task(self, title: str, total: int, unit: str = "images") -> Iterator[Advance]:
        """Yield a function to call with the number of `unit` done since the last call."""
        if self.mode == "bar":
            yield from self._bar(title, total, unit)
        elif self.mode == "lines":
            yield from self._lines(title, total, unit)
        else:
            yield lambda count: None

    def _bar(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        rate = TextColumn("{task.fields[rate]}")
        columns = (
            TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), rate,
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with RichProgress(*columns, console=console(stderr=True)) as bar:
            task = bar.add_task(title, total=total, rate="")

            def advance(count: int) -> None:
                bar.advance(task, count)
                speed = bar.tasks[0].speed or bar.tasks[0].finished_speed
                bar.update(task, rate=f"{speed:.1f} {unit}/s" if speed else "")

            yield advance

    def _lines(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        start = last = time.monotonic()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, last
            done += count
            now = time.monotonic()
            if now - last >= _EVERY_SECONDS and done < total:
                last = now
                rate = done / max(now - start, 1e-9)
                self.note(f"{title}: {done}/{total} {unit}, {rate:.1f}/s, {(total - done) / rate:.0f} s left")

        yield advance
        seconds = time.monotonic() - start
        self.note(f"{title}: {done} {unit} in {seconds:.1f} s")
