"""Timing caches on disk: one file a backend, version and device; shared between runs by merging under a lock."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from quantbench.atomic import write_bytes
from quantbench.errors import QuantbenchError


def cache_file(folder: Path, backend: str, version: str, device: str) -> Path:
    """Where the cache of a device lies: timings of another GPU or another version are worth nothing."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", device).strip("-")
    return folder / f"{backend}-{version}-{plain}.timing"


def read(path: Path) -> bytes:
    """The cache's bytes, b"" where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise QuantbenchError(f"cannot read timing cache {path}: {error.strerror or error}") from error


def merge(path: Path, fresh: bytes, combine: Callable[[bytes, bytes], bytes]) -> None:
    """Write `fresh` to `path`, combined with what another run may have put there meanwhile; atomic.

    `combine(theirs, ours)` is TensorRT's own.
    """
    with _locked(path):
        theirs = read(path)
        write_bytes(path, combine(theirs, fresh) if theirs else fresh)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock  # slow to import, and most builds keep no cache

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(path.name + ".lock"))
        lock.acquire()
    except OSError as error:
        raise QuantbenchError(f"cannot write timing cache {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
