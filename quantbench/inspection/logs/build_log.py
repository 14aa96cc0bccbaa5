"""One pass over a log: builds, each with stages, passes, nodes, kernels, placement, memory, scales and layers."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from quantbench.inspection.logs.forms import UnknownForm, form_of
from quantbench.inspection.logs.header import version_of
from quantbench.inspection.logs.kinds import NOT_LOG_LINES
from quantbench.inspection.logs.layer_line import parse_layer_line
from quantbench.inspection.logs.lexer import Event, read_events
from quantbench.inspection.logs.profile_table import ProfileTable
from quantbench.inspection.logs.tactics import TacticReader
from quantbench.layers.layer import Layer
from quantbench.layers.names import metadata_nodes

PASS_KINDS = frozenset(
    {"phase", "pass-run", "fuse", "quantize-fuse", "remove", "duplicate", "swap", "retype", "merge",
     "concat-removal", "slice-removal", "retarget", "copy"}
)  # fmt: skip
_TACTIC_KINDS = frozenset(
    {"tactic", "tactic-name", "runner", "fastest", "autotune", "chosen", "tactic-skip", "timing-cache"}
)  # fmt: skip
_FORMS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class LogNode:
    """An ONNX node as the parser logged it: tensors are (name, dims, dtype as ONNX names it)."""

    name: str
    op: str
    inputs: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    outputs: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class LayerDump:
    """One dump of layers; `heading` is "Layers:" or "Engine Layer Information:"."""

    line: int
    heading: str
    layers: tuple[Layer, ...]


@dataclass
class Build:
    """What a log says of one build. Lists are in the order of the log; `line` values are 1-based."""

    line: int
    stages: list[tuple[int, str, int]] = field(default_factory=list)
    passes: list[Event] = field(default_factory=list)
    nodes: dict[str, LogNode] = field(default_factory=dict)
    initializers: list[str] = field(default_factory=list)
    network_inputs: list[str] = field(default_factory=list)
    network_outputs: list[str] = field(default_factory=list)
    registered: set[str] = field(default_factory=set)
    foreign: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tactics: TacticReader = field(default_factory=TacticReader)
    placements: list[tuple[str, str, str]] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)
    layer_memory: dict[str, dict[str, int]] = field(default_factory=dict)
    scales: dict[str, tuple[float, ...]] = field(default_factory=dict)
    # Ranges that trtexec or the program set, tensor to (low, high).
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    missing_scales: list[tuple[int, str]] = field(default_factory=list)
    # Layers that got a default for want of a scale.
    defaulted: dict[str, int] = field(default_factory=dict)
    assigned: str = ""
    rejected: list[Event] = field(default_factory=list)
    precision_notes: list[Event] = field(default_factory=list)
    calibration: list[Event] = field(default_factory=list)
    reformats: list[Event] = field(default_factory=list)
    warnings: list[Event] = field(default_factory=list)
    errors: list[Event] = field(default_factory=list)
    dumps: list[LayerDump] = field(default_factory=list)
    profile: ProfileTable = field(default_factory=ProfileTable)
    summary: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    @cached_property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Tensor to dims, as the parser logged them; read it when the log has been read."""
        return {name: dims for node in self.nodes.values() for name, dims, _ in (*node.inputs, *node.outputs)}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers of the fullest description of the engine: `Layers:` (with formats) before the classic dump."""
        for heading in ("Layers:", "Engine Layer Information:"):
            for dump in reversed(self.dumps):
                if dump.heading == heading and dump.layers:
                    return dump.layers
        return ()


@dataclass
class BuildLog:
    """A whole log. `kinds` counts lines by kind; `unknown_forms` counts the lines not understood by their form."""

    version: str = ""
    command: str = ""
    options: dict[str, str] = field(default_factory=dict)
    builds: list[Build] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    unknown_forms: dict[str, UnknownForm] = field(default_factory=dict)
    lines: int = 0

    @property
    def unknown(self) -> tuple[UnknownForm, ...]:
        """Forms of lines that were not understood, the commonest first."""
        return tuple(sorted(self.unknown_forms.values(), key=lambda f: (-f.count, f.line)))

    @property
    def build(self) -> Build:
        """The build that the log is about: the last one with layers, else the last with passes, else the last."""
        with_layers = [build for build in self.builds if build.layers]
        with_passes = [build for build in self.builds if build.passes or build.placements]
        return next(iter((with_layers or with_passes or self.builds)[-1:]), Build(line=1))

    @property
    def layer_lines(self) -> int:
        """Layers in all dumps of all builds."""
        return sum(len(dump.layers) for build in self.builds for dump in build.dumps)


def read_build_log(path: Path) -> BuildLog:
    """Read the log at `path`, streamed. Raises QuantbenchError where the file cannot be read."""
    return collect(read_events(path))


def collect(events: Iterable[Event]) -> BuildLog:
    """Gather `events` into builds; never raises on any text."""
    log = BuildLog()
    collector = _Collector(log)
    for event in events:
        collector.feed(event)
    collector.close_dump()
    return log


def understood_share(log: BuildLog) -> tuple[int, float]:
    """Number of log lines (blank ones and those of other programs apart) and the fraction of them understood."""
    lines = sum(n for kind, n in log.kinds.items() if kind not in NOT_LOG_LINES)
    return lines, 1 - log.kinds["unknown"] / lines if lines else 1.0


class _Collector:
    """Where a line belongs: which build, which dump."""

    def __init__(self, log: BuildLog) -> None:
        self.log = log
        self.dump: tuple[int, str, list[Layer]] | None = None

    def build_for(self, event: Event) -> Build:
        """The current build; a new one where parsing or optimizing begins again after an engine was made."""
        builds = self.log.builds
        starts = event.kind in ("onnx-header", "network-io") or (event.kind == "stage" and "Original" in event.message)
        # Excerpts may hold nothing of a build but its placement, which begins with this heading.
        placed = (
            event.kind == "placement" and "Running on DLA" in event.message and bool(builds and builds[-1].placements)
        )
        if not builds or placed or (builds[-1].finished and (starts or self._another_dump(event))):
            builds.append(Build(line=event.line))
        return builds[-1]

    def _another_dump(self, event: Event) -> bool:
        """A second engine dump of the same heading belongs to another engine (logs cut down to their dumps)."""
        heading = event.message.strip()
        return event.kind == "layer-dump" and any(d.heading == heading for d in self.log.builds[-1].dumps)

    def feed(self, event: Event) -> None:
        log = self.log
        log.lines += 1
        kind = event.kind
        log.kinds[kind] += 1
        if kind in ("blank", "note", "program"):
            return
        if kind == "layer":
            self.layer(event)
            return
        if self.dump is not None and kind != "binding":
            self.close_dump()
        build = self.build_for(event)
        if kind in _TACTIC_KINDS:
            build.tactics.feed(event)
        elif kind in PASS_KINDS:
            build.passes.append(event)
        elif kind in _HANDLERS:
            _HANDLERS[kind](log, build, event)
        elif kind == "layer-dump" and event.message.strip() in ("Layers:", "Engine Layer Information:"):
            self.dump = (event.line, event.message.strip(), [])
        elif kind == "build" and event.message.startswith(("Engine generation completed", "Engine built")):
            build.finished = True
        elif kind == "unknown":
            _count_form(log.unknown_forms, event)
        if not log.version and kind in _VERSION_KINDS:
            log.version = version_of(event.message)

    def layer(self, event: Event) -> None:
        layer = parse_layer_line(event.message)
        if layer is None:
            if event.message.startswith(("Layer(", "Name: ")):
                return  # cut off inside the line
            layer = Layer(name=event.message.strip(), type="")
        if self.dump is None:
            heading = "Layers:" if event.message.startswith("Name: ") else "Engine Layer Information:"
            self.dump = (event.line, heading, [])
        self.dump[2].append(layer)

    def close_dump(self) -> None:
        if self.dump is None:
            return
        line, heading, layers = self.dump
        self.dump = None
        build = self.build_for(Event(line, "layer-dump", heading))
        build.dumps.append(LayerDump(line, heading, tuple(layers)))
        build.finished = build.finished or heading == "Layers:" or bool(layers)


def _count_form(forms: dict[str, UnknownForm], event: Event) -> None:
    form = form_of(event.message)
    known = forms.get(form)
    if known is not None:
        forms[form] = replace(known, count=known.count + 1)
    elif len(forms) < _FORMS_KEPT:
        forms[form] = UnknownForm(form, 1, event.line, event.message)


def _stage(log: BuildLog, build: Build, event: Event) -> None:
    fields = event.fields
    if "layers" in fields:
        build.stages.append((event.line, str(fields["stage"]), int(str(fields["layers"]))))


def _node(log: BuildLog, build: Build, event: Event) -> None:
    fields = event.fields
    if not fields:
        return
    name, op = str(fields["node"]), str(fields["op"])
    old = build.nodes.get(name) or LogNode(name, op, line=event.line)
    tensors = fields.get("tensors")
    if isinstance(tensors, tuple):
        inputs, outputs = (tensors, old.outputs) if event.kind == "node-inputs" else (old.inputs, tensors)
        old = LogNode(name, op, inputs, outputs, old.line)
    build.nodes[name] = old


def _placement(log: BuildLog, build: Build, event: Event) -> None:
    fields = event.fields
    if fields:
        device = "DLA" if fields["device"] == "Dla" else "GPU"
        build.placements.append((device, str(fields.get("type", "")), str(fields["layer"])))


def _memory(log: BuildLog, build: Build, event: Event) -> None:
    fields = event.fields
    if fields:
        sizes = {k: int(str(v)) for k, v in fields.items() if k != "layer"}
        build.layer_memory[str(fields["layer"])] = sizes
    elif event.message.startswith(("Total ", "Max Scratch", "[MemUsageStats]", "Allocated ")):
        build.memory.append(event.message.strip())


def _scale(log: BuildLog, build: Build, event: Event) -> None:
    fields = event.fields
    if "assigned" in fields:
        build.assigned = str(fields["assigned"])
        return
    scales = fields.get("scales")
    if isinstance(scales, tuple):
        build.scales[str(fields["tensor"])] = scales
        if event.message.startswith("using ") and build.assigned:
            build.scales[build.assigned] = scales
    build.assigned = ""


def _range(log: BuildLog, build: Build, event: Event) -> None:
    fields = event.fields
    if fields:
        try:
            build.ranges[str(fields["tensor"])] = (float(str(fields["low"])), float(str(fields["high"])))
        except ValueError:
            return  # a number cut off


def _missing(log: BuildLog, build: Build, event: Event) -> None:
    fields = event.fields
    if "layer" in fields:
        if fields["layer"]:
            build.defaulted.setdefault(str(fields["layer"]), event.line)
        return
    build.missing_scales.append((event.line, str(fields.get("tensor", event.message))))


def _summary(log: BuildLog, build: Build, event: Event) -> None:
    key, _, value = event.message.partition(":")
    build.summary[key.strip()] = value.strip()


def _option(log: BuildLog, build: Build, event: Event) -> None:
    key, colon, value = event.message.partition(":")
    if colon:
        log.options.setdefault(key.strip(), value.strip())


def _trtexec(log: BuildLog, build: Build, event: Event) -> None:
    if not log.command and " # " in event.message:
        log.command = event.message.partition(" # ")[2].strip()


def _initializer(log: BuildLog, build: Build, event: Event) -> None:
    build.initializers.append(str(event.fields.get("tensor", "")))


def _network_io(log: BuildLog, build: Build, event: Event) -> None:
    """`Adding network input: x with dtype: ...` and `Marking x_12 as output: x`, the ONNX name last."""
    start, _, rest = event.message.partition(": ")
    if start == "Adding network input":
        build.network_inputs.append(rest.partition(" with dtype")[0].strip())
    elif start.startswith("Marking ") and start.endswith(" as output"):
        build.network_outputs.append(rest.strip())


def _register(log: BuildLog, build: Build, event: Event) -> None:
    """ONNX nodes that have a layer of their name; importers write some out as unnamed layers."""
    layer, joint, node = event.message.removeprefix("Registering layer: ").partition(" for ONNX node: ")
    if joint and layer.strip() == node.strip():
        build.registered.add(node.strip())


def _foreign(log: BuildLog, build: Build, event: Event) -> None:
    """`ForeignNode {ForeignNode[a...b]} metadata: [ONNX Layer: a][ONNX Layer: ...`: the nodes that went to Myelin."""
    name, joint, metadata = event.message.partition(" metadata: ")
    if joint and name.startswith("ForeignNode "):
        build.foreign.setdefault(name.removeprefix("ForeignNode "), metadata_nodes(metadata))


def _append_to(name: str) -> Callable[[BuildLog, Build, Event], None]:
    def append(log: BuildLog, build: Build, event: Event) -> None:
        kept: list[Event] = getattr(build, name)
        kept.append(event)

    return append


_HANDLERS: dict[str, Callable[[BuildLog, Build, Event], None]] = {
    "stage": _stage, "parse-node": _node, "node-inputs": _node, "node-outputs": _node, "placement": _placement,
    "memory": _memory, "scale": _scale, "dynamic-range": _range, "missing-scale": _missing,
    "summary": _summary, "option": _option,
    "trtexec": _trtexec, "network-io": _network_io, "register": _register, "myelin": _foreign,
    "import-initializer": _initializer, "rejected-int8": _append_to("rejected"),
    "precision": _append_to("precision_notes"), "calibration": _append_to("calibration"),
    "reformat": _append_to("reformats"), "warning": _append_to("warnings"), "error": _append_to("errors"),
    "profile": lambda log, build, event: build.profile.feed(event.message),
    "section": lambda log, build, event: build.profile.open(event.message),
}  # fmt: skip
_VERSION_KINDS: Mapping[str, bool] = dict.fromkeys(("trtexec", "library", "option", "section", "error"), True)
