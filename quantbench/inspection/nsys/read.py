"""One file of Nsight Systems as a trace."""

from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.inspection.nsys.sqlite import MAGIC, read_sqlite
from quantbench.inspection.nsys.tables import read_tables
from quantbench.inspection.nsys.trace import Trace
from quantbench.inspection.open_file import read_bytes


def read_nsys(path: Path) -> Trace:
    """The trace in `path`: an SQLite export, CSV or text. Raises QuantbenchError where it has no kernel."""
    data = read_bytes(path)
    trace = read_sqlite(path) if data.startswith(MAGIC) else read_tables(data.decode("utf-8", "replace"))
    if not trace.kernels and not trace.copies:
        raise QuantbenchError(f"{path} tells of no kernel; write nsys stats --report cuda_gpu_trace --format csv")
    return trace


def copies_notes(trace: Trace) -> list[str]:
    """A sentence on the kernels, one on the copies."""
    launches = sum(kernel.count for kernel in trace.kernels)
    found = [f"nsys: {launches} launches of {len({k.name for k in trace.kernels})} kernels, {trace.total_ms:.3f} ms"]
    if trace.copies:
        told = ", ".join(
            f"{c.kind} {c.count} times, {c.total_ms:.3f} ms{f', {c.megabytes:.3f} MB' if c.megabytes else ''}"
            for c in trace.copies
        )
        found.append(f"nsys: {told}")
    return found
