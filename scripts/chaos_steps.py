"""Run quantbench commands in forked children and end them at a chosen file operation.

A server process imports once what commands need, and what a call imported besides, and forks a child for each call,
so that a call costs its own work only and one process can be killed hundreds of times a minute. A step is an
operation that changes what lies on the disk: a file opened for writing, a rename, a removal, a folder made or removed.
Python's audit hook tells of each before it is carried out, whoever asks for it (numpy, zipfile, onnx), so nothing in
the command is patched.

    with Server("onnxruntime", "quantbench.ptq.pipeline") as server:
        whole = server.run(Call(("ptq", "m.onnx", "--out", "run"), watch=(folder,)))
        for step in range(1, whole.steps + 1):
            server.run(Call(..., at=step))   # SIGKILL before this operation
"""

import contextlib
import importlib
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events of operations that change a folder, and how many of their first arguments are paths.
_CHANGES = {
    "os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
    "os.chmod": 1,
}  # fmt: skip
_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Call:
    """One command line, without `quantbench`, or any `function` (`module:name`) that reads sys.argv. Steps are counted
    below the folders of `watch`, everywhere if empty.

    `at`: the step, from 1, before which something happens, 0 for never: `signal` is sent to the process, or with
    `error` (an errno: ENOSPC, EROFS) this and every later opening and making of files fails so. `after`: seconds until
    `signal` is sent, 0 for never. SIGSTOP holds the process there: `Server.finish` lets it go on.
    """

    arguments: tuple[str, ...]
    watch: tuple[str, ...] = ()
    at: int = 0
    signal: int = signal.SIGKILL
    error: int = 0
    after: float = 0.0
    cwd: str = ""
    function: str = "quantbench.__main__:main"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended: exit code (minus the signal that ended it), steps that it came to, the last of them, and what
    it printed on both streams together. `stopped`: it is held by SIGSTOP and not over."""

    code: int
    steps: int
    last: str
    output: str
    stopped: bool
    process: int


class Server:
    """A process that has imported `modules` (and the command line) and forks a child for each call."""

    def __init__(self, *modules: str) -> None:
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *modules], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            self._process.communicate(timeout=60)

    def run(self, call: Call) -> Ended:
        """Make the call and wait for its end, or until it is stopped."""
        return self._ask({"call": asdict(call)})

    def finish(self, stopped: Ended) -> Ended:
        """Let a stopped call go on, and wait for its end."""
        return self._ask({"finish": stopped.process})

    def _ask(self, question: dict[str, Any]) -> Ended:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(question) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with exit code {self._process.wait()}")
        return Ended(**json.loads(line))


class _Board:
    """Memory that a child shares with the server: how many steps it came to, and the last of them."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 + _TEXT)

    def write(self, steps: int, last: str) -> None:
        text = last.encode("utf-8", "backslashreplace")[:_TEXT].ljust(_TEXT, b"\0")
        self._memory[:] = struct.pack("q", steps) + text

    def read(self) -> tuple[int, str]:
        (steps,) = struct.unpack("q", self._memory[:8])
        return steps, self._memory[8:].rstrip(b"\0").decode("utf-8", "replace")


class _Steps:
    """The audit hook of a child: counts steps and does at one of them what the call asks for."""

    def __init__(self, call: Call, board: _Board) -> None:
        self._call, self._board, self._count, self._inside = call, board, 0, False
        self._watch = tuple(os.path.realpath(folder) for folder in call.watch)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For sys.addaudithook."""
        if self._inside or (event != "open" and event not in _CHANGES):
            return
        self._inside = True
        try:
            paths = [path for path in _paths(event, arguments) if self._watched(path)]
        finally:
            self._inside = False
        if paths:
            self._step(event, paths)

    def _step(self, event: str, paths: list[str]) -> None:
        self._count += 1
        self._board.write(self._count, f"{event} {' '.join(paths)}")
        call = self._call
        if call.error and call.at and self._count >= call.at and event in ("open", "os.mkdir", "os.rename"):
            raise OSError(call.error, os.strerror(call.error), paths[0])
        if self._count == call.at and not call.error:
            os.kill(os.getpid(), call.signal)

    def _watched(self, path: str) -> bool:
        return not self._watch or any(path == folder or path.startswith(folder + os.sep) for folder in self._watch)


def _paths(event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    """Absolute paths that the operation changes."""
    if event == "open":
        path, mode, flags = arguments
        writes = (isinstance(flags, int) and flags & _WRITES) or (isinstance(mode, str) and set(mode) & set("wax+"))
        if writes and isinstance(path, (str, bytes, os.PathLike)):
            yield _absolute(path, -1)
        return
    count = _CHANGES[event]
    folders = [item for item in arguments[count:] if isinstance(item, int)][-count:]
    for index, path in enumerate(arguments[:count]):
        if isinstance(path, (str, bytes, os.PathLike)):
            yield _absolute(path, folders[index] if index < len(folders) and event != "os.truncate" else -1)


def _absolute(path: Any, folder: int) -> str:
    """`path`, relative to the open folder `folder` where that is not -1; the last part may be a link."""
    name = os.fsdecode(path)
    if folder >= 0 and not os.path.isabs(name):
        with contextlib.suppress(OSError):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    whole = os.path.abspath(name)
    return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))


def _child(call: Call, board: _Board, output: int, imported: int) -> None:
    """The forked process: never returns. What it imports is written to `imported`."""
    code = 1
    known = set(sys.modules)
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.environ.update(call.environment)
        if call.cwd:
            os.chdir(call.cwd)
        sys.argv = ["quantbench", *call.arguments]
        module, _, name = call.function.partition(":")
        work = getattr(importlib.import_module(module), name)
        sys.addaudithook(_Steps(call, board).hook)
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99  # what no command of ours ends with: it is a fault
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(imported, "\n".join(name for name in list(sys.modules) if name not in known).encode())
        os._exit(code)


def _wait(process: int, call: Call | None) -> int:
    """The status of a child that ended or was stopped; `call.signal` goes to it when its time is over."""
    end = time.monotonic() + call.after if call is not None and call.after else None
    while end is not None:
        found, status = os.waitpid(process, os.WNOHANG | os.WUNTRACED)
        if found:
            return status
        if time.monotonic() >= end:
            assert call is not None
            os.kill(process, call.signal)
            end = None
        else:
            time.sleep(0.001)
    return os.waitpid(process, os.WUNTRACED)[1]


def _import_too(names: str) -> None:
    """Import what a child had to, so that the next one need not."""
    for name in names.splitlines():
        with contextlib.suppress(Exception):  # a file of the user's, which has no name of its own
            importlib.import_module(name)


def _serve(modules: list[str]) -> None:
    """Answer questions on stdin until it ends. A call that is still stopped then is killed."""
    for module in ("quantbench.cli.main", *modules):
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    running: dict[int, tuple[_Board, Any, Any]] = {}
    for line in sys.stdin:
        question = json.loads(line)
        call = None
        if "finish" in question:
            process = question["finish"]
            os.kill(process, signal.SIGCONT)
        else:
            call = Call(**question["call"])
            board = _Board()
            output, imported = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - live as the child
            process = os.fork()
            if not process:
                _child(call, board, output.fileno(), imported.fileno())
            running[process] = (board, output, imported)
        status = _wait(process, call)
        board, output, imported = running[process]
        stopped = os.WIFSTOPPED(status)
        steps, last = board.read()
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
        if not stopped:
            imported.seek(0)
            _import_too(imported.read().decode())
            del running[process]
            output.close()
            imported.close()
        code = 0 if stopped else os.waitstatus_to_exitcode(status)
        print(json.dumps(asdict(Ended(code, steps, last, text, stopped, process))), file=answers, flush=True)
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    _serve(sys.argv[1:])
