"""Kernel timings of a build: for each layer and format the kernel chosen, its time, and how close the next one came."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from quantbench.inspection.logs.lexer import Event

# TensorRT prints FLT_MAX where no kernel of a family worked.
NO_TACTIC_MS = 1e38


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed kernel; `time_ms` in ms, `kernel` "" where the log names none."""

    runner: str
    tactic: str
    kernel: str
    time_ms: float


@dataclass(frozen=True, slots=True)
class Choice:
    """All kernels of one layer in one combination of formats.

    `best` is the kernel chosen, `runner_up` the fastest other one; `skipped` counts kernels that could not run;
    `times` are all that were timed, fastest first.
    """

    layer: str
    inputs: str
    outputs: str
    best: Timing | None
    runner_up: Timing | None
    timed: int
    skipped: int
    line: int
    times: tuple[Timing, ...] = ()

    @property
    def margin(self) -> float | None:
        """How much slower the runner-up is, as a fraction of the best (0.03 = 3 %); None without both times."""
        if self.best is None or self.runner_up is None or self.best.time_ms <= 0:
            return None
        return self.runner_up.time_ms / self.best.time_ms - 1


@dataclass
class TacticReader:
    """Follows the autotuning lines of one build; feed it events, then read `choices`.

    `edges` are the reformats between layers, timed in the same way, and what a timing cache already knew (10.x prints
    its time); neither says what the engine runs.
    """

    choices: list[Choice] = field(default_factory=list)
    edges: list[Choice] = field(default_factory=list)
    _layer: str = ""
    _runner: str = ""
    _formats: tuple[str, str] = ("", "")
    _reformatting: bool = False
    _pending: dict[str, str] = field(default_factory=dict)
    _times: list[Timing] = field(default_factory=list)
    _fastest: list[Timing] = field(default_factory=list)
    _skipped: int = 0
    _line: int = 0

    def feed(self, event: Event) -> None:
        """Take one event; kinds other than those of autotuning are ignored."""
        kind = event.kind
        if kind == "tactic":
            self._tactic(event)
        elif kind == "tactic-name":
            fields = event.fields
            if "tactic" in fields:
                self._pending[str(fields["tactic"])] = str(fields["kernel"])
        elif kind == "runner":
            fields = event.fields
            self._layer, self._runner = str(fields.get("layer", "")), str(fields.get("runner", ""))
            if not self._line:
                self._line = event.line
        elif kind == "fastest":
            self._note_fastest(event)
        elif kind == "autotune":
            self._close(None)
            self._reformatting = "Autotuning Reformat" in event.message
            fields = event.fields
            self._formats = (str(fields.get("inputs", "")), str(fields.get("outputs", "")))
        elif kind == "chosen":
            fields = event.fields
            self._close((str(fields.get("runner", "")), str(fields.get("tactic", ""))))
        elif kind == "tactic-skip":
            self._skipped += 1
        elif kind == "timing-cache":
            self._cached(event)

    def _cached(self, event: Event) -> None:
        fields = event.fields
        time = fields.get("time")
        if isinstance(time, float) and time < NO_TACTIC_MS:
            best = Timing(str(fields["runner"]), str(fields["tactic"]), "", time)
            self.edges.append(
                Choice(str(fields["layer"]), str(fields["inputs"]), str(fields["outputs"]), best, None, 1, 0,
                       event.line, (best,))
            )  # fmt: skip

    def _tactic(self, event: Event) -> None:
        fields = event.fields
        time = fields.get("time")
        if not isinstance(time, float):
            self._skipped += 1
            return
        tactic = str(fields["tactic"])
        kernel = str(fields.get("kernel", "")) or self._pending.get(tactic, "")
        if time < NO_TACTIC_MS:
            self._times.append(Timing(self._runner, tactic, kernel, time))

    def _note_fastest(self, event: Event) -> None:
        fields = event.fields
        time = fields.get("time")
        if isinstance(time, float) and time < NO_TACTIC_MS:
            runner = str(fields.get("runner", self._runner))
            tactic = str(fields["tactic"])
            self._fastest.append(Timing(runner, tactic, self._pending.get(tactic, ""), time))

    def _close(self, chosen: tuple[str, str] | None) -> None:
        """End of a format combination. Kernels of optimizer reformats are timings of edges, not of layers."""
        if chosen is not None and self._layer and not self._reformatting:
            times = sorted(self._times or self._fastest, key=lambda t: t.time_ms)
            best = next((t for t in times if (t.runner, t.tactic) == chosen), None)
            best = best or next((t for t in times if t.tactic == chosen[1]), None)
            others = (t for t in times if t is not best and best is not None and t.tactic != best.tactic)
            self.choices.append(
                Choice(
                    self._layer,
                    *self._formats,
                    best or Timing(chosen[0], chosen[1], "", 0.0),
                    next(others, None),
                    len(self._times),
                    self._skipped,
                    self._line,
                    tuple(times),
                )
            )
        elif self._layer and self._times:
            times = sorted(self._times, key=lambda t: t.time_ms)
            self.edges.append(
                Choice(self._layer, *self._formats, times[0], None, len(times), self._skipped, self._line, tuple(times))
            )
        if chosen is not None or self._times:
            self._layer = self._runner = ""
            self._times, self._fastest, self._pending = [], [], {}
            self._skipped = self._line = 0


def choices_for(choices: list[Choice], layer: str, tactic: str) -> Iterator[Choice]:
    """The combinations in which `layer` runs the kernel `tactic` (as the layer dump names it), best first."""
    found = [c for c in choices if c.layer == layer and c.best is not None and c.best.tactic == tactic]
    return iter(sorted(found, key=lambda c: c.best.time_ms if c.best else 0.0))
