"""The goal of `tune`: gates of accuracy and a budget of latency on a device."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quantbench.decide.gates import Gates, agreement_of, failures, task_measure
from quantbench.errors import QuantbenchError
from quantbench.records.evaluation import Measured


@dataclass(frozen=True, slots=True)
class Goal:
    """`max_ms` and `min_speedup` (against the float precision) are of the device that the search was given."""

    gates: Gates = field(default_factory=Gates)
    max_ms: float | None = None
    min_speedup: float | None = None

    def check(self, *, timed: bool) -> None:
        """Raise QuantbenchError for a goal that says nothing, or asks for milliseconds where no device is known."""
        if not self.gates and self.max_ms is None and self.min_speedup is None:
            raise QuantbenchError(
                "tune needs a goal: --max-drop 0.3 (with --labels), --min-agreement 99, --min-sqnr 20, "
                "--max-latency 2.0ms or --min-speedup 1.2 (both with --device)"
            )
        if (self.max_ms is not None or self.min_speedup is not None) and not timed:
            raise QuantbenchError(
                "--max-latency and --min-speedup need a device whose layer times are known: --device NAME "
                "(quantbench device list)"
            )

    def misses(self, measures: Mapping[str, Measured]) -> list[str]:
        """What of the accuracy is missed, a line each."""
        return failures(self.gates, measures)

    def late(self, ms: float | None, float_ms: float | None) -> list[str]:
        """What of the budget of time is missed, a line each; nothing where no time is known."""
        if ms is None:
            return []
        found = []
        if self.max_ms is not None and ms > self.max_ms:
            found.append(f"{ms:.3g} ms on the device, over the budget of {self.max_ms:.3g} ms")
        if self.min_speedup is not None and float_ms is not None and float_ms / ms < self.min_speedup:
            found.append(f"{float_ms / ms:.2f} x float's speed on the device, under {self.min_speedup:g} x")
        return found


def quality(measures: Mapping[str, Measured]) -> tuple[float, float]:
    """By which two variants are ranked where neither or both meet the goal: the task's measure, else the share of same
    answers, else nothing; then the SQNR."""
    name = task_measure(measures)
    same = agreement_of(measures)
    first = measures[f"{name}_change"].value if name is not None else same[1].value if same is not None else 0.0
    sqnr = measures.get("sqnr_db")
    return first, sqnr.value if sqnr is not None else float("inf")


def milliseconds(text: str) -> float | None:
    """2.0ms, 800us or a bare number of milliseconds; None for "". Raises QuantbenchError."""
    if not text:
        return None
    number, factor = (
        (text[:-2], 1.0) if text.endswith("ms") else (text[:-2], 1e-3) if text.endswith("us") else (text, 1.0)
    )
    try:
        value = float(number) * factor
    except ValueError:
        raise QuantbenchError(f"--max-latency {text!r} is no time; write 2.0ms or 800us") from None
    if value <= 0:
        raise QuantbenchError(f"--max-latency {text!r} must be over 0")
    return value
