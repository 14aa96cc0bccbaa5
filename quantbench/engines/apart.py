"""NVIDIA's compiler in a process of its own, so that whatever kills its library is one line here and loses nothing.

A file can crash the library (TensorRT-RTX 1.7 reads past a Slice whose `starts` is a scalar), and a build can take more
memory than there is. What crosses over: the job by standard input, which stays open as long as this process lives, and
the answer and the engine's bytes by standard output, once. The log is written by the compiler's process as it goes.
"""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.crashed import Last, crashed
from quantbench.engines.network_function import is_network_function
from quantbench.engines.parse_errors import whole_log
from quantbench.errors import QuantbenchError
from quantbench.terminal import echo

_LOG, _SAID = "build.log", "said.txt"
# Modules come from where this process has them; what the interpreter put before is gone before anything is imported.
_START = "import sys; sys.path[:] = eval(sys.argv[1]); from quantbench.engines.compiler import main; main()"


@dataclass(frozen=True, slots=True)
class Job:
    """What to build with which backend (a key of FACTS); `title` is that backend and its version for people."""

    family: str
    title: str
    model: Path
    options: BuildOptions


class Apart:
    """A build that runs beside this process from when this is made; a context manager, whose end ends the build."""

    def __init__(self, job: Job) -> None:
        """Start it. Raises QuantbenchError where the system starts no process."""
        self._job = job
        self._scratch = tempfile.TemporaryDirectory(prefix="quantbench-")
        folder = Path(self._scratch.name)
        self._said = folder / _SAID
        self._log = job.options.log_file or folder / _LOG
        self._result: BuildResult | None = None
        # What others gave as Python objects was carried out before: see `build.py`.
        options = replace(job.options, log_file=self._log, pools=dict(job.options.pools), calibrator=None, begin=None)
        paths = repr([path for path in sys.path if isinstance(path, str)])
        command = [sys.executable, "-c", _START, paths, str(folder)]
        try:
            with self._said.open("wb") as said:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )  # fmt: skip
        except OSError as error:
            self._scratch.cleanup()
            raise QuantbenchError(
                f"cannot start {sys.executable} for {job.title}: {error.strerror or error}"
            ) from error
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # dead already: told when the result is asked for
            self._process.stdin.write(pickle.dumps((job.family, job.model, options)))
            self._process.stdin.flush()

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def result(self) -> BuildResult:
        """Wait for the engine.

        Raises what the adapter raised, and QuantbenchError, with the last that its log says, where the process died.
        """
        if self._result is None:
            self._result = self._awaited()
        return self._result

    def close(self) -> None:
        """End the process, whatever it does, and what it kept for itself."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what the dead did not read
                stream.close()
        self._process.wait()
        self._scratch.cleanup()

    def _awaited(self) -> BuildResult:
        answers = self._process.stdout
        assert answers is not None
        line = answers.readline()
        told: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": ""}
        engine = answers.read(told.get("bytes", 0))
        code = self._process.wait()
        given = self._job.options.log_file
        if told.get("error") == "" or len(engine) != told.get("bytes", 0):
            words = Last(self._job.title, self._job.model, code, log=self._text(self._log), said=self._text(self._said))
            raise crashed(words, given)
        # What the parser prints beside a refusal is in the error, what a network of the user's prints is the user's.
        if ("error" not in told or is_network_function(self._job.model)) and (said := self._text(self._said)):
            echo(said, err=True, nl=False)
        if "error" in told:
            if given is None:  # nor is the log kept
                told["words"] = told["words"].replace(whole_log(self._log), "")
            raise _raised(told) from Elsewhere(told["trace"])
        return BuildResult(
            engine=engine,
            backend=self._job.family,
            version=told["version"],
            seconds=told["seconds"],
            log="" if given else self._text(self._log),
            log_file=given,
            targets=tuple(told["targets"]),
            notes=tuple(told["notes"]),
        )

    @staticmethod
    def _text(path: Path) -> str:
        """What the process wrote there, "" where it came to nothing."""
        try:
            return path.read_bytes().decode("utf-8", "replace").replace(os.linesep, "\n")
        except OSError:
            return ""


class Elsewhere(Exception):
    """The traceback of the compiler's process, as `--debug` prints it behind the error."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _raised(told: Mapping[str, Any]) -> BaseException:
    if told["error"] == "refused":
        return QuantbenchError(told["words"])
    if told["error"] == "system":
        return OSError(told["number"], told["words"], told["file"])
    return MemoryError(told["words"]) if told["error"] == "memory" else RuntimeError(told["words"])
