"""An inspection as plain data: what `inspect.json` holds."""

import math
from typing import Any

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.kinds import NOT_LOG_LINES
from quantbench.inspection.table import rows
from quantbench.inspection.verdicts.judge import judge
from quantbench.json_types import JsonObject

FORMAT = "quantbench-inspect-1"


def to_json(inspection: Inspection) -> JsonObject:
    """Everything that the page shows, for machines. Times in ms, sizes in bytes, shares as fractions."""
    data: JsonObject = {
        "format": FORMAT,
        "title": inspection.title,
        "sources": [{"path": str(s.path), "kind": s.kind, "text": s.text} for s in inspection.sources],
        "version": inspection.version,
        "summary": {
            "layers": len(inspection.layers),
            "precisions": dict(inspection.precisions),
            "total_ms": inspection.total_ms,
            "iterations": inspection.iterations,
            "names_only": inspection.names_only,
        },
        "bindings": list(inspection.bindings),
        "notes": list(inspection.notes),
        "verdicts": [verdict.to_json() for verdict in judge(inspection)],
        "layers": [row.to_json() for row in rows(inspection)],
        "unjoined_profile_rows": [{"name": r.name, "mean_ms": r.mean_ms} for r in inspection.unjoined],
        "qdq": [fate.to_json() for fate in inspection.fates],
        "timing": {name: statistics.to_json() for name, statistics in inspection.timing.items()},
        "metadata": inspection.metadata,
    }
    if inspection.run is not None:
        data["run"] = inspection.run.model_dump(mode="json")
    if inspection.story is not None:
        data["story"] = inspection.story.to_json()
    if inspection.build is not None:
        build = inspection.build
        data["build"] = {
            "first_line": build.line,
            "placements": [{"device": d, "type": t, "layer": n} for d, t, n in build.placements],
            "layer_memory": build.layer_memory,
            "scales": {tensor: list(values) for tensor, values in build.scales.items()},
            "missing_scales": [tensor for _, tensor in build.missing_scales],
            "performance": build.summary,
        }
    if inspection.log is not None:
        log = inspection.log
        data["log"] = {
            "lines": log.lines,
            "builds": len(log.builds),
            "command": log.command,
            "options": log.options,
            "kinds": {k: n for k, n in sorted(log.kinds.items()) if k not in NOT_LOG_LINES},
            "not_understood": log.kinds["unknown"],
            "not_understood_forms": [{"count": f.count, "line": f.line, "text": f.message} for f in log.unknown],
        }
    kept: JsonObject = finite(data)
    return kept


def finite(data: Any) -> Any:
    """`data` with infinities and NaN as text ("inf"), which JSON has no numbers for; calibration logs do hold them."""
    if isinstance(data, float):
        return data if math.isfinite(data) else str(data)
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return data
