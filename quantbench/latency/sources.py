"""What a device is learnt from: logs, layer dumps with profiles, tables of timings; and what they say of the GPU."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import BuildLog
from quantbench.inspection.open_file import bare_name, read_bytes
from quantbench.latency.from_engine import EngineLayer, layers_of_inspection
from quantbench.latency.gpus import Specs, published
from quantbench.latency.layout import Format
from quantbench.latency.learn import without_launch_bound, without_slow_start
from quantbench.latency.log_timings import Timed, timings_of_log
from quantbench.latency.work import Conv, Work, conv_work

_COLUMNS = ("precision", "batch", "cin", "h", "w", "cout", "k", "stride", "ms")
_SIZES = ("batch", "cin", "h", "w", "cout", "k", "stride")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Multiprocessors load no more than this many bytes a clock: an integrated GPU of few does not reach its DRAM's rate.
_BYTES_A_CLOCK = 16


@dataclass
class Source:
    """One file, or the files of one engine. `rows` timed kernels; `layers` an engine with a profile; `compute_ms` the
    GPU compute time that goes with that profile (None where it is not stated); `specs` the GPU, None where untold."""

    names: tuple[str, ...]
    rows: list[Timed] = field(default_factory=list)
    layers: tuple[EngineLayer, ...] = ()
    compute_ms: float | None = None
    specs: Specs | None = None
    version: str = ""
    note: str = ""


def read_sources(paths: Sequence[Path]) -> list[Source]:
    """Everything in `paths` that tells times. Raises QuantbenchError where a file tells none or is of no known kind."""
    from quantbench.inspection.gather import gather

    tables = [p for p in paths if Path(bare_name(p)).suffix == ".csv"]
    found = [_table(p) for p in tables]
    rest = [p for p in paths if p not in tables]
    for inspection in gather(rest) if rest else ():
        found.append(_of_inspection(inspection))
    for source in found:
        if not source.rows and not any(layer.ms for layer in source.layers):
            raise QuantbenchError(
                f"{' and '.join(source.names)}: no timed kernel and no profile in it; give a log of a verbose build "
                f"(trtexec --verbose), or layers with their profile (--exportLayerInfo, --exportProfile, "
                f"--profilingVerbosity=detailed)"
            )
    return found


def _of_inspection(inspection: Inspection) -> Source:
    names = tuple(s.path.name for s in inspection.sources)
    source = Source(names, version=inspection.version)
    if inspection.log is not None:
        rows, slow = without_slow_start(timings_of_log(inspection.log))
        kept = without_launch_bound(rows)
        source.rows = kept
        short = len(rows) - len(kept)
        notes = [f"{slow} kernels timed before the clock was up"] if slow else []
        notes += [f"{short} kernels no longer than a launch"] if short else []
        source.note = "left out: " + ", ".join(notes) if notes else ""
        source.specs = specs_of_options(inspection.log.options)
        source.compute_ms = _compute(inspection.log)
    layers = layers_of_inspection(inspection)
    if any(layer.ms for layer in layers):
        source.layers = layers
    for data in inspection.metadata.values():
        source.specs = source.specs or specs_of_metadata(data)
    summary = inspection.metadata.get("performance_summary", {})
    times = summary.get("GPU Compute Time")
    if source.compute_ms is None and isinstance(times, list) and len(times) > 3:
        source.compute_ms = float(times[3])
    return source


def _compute(log: BuildLog) -> float | None:
    found = re.search(r"median = ([\d.]+) ms", log.build.summary.get("GPU Compute Time", ""))
    return float(found.group(1)) if found else None


def specs_of_options(options: Mapping[str, str]) -> Specs | None:
    """The GPU by the "Device Information" of a log."""
    name = options.get("Selected Device", "")
    if not name:
        return None
    sms = _number(options.get("SMs"))
    clock = _number(options.get("Compute Clock Rate") or options.get("Application Compute Clock Rate"))
    width = _number(options.get("Memory Bus Width"))
    memory = _number(options.get("Memory Clock Rate") or options.get("Application Memory Clock Rate"))
    capability = options.get("Compute Capability", "") or _capability(name)
    return _specs(name, sms, clock, width / 8 * memory * 2, capability)


def specs_of_metadata(data: Mapping[str, Any]) -> Specs | None:
    """The GPU by trtexec's device metadata."""
    name = str(data.get("Selected Device", data.get("Name", "")))
    if not name:
        return None
    return _specs(name, float(data.get("SMs", 0)), float(data.get("Compute Clock Rate", 0)),
                  float(data.get("Memory Bus Width", 0)) / 8 * float(data.get("Memory Clock Rate", 0)) * 2,
                  str(data.get("Compute Capability", "")) or _capability(name))  # fmt: skip


def _specs(name: str, sms: float, clock: float, bandwidth: float, capability: str) -> Specs | None:
    known = published(name)
    if not capability and known is not None:
        capability = known.capability
    if not sms or not clock or not capability:
        return known
    if known is not None and (capability in ("7.2", "8.7") or not bandwidth):
        # The memory clock that a Jetson's log states is not its DRAM's.
        bandwidth = known.bandwidth_gbs
    cache = known.cache_mb if known is not None else 0.0
    return Specs(name, int(sms), clock, round(min(bandwidth, sms * clock * _BYTES_A_CLOCK), 1), capability, cache)


def _capability(name: str) -> str:
    known = published(name)
    return known.capability if known is not None else ""


def _number(text: str | None) -> float:
    found = _NUMBER.search(text or "")
    return float(found.group()) if found else 0.0


def _table(path: Path) -> Source:
    """Convolutions from a CSV: precision, batch, cin, h, w, cout, k, stride, ms (and kind, elementwise_add)."""
    text = io.StringIO(read_bytes(path).decode("utf-8", "replace"))
    reader = csv.DictReader(text)
    missing = [c for c in _COLUMNS if c not in (reader.fieldnames or ())]
    if missing:
        raise QuantbenchError(
            f"{path} has no column {', '.join(missing)}; a table of timings has {', '.join(_COLUMNS)}"
        )
    return Source((path.name,), rows=list(rows_of_table(reader)))


def rows_of_table(rows: Iterable[Mapping[str, str]]) -> Iterable[Timed]:
    """Timings of convolutions with "same" padding; layouts are not told and count as linear."""
    for row in rows:
        batch, cin, h, w, cout, k, stride = (
            int(float(row[c])) for c in ("batch", "cin", "h", "w", "cout", "k", "stride")
        )
        form = Format(row["precision"].upper(), "linear")
        deep = row.get("kind") == "depthwise"
        out = (batch, cout, -(-h // stride), -(-w // stride))
        added = row.get("elementwise_add") == "1"
        first = form.nbytes((batch, cin, h, w))
        read = first + (form.nbytes(out) if added else 0.0)
        common = Work("conv", form, form, channels=cin, read=read, written=form.nbytes(out),
                      elements=float(max(batch * cin * h * w, out[0] * out[1] * out[2] * out[3])))  # fmt: skip
        yield Timed(
            conv_work(common, Conv(m=out[0] * out[2] * out[3], n=cout, k=(1 if deep else cin) * k * k,
                      groups=cin if deep else 1, window=k, stride=stride, residual=added, first=first)),
            float(row["ms"]),
        )  # fmt: skip
