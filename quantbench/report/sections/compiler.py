"""What the compiler made of the Q/DQ model."""

from collections.abc import Callable, Sequence

from quantbench.records.compiled import BareEngine, Compiled, Engine, EngineLatencies, Kernel, Refused, TensorBytes
from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.words import by_reason, size

_TITLE = "Compiler check"
_NAMES = {"tensorrt-rtx": "TensorRT-RTX", "tensorrt10": "TensorRT", "tensorrt11": "TensorRT"}
_RTX = (
    " This speaks of TensorRT-RTX alone: its INT8 convs write float and a second kernel requantizes, where TensorRT 8 "
    "to 10 writes INT8 from the conv."
)


def section(facts: Compiled | Refused | None, reason: Callable[[str], str]) -> Section:
    """One table, INT8 beside float, and in words whether INT8 pays on this compiler.

    `reason` tells of a weighted node why it stays float, "" where nobody meant it to.
    """
    if facts is None:
        return Section(
            _TITLE, (Text("No compiler was asked. On Linux x86-64: pip install tensorrt-rtx, then run again.", "note"),)
        )
    if isinstance(facts, Refused):
        return Section(_TITLE, (Text(f"The compiler refused: {facts.failed}.", "warning"),))
    return Section(_TITLE, tuple(_blocks(facts, reason)))


def summary(facts: Compiled | Refused) -> str:
    """One line for the terminal."""
    if isinstance(facts, Refused):
        return f"no compiler check: {facts.failed}"
    where = f" for {facts.target}" if facts.target else ""
    start = f"{facts.backend} {facts.version}{where}: "
    int8 = facts.int8
    if isinstance(int8, BareEngine):
        return f"{start}engine of {size(int8.engine_bytes)}"
    text = f"{start}{int8.weighted_int8} of {int8.weighted} weighted layers in INT8, {size(int8.traffic_bytes)} moved"
    return f"{text}; {verdict(facts)}" if comparable(facts) else text


def comparable(facts: Compiled) -> bool:
    """Whether the layers of both engines are known."""
    return isinstance(facts.int8, Engine) and isinstance(facts.plain, Engine)


def pays_not(facts: Compiled) -> bool:
    """Whether INT8 is slower (where both engines were timed), or else moves more bytes."""
    times = _times(facts)
    if times is not None:
        return times[0] > times[1]
    int8, plain = _traffic(facts)
    return int8 > max(plain, 1)


def verdict(facts: Compiled) -> str:
    """In words: does INT8 pay here, by time where both ran, else by traffic, which bounds most vision networks."""
    name, precision = _NAMES[facts.backend], facts.precision.upper()
    times = _times(facts)
    if times is not None:
        ratio = times[0] / times[1]
        what = f"{times[0]:.3f} ms against {times[1]:.3f} ms"
        if ratio > 1:
            return (
                f"INT8 does not pay on {name} for this model: {ratio:.2f} times the time of plain {precision} ({what})."
            )
        return f"INT8 is {1 / ratio:.2f} times as fast as plain {precision} on this GPU ({what})."
    int8, plain = _traffic(facts)
    moved, ratio = f"{size(int8)} against {size(plain)}", int8 / max(plain, 1)
    if ratio > 1:
        way_out = f"Deploy {precision} there"
        if facts.backend == "tensorrt-rtx":
            way_out += ", or use TensorRT 10 or 11, which fuse the requantization"
        return (
            f"INT8 does not pay on {name} for this model: it moves {ratio:.2f} times the bytes of plain {precision} "
            f"({moved}). {way_out}."
        )
    return f"INT8 moves {100 * (1 - ratio):.0f} % fewer bytes than plain {precision} on {name} ({moved})."


def _times(facts: Compiled) -> tuple[float, float] | None:
    """Median milliseconds of the INT8 and the float engine, None unless both were timed."""
    if facts.latency is None or facts.latency.plain is None:
        return None
    return facts.latency.int8.median_ms, facts.latency.plain.median_ms


def _traffic(facts: Compiled) -> tuple[int, int]:
    assert isinstance(facts.int8, Engine)
    assert isinstance(facts.plain, Engine)
    return facts.int8.traffic_bytes, facts.plain.traffic_bytes


def _blocks(facts: Compiled, reason: Callable[[str], str]) -> Sequence[Block]:
    int8, plain, precision = facts.int8, facts.plain, facts.precision.upper()
    name = f"{_NAMES.get(facts.backend, facts.backend)} {facts.version}"
    where = f" for {facts.target}, with no GPU" if facts.target else " on this machine"
    shape = list(facts.shape)
    text = f"{name} compiled both models{where}; input {shape}, what is not INT8 in {precision}."
    blocks: list[Block] = [Text(text + (_RTX if facts.backend == "tensorrt-rtx" else ""))]
    blocks += [Text(f"{note}.") for note in facts.notes]
    if comparable(facts):
        blocks.append(Text(verdict(facts), "warning" if pays_not(facts) else "note"))
    rows = [
        (what, *(value(side) if isinstance(side, Engine) else "-" for side in (int8, plain)))
        for what, value in _ROWS
        if isinstance(int8, Engine)
    ]
    rows.append(("Engine", size(int8.engine_bytes), size(plain.engine_bytes) if plain else "-"))
    rows += _latency(facts.latency)
    blocks.append(Table(("", "INT8", f"{precision} only"), tuple(rows)))
    if isinstance(int8, Engine) and int8.not_int8:
        why = ((n, reason(n) or "has Q/DQ, but the compiler runs it in float") for n in int8.not_int8)
        blocks.append(Table(("Weighted layers in float", "Why"), by_reason(why)))
    return blocks


def _latency(times: EngineLatencies | None) -> list[tuple[str, ...]]:
    if times is None:
        return []
    sides = (times.int8, times.plain)
    median = (f"{side.median_ms:.3f} ms" if side else "-" for side in sides)
    p99 = (f"{side.p99_ms:.3f} ms" if side else "-" for side in sides)
    return [("Latency on this GPU, median", *median), ("Latency on this GPU, p99", *p99)]


def _counted(items: Sequence[TensorBytes] | Sequence[Kernel], total: int) -> str:
    return f"{len(items)} ({size(total)})" if items else "none"


# What the table says of an engine whose layers are known, INT8 or float.
_ROWS: tuple[tuple[str, Callable[[Engine], str]], ...] = (
    ("Layers", lambda e: str(e.layers)),
    ("Weighted layers in INT8", lambda e: f"{e.weighted_int8} of {e.weighted}"),
    ("Bytes moved (all inputs, outputs, constants)", lambda e: size(e.traffic_bytes)),
    ("Float tensors between INT8 layers", lambda e: _counted(e.float_between, e.float_between_bytes)),
    ("Stand-alone quantize, cast, reformat kernels", lambda e: _counted(e.conversions, e.conversion_bytes)),
)
