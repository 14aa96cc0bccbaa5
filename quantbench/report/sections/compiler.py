"""What the compiler made of the Q/DQ model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.words import by_reason, size

_TITLE = "Compiler check"
_NAMES = {"tensorrt-rtx": "TensorRT-RTX", "tensorrt10": "TensorRT", "tensorrt11": "TensorRT"}
_RTX = (
    " This speaks of TensorRT-RTX alone: its INT8 convs write float and a second kernel requantizes, where TensorRT 8 "
    "to 10 writes INT8 from the conv."
)


def section(run: Mapping[str, Any], reason: Callable[[str], str] | None = None) -> Section:
    """One table, INT8 beside float, and in words whether INT8 pays on this compiler.

    `reason` tells of a weighted node why it stays float, "" where nobody meant it to; by default the placement's.
    """
    facts = run.get("compiler")
    if not facts:
        return Section(
            _TITLE, (Text("No compiler was asked. On Linux x86-64: pip install tensorrt-rtx, then run again.", "note"),)
        )
    if "failed" in facts:
        return Section(_TITLE, (Text(f"The compiler refused: {facts['failed']}.", "warning"),))
    kept: Mapping[str, str] = run.get("placement", {}).get("kept_float", {})
    return Section(_TITLE, tuple(_blocks(facts, reason or (lambda node: kept.get(node, "")))))


def summary(facts: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    if "failed" in facts:
        return f"no compiler check: {facts['failed']}"
    where = f" for {facts['target']}" if facts["target"] else ""
    start = f"{facts['backend']} {facts['version']}{where}: "
    if "layers" not in facts["int8"]:
        return f"{start}engine of {size(facts['int8']['engine_bytes'])}"
    int8 = facts["int8"]
    text = (
        f"{start}{int8['weighted_int8']} of {int8['weighted']} weighted layers in INT8, "
        f"{size(int8['traffic_bytes'])} moved"
    )
    return f"{text}; {verdict(facts)}" if comparable(facts) else text


def comparable(facts: Mapping[str, Any]) -> bool:
    """Whether the layers of both engines are known."""
    return "layers" in facts["int8"] and "layers" in facts.get("float", {})


def pays_not(facts: Mapping[str, Any]) -> bool:
    """Whether INT8 is slower (where both engines were timed), or else moves more bytes."""
    return _ratio(facts) > 1


def verdict(facts: Mapping[str, Any]) -> str:
    """In words: does INT8 pay here, by time where both ran, else by traffic, which bounds most vision networks."""
    name, precision, ratio = _NAMES[facts["backend"]], facts["precision"].upper(), _ratio(facts)
    if len(facts.get("latency", ())) == 2:
        a, b = (facts["latency"][key]["latency"]["median"] for key in ("int8", "float"))
        what = f"{a:.3f} ms against {b:.3f} ms"
        if ratio > 1:
            return (
                f"INT8 does not pay on {name} for this model: {ratio:.2f} times the time of plain {precision} ({what})."
            )
        return f"INT8 is {1 / ratio:.2f} times as fast as plain {precision} on this GPU ({what})."
    moved = f"{size(facts['int8']['traffic_bytes'])} against {size(facts['float']['traffic_bytes'])}"
    if ratio > 1:
        way_out = f"Deploy {precision} there"
        if facts["backend"] == "tensorrt-rtx":
            way_out += ", or use TensorRT 10 or 11, which fuse the requantization"
        return (
            f"INT8 does not pay on {name} for this model: it moves {ratio:.2f} times the bytes of plain {precision} "
            f"({moved}). {way_out}."
        )
    return f"INT8 moves {100 * (1 - ratio):.0f} % fewer bytes than plain {precision} on {name} ({moved})."


def _ratio(facts: Mapping[str, Any]) -> float:
    if len(facts.get("latency", ())) == 2:
        times = facts["latency"]
        return float(times["int8"]["latency"]["median"] / times["float"]["latency"]["median"])
    return float(facts["int8"]["traffic_bytes"] / max(facts["float"]["traffic_bytes"], 1))


def _blocks(facts: Mapping[str, Any], reason: Callable[[str], str]) -> Sequence[Block]:
    int8, plain, precision = facts["int8"], facts.get("float"), facts["precision"].upper()
    name = f"{_NAMES.get(facts['backend'], facts['backend'])} {facts['version']}"
    where = f" for {facts['target']}, with no GPU" if facts["target"] else " on this machine"
    text = f"{name} compiled both models{where}; input {facts['shape']}, what is not INT8 in {precision}."
    blocks: list[Block] = [Text(text + (_RTX if facts["backend"] == "tensorrt-rtx" else ""))]
    blocks += [Text(f"{note}.") for note in facts["notes"]]
    if comparable(facts):
        blocks.append(Text(verdict(facts), "warning" if pays_not(facts) else "note"))
    rows = [
        (what, *(value(side) if side else "-" for side in (int8, plain)))
        for what, value in _ROWS
        if "layers" in int8 or what == "Engine"
    ]
    for key in ("median", "p99") if "latency" in facts else ():
        sides = (facts["latency"].get(side) for side in ("int8", "float"))
        rows.append((f"Latency on this GPU, {key}", *(f"{t['latency'][key]:.3f} ms" if t else "-" for t in sides)))
    blocks.append(Table(("", "INT8", f"{precision} only"), tuple(rows)))
    if int8.get("not_int8"):
        why = ((n, reason(n) or "has Q/DQ, but the compiler runs it in float") for n in int8["not_int8"])
        blocks.append(Table(("Weighted layers in float", "Why"), by_reason(why)))
    return blocks


def _counted(items: list[Mapping[str, Any]], total: int) -> str:
    return f"{len(items)} ({size(total)})" if items else "none"


# What the table says of an engine, INT8 or float.
_ROWS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("Layers", lambda e: str(e["layers"])),
    ("Weighted layers in INT8", lambda e: f"{e['weighted_int8']} of {e['weighted']}"),
    ("Bytes moved (all inputs, outputs, constants)", lambda e: size(e["traffic_bytes"])),
    ("Float tensors between INT8 layers", lambda e: _counted(e["float_between"], e["float_between_bytes"])),
    ("Stand-alone quantize, cast, reformat kernels", lambda e: _counted(e["conversions"], e["conversion_bytes"])),
    ("Engine", lambda e: size(e["engine_bytes"])),
)
