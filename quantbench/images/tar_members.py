"""Members of a tar file by offset: headers are read and nothing is unpacked, strictly, for tars come from strangers.

`tarfile` iterates past damage in silence (a broken header ends the list) and reads as much for an extended header as
that header asks for. Here it only decodes one block; what follows which, and how long it may be, is decided here.
Formats: POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU long names.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath

from quantbench import limits
from quantbench.errors import QuantbenchError

BLOCK = tarfile.BLOCKSIZE
# Of one extended header: names and times, never data.
_EXTENDED_BYTES = limits.MIB
_MEMBERS = 1 << 22
# Writers fill up their last record with zeros; what is behind that is another tar.
_BEHIND = 64 * 1024
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED = {
    tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe", tarfile.GNUTYPE_SPARSE: "a sparse file",
}  # fmt: skip
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its path with `/`, where its bytes begin, and how many they are."""

    name: str
    offset: int
    size: int


def tar_members(path: Path) -> tuple[Member, ...]:
    """The files in the tar at `path`, in their order; one block of 512 bytes is read for each.

    Raises QuantbenchError for a tar that is missing, compressed, damaged or cut off, and for one with links, devices,
    sparse files, or names that lead out of a folder.
    """
    try:
        limits.regular_file(path, limits.ANY_BYTES)
        with path.open("rb", buffering=0) as stream:
            found = []
            for member in _walk(stream, path, path.stat().st_size):
                found.append(member)
                limits.check(f"{path}", len(found), _MEMBERS, "members")
            return tuple(found)
    except OSError as error:
        raise QuantbenchError(f"{path} cannot be read: {error.strerror or error}") from error


def _walk(stream: FileIO, path: Path, size: int) -> Iterator[Member]:
    at, name, length, waiting = 0, "", -1, False
    while True:
        block = _read(stream, at, BLOCK)
        if at == 0:
            _refuse_others(block, path)
        if len(block) < BLOCK and at == 0:
            raise QuantbenchError(f"{path} is no tar: it has {len(block)} bytes, less than one block of a tar")
        if len(block) < BLOCK:
            raise QuantbenchError(
                f"{path} is cut off at byte {at + len(block):,}: a tar ends with a mark; copy it anew"
            )
        if not any(block):
            if waiting:
                raise QuantbenchError(f"{path} is damaged at byte {at:,}: a name, and no member to bear it")
            if any(_read(stream, at + BLOCK, _BEHIND)):
                raise QuantbenchError(f"{path} goes on behind its end mark at byte {at:,}; give tars that were put "
                                      f"together with cat one by one")  # fmt: skip
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise QuantbenchError(f"{path} is damaged at byte {at:,}: no header of a tar ({error})") from error
        own = name or info.name
        extended = info.type in _LONG or info.type in _PAX
        size_of = info.size if extended or length < 0 else length
        if info.isdir():
            size_of = 0
        begin, at = at + BLOCK, at + BLOCK + -(-size_of // BLOCK) * BLOCK
        if size_of < 0 or begin + size_of > size:
            raise QuantbenchError(
                f"{path} is cut off or damaged: member {own[:200]} would end at {begin + size_of:,} of {size:,} bytes; "
                f"copy it anew"
            )
        if extended:
            if size_of > _EXTENDED_BYTES:
                raise QuantbenchError(f"{path} is damaged: the name of a member is of {size_of:,} bytes")
            longer, given = _extended(info.type, _read(stream, begin, size_of), path)
            if info.type != tarfile.GNUTYPE_LONGLINK:
                name, length = longer or name, given if given >= 0 else length
            waiting = waiting or info.type != tarfile.XGLTYPE
            continue
        if info.type in _REFUSED or info.type not in (*_FILES, tarfile.DIRTYPE):
            what = _REFUSED.get(info.type, f"of type {info.type!r}")
            raise QuantbenchError(f"{path}: member {own[:200]} is {what}; shards hold plain files and nothing else")
        name, length, waiting = "", -1, False
        plain = PurePosixPath(own)
        if plain.is_absolute() or ".." in plain.parts or "\0" in own:
            raise QuantbenchError(
                f"{path}: member {own[:200]} leads out of the tar's folder, which no shard needs; make it anew"
            )
        if info.type in _FILES:
            yield Member(str(plain), begin, size_of)


def _read(stream: FileIO, at: int, count: int) -> bytes:
    stream.seek(at)
    found = b""
    while len(found) < count and (more := stream.read(count - len(found))):
        found += more
    return found


def _refuse_others(block: bytes, path: Path) -> None:
    if not block:
        raise QuantbenchError(f"{path} is empty, no tar; copy it anew")
    for magic, kind in _COMPRESSED.items():
        if block.startswith(magic):
            raise QuantbenchError(
                f"{path} is compressed ({kind}); pictures are already, and a plain tar can be read from anywhere: "
                f"unpack it to a .tar"
            )


def _extended(kind: bytes, data: bytes, path: Path) -> tuple[str, int]:
    """Name and size that an extended header gives to the next member: "" and -1 where it says none."""
    if kind in _LONG:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape"), -1
    name, size = "", -1
    for key, value in _records(data, path):
        if key.startswith("GNU.sparse"):
            raise QuantbenchError(f"{path} holds a sparse file; shards hold plain files and nothing else")
        if kind == tarfile.XGLTYPE and key in ("path", "size"):
            raise QuantbenchError(f"{path} is damaged: one {key} for all members")
        if key == "path":
            name = value
        elif key == "size":
            if not (value.isascii() and value.isdecimal() and len(value) < 20):
                raise QuantbenchError(f"{path} is damaged: the size of a member is {value[:40]!r}")
            size = int(value)
    return name, size


def _records(data: bytes, path: Path) -> Iterator[tuple[str, str]]:
    """`length key=value` and a newline, as often as there are."""
    at = 0
    while at < len(data) and data[at]:
        word, _, _ = data[at : at + 12].partition(b" ")
        end = at + int(word) if word.isdigit() else at
        record = data[at + len(word) + 1 : end - 1]
        if not at + len(word) + 1 < end <= len(data) or b"=" not in record:
            raise QuantbenchError(f"{path} is damaged: an extended header is none")
        key, _, value = record.partition(b"=")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        at = end
