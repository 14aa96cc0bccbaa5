"""What the `cache` commands print and give as JSON, as plain data."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from quantbench.json_types import JsonObject

if TYPE_CHECKING:
    from quantbench.cache.check import CheckResult
    from quantbench.cache.diff import CacheDiff
    from quantbench.cache.flags import Flag
    from quantbench.cache.model import CalibrationCache


def number(value: float) -> float | str:
    """JSON knows no infinity and no NaN: those become strings."""
    return value if math.isfinite(value) else str(value)


def show_json(path: str, cache: "CalibrationCache", flags: "tuple[Flag, ...]") -> JsonObject:
    """`cache show --json` of one file."""
    return {
        "file": path,
        "dialect": cache.dialect,
        "header": cache.header.strip(),
        "version": cache.version,
        "algorithm": cache.algorithm,
        "details": dict(cache.details),
        "notes": list(cache.notes),
        "entries": [{"name": e.name, "scale": number(e.scale), "amax": number(e.amax)} for e in cache.entries],
        "flags": [{"kind": f.kind, "tensor": f.tensor, "message": f.message} for f in flags],
    }


def diff_json(result: "CacheDiff") -> JsonObject:
    """`cache diff --json`."""
    return {
        "common": [
            {"name": d.name, "first": number(d.first), "second": number(d.second), "ratio": number(d.ratio)}
            for d in result.common
        ],
        "only_first": list(result.only_first),
        "only_second": list(result.only_second),
    }


def check_json(result: "CheckResult") -> JsonObject:
    """`cache check --json`, and part of `to-qdq --json`."""
    return {
        "tensors": result.tensors,
        "matched": len(result.matching.matches),
        "renamed": [{"entry": m.entry, "tensor": m.tensor, "how": m.how} for m in result.renamed],
        "unmatched": dict(result.matching.unmatched),
        "derived": [{"tensor": d.tensor, "source": d.source, "through": d.through} for d in result.derived],
        "missing": list(result.meaning.missing),
        "unusable": list(result.broken),
        "superseded": _superseded(result),
        "float_layers": [
            {"layer": f.node, "op": f.op, "tensor": f.tensor, "side": f.side} for f in result.float_layers
        ],
    }


def _superseded(result: "CheckResult") -> Mapping[str, str]:
    """Entries whose tensors lie inside fused layers."""
    return {m.entry: result.meaning.superseded[m.tensor] for m in result.matching.matches
            if m.tensor in result.meaning.superseded}  # fmt: skip


def check_sections(result: "CheckResult") -> list[tuple[str, list[str]]]:
    """Titles and lines of `cache check`; sections without lines are not printed."""
    sides = {"input": "runs in float: no range for its input", "output": "has to write float: no range for its output"}
    return [
        (
            "Matched under another name",
            [f"{m.entry} is {m.tensor} (by {_HOW[m.how]})" for m in result.renamed],
        ),
        ("Entries that match nothing", [f"{name}: {why}" for name, why in result.matching.unmatched.items()]),
        ("Entries inside fused layers, superseded by the layer's output",
         [f"{name}: {out}" for name, out in _superseded(result).items()]),
        ("Ranges that follow from others", [f"{d.tensor}: as {d.source}, through {d.through}" for d in result.derived]),
        ("Ranges that no engine can use", list(result.broken)),
        ("Tensors without a range", list(result.meaning.missing)),
        ("Layers that TensorRT would not run wholly in INT8",
         [f"{f.node} ({f.op}) {sides[f.side]} {f.tensor}" for f in result.float_layers]),
    ]  # fmt: skip


_HOW = {
    "module": "the weight that the torch module holds",
    "spelling": "spelling, the only candidate",
    "position": "its position in the file",
}
