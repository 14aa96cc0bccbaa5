"""What was found of files once and need not be found again: their hashes, by path, size and time of change.

Kept in a small database in the user's cache folder. Whatever is wrong with it costs time and nothing else.
"""

import contextlib
import functools
import hashlib
import os
import sqlite3
import time
from pathlib import Path

from platformdirs import user_cache_path

from quantbench.images.source import file_sha256 as _hash

# A file changed within the clock's coarseness can change again without a trace; git keeps such files apart, too.
_RACY_NS = 2_000_000_000
_SCHEMA = (
    "create table if not exists files (path text primary key, size integer, changed integer, sha256 text)",
    "create table if not exists facts (key text primary key)",
)


def remembered_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, hexadecimal; read only if it is new here or was changed. Raises OSError."""
    absolute, status = _stored(os.path.abspath(path)), os.stat(path)
    stamp = (status.st_size, status.st_mtime_ns)
    known = _ask("select size, changed, sha256 from files where path = ?", absolute)
    if known is not None and tuple(known[:2]) == stamp:
        return str(known[2])
    found = _hash(path)
    if time.time_ns() - status.st_mtime_ns > _RACY_NS:
        _tell("insert or replace into files values (?, ?, ?, ?)", absolute, *stamp, found)
    return found


def remembered_part_sha256(path: Path, offset: int, size: int) -> str:
    """SHA-256 of `size` bytes of the file from `offset` on, as `remembered_sha256`. Raises OSError."""
    status = os.stat(path)
    part, stamp = f"{os.path.abspath(path)} {offset}+{size}", (status.st_size, status.st_mtime_ns)
    known = _ask("select size, changed, sha256 from files where path = ?", _stored(part))
    if known is not None and tuple(known[:2]) == stamp:
        return str(known[2])
    found = hashlib.sha256(read_part(path, offset, size)).hexdigest()
    if time.time_ns() - status.st_mtime_ns > _RACY_NS:
        _tell("insert or replace into files values (?, ?, ?, ?)", _stored(part), *stamp, found)
    return found


def read_part(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes of the file from `offset` on. Raises OSError, also where it ends before."""
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        found = bytearray()
        while len(found) < size and (more := stream.read(size - len(found))):
            found += more
    if len(found) < size:
        raise OSError(None, f"ends before byte {offset + size:,}", str(path))
    return bytes(found)


def _stored(path: str) -> str | bytes:
    """A path as the database takes it: text, or bytes where it is no UTF-8."""
    return path if path.isprintable() or path.isascii() else os.fsencode(path)


def is_known(fact: str) -> bool:
    """Whether `remember` was told this."""
    return _ask("select key from facts where key = ?", fact) is not None


def remember(fact: str) -> None:
    """Keep `fact`, which must be true for ever: it names what it speaks of by content."""
    _tell("insert or replace into facts values (?)", fact)


def _ask(query: str, *values: object) -> tuple[object, ...] | None:
    with contextlib.suppress(sqlite3.Error, OSError):
        row: tuple[object, ...] | None = _database(_file()).execute(query, values).fetchone()
        return row
    return None


def _tell(query: str, *values: object) -> None:
    with contextlib.suppress(sqlite3.Error, OSError):
        _database(_file()).execute(query, values)


def _file() -> Path:
    return user_cache_path("quantbench") / "files.sqlite"


@functools.lru_cache(maxsize=2)
def _database(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    # A lost row is found again; waiting for the disk at each would take longer than hashing.
    connection.execute("pragma synchronous = off")
    for statement in _SCHEMA:
        connection.execute(statement)
    return connection
