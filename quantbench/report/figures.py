"""What a run says in figures that a decision rests on: one measure of accuracy, and latencies by device."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantbench.qdq.plan import INTEGER
from quantbench.records.compiled import Compiled
from quantbench.records.evaluation import LayerError, Measured, Outputs
from quantbench.records.facts import THEMSELVES
from quantbench.records.run import PtqRun, QatRun

# The first of these that a run has is its measure: the task's own, then what needs no labels.
TASK_MEASURES = {"top1": "top-1", "map": "mAP50-95", "miou": "mIoU", "pixels": "pixels right"}
ALIKE_MEASURES = {
    "agreement": "same answer as FP32",
    "boxes_kept": "boxes of FP32 found again",
    "pixels_alike": "pixels of the same class as FP32",
    "equal": "values equal to FP32's",
}
Run = PtqRun | QatRun
ORT = "onnxruntime on this CPU"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """`name` of the measure and `label` in words; FP32's figure, INT8's, and the change where it was measured in pairs.

    `unit`: "%" for shares (0 to 1), "dB" for an SQNR, which has no FP32 figure.
    """

    name: str
    label: str
    plain: Measured | None
    int8: Measured
    change: Measured | None
    unit: str = "%"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one call with a 90 % interval; `how`: measured or predicted, `what` stands for the precision
    (FP32, FP16, INT8)."""

    device: str
    what: str
    ms: float
    low: float
    high: float
    how: str


def accuracy_of(outputs: Outputs) -> Accuracy | None:
    """The figure of accuracy that counts most; None where nothing was measurable."""
    for name, label in TASK_MEASURES.items():
        plain, int8 = getattr(outputs, f"{name}_float"), getattr(outputs, f"{name}_int8")
        if int8 is not None:
            return Accuracy(name, label, plain, int8, getattr(outputs, f"{name}_change"))
    for name, label in ALIKE_MEASURES.items():
        found = getattr(outputs, name)
        if found is not None:
            return Accuracy(name, label, Measured(1.0, 1.0, 1.0, found.count, found.unit), found, None)
    if outputs.sqnr_db is not None:
        return Accuracy("sqnr_db", "SQNR of the worst output", None, outputs.sqnr_db, None, "dB")
    return None


@dataclass(frozen=True)
class Opened:
    """A run with what was read besides its record."""

    folder: Path
    run: Run
    accuracy: Accuracy | None
    latencies: tuple[Latency, ...]


def outputs_of(run: Run) -> Outputs:
    """The figures of a run's outputs; of a `qat-export` run those of the export against the float network."""
    if isinstance(run, PtqRun):
        return run.evaluation.outputs
    against = run.against_float
    sqnr = against.sqnr_db if isinstance(against.sqnr_db, Measured) else None
    if against.boxes is not None:
        return Outputs(sqnr_db=sqnr, boxes_kept=against.agreement)
    return Outputs(sqnr_db=sqnr, agreement=against.agreement)


def layer_errors_of(run: Run) -> tuple[LayerError, ...]:
    """Errors of layers, where the run measured them."""
    return run.evaluation.layers if isinstance(run, PtqRun) else ()


def measured_latencies(run: Run) -> list[Latency]:
    """What was timed in the run: both models in onnxruntime, both engines on a GPU."""
    found = []
    if isinstance(run, PtqRun) and (pair := run.evaluation.latency) is not None:
        for what, t in (("FP32", pair.plain), ("INT8", pair.int8)):
            found.append(Latency(ORT, what, t.median_ms, t.median_ms, t.p90_ms, "measured"))
    if isinstance(run.compiled, Compiled) and run.compiled.latency is not None:
        device = f"{run.compiled.backend} {run.compiled.version} on this GPU"
        engines = {"INT8": run.compiled.latency.int8, run.compiled.precision.upper(): run.compiled.latency.plain}
        found += [
            Latency(device, what, t.median_ms, t.median_ms, t.p90_ms, "measured")
            for what, t in engines.items()
            if t is not None
        ]
    return found


def is_for_cpu(run: Run) -> bool:
    """Whether the run's INT8 model is placed for onnxruntime on a CPU. What a CPU takes says nothing of a GPU, so it
    heads no report of a model that is for one."""
    return isinstance(run, PtqRun) and INTEGER in run.placement.rules


def measured_on_calibration(run: PtqRun) -> bool:
    """Whether the run was evaluated on the data that set its ranges, for want of others or by their name."""
    return run.evaluated_on.what.startswith(THEMSELVES) or run.evaluated_on.sha256 == run.data.sha256


def speedup(latencies: list[Latency], device: str) -> tuple[float, Latency, Latency] | None:
    """How many times faster INT8 is than the fastest float precision known on `device`, with both latencies."""
    own = [latency for latency in latencies if latency.device == device]
    int8 = next((latency for latency in own if latency.what == "INT8"), None)
    floats = [latency for latency in own if latency.what != "INT8"]
    if int8 is None or not floats:
        return None
    best = min(floats, key=lambda latency: latency.ms)
    return best.ms / int8.ms, best, int8


def main_device(latencies: list[Latency], wanted: str = "") -> str:
    """The device that a verdict speaks of: the one asked for, else a GPU that was measured or predicted; "" for none.

    A CPU's times say nothing of a GPU, so onnxruntime's are never it unless asked for.
    """
    names: Mapping[str, None] = dict.fromkeys(latency.device for latency in latencies)
    if wanted:
        return next((name for name in names if wanted.lower() in name.lower()), "")
    return next((name for name in names if name != ORT), "")
