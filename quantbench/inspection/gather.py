"""From paths to inspections: tell what each file is, find its companions, join what belongs to one engine."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.inspection.companions import RUN_FILES, companions, in_run
from quantbench.inspection.detect import Found, detect
from quantbench.inspection.dynamic_types import NOTE, fill_types, unnamed_types
from quantbench.inspection.embedded import MARKS, embedded
from quantbench.inspection.fate import trace
from quantbench.inspection.inspection import Inspection, Source
from quantbench.inspection.layer_json import built_by, read_layer_info, read_own_layers
from quantbench.inspection.logs.build_log import BuildLog, read_build_log
from quantbench.inspection.logs.kinds import NOT_LOG_LINES
from quantbench.inspection.nsys.join import layer_times
from quantbench.inspection.nsys.read import copies_notes, read_nsys
from quantbench.inspection.nsys.trace import Trace
from quantbench.inspection.open_file import bare_name, head, read_bytes
from quantbench.inspection.profile import Profile, Row, join, profile_of_table, read_latency_lists, read_profile
from quantbench.inspection.qdq_onnx import QdqModel, read_qdq_onnx
from quantbench.inspection.story import tell
from quantbench.inspection.timing import Statistics, read_timing
from quantbench.json_types import JsonObject
from quantbench.layers.layer import Layer
from quantbench.layers.metadata import read_metadata
from quantbench.layers.names import nodes_of, strip_profile
from quantbench.records.run import PtqRun, QatRun, run_of

# Reads an engine file: its layers. Given by the caller, since inspection imports no engine.
EngineReader = Callable[[Path], Sequence[Layer]]

# Larger texts are logs of builds, which hold no JSON.
_EMBEDDED_AT_MOST = 32 << 20
_LAYER_SOURCES = ("layer-info", "own-layers", "engine", "log", "onnx")
_SUFFIXES = (".graph.json", ".profile.json", ".layers.json", ".build.log", ".json", ".log", ".txt", ".md", ".cache",
             ".engine", ".plan", ".trt", ".onnx")  # fmt: skip


@dataclass
class _Group:
    """Files of one engine while they are being read."""

    sources: list[Source] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    layers: tuple[Layer, ...] = ()
    names_only: bool = False
    bindings: tuple[str, ...] = ()
    profiles: list[Profile] = field(default_factory=list)
    timing: dict[str, Statistics] = field(default_factory=dict)
    nsys: Trace | None = None
    metadata: dict[str, JsonObject] = field(default_factory=dict)
    run: PtqRun | QatRun | None = None
    log: BuildLog | None = None
    model: QdqModel | None = None
    notes: list[str] = field(default_factory=list)
    # A prediction (`quantbench predict --json`) stands beside the engine that it predicts, never in one with it.
    predicted: bool = False
    version: str = ""

    @property
    def names(self) -> set[str]:
        found = {strip_profile(layer.name) for layer in self.layers}
        if self.log is not None:
            found |= {strip_profile(layer.name) for layer in self.log.build.layers}
        return found


def gather(
    paths: Sequence[Path], *, siblings: bool = True, build: int | None = None, look: EngineReader | None = None
) -> list[Inspection]:
    """Inspections of `paths`, one an engine, in the order given.

    Files join by what they hold: a profile with the layers whose names it shares, a log with a layer-info JSON of
    the same layers; two files of one kind never join. With `siblings`, companions are read too: what trtexec users
    keep beside a `x.graph.json` (profile, timing, metadata), what `quantbench build` leaves beside an engine (layers,
    log). `build` picks one of several builds in a log (1 is the first). `look` reads engines that have no layers
    beside them. Raises QuantbenchError where a path cannot be read or is of no known kind.
    """
    found = [f for path in paths for f in _expand(path)]
    owners: dict[Path, Path] = {}
    if siblings:
        for item in tuple(found):
            if item.kind not in _LAYER_SOURCES or item.path in owners:
                continue
            for path in companions(item):
                owners.setdefault(path, item.path)
                if all(path != other.path for other in found):
                    found.append(detect(path))
    described = {owners[f.path] for f in found if f.path in owners and f.kind in ("own-layers", "log")}
    groups: list[_Group] = []
    for item in sorted(found, key=lambda f: (f.path in owners, f.kind not in _LAYER_SOURCES)):
        read = _read(item, look if item.path not in described else _no_layers)
        owner = owners.get(item.path)
        home = next((g for g in groups if any(s.path == owner for s in g.sources)), None) if owner else None
        home = home or _home(groups, item, read)
        if home is None:
            groups.append(read)
        else:
            _merge(home, read)
    return [_finish(group, build) for group in groups]


def _expand(path: Path) -> list[Found]:
    found = detect(path)
    if found.kind != "run-folder":
        return [found]
    return [detect(path / name) for name in RUN_FILES if (path / name).exists()]


def _no_layers(path: Path) -> Sequence[Layer]:
    """Stands in for a reader where files beside the engine at `path` hold its layers."""
    return ()


def _read(found: Found, look: EngineReader | None) -> _Group:
    """One file as a group of its own."""
    text = found.text
    if found.kind == "engine":
        text += f", {found.path.stat().st_size / 1e6:.1f} MB"
    group = _Group(sources=[Source(found.path, found.kind, text)], kinds={found.kind})
    kind, data = found.kind, found.data
    if kind == "log":
        group.log = read_build_log(found.path)
        if not group.log.build.layers:
            _embedded(group, found.path)
        if not set(group.log.kinds) - NOT_LOG_LINES:
            held = "text with the layers of an engine in it" if group.layers else "text without a line of TensorRT"
            group.sources = [Source(found.path, found.kind, held)]
    elif kind == "layer-info":
        info = read_layer_info(data)
        group.layers, group.names_only, group.bindings = info.layers, info.names_only, info.bindings
    elif kind == "own-layers":
        group.layers = read_own_layers(data)
        group.predicted = isinstance(data, dict) and "for" in data
        group.version = built_by(data)
    elif kind == "profile":
        group.profiles.append(read_profile(data))
    elif kind == "latency-lists":
        group.profiles.append(read_latency_lists(data))
    elif kind == "timing":
        group.timing = read_timing(data)
    elif kind == "nsys":
        group.nsys = read_nsys(found.path)
        group.notes.extend(copies_notes(group.nsys))
    elif kind == "metadata":
        group.metadata = read_metadata(data)
    elif kind == "run-record":
        try:
            group.run = run_of(data, found.path.name)
        except QuantbenchError as error:
            group.notes.append(str(error))
    elif kind == "onnx":
        model = read_qdq_onnx(found.path)
        if model.layers:
            group.layers = model.layers
            group.notes.append("onnxruntime saved this model after optimizing it: its nodes are the engine's layers")
        group.model = model
    elif kind == "engine":
        if look is None:
            raise QuantbenchError(f"{found.path} is an engine, and no reader of engines is at hand; export its layers")
        group.layers = tuple(look(found.path))
    elif kind == "calibration-cache":
        text = read_bytes(found.path).decode("utf-8", "replace")
        count = sum(1 for line in text.split("\n")[1:] if ": " in line)
        group.notes.append(
            f"{found.path.name} is a calibration cache with {count} tensors and holds no layers; "
            f"`quantbench cache show {found.path}` judges it"
        )
    elif kind in ("ranges", "inspection"):
        group.notes.append(f"{found.path.name} is {found.text}; it holds no layers of an engine")
    return group


def _embedded(group: _Group, path: Path) -> None:
    """Layers and profile that stand as JSON or as Polygraphy's text inside the file at `path`."""
    data = head(path, _EMBEDDED_AT_MOST)  # of an archive that is cut off, what it holds
    if not any(mark in data for mark in MARKS):
        return
    found = embedded(data.decode("utf-8", "replace"))
    if found.layer_info is not None:
        info = read_layer_info(found.layer_info)
        group.layers, group.names_only, group.bindings = info.layers, info.names_only, info.bindings
    elif found.layers:
        group.layers = found.layers
    if found.profile:
        group.profiles.append(read_profile(found.profile))
    if found:
        group.notes.append(f"{path.name} holds the layers of an engine inside other text")


def _kernel_layers(trace: Trace) -> list[Layer]:
    """Kernels in place of layers, where no file tells of layers: the time is that of all launches."""
    total: dict[str, float] = {}
    for kernel in trace.kernels:
        total[kernel.name] = total.get(kernel.name, 0.0) + kernel.total_ms
    return [Layer(name=name, type="kernel", time_ms=time) for name, time in total.items()]


def _home(groups: list[_Group], item: Found, read: _Group) -> _Group | None:
    """The group that the file belongs to, None for a new one."""
    candidates = [
        g
        for g in groups
        # An engine without layers waits for the files beside it, which name it as their owner.
        if not g.predicted and (g.names or "engine" not in g.kinds)
        if item.kind not in g.kinds or item.kind == "metadata"
    ]
    if not candidates or read.predicted:
        return None
    names = read.names or {strip_profile(row.name) for profile in read.profiles for row in profile.rows}
    if names and (item.kind != "onnx" or read.layers):
        overlap = [(len(names & g.names) / len(names), _common(g, item.path), i) for i, g in enumerate(candidates)]
        share, _, index = max(overlap)
        if share >= 0.5 or (item.kind != "log" and not candidates[index].names):
            return candidates[index]
        return None if item.kind in _LAYER_SOURCES else candidates[index]
    if item.kind == "log" and not (read.log and read.log.build.layers):
        return candidates[0] if len(candidates) == 1 and _common(candidates[0], item.path) > 0 else None
    return max(candidates, key=lambda g: _common(g, item.path))


def _common(group: _Group, path: Path) -> int:
    """Length of the longest common beginning of the file names, within one folder."""
    return max(
        (_same_start(s.path.name, path.name) + (s.path.parent == path.parent) for s in group.sources),
        default=0,
    )


def _same_start(first: str, second: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _merge(home: _Group, read: _Group) -> None:
    home.sources.extend(read.sources)
    home.kinds |= read.kinds
    if read.layers and not home.layers:
        home.layers, home.names_only, home.bindings = read.layers, read.names_only, read.bindings
    home.profiles.extend(read.profiles)
    home.timing |= read.timing
    for section, values in read.metadata.items():
        home.metadata.setdefault(section, {}).update(values)
    home.nsys = home.nsys or read.nsys
    home.run = home.run or read.run
    home.log = home.log or read.log
    home.version = home.version or read.version
    home.model = home.model or read.model
    home.notes.extend(read.notes)


def _finish(group: _Group, number: int | None) -> Inspection:
    log, notes = group.log, list(group.notes)
    chosen = None
    if log is not None:
        if number is not None and not 1 <= number <= len(log.builds):
            raise QuantbenchError(
                f"{group.sources[0].path} holds {len(log.builds)} build(s), not {number}; choose another --build"
            )
        chosen = log.builds[number - 1] if number is not None else log.build
        if len(log.builds) > 1:
            shown = log.builds.index(chosen) + 1 if chosen in log.builds else len(log.builds)
            notes.append(f"the log holds {len(log.builds)} builds; shown is number {shown}, from line {chosen.line}")
    layers = group.layers
    if chosen is not None and chosen.layers and (not layers or group.names_only):
        layers, group.names_only = chosen.layers, False
    iterations = 0
    unjoined: tuple[Row, ...] = ()
    profiles = list(group.profiles)
    if not profiles and chosen is not None and (table := profile_of_table(chosen.profile)) is not None:
        profiles.append(table)
    if group.nsys is not None and not profiles:
        if layers:
            seen, said = layer_times(layers, group.nsys)
            notes.extend(said)
            profiles.extend([seen] if seen.rows else [])
        else:
            layers, group.names_only = tuple(_kernel_layers(group.nsys)), True
    if profiles:
        iterations = profiles[0].iterations
        if layers:
            layers, unjoined = join(layers, profiles[0])
        else:
            layers = tuple(
                Layer(name=row.name, type="", nodes=nodes_of(row.name), time_ms=row.mean_ms) for row in profiles[0].rows
            )
            group.names_only = True
    if not group.names_only and unnamed_types(layers):
        layers = fill_types(layers)
        notes.append(NOTE)
    return Inspection(
        title=_title(group),
        sources=tuple(group.sources),
        version=(log.version if log is not None else "") or group.version,
        layers=layers,
        names_only=group.names_only,
        bindings=group.bindings,
        iterations=iterations,
        unjoined=unjoined,
        timing=group.timing,
        metadata=group.metadata,
        run=group.run,
        log=log,
        build=chosen,
        story=tell(chosen) if chosen is not None else None,
        fates=trace(chosen, layers, group.model) if layers or chosen is not None else (),
        model=group.model,
        notes=tuple(notes),
    )


def _title(group: _Group) -> str:
    path = group.sources[0].path
    if path.name in RUN_FILES or in_run(path):
        return path.resolve().parent.name or path.name
    name = bare_name(path)
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name or path.name
