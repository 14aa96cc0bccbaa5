"""The process in which NVIDIA's compiler runs, started by `apart.py`: one job in, one answer out.

It imports as little as it can (no onnx, no numpy), for every build waits for it. Ctrl-C and SIGTERM are for the process
that has the build, which ends this one; where that process is gone, its end of standard input closes, and this one ends
too: a thread waits for that, since the compiler leaves Python alone while it works.
"""

import importlib.util
import json
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from typing import BinaryIO, NoReturn

from quantbench.engines.adapter import build_here
from quantbench.engines.base import BuildResult
from quantbench.engines.facts import TENSORRT_RTX
from quantbench.engines.network_function import is_network_function
from quantbench.errors import QuantbenchError
from quantbench.json_types import JsonObject

# Seconds of a span and how many in a row: a file on a slow disk may take minutes to come.
_STILL = (30.0, 20)


def main() -> None:
    """Take a pickled (family, model, options) from standard input and build that; the answer is a line of JSON, and the
    engine's bytes behind it, on what was standard output. Never returns. `sys.argv` ends in the scratch folder of the
    build."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _no_core()
    with _own_output() as answers:
        try:
            family, model, options = pickle.load(sys.stdin.buffer)
        except (EOFError, pickle.UnpicklingError):  # the other process is gone before it said a thing, or all of it
            _end_with_parent()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        # Ahead of time all is computed on the processor; a GPU, and code of the user's, there is reason to wait for.
        if family == TENSORRT_RTX and not is_network_function(model):
            threading.Thread(target=_end_when_still, daemon=True).start()
        engine = b""
        try:
            built = build_here(family, model, options)
            said, engine = _told(built), built.engine
        except BaseException as error:  # whatever it is, it is the other process's to raise
            said = _error(error)
        answers.write(json.dumps(said).encode() + b"\n")
        answers.write(engine)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # without the library's own clearing up, which takes time and may fail


def _told(built: BuildResult) -> JsonObject:
    return {
        "version": built.version, "seconds": built.seconds, "targets": list(built.targets), "notes": list(built.notes),
        "bytes": len(built.engine),
    }  # fmt: skip


def _error(error: BaseException) -> JsonObject:
    """What is needed to raise `error` again: its kind, its words, where it came from."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, QuantbenchError):
        return {"error": "refused", "words": str(error), "trace": trace}
    if isinstance(error, OSError) and error.errno is not None:
        file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
        return {"error": "system", "words": error.strerror, "number": error.errno, "file": file, "trace": trace}
    kind = "memory" if isinstance(error, MemoryError) else "fault"
    return {"error": kind, "words": "".join(traceback.format_exception_only(error)).strip(), "trace": trace}


def _own_output() -> BinaryIO:
    """What was standard output, for answers alone: what plugins and networks of the user's print goes to standard
    error from here on."""
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


def _no_core() -> None:
    """A crash is told in one line; a core file of gigabytes helps nobody with it."""
    if importlib.util.find_spec("resource") is None:  # Windows writes none
        return
    resource = importlib.import_module("resource")
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _end_when_still() -> NoReturn:
    """Where memory runs out at the wrong moment, the library's threads wait for each other for ever."""
    until_still(*_STILL)
    os.write(2, f"no processor time used for {_STILL[0] * _STILL[1]:.0f} s\n".encode())
    os._exit(1)


def until_still(seconds: float, times: int) -> None:
    """Return when this process used less than a hundredth of a processor in `times` spans of `seconds` in a row.

    By spans, since a machine that sleeps or a process that is held lets one pass, whatever its length.
    """
    still = 0
    while still < times:
        before = time.process_time()
        time.sleep(seconds)
        still = still + 1 if time.process_time() - before < seconds / 100 else 0


def _end_with_parent() -> NoReturn:
    while os.read(0, 1):
        pass
    import shutil

    shutil.rmtree(sys.argv[-1], ignore_errors=True)  # whoever had the build was killed and could not
    os._exit(1)
