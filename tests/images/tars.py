"""Tars as they come: good ones, and one of each kind that is refused, with a part of the line that says why."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, size: int = 8) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(members: Mapping[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as made:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_shards(folder: Path, samples: Mapping[str, Mapping[str, bytes]], each: int) -> Path:
    """`samples` by key and ending as `folder`/train-000.tar and so on, `each` of them in one."""
    folder.mkdir(exist_ok=True)
    keys = list(samples)
    for number, start in enumerate(range(0, len(keys), each)):
        members = {f"{key}.{end}": data for key in keys[start : start + each] for end, data in samples[key].items()}
        (folder / f"train-{number:03d}.tar").write_bytes(tar(members))
    return folder


def _special(kind: bytes, link: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as made:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = kind, link
        made.addfile(info)
    return stream.getvalue()


def _headers(change: Callable[[tarfile.TarInfo], None], kind: int = tarfile.PAX_FORMAT) -> bytes:
    info = tarfile.TarInfo("a.png")
    info.size = 4
    change(info)
    return info.tobuf(kind) + b"data".ljust(512, b"\0") + bytes(1024)


def _pax(records: dict[str, str]) -> bytes:
    return _headers(lambda info: info.pax_headers.update(records))


def _checked(block: bytearray) -> bytes:
    """The header with its checksum made anew."""
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:512]))
    return bytes(block)


def _negative() -> bytes:
    block = bytearray(_headers(lambda info: None, tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 11 + b"\0"  # -256
    return _checked(block[:512]) + bytes(block[512:])


def _endless_name() -> bytes:
    block = bytearray(_headers(lambda info: None, tarfile.GNU_FORMAT))
    block[156:157], block[124:136] = b"x", b"00007777777\0"
    return _checked(block[:512]) + bytes(1 << 22)


GOOD = tar({"a.png": picture(0), "b.png": picture(1)})
HOSTILE: dict[str, tuple[bytes, str]] = {
    "above": (tar({"../../etc/a.png": picture(0)}), "leads out"),
    "absolute": (tar({"/etc/a.png": picture(0)}), "leads out"),
    "link": (_special(tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
    "hard-link": (_special(tarfile.LNKTYPE, "b.png"), "is a link"),
    "device": (_special(tarfile.CHRTYPE), "is a device"),
    "pipe": (_special(tarfile.FIFOTYPE), "is a pipe"),
    "sparse": (_special(tarfile.GNUTYPE_SPARSE), "is a sparse file"),
    "sparse-pax": (_pax({"GNU.sparse.major": "1", "GNU.sparse.realsize": "99"}), "sparse file"),
    "odd-type": (_special(b"Z"), "of type b'Z'"),
    "gzip": (gzip.compress(GOOD), "is compressed (gzip)"),
    "bzip2": (bz2.compress(GOOD), "is compressed (bzip2)"),
    "xz": (lzma.compress(GOOD), "is compressed (xz)"),
    "cut-in-data": (GOOD[:700], "cut off"),
    "cut-in-header": (GOOD[:1300], "cut off at byte"),
    "no-end": (tar({"a.png": b"x" * 512})[:1024], "cut off at byte 1,024"),
    "broken-header": (GOOD[:1024] + b"\1" * 512 + GOOD[1536:], "damaged at byte 1,024"),
    "two-tars": (GOOD + GOOD, "behind its end mark"),
    "negative-size": (_negative(), "damaged"),
    "huge-size": (_pax({"size": "9" * 18}), "cut off or damaged"),
    "no-size": (_pax({"size": "many"}), "size of a member"),
    "long-name": (_endless_name(), "the name of a member is of"),
    "name-alone": (_pax({"path": "b" * 200})[:1024] + bytes(1024), "no member to bear it"),
    "above-in-pax": (_pax({"path": "../" * 60 + "a.png"}), "leads out"),
    "twice": (tar({"a.png": picture(0)})[:1024] + tar({"a.png": picture(1)}), "two members 'a.png'"),
    "no-samples": (tar({"README": b"x", ".hidden.png": b"x", "._a.png": b"x", "__meta__": b"x"}), "holds no samples"),
    "nothing": (tar({}), "holds no samples"),
    "texts": (tar({"a.txt": b"x"}), "holds no images"),
}  # fmt: skip
