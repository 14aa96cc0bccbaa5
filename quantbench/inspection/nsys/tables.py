"""What `nsys stats` writes: reports as CSV (`--format csv`) or as tables of columns, one or several in a file."""

import csv
import math
import re
from collections.abc import Iterator, Sequence

from quantbench.inspection.nsys.trace import Copies, Kernel, Trace

_UNITS = {"ns": 1e-6, "us": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3}
_DASHES = re.compile(r"^\s*-{2,}(?:\s+-+)+\s*$")
# Every header of the reports that tell of kernels and copies.
_HEADER = re.compile(
    r"(?:Time ?\(%\).*Total Time|Start ?\([nμum]?s\).*Duration|Total \(MB\).*Operation|NVTX Range.*Kernel Name)"
)
_MEMORY = re.compile(r"\[CUDA (?:mem(?:cpy|set)|Unified Memory)|^\[CUDA ")
Row = dict[str, str]


def is_nsys(head: str) -> bool:
    """Whether a text begins as reports of `nsys stats` do."""
    return any(_HEADER.search(line) for line in head.split("\n")[:60])


def read_tables(text: str) -> Trace:
    """Kernels and copies of all reports in `text`. Where one report holds the launches in order or the NVTX ranges of
    kernels, it is taken for the kernels, not the plain summary beside it."""
    best: tuple[int, list[Kernel]] = (-1, [])
    copies: dict[str, Copies] = {}
    for rows in _reports(text):
        columns = set(rows[0])
        if "Operation" in columns:
            for row in rows:
                _add_copies(copies, row)
            continue
        kernels, rank = _kernels(rows, columns)
        for row in rows if rank == 2 else ():
            _add_traced(copies, row)
        if rank > best[0] and kernels:
            best = rank, kernels
    return Trace(tuple(best[1]), tuple(copies.values()), best[0] == 2)


def _kernels(rows: Sequence[Row], columns: set[str]) -> tuple[list[Kernel], int]:
    """Kernels of one report, and how much it tells: 3 ranges, 2 order, 1 sums, -1 nothing of kernels."""
    if "Kernel Name" in columns:
        total, count = _column(columns, "Total Time"), next((c for c in ("Kern Inst", "Instances") if c in columns), "")
        return [
            Kernel(row["Kernel Name"], _time(row, total), int(_number(row.get(count, "1"))), row.get("NVTX Range", ""))
            for row in rows
        ], 3
    if "Name" in columns and (length := _column(columns, "Duration")):
        begin = _column(columns, "Start")
        ordered = sorted(rows, key=lambda row: _number(row.get(begin, "0")))
        found = [Kernel(row["Name"], _time(row, length)) for row in ordered if not _MEMORY.search(row["Name"])]
        return found, 2
    if "Name" in columns and "Instances" in columns and (total := _column(columns, "Total Time")):
        return [Kernel(row["Name"], _time(row, total), int(_number(row["Instances"]))) for row in rows], 1
    return [], -1


def _reports(text: str) -> Iterator[list[Row]]:
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        if not _HEADER.search(lines[index]):
            index += 1
            continue
        header = lines[index].strip()
        dashed = index + 1 < len(lines) and _DASHES.match(lines[index + 1])
        if dashed:
            rows, index = _columns(lines, index)
        else:
            names = [name.strip() for name in next(csv.reader([header]))]
            rows, index = [], index + 1
            while index < len(lines) and lines[index].strip() and not _HEADER.search(lines[index]):
                values = next(csv.reader([lines[index].strip()]))
                if len(values) != len(names):
                    break
                rows.append(dict(zip(names, values, strict=True)))
                index += 1
        if rows:
            yield rows


def _columns(lines: Sequence[str], index: int) -> tuple[list[Row], int]:
    """A table whose second line draws the columns with dashes; the last column goes on to the end of the line."""
    spans = [match.span() for match in re.finditer(r"-+", lines[index + 1])]
    ends = [*(end for _, end in spans[:-1]), None]
    names = [lines[index][start:end].strip() for (start, _), end in zip(spans, ends, strict=True)]
    rows = []
    index += 2
    while index < len(lines) and lines[index].strip():
        rows.append({n: lines[index][s:e].strip() for n, (s, _), e in zip(names, spans, ends, strict=True)})
        index += 1
    return rows, index


def _add_copies(copies: dict[str, Copies], row: Row) -> None:
    kind = row["Operation"].strip("[]").removeprefix("CUDA ")
    old = copies.get(kind, Copies(kind))
    time = _column(set(row), "Total Time")
    size = next((name for name in row if name in ("Total (MB)", "Total")), "")
    copies[kind] = Copies(
        kind,
        int(_number(row.get("Count") or row.get("Operations") or "0")) or old.count,
        _time(row, time) if time else old.total_ms,
        _number(row[size]) if size else old.megabytes,
    )


def _add_traced(copies: dict[str, Copies], row: Row) -> None:
    if not _MEMORY.search(row["Name"]):
        return
    kind = row["Name"].strip("[]").removeprefix("CUDA ")
    old = copies.get(kind, Copies(kind))
    size = _number(row.get("Bytes (MB)", "0"))
    copies[kind] = Copies(
        kind, old.count + 1, old.total_ms + _time(row, _column(set(row), "Duration")), old.megabytes + size
    )


def _column(columns: set[str], begin: str) -> str:
    """The column `begin (unit)`."""
    return next((name for name in sorted(columns) if re.fullmatch(re.escape(begin) + r"(?: ?\([nμum]?s\))?", name)), "")


def _time(row: Row, column: str) -> float:
    unit = re.search(r"\(([nμum]?s)\)", column)
    return _number(row.get(column, "0")) * _UNITS[unit[1] if unit else "ns"]


def _number(text: str) -> float:
    try:
        found = float(text.replace(",", "").strip() or 0)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0
