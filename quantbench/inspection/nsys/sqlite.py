"""The SQLite export of Nsight Systems (`nsys export --type sqlite`, or what `nsys stats` leaves beside a report)."""

import sqlite3
from contextlib import closing
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.inspection.nsys.trace import Copies, Kernel, Trace

MAGIC = b"SQLite format 3\0"
_COPY_KINDS = {1: "memcpy HtoD", 2: "memcpy DtoH", 8: "memcpy DtoD", 10: "memcpy PtoP"}


def read_sqlite(path: Path) -> Trace:
    """Launches in order, each with the innermost NVTX range in which its thread launched it, and the memory copies.

    Raises QuantbenchError where the file is damaged or no export of Nsight Systems, or holds no kernels.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            tables = {name for (name,) in base.execute("select name from sqlite_master where type = 'table'")}
            if "CUPTI_ACTIVITY_KIND_KERNEL" not in tables:
                lacks = "holds no kernels: profile with nsys profile --trace=cuda"
                what = lacks if "StringIds" in tables else "is no export of nsys"
                raise QuantbenchError(f"{path} {what}")
            return Trace(_kernels(base, tables), _copies(base, tables), True)
    except sqlite3.Error as error:
        raise QuantbenchError(f"{path} is an SQLite file that cannot be read ({error}); export it again") from error


def _kernels(base: sqlite3.Connection, tables: set[str]) -> tuple[Kernel, ...]:
    ranges = _ranges(base) if {"NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_RUNTIME"} <= tables else {}
    launched: dict[int, tuple[int, int]] = {}
    if ranges:
        query = "select correlationId, globalTid, start from CUPTI_ACTIVITY_KIND_RUNTIME"
        launched = {correlation: (thread, start) for correlation, thread, start in base.execute(query)}
    found = []
    query = (
        "select s.value, k.start, k.end, k.correlationId from CUPTI_ACTIVITY_KIND_KERNEL k "
        "left join StringIds s on s.id = k.demangledName order by k.start"
    )
    for name, start, end, correlation in base.execute(query):
        thread, at = launched.get(correlation, (0, 0))
        inside = [r for r in ranges.get(thread, ()) if r[0] <= at <= r[1]]
        innermost = min(inside, key=lambda r: r[1] - r[0])[2] if inside else ""
        found.append(Kernel(name or "?", (end - start) * 1e-6, 1, innermost))
    return tuple(found)


def _ranges(base: sqlite3.Connection) -> dict[int, list[tuple[int, int, str]]]:
    """(start, end, text) of the push/pop and start/end ranges of each thread."""
    query = (
        "select e.globalTid, e.start, e.end, coalesce(e.text, s.value) from NVTX_EVENTS e "
        "left join StringIds s on s.id = e.textId where e.end is not null"
    )
    found: dict[int, list[tuple[int, int, str]]] = {}
    for thread, start, end, text in base.execute(query):
        if text:
            found.setdefault(thread or 0, []).append((start, end, text))
    return found


def _copies(base: sqlite3.Connection, tables: set[str]) -> tuple[Copies, ...]:
    if "CUPTI_ACTIVITY_KIND_MEMCPY" not in tables:
        return ()
    query = (
        "select copyKind, count(*), sum(end - start), sum(bytes) from CUPTI_ACTIVITY_KIND_MEMCPY "
        "group by copyKind order by copyKind"
    )
    return tuple(
        Copies(_COPY_KINDS.get(kind, f"memcpy kind {kind}"), count, time * 1e-6, size / 1e6)
        for kind, count, time, size in base.execute(query)
    )
