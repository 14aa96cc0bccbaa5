"""Two engines side by side: where the time goes in each, what changed at each weighted layer, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.pairing import Section, pair
from quantbench.inspection.verdicts.int8_in_float_out import is_mixed
from quantbench.inspection.verdicts.verdict import count, short
from quantbench.json_types import JsonObject
from quantbench.layers.categories import (
    FLOAT,
    QUANTIZED,
    category,
    is_leftover_qdq,
    is_weighted,
    output_dtype,
    precision,
)
from quantbench.layers.layer import Layer

COPIES = "Q/DQ left over as copies"
# How layers were matched, in the words that the user sees.
PAIRED_BY = {"weights": "the names of their weights", "nodes": "their ONNX nodes", "order": "their shapes and order"}


@dataclass(frozen=True, slots=True)
class PairRow:
    """One weighted layer in both engines, with the layers that lead to it; times in ms, None without a profile.

    `changes` say in words what differs, from the first engine to the second.
    """

    label: str
    first: Section | None
    second: Section | None
    changes: tuple[str, ...]

    @property
    def delta_ms(self) -> float | None:
        """Time of the second less time of the first, None where either is unknown."""
        a = self.first.time_ms if self.first is not None else 0.0
        b = self.second.time_ms if self.second is not None else 0.0
        return None if a is None or b is None else b - a

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        return {
            "label": self.label,
            "first": [layer.name for layer in self.first.layers] if self.first is not None else [],
            "second": [layer.name for layer in self.second.layers] if self.second is not None else [],
            "first_ms": self.first.time_ms if self.first is not None else None,
            "second_ms": self.second.time_ms if self.second is not None else None,
            "delta_ms": self.delta_ms, "changes": list(self.changes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Share:
    """Time and number of layers of one sort of work in both engines; times in ms."""

    name: str
    first_count: int
    second_count: int
    first_ms: float | None
    second_ms: float | None

    @property
    def delta_ms(self) -> float | None:
        """Time of the second less time of the first."""
        return None if self.first_ms is None or self.second_ms is None else self.second_ms - self.first_ms

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        return {"name": self.name, "first_count": self.first_count, "second_count": self.second_count,
                "first_ms": self.first_ms, "second_ms": self.second_ms, "delta_ms": self.delta_ms}  # fmt: skip


# Share of the node names of the smaller engine that the other has, from which on they are one numbering.
_ONE_NETWORK = 0.8


@dataclass(frozen=True)
class Comparison:
    """`reasons` are sentences, the weightiest first; `shares` add up to the whole difference."""

    first: Inspection
    second: Inspection
    paired_by: str
    rows: tuple[PairRow, ...]
    shares: tuple[Share, ...]
    reasons: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        return {
            "format": "quantbench-inspect-compare-1",
            "first": self.first.title, "second": self.second.title,
            "first_ms": self.first.total_ms, "second_ms": self.second.total_ms,
            "paired_by": self.paired_by, "reasons": list(self.reasons),
            "shares": [s.to_json() for s in self.shares], "rows": [r.to_json() for r in self.rows],
        }  # fmt: skip


def compare(first: Inspection, second: Inspection) -> Comparison:
    """Set two engines side by side."""
    pairs, how = pair(first, second)
    named = _named_in_both(first, second)
    rows = tuple(PairRow(_label(a, b), a, b, _changes(a, b, named)) for a, b in pairs)
    shares = _shares(first.layers, second.layers)
    return Comparison(first, second, how, rows, shares, tuple(_reasons(first, second, rows, shares)))


def _label(a: Section | None, b: Section | None) -> str:
    anchors = [s.anchor for s in (a, b) if s is not None and s.anchor is not None]
    if not anchors:
        return "behind the last weighted layer"
    names = list(dict.fromkeys(short(anchor) for anchor in anchors))
    return names[0] if len(names) == 1 else f"{names[0]} / {names[1]}"


def _sort(layer: Layer) -> str:
    return COPIES if is_leftover_qdq(layer) else category(layer)


def _shares(first: Sequence[Layer], second: Sequence[Layer]) -> tuple[Share, ...]:
    names = dict.fromkeys(_sort(layer) for layer in (*first, *second))
    timed = [any(x.time_ms is not None for x in layers) for layers in (first, second)]

    def of(name: str, layers: Sequence[Layer], has: bool) -> tuple[int, float | None]:
        chosen = [x for x in layers if _sort(x) == name]
        return len(chosen), sum(x.time_ms or 0.0 for x in chosen) if has else None

    found: list[Share] = []
    for name in names:
        (count_a, ms_a), (count_b, ms_b) = of(name, first, timed[0]), of(name, second, timed[1])
        found.append(Share(name, count_a, count_b, ms_a, ms_b))
    return tuple(sorted(found, key=lambda s: (s.delta_ms is None, -abs(s.delta_ms or 0.0))))


def _named_in_both(first: Inspection, second: Inspection) -> frozenset[str] | None:
    """ONNX nodes that both engines name, None where the two are numbered differently.

    A node that one of them names nowhere was folded away without a trace there (BatchNormalization, a Relu behind it),
    which is no difference in fusion.
    """
    a, b = ({node for layer in inspection.layers for node in layer.nodes} for inspection in (first, second))
    common = frozenset(a & b)
    return common if len(common) >= _ONE_NETWORK * min(len(a), len(b)) > 0 else None


def _changes(a: Section | None, b: Section | None, named: frozenset[str] | None) -> tuple[str, ...]:
    if a is None or b is None:
        return ("only in the second",) if a is None else ("only in the first",)
    found: list[str] = []
    if a.anchor is not None and b.anchor is not None:
        found += _anchor_changes(a.anchor, b.anchor, named)
    for layers, others, word in ((a.attached, b.attached, "gone"), (b.attached, a.attached, "new")):
        extra = _surplus(layers, others)
        if extra:
            time = sum(x.time_ms or 0.0 for x in extra)
            names = ", ".join(f"{_sort(x)} {short(x)}" for x in extra[:3]) + (" …" if len(extra) > 3 else "")
            found.append(f"{word}: {names}" + (f" ({time:.4f} ms)" if time else ""))
    return tuple(found)


def _anchor_changes(a: Layer, b: Layer, named: frozenset[str] | None) -> list[str]:
    found: list[str] = []
    pairs = [("input", precision(a), precision(b)), ("output", output_dtype(a), output_dtype(b))]
    if len(a.inputs) > 1 and len(b.inputs) > 1:
        pairs.append(("residual", a.inputs[1].dtype, b.inputs[1].dtype))
    found += [f"{word} {x} → {y}" for word, x, y in pairs if x != y and "?" not in (x, y)]
    ops_a, ops_b = (sum(1 for n in _work(x) if named is None or n in named) for x in (a, b))
    if ops_a != ops_b:
        found.append(f"{ops_a} → {count(ops_b, 'node')} fused into it")
    if a.type != b.type and a.type and b.type:
        found.append(f"{a.type} → {b.type}")
    return found


def _work(layer: Layer) -> list[str]:
    return [n for n in layer.nodes if "QuantizeLinear" not in n and "DequantizeLinear" not in n]


def _surplus(layers: Sequence[Layer], others: Sequence[Layer]) -> list[Layer]:
    """Layers of sorts of which `others` have fewer."""
    left = [_sort(x) for x in others]
    found: list[Layer] = []
    for layer in layers:
        if _sort(layer) in left:
            left.remove(_sort(layer))
        elif _sort(layer) not in ("noop", "sync", "constant"):
            found.append(layer)
    return found


def _reasons(first: Inspection, second: Inspection, rows: Sequence[PairRow], shares: Sequence[Share]) -> list[str]:
    """Sentences on what makes the difference."""
    a, b = first.total_ms, second.total_ms
    found: list[tuple[float, str]] = []
    for share in shares:
        if share.name not in (COPIES, "reformat", "pooling", "pointwise"):
            continue
        if share.first_count != share.second_count:
            word = share.name if share.name == COPIES else f"layers of {share.name}"
            found.append(
                (abs(share.delta_ms or 0.0), f"{word}: {share.first_count} → {share.second_count}{_ms(share.delta_ms)}")
            )
    paired = [r for r in rows if r.first is not None and r.second is not None]
    both = [(x, y) for r in paired if (x := _first_anchor(r)) is not None and (y := _second_anchor(r)) is not None]
    residual = [(x, y) for x, y in both if _residual(x) in FLOAT and _residual(y) in QUANTIZED]
    closed = [(x, y) for x, y in both if is_mixed(x) and output_dtype(y) in QUANTIZED]
    opened = [(x, y) for x, y in both if is_mixed(y) and output_dtype(x) in QUANTIZED]
    quantized = [(x, y) for x, y in both if precision(x) in FLOAT and precision(y) in QUANTIZED]
    for pairs, text in (
        (residual, "read their residual as INT8 instead of float, so the Add and the Q behind it are inside the conv"),
        (closed, "give INT8 instead of float"), (opened, "give float instead of INT8"),
        (quantized, "compute in INT8 instead of float"),
    ):  # fmt: skip
        if pairs:
            delta = _delta(pairs)
            found.append((abs(delta or 0.0), f"{count(len(pairs), 'weighted layer')} {text}{_ms(delta)}"))
    found.sort(key=lambda item: -item[0])
    head = []
    if a is not None and b is not None and a > 0:
        word = "faster" if b < a else "slower"
        head.append(
            f"{second.title} takes {b:.4f} ms, {first.title} {a:.4f} ms: {abs(1 - b / a) * 100:.0f} % {word}"
            if b != a
            else f"both take {a:.4f} ms"
        )
    weighted = [sum(1 for row in rows if s(row) is not None) for s in (_first_anchor, _second_anchor)]
    if 2 * len(both) < max(weighted):
        head.insert(0, f"only {len(both)} of {max(weighted)} weighted layers have a partner: are these one network?")
    mixed = [sum(1 for x in i.layers if is_mixed(x)) for i in (first, second)]
    total = [sum(1 for x in i.layers if is_weighted(x)) for i in (first, second)]
    if any(mixed):
        found.append(
            (0.0, f"layers that take INT8 and give float: {mixed[0]} of {total[0]} → {mixed[1]} of {total[1]}")
        )
    return head + [text for _, text in found] + _against(paired, a, b)


def _against(rows: Sequence[PairRow], first: float | None, second: float | None) -> list[str]:
    """The weighted layer that goes most against the whole, where it does so by a tenth of the largest change."""
    if first is None or second is None:
        return []
    faster = second < first
    deltas = [(row.delta_ms if faster else -row.delta_ms, row) for row in rows if row.delta_ms is not None]
    if not deltas:
        return []
    most, row = max(deltas, key=lambda pair: pair[0])
    if most <= 0.1 * max(abs(delta) for delta, _ in deltas):
        return []
    word = "slower" if faster else "faster"
    return [f"but {row.label} is {word}{_ms(row.delta_ms)}" + (f": {'; '.join(row.changes)}" if row.changes else "")]


def _first_anchor(row: PairRow) -> Layer | None:
    return row.first.anchor if row.first is not None else None


def _second_anchor(row: PairRow) -> Layer | None:
    return row.second.anchor if row.second is not None else None


def _residual(layer: Layer) -> str:
    return layer.inputs[1].dtype if len(layer.inputs) > 1 else ""


def _delta(pairs: Sequence[tuple[Layer, Layer]]) -> float | None:
    times = [(x.time_ms, y.time_ms) for x, y in pairs]
    known = [(x, y) for x, y in times if x is not None and y is not None]
    return sum(y - x for x, y in known) if known else None


def _ms(delta: float | None) -> str:
    return "" if delta is None else f" ({delta:+.4f} ms)"
