"""Files that are read more than once are the same each time, or the run says so."""

import os
from pathlib import Path

from quantbench.errors import QuantbenchError


class Unchanged:
    """Remembers files by size, times and inode when they were first noted, so that a later look can be refused.

    A run hashes its data and reads them again for each pass; what changed in between would be counted under the wrong
    hash. One `os.stat` a look. Safe in threads.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int, int]] = {}

    def note(self, path: Path) -> None:
        """Keep how `path` is now, unless it is known. Raises OSError where it cannot be looked at."""
        if path not in self._known:
            self._known[path] = _stamp(path)

    def check(self, path: Path) -> None:
        """Raise QuantbenchError where `path` was noted and is another file now, or none."""
        if path not in self._known:
            return
        try:
            same = _stamp(path) == self._known[path]
        except OSError as error:
            raise QuantbenchError(
                f"{path} was there when the run began and is gone; put it back and run again"
            ) from error
        if not same:
            raise QuantbenchError(f"{path} changed while the run read it; run again when nothing writes to it")


def _stamp(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino
