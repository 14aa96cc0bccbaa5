"""Open a file to inspect, compressed or not: logs of CI systems come as .gz or .xz."""

import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from quantbench import limits
from quantbench.errors import QuantbenchError

Stream = gzip.GzipFile | lzma.LZMAFile | BufferedReader
COMPRESSED = (".gz", ".xz")
# Of a file that is read whole; a log is streamed and has no bound.
_MOST_BYTES = 2_000 * limits.MIB
_GZIP, _XZ, _ZSTD, _BZIP2, _ZIP = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"BZh", b"PK\x03\x04"
_OTHERS = {_ZSTD: "zstd -d", _BZIP2: "bunzip2", _ZIP: "unzip"}


@contextmanager
def open_binary(path: Path) -> Iterator[Stream]:
    """Bytes of `path`, streamed, unpacked where it begins as gzip or xz does (its name does not matter).

    Raises QuantbenchError where it cannot be read, is damaged, or is packed in another way. One that is cut off gives
    what it holds and then EOFError.
    """
    try:
        limits.regular(path)
        with path.open("rb") as file:
            start = file.read(6)
        for magic, command in _OTHERS.items():
            if start.startswith(magic):
                raise QuantbenchError(f"{path} is compressed in a way that inspect does not read: {command} {path}")
        if start.startswith(_GZIP):
            opened: Stream = gzip.open(path, "rb")  # noqa: SIM115 (closed below)
        else:
            opened = lzma.open(path, "rb") if start.startswith(_XZ) else path.open("rb")  # noqa: SIM115
        with opened:
            yield opened
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise QuantbenchError(f"{path} is a damaged archive ({error}); copy or pack it again") from error
    except OSError as error:
        raise QuantbenchError(f"cannot read {path}: {error.strerror or error}; name an existing file") from error


def head(path: Path, size: int) -> bytes:
    """The first `size` bytes, fewer where the file is shorter or cut off."""
    found = bytearray()
    with open_binary(path) as file:
        try:
            while len(found) < size and (piece := file.read1(size - len(found))):
                found += piece
        except EOFError:
            pass
    return bytes(found)


def read_bytes(path: Path) -> bytes:
    """The whole file. Raises QuantbenchError where it is cut off inside its compression."""
    with open_binary(path) as file:
        try:
            found = bytearray()
            while piece := file.read(limits.MIB):
                found += piece
                limits.check(f"what {path} holds", len(found), _MOST_BYTES)
            return bytes(found)
        except EOFError as error:
            raise QuantbenchError(f"{path} is cut off; copy or pack it again") from error


def bare_name(path: Path) -> str:
    """The file's name without .gz or .xz."""
    return path.stem if path.suffix.lower() in COMPRESSED else path.name
