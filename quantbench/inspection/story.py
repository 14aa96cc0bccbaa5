"""The fusion story of a build: every optimizer pass in order with its targets, grouped by Q/DQ phase, and the number
of layers after each stage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.inspection.fate import op_of_name
from quantbench.inspection.logs.build_log import Build
from quantbench.inspection.logs.lexer import Event
from quantbench.inspection.passes.entry import GENERAL, PHASES
from quantbench.inspection.passes.registry import OF_KIND, PASSES, phase_of, phase_of_heading
from quantbench.json_types import JsonObject

_TARGETS = {
    "fuse": ("layer", "with"), "quantize-fuse": ("nodes", "layer"), "remove": ("layer",), "swap": ("layer", "with"),
    "duplicate": ("layer", "twin"), "retype": ("layer", "from", "to"), "merge": ("layers",),
    "concat-removal": ("layer",), "slice-removal": ("layer", "to"), "retarget": ("tensor", "into"),
    "copy": ("tensor", "into", "why"), "pass-run": ("layer",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a pass did. `name` is the pass, `kind` the form of its line, `targets` the layers or tensors in
    the line's order; `heading` is the Q/DQ phase that the log had announced last, `phase` the one it belongs to."""

    line: int
    name: str
    kind: str
    targets: tuple[str, ...]
    phase: int
    heading: int

    @property
    def known(self) -> bool:
        """Whether the registry has an entry for the pass."""
        return self.name in PASSES

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        return {"line": self.line, "pass": self.name, "kind": self.kind, "targets": list(self.targets),
                "phase": self.phase}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Story:
    """Steps in order; `stages` are (line, stage, number of layers); `runs` counts the `Running:` lines a pass."""

    steps: tuple[Step, ...]
    stages: tuple[tuple[int, str, int], ...]
    runs: Counter[str]

    def of_phase(self, phase: int) -> tuple[Step, ...]:
        """Steps of one Q/DQ phase (1 to 7), or of none (0)."""
        return tuple(step for step in self.steps if step.phase == phase)

    @property
    def effects(self) -> Counter[str]:
        """How often each pass did something (fused, swapped, merged …), `Running:` lines and removals apart."""
        return Counter(s.name for s in self.steps if s.kind not in ("pass-run", "remove"))

    @property
    def unknown_passes(self) -> tuple[str, ...]:
        """Passes that the log names and the registry does not know."""
        return tuple(dict.fromkeys(step.name for step in self.steps if not step.known and step.name))

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`."""
        phases: list[JsonObject] = [
            {"phase": number, "title": PHASES[number][0] if number else "outside the Q/DQ phases",
             "steps": [s.to_json() for s in self.of_phase(number)]}
            for number in (*PHASES, GENERAL)
        ]  # fmt: skip
        return {
            "runs": dict(self.runs), "effects": dict(self.effects), "phases": phases,
            "unknown_passes": list(self.unknown_passes),
            "stages": [{"line": line, "stage": stage, "layers": count} for line, stage, count in self.stages],
        }  # fmt: skip


def tell(build: Build) -> Story:
    """The story of `build`. A line without a pass name (`Removing`, `Swapping`) belongs to the pass that runs."""
    steps: list[Step] = []
    runs: Counter[str] = Counter()
    running = ""
    heading = GENERAL
    for event in build.passes:
        if event.kind == "phase":
            heading = phase_of_heading(event.message) or (heading if "QDQ" in event.message else GENERAL)
            running = ""
            continue
        name = _name(event, running)
        if event.kind == "pass-run":
            running = name
            runs[name] += 1
        steps.append(Step(event.line, name, event.kind, _targets(event), phase_of(name), heading))
    return Story(tuple(steps), tuple(build.stages), runs)


# 8.0 and older print no `Running:` line: the change of type tells the pass.
_OF_RETYPE = {
    ("QUANTIZE", "kQDQ"): "QDQToCopy", ("DEQUANTIZE", "kQDQ"): "QDQToCopy",
    ("FULLY_CONNECTED", "CONVOLUTION"): "FCToConvTransform",
    ("MATRIX_MULTIPLY", "CONVOLUTION"): "MatMulToConvTransform",
    ("ACTIVATION", "POINTWISE"): "ActivationToPointwiseConversion", ("IDENTITY", "CAST"): "IdentityToCastTransform",
    ("ELEMENTWISE", "POINTWISE"): "EltWiseToPointwiseConversion",
}  # fmt: skip


def _name(event: Event, running: str) -> str:
    """The pass of a line: its own word, else what its form tells, else the pass that runs."""
    fields = event.fields
    named = fields.get("pass")
    if isinstance(named, str) and named:
        return named
    if event.kind in OF_KIND:
        return OF_KIND[event.kind]
    if event.kind == "swap" and not running.startswith("Vanilla"):
        moved = op_of_name(str(fields.get("with", "")))
        return {"Q": "VanillaSwapWithFollowingQ", "DQ": "VanillaSwapWithPreceedingDQ"}.get(moved, running)
    if event.kind == "duplicate":
        return "HorizontalMergeQNodes" if fields.get("sort") == "Q" else running or "Eliminating duplicate"
    if event.kind == "retype" and not running:
        return _OF_RETYPE.get((str(fields.get("from")), str(fields.get("to"))), "")
    return running


def _targets(event: Event) -> tuple[str, ...]:
    fields = event.fields
    found: list[str] = []
    for key in _TARGETS.get(event.kind, ()):
        value = fields.get(key)
        if isinstance(value, tuple):
            found.extend(str(v) for v in value)
        elif value is not None:
            found.append(str(value))
    return tuple(found)


def stage_changes(stages: Sequence[tuple[int, str, int]]) -> list[tuple[int, str, int, int]]:
    """(line, stage, layers, change against the stage before)."""
    found: list[tuple[int, str, int, int]] = []
    before = None
    for line, stage, count in stages:
        found.append((line, stage, count, 0 if before is None else count - before))
        before = count
    return found
