"""Atomic writes: a reader sees the old file or the new one, never half of one."""

import contextlib
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quantbench.errors import QuantbenchError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it replaces `path`, on any failure it is removed.

    A link is followed. A device or a pipe is written through, never replaced. What is written is on the disk before
    it gets its name. What a killed process left of an earlier try is removed. Raises QuantbenchError where the folder
    cannot be written, the disk is full, or `path` is a folder.
    """
    target = _target(path)
    through = target.exists() and not target.is_file()
    folder = Path(tempfile.gettempdir()) if through else target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_left_over(folder, target.name)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.{os.getpid()}-", suffix=".part", dir=folder)
        os.close(handle)
    except OSError as error:
        raise QuantbenchError(f"cannot write {path}: {error.strerror or error}; choose another --out") from error
    temporary = Path(name)
    try:
        yield temporary
        if through:
            with temporary.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            return
        # mkstemp makes files private; results are for sharing, so give them what the umask allows.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        sync(temporary)
        os.replace(temporary, target)
        sync(folder)
    except OSError as error:
        raise QuantbenchError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """What `path` leads to. Raises QuantbenchError for a folder and for links in a circle."""
    try:
        target = path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        raise QuantbenchError(f"cannot write {path}: its link leads nowhere; choose another --out") from error
    if target.is_dir():
        raise QuantbenchError(f"cannot write {path}: it is a folder; name a file")
    return target


def _remove_left_over(folder: Path, name: str) -> None:
    """Remove temporary files of `name` whose process is gone (killed before it could tidy up)."""
    for left in folder.glob(f".{glob.escape(name)}.*-*.part"):
        owner = left.name.removeprefix(f".{name}.").partition("-")[0]
        if owner.isdigit() and not alive(int(owner)):
            left.unlink(missing_ok=True)


def alive(process: int) -> bool:
    """Whether `process` of this machine is still there: signal 0 asks, and does nothing."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def sync(path: Path) -> None:
    """Put `path` on the disk; file systems that cannot sync a folder are left in peace."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8, newlines as given) to `path` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON to `path` atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
