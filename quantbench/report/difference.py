"""Two runs side by side: accuracy, latency, layers, ranges, and what changed in the recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantbench.calibration.ranges import Ranges
from quantbench.errors import QuantbenchError
from quantbench.json_types import JsonObject
from quantbench.records.evaluation import Measured, Outputs
from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.figures import Run, measured_latencies, outputs_of
from quantbench.report.words import decibel, listed, percent, pixels, points, size
from quantbench.text_file import read_object

_SHOWN_RANGES = 12


def difference(first: tuple[Path, Run], second: tuple[Path, Run]) -> Section:
    """Tables of what the two runs say, and of where they differ."""
    (folder_a, a), (folder_b, b) = first, second
    head = ("", str(folder_a), str(folder_b))
    blocks: list[Block] = [
        Table(head, tuple(_accuracy(outputs_of(a), outputs_of(b)) + _latency(a, b)), "Accuracy and latency"),
        Table(head, tuple(_engine(a, b)), "The predicted engine"),
    ]
    changed = list(_recipe(a.recipe, b.recipe))
    blocks.append(
        Table(("Recipe", str(folder_a), str(folder_b)), tuple(changed), "What changed in the recipe")
        if changed
        else Text("The recipes are the same.")
    )
    blocks += _placement(a, b)
    ranges = _ranges(folder_a, folder_b)
    if ranges:
        blocks.append(Table(("Tensor", "amax, first", "amax, second", "Ratio"), ranges, "Ranges that differ most"))
    return Section("Difference of the two runs", tuple(blocks))


def _accuracy(a: Outputs, b: Outputs) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in Outputs.model_fields:
        left, right = getattr(a, name), getattr(b, name)
        if left is not None or right is not None:
            rows.append((_words(name), _figure(name, left), _figure(name, right)))
    return rows


def _words(name: str) -> str:
    words = {"sqnr_db": "SQNR of the worst output", "agreement": "Same answer as FP32", "boxes_kept": "Boxes kept"}
    return words.get(name, name.replace("_", " ").replace("int8", "INT8").replace("float", "FP32"))


def _figure(name: str, value: Measured | None) -> str:
    if value is None:
        return "-"
    show = (
        decibel if name == "sqnr_db" else points if name.endswith("_change") else pixels if name == "point_error"
        else percent
    )  # fmt: skip
    return show(value)


def _latency(a: Run, b: Run) -> list[tuple[str, ...]]:
    times = [{(t.what, t.device): t for t in measured_latencies(run)} for run in (a, b)]
    keys = list(dict.fromkeys([*times[0], *times[1]]))
    shown = [{key: f"{t.ms:.2f} ms" for key, t in found.items()} for found in times]
    return [(f"{what}, {device}", *(found.get((what, device), "-") for found in shown)) for what, device in keys]


def _engine(a: Run, b: Run) -> list[tuple[str, str, str]]:
    p, q = a.prediction, b.prediction
    return [
        ("TensorRT", p.version, q.version),
        ("Layers", str(p.layers), str(q.layers)),
        ("Weighted layers in INT8", f"{p.int8_layers} of {p.weighted}", f"{q.int8_layers} of {q.weighted}"),
        ("Q and DQ left over", str(len(p.left_over)), str(len(q.left_over))),
        ("Reformats and copies", str(p.reformats), str(q.reformats)),
        ("Float bytes between INT8 layers", size(p.float_bytes), size(q.float_bytes)),
    ]


def _recipe(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    left, right = _flat(a), _flat(b)
    keys = dict.fromkeys([*left, *right])
    return [
        (key, _text(left.get(key)), _text(right.get(key)))
        for key in keys
        if left.get(key) != right.get(key) and key != "out"
    ]


def _flat(tree: Mapping[str, Any], start: str = "") -> JsonObject:
    found: JsonObject = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{start}{key}.")
        else:
            found[start + key] = value
    return found


def _text(value: Any) -> str:
    return "-" if value in (None, [], "") else str(value)


def _placement(a: Run, b: Run) -> list[Block]:
    if a.placement is None or b.placement is None:
        return []
    left, right = set(a.placement.quantized), set(b.placement.quantized)
    rows = [
        ("Quantized in the first alone", listed(sorted(left - right), most=12)),
        ("Quantized in the second alone", listed(sorted(right - left), most=12)),
    ]
    return [Table(("Layers", "Names"), tuple(row for row in rows if row[1]))] if left != right else []


def _ranges(a: Path, b: Path) -> tuple[tuple[str, ...], ...]:
    try:
        left, right = (Ranges.from_json(read_object(folder / "ranges.json")) for folder in (a, b))
    except QuantbenchError:
        return ()
    both = [name for name in left if name in right and left[name].amax > 0 and right[name].amax > 0]
    ratio = {name: right[name].amax / left[name].amax for name in both}
    apart = sorted((n for n in both if abs(ratio[n] - 1) > 1e-6), key=lambda n: -max(ratio[n], 1 / ratio[n]))
    return tuple(
        (name, f"{left[name].amax:.4g}", f"{right[name].amax:.4g}", f"{ratio[name]:.3f}")
        for name in apart[:_SHOWN_RANGES]
    )
