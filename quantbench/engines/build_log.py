"""The verbose log of a build: TensorRT's own layout, streamed to a file or kept in memory."""

import io
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from quantbench.errors import QuantbenchError

# Order of ILogger.Severity in every version: INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE.
_LETTERS = "FEWIV"
_KEPT_ERRORS = 20


class BuildLog:
    """Writes `[MM/DD/YYYY-HH:MM:SS] [V] [TRT] message`, the layout of trtexec, so that one reader serves both.

    Messages of several lines keep their inner lines bare, as trtexec does. `errors` holds the first error messages.
    """

    def __init__(self, header: str, path: Path | None = None) -> None:
        """Open `path` (None: memory) and write `&&&& RUNNING <header>`. Raises QuantbenchError if it cannot."""
        self.path = path
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._stream: TextIO = io.StringIO() if path is None else _open(path)
        self._stream.write(f"&&&& RUNNING {header}\n")

    def write(self, severity: int, message: str) -> None:
        """Add one message; `severity` as ILogger.Severity counts (0 internal error … 4 verbose)."""
        if severity <= 1 and len(self.errors) < _KEPT_ERRORS:
            self.errors.append(message.strip())
        elif severity == 2 and len(self.warnings) < _KEPT_ERRORS:
            self.warnings.append(message.strip())
        stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
        self._stream.write(f"[{stamp}] [{_LETTERS[severity]}] [TRT] {message}\n")

    def text(self) -> str:
        """The whole log where it is in memory, "" where it is in a file."""
        return self._stream.getvalue() if isinstance(self._stream, io.StringIO) else ""

    def __enter__(self) -> "BuildLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close a file. A failed build keeps its log, which the user needs then; another fault leaves none."""
        if isinstance(self._stream, io.StringIO):
            return
        self._stream.close()
        if self.path is not None and isinstance(error, QuantbenchError) and not self.errors:
            self.path.unlink(missing_ok=True)


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", buffering=1, encoding="utf-8")
    except OSError as error:
        raise QuantbenchError(f"cannot write log {path}: {error.strerror or error}") from error
