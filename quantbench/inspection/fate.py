"""What became of each Q and DQ of a network: from the optimizer's passes, the engine's layers, or both."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from quantbench.json_types import JsonObject
from quantbench.layers.categories import QUANTIZED, category, is_weighted
from quantbench.layers.layer import Layer
from quantbench.layers.names import split_parts, strip_clone, strip_profile

if TYPE_CHECKING:
    from quantbench.inspection.logs.build_log import Build
    from quantbench.inspection.logs.lexer import Event
    from quantbench.inspection.qdq_onnx import QdqModel

# What a status means, in the words that the user sees.
STATUS: dict[str, str] = {
    "fused": "taken into a layer",
    "folded": "folded into INT8 weights",
    "merged": "merged with its twin",
    "split": "cloned per branch before a Concat",
    "kernel": "computed inside a pointwise kernel",
    "left over": "left over as a copy or reformat of its own: not fused",
    "cancelled": "cancelled out: a DQ and the Q behind it have one scale",
    "removed": "removed by a pass that names no target",
    "moved": "moved past a layer; what came of it then is not in the log",
    "not traced": "no line or layer tells",
}


# `x_QuantizeLinear`, `QuantizeLinear_20`, tf2onnx's `QuantLinearNode__622` and `DequantLinearNode__3`; tensors
# (`…QuantizeLinear_output_0`) do not match.
_QDQ_NAME = re.compile(r"(De)?[Qq]uant(?:ize)?Linear(?:Node)?(?:_+\d+)*$")
# Names given by hand (`/Q_w`, `DQ_1`), which only a quantized layer around them makes Q or DQ.
_BY_HAND = re.compile(r"(?:^|[/.])(DQ|Q)(?:_\w{1,12})?$")


@dataclass(frozen=True, slots=True)
class Fate:
    """The fate of one Q or DQ (or clone). `into` is the layer it was fused into, `engine_layer` the layer of the
    engine where its work happens now, `moves` the layers that it was swapped with, `lines` the log lines."""

    name: str
    op: str
    node: str
    status: str
    into: str = ""
    twin: str = ""
    engine_layer: str = ""
    moves: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        return {
            "name": self.name, "op": self.op, "onnx_node": self.node, "status": self.status, "into": self.into,
            "twin": self.twin, "engine_layer": self.engine_layer, "moves": list(self.moves), "lines": list(self.lines),
        }  # fmt: skip


@dataclass
class _Trace:
    name: str
    op: str
    status: str = ""
    into: str = ""
    twin: str = ""
    moves: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def op_of_name(name: str) -> str:
    """ "Q" or "DQ" where the name says so (exporters name the node after its op), else ""."""
    found = _QDQ_NAME.search(strip_clone(name))
    if found is None:
        return ""
    return "DQ" if found.group(1) else "Q"


def _by_hand(node: str, layer: Layer) -> str:
    found = _BY_HAND.search(node)
    quantized = layer.origin == "QDQ" or any(t.dtype in QUANTIZED for t in (*layer.inputs, *layer.constants))
    return found.group(1) if found is not None and quantized else ""


def trace(build: "Build | None", layers: Sequence[Layer], model: "QdqModel | None" = None) -> tuple[Fate, ...]:
    """Fates of all Q and DQ that the log, the layers or the ONNX model name, in the order of the network."""
    traces = _universe(build, layers, model)
    if build is not None:
        running = ("", "")
        for event in build.passes:
            if event.kind == "pass-run":
                running = (str(event.fields.get("pass", "")), str(event.fields.get("layer", "")))
            _follow(event, traces, running)
        for item in list(traces.values()):
            root = strip_clone(item.name)
            if root != item.name and root in traces and not traces[root].status:
                traces[root].status = "split"
                traces[root].lines.extend(item.lines[:1])
        for item in traces.values():
            item.status = item.status or ("moved" if item.moves else "")
    where = _Where(layers)
    outputs = {n.name: n.output for n in model.nodes} if model is not None else _log_outputs(build)
    done = [_finish(item, where, outputs.get(item.name, ""), bool(layers)) for item in traces.values()]
    by_name = {fate.name: fate for fate in done}
    # Where a Q was merged away, its work happens wherever its twin's does.
    return tuple(
        replace(f, engine_layer=by_name[f.twin].engine_layer) if f.twin in by_name and not f.engine_layer else f
        for f in done
    )


def _universe(build: "Build | None", layers: Sequence[Layer], model: "QdqModel | None") -> dict[str, _Trace]:
    names: dict[str, str] = {}
    if model is not None:
        names |= {n.name: n.op for n in model.nodes}
    if build is not None:
        ops = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ"}
        names |= {n.name: ops[n.op] for n in build.nodes.values() if n.op in ops}
        for event in build.passes:
            for name in _names_in(event):
                if name not in names and (op := op_of_name(name)):
                    names[name] = op
    for layer in layers:
        for node in layer.nodes:
            if node not in names and (op := op_of_name(node) or _by_hand(node, layer)):
                names[node] = op
    return {name: _Trace(name, op) for name, op in names.items()}


def _names_in(event: "Event") -> Iterable[str]:
    for value in event.fields.values():
        for text in value if isinstance(value, tuple) else (value,):
            yield from split_parts(str(text))


# Passes that take Q and DQ into the layer that they run on; some versions log no more than the removal.
_TAKES_IN = ("Quantize", "QConv", "ConstWeightsQuantize")


def _follow(event: "Event", traces: dict[str, _Trace], running: tuple[str, str]) -> None:
    """Apply one optimizer line; `running` is the pass that runs and its layer."""
    fields = event.fields
    kind = event.kind

    def note(name: str, status: str = "", into: str = "") -> None:
        item = traces.get(name)
        if item is not None:
            item.status, item.into = status or item.status, into or item.into
            item.lines.append(event.line)

    if kind == "quantize-fuse":
        for name in _strings(fields.get("nodes")):
            note(name, "fused", str(fields.get("layer", "")))
    elif kind == "duplicate" and str(fields.get("layer", "")) in traces:
        item = traces[str(fields["layer"])]
        item.status, item.twin = "merged", str(fields["twin"])
        item.lines.append(event.line)
    elif kind == "swap":
        first, second = str(fields.get("layer", "")), str(fields.get("with", ""))
        for name, other in ((first, second), (second, first)):
            if name in traces:
                traces[name].moves.append(other)
                traces[name].lines.append(event.line)
    elif kind == "retype" and str(fields.get("from", "")) in ("QUANTIZE", "DEQUANTIZE", "SCALE"):
        note(str(fields["layer"]), "left over")
    elif kind == "fuse":
        _fuse(str(fields.get("pass", "")), str(fields.get("layer", "")), str(fields.get("with", "")), note, traces)
    elif kind in ("merge", "placement"):
        for layer in _strings(fields.get("layers")):
            for part in split_parts(layer):
                if part in traces and traces[part].op == "Q" and not traces[part].status:
                    # `W + Q + Conv`: the name of a conv whose weights hold the Q.
                    note(part, "folded", layer)
    elif kind == "remove":
        name = str(fields.get("layer", ""))
        if name in traces and not traces[name].status:
            runs, target = running
            if runs == "DqQFusion":
                note(name, "cancelled", "")
            elif runs.startswith(_TAKES_IN) and target and target != name:
                note(name, "fused", target)
            else:
                note(name, "removed")


def _fuse(name: str, layer: str, other: str, note: Any, traces: Mapping[str, _Trace]) -> None:
    if name == "ConstWeightsQuantizeFusion":
        note(other, "folded", layer)
        return
    for part in split_parts(layer):
        if part in traces and traces[part].status == "folded":
            note(part, "folded", other)
        elif part in traces:
            note(part, "fused", other)
    for part in split_parts(other):
        if part in traces and not traces[part].status:
            note(part, "fused", layer)


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, tuple) else ()


def _log_outputs(build: "Build | None") -> dict[str, str]:
    if build is None:
        return {}
    return {n.name: n.outputs[0][0] for n in build.nodes.values() if n.outputs}


class _Where:
    """Engine layers by name, by node and by the tensor that they make."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.by_name = {strip_profile(layer.name): layer for layer in layers}
        self.by_part: dict[str, Layer] = {}
        self.by_node: dict[str, list[Layer]] = {}
        self.by_output: dict[str, Layer] = {}
        for layer in layers:
            for part in split_parts(layer.name):
                if category(layer) not in ("reformat", "noop"):
                    self.by_part.setdefault(part, layer)
            for node in layer.nodes:
                self.by_node.setdefault(node, []).append(layer)
            for tensor in layer.outputs:
                self.by_output.setdefault(strip_profile(tensor.name), layer)

    def of(self, name: str) -> str:
        """Name of the engine layer that a layer of the network ended in, "" where none holds it."""
        if name in self.by_name:
            return name
        for part in reversed(split_parts(name)):
            if part in self.by_part:
                return self.by_part[part].name
        return ""


def _finish(item: _Trace, where: _Where, output: str, has_layers: bool) -> Fate:
    """Complete a trace with the engine's layers."""
    status, into, engine = item.status, item.into, ""
    if has_layers:
        exact = where.by_name.get(item.name)
        if exact is not None and category(exact) in ("reformat", "noop", "pointwise"):
            status, engine = "left over", exact.name
        elif status in ("", "removed", "moved"):
            status, into, engine = _by_layers(item, where, output, status, into)
        if not engine:
            engine = where.of(item.twin if status == "merged" else into) if (into or item.twin) else ""
    return Fate(
        item.name, item.op, strip_clone(item.name), status or "not traced", into, item.twin, engine,
        tuple(item.moves), tuple(dict.fromkeys(item.lines)),
    )  # fmt: skip


def _follows_weights(name: str, layer: str) -> bool:
    """Whether Q stands right behind a constant in `W + Q + Conv`."""
    parts = split_parts(layer)
    return any(part == name and not op_of_name(before) for before, part in itertools.pairwise(parts))


def _by_layers(item: _Trace, where: _Where, output: str, status: str, into: str) -> tuple[str, str, str]:
    """Fate where no pass tells it: from nodes that a layer lists, or from the layer that makes the Q's output."""
    holders = where.by_node.get(item.name, [])
    weighted = [layer for layer in holders if is_weighted(layer)]
    if weighted:
        folded = item.op == "Q" and _follows_weights(item.name, weighted[0].name)
        return ("folded" if folded else "fused"), weighted[0].name, weighted[0].name
    if item.op == "Q" and holders and _follows_weights(item.name, holders[0].name):
        return "folded", holders[0].name, holders[0].name
    if holders:
        alone = all(op_of_name(node) for node in holders[0].nodes)
        return ("left over" if alone else "kernel"), holders[0].name, holders[0].name
    maker = where.by_output.get(output) if output and item.op == "Q" else None
    if maker is not None:
        return "fused", maker.name, maker.name
    return status, into, ""
