"""Every kernel that a build timed: for each layer and combination of formats, with its time, and the one chosen."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from quantbench.inspection.logs.build_log import BuildLog, collect
from quantbench.inspection.logs.lexer import Event, read_events
from quantbench.inspection.logs.tactics import NO_TACTIC_MS
from quantbench.layers.formats import normalise_dtype
from quantbench.layers.layer import Layer
from quantbench.layers.names import strip_profile


@dataclass(frozen=True, slots=True)
class TimedKernel:
    """One line of timing: `time_ms` in ms, or None where the kernel could not run (TensorRT prints inf or 3.4e38)."""

    runner: str
    tactic: str
    kernel: str
    time_ms: float | None
    line: int

    @property
    def number(self) -> int:
        """The tactic as the unsigned number that it is; 7.x prints it signed."""
        return int(self.tactic, 0) & ((1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class TacticGroup:
    """Kernels of one layer in one combination of formats. `reformat` tells timings of edges from those of layers;
    `chosen` is (runner, tactic), ("", "") where the log names none."""

    layer: str
    inputs: str
    outputs: str
    reformat: bool
    timings: tuple[TimedKernel, ...]
    chosen: tuple[str, str] = ("", "")
    line: int = 0

    @property
    def precision(self) -> str:
        """Type of the first input, "?" where the layer has none."""
        return normalise_dtype((self.inputs or self.outputs).partition("(")[0])

    @property
    def best(self) -> TimedKernel | None:
        """The kernel chosen, with its time; the fastest where the log names none."""
        ran = sorted((t for t in self.timings if t.time_ms is not None), key=lambda t: t.time_ms or 0.0)
        named = [t for t in ran if t.tactic == self.chosen[1] and self.chosen[0] in ("", t.runner)]
        return next(iter(named or [t for t in ran if t.tactic == self.chosen[1]] or ran), None)


@dataclass(frozen=True, slots=True)
class TacticTable:
    """All groups of a log in order, and the layers of its engine (() where the log ends before them)."""

    groups: tuple[TacticGroup, ...]
    layers: tuple[Layer, ...] = ()
    version: str = ""

    @property
    def timed(self) -> int:
        """Lines of timing in the log."""
        return sum(len(group.timings) for group in self.groups)


@dataclass
class _Reader:
    """Follows the autotuning lines."""

    groups: list[TacticGroup] = field(default_factory=list)
    layer: str = ""
    runner: str = ""
    formats: tuple[str, str] = ("", "")
    reformat: bool = False
    names: dict[str, str] = field(default_factory=dict)
    name: str = ""
    timings: list[TimedKernel] = field(default_factory=list)
    line: int = 0

    def feed(self, event: Event) -> None:
        kind, fields = event.kind, event.fields
        if kind == "tactic" and isinstance(fields.get("time"), float):
            tactic = str(fields["tactic"])
            kernel = str(fields.get("kernel", "")) or self.names.get(tactic, "") or self.name
            time = float(str(fields["time"]))
            self.timings.append(
                TimedKernel(self.runner, tactic, kernel, time if time < NO_TACTIC_MS else None, event.line)
            )
            self.name = ""
        elif kind == "tactic-name" and fields:
            self.names[str(fields.get("tactic", ""))] = str(fields.get("kernel", ""))
            # 7.x names the kernel on the line before its tactic.
            self.name = "" if "tactic" in fields else str(fields.get("kernel", ""))
        elif kind == "runner":
            layer = str(fields.get("layer", ""))
            if self.timings and layer != self.layer:
                self.close(("", ""))
            self.layer, self.runner = layer, str(fields.get("runner", ""))
            self.line = self.line or event.line
        elif kind == "autotune":
            self.close(("", ""))
            self.reformat = "Autotuning Reformat" in event.message
            self.formats = (str(fields.get("inputs", "")), str(fields.get("outputs", "")))
        elif kind == "chosen":
            self.close((str(fields.get("runner", "")), str(fields.get("tactic", ""))))

    def close(self, chosen: tuple[str, str]) -> None:
        if self.timings or chosen[1]:
            self.groups.append(
                TacticGroup(self.layer, *self.formats, self.reformat, tuple(self.timings), chosen, self.line)
            )
        self.timings, self.names, self.name, self.line = [], {}, "", 0


def read_tactics(path: Path) -> TacticTable:
    """The table of the log at `path`. Raises QuantbenchError where it cannot be read."""
    return tactic_table(read_events(path))


def tactic_table(events: Iterable[Event]) -> TacticTable:
    """The table of `events`; never raises on any text."""
    reader = _Reader()

    def followed() -> Iterable[Event]:
        for event in events:
            reader.feed(event)
            yield event

    log: BuildLog = collect(followed())
    reader.close(("", ""))
    return TacticTable(tuple(reader.groups), log.build.layers, log.version)


def replay_table(table: TacticTable) -> dict[str, frozenset[int]]:
    """Layer to the kernels that it has in the engine (of each profile one); where the log ends before the engine's
    layers, those that were chosen for any of its formats."""
    found: dict[str, set[int]] = {}
    for layer in table.layers:
        text = str(layer.attributes.get("TacticValue", layer.tactic))
        try:
            number = int(text, 0) & ((1 << 64) - 1)
        except ValueError:
            continue
        found.setdefault(strip_profile(layer.name), set()).add(number)
    if not found:
        for group in table.groups:
            if not group.reformat and group.chosen[1] and group.layer:
                found.setdefault(group.layer, set()).add(int(group.chosen[1], 0) & ((1 << 64) - 1))
    return {layer: frozenset(tactics) for layer, tactics in found.items()}
