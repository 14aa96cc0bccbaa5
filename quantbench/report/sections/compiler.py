"""What the compiler made of the Q/DQ model."""

from collections.abc import Mapping
from typing import Any

from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.words import size


def section(run: Mapping[str, Any]) -> Section:
    """One table, INT8 beside float, and in words whether INT8 pays on this compiler."""
    facts = run.get("compiler")
    if not facts:
        return Section(
            "Compiler check",
            (Text("No compiler was asked. On Linux x86-64: pip install tensorrt-rtx, then run again.", "note"),),
        )
    int8, plain = facts["int8"], facts["float"]
    precision = facts["precision"].upper()
    rows = (
        ("Layers", str(int8["layers"]), str(plain["layers"])),
        ("Weighted layers in INT8", f"{int8['weighted_int8']} of {int8['weighted']}", "0"),
        ("Bytes moved (all inputs, outputs, constants)", size(int8["traffic_bytes"]), size(plain["traffic_bytes"])),
        ("Float tensors between INT8 layers", _counted(int8["float_between"], int8["float_between_bytes"]), "-"),
        ("Stand-alone quantize, cast, reformat kernels", _counted(int8["conversions"], int8["conversion_bytes"]), "-"),
        ("Engine", size(int8["engine_bytes"]), size(plain["engine_bytes"])),
    )
    blocks: list[Block] = [
        Text(
            f"TensorRT-RTX {facts['version']} compiled both models for {facts['target']}, input "
            f"{facts['shape']}, what is not INT8 in {precision}, with no GPU. This speaks of TensorRT-RTX alone: its "
            f"INT8 convs write float and a second kernel requantizes, where TensorRT 8 to 10 writes INT8 from the conv."
        ),
        Text(verdict(int8, plain, precision), "warning" if pays_not(int8, plain) else "note"),
        Table(("", "INT8", f"{precision} only"), rows),
    ]
    floats = int8["not_int8"]
    if floats:
        reasons = run["placement"]["kept_float"]
        blocks.append(
            Table(
                ("Weighted layer in float", "Why"),
                tuple((name, reasons.get(name, "has Q/DQ, but the compiler runs it in float")) for name in floats),
            )
        )
    return Section("Compiler check", tuple(blocks))


def pays_not(int8: Mapping[str, Any], plain: Mapping[str, Any]) -> bool:
    """Whether the INT8 engine moves more bytes than the float one."""
    return bool(int8["traffic_bytes"] > plain["traffic_bytes"])


def verdict(int8: Mapping[str, Any], plain: Mapping[str, Any], precision: str) -> str:
    """In words: does INT8 pay here, judged by memory traffic, which bounds most vision networks on a GPU."""
    ratio = int8["traffic_bytes"] / max(plain["traffic_bytes"], 1)
    moved = f"{size(int8['traffic_bytes'])} against {size(plain['traffic_bytes'])}"
    if ratio > 1:
        return (
            f"INT8 does not pay on TensorRT-RTX for this model: it moves {ratio:.2f} times the bytes of plain "
            f"{precision} ({moved}). Deploy {precision} there, or use TensorRT 10 or 11, which fuse the requantization."
        )
    return f"INT8 moves {100 * (1 - ratio):.0f} % fewer bytes than plain {precision} on TensorRT-RTX ({moved})."


def _counted(items: list[Mapping[str, Any]], total: int) -> str:
    return f"{len(items)} ({size(total)})" if items else "none"
