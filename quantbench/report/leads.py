"""Leads of a run: what to look at next, with its evidence, the next command and how sure it is; and what is fine."""

from dataclasses import dataclass
from typing import Literal

from quantbench.predict.traffic import NO_QDQ
from quantbench.records.evaluation import Measured
from quantbench.records.run import PtqRun
from quantbench.report.figures import Run, is_for_cpu, layer_errors_of, measured_on_calibration
from quantbench.report.sections.ranges import lossy
from quantbench.report.verdict import Command
from quantbench.report.words import listed, size

_POOR_LAYER_DB = 15.0
# Where the outputs are worse, scaling channels may be worth its time.
_UNLIKE_CHANNELS_DB = 20.0
_FEW_IMAGES = 200
_FEW_CALIBRATED = 64


@dataclass(frozen=True, slots=True)
class Lead:
    """`confidence`: measured (on these images), predicted (TensorRT's optimizer, simulated), or guess."""

    title: str
    evidence: str
    next_step: str
    confidence: Literal["measured", "predicted", "guess"]


def leads_of(run: Run, command: Command) -> list[Lead]:
    """The most costly first."""
    if not isinstance(run, PtqRun):
        return _speed(run, command)
    return [*_accuracy(run, command), *_speed(run, command), *_data(run, command)]


def fine(run: Run) -> list[str]:
    """What needs no further look, in words."""
    found = []
    prediction, placement = run.prediction, run.placement
    for_tensorrt = not is_for_cpu(run)
    if (
        for_tensorrt
        and placement is not None
        and prediction.int8_layers == len(placement.quantized)
        and prediction.int8_layers
    ):
        found.append(f"all {prediction.int8_layers} quantized layers are predicted to run in INT8")
    if for_tensorrt and not prediction.left_over:
        found.append("no Q or DQ is left over as a kernel of its own")
    if for_tensorrt and not prediction.float_bytes:
        found.append("no float tensor moves between INT8 layers")
    if run.calibration is not None and not run.calibration.warnings and not lossy(run.calibration.ranges):
        found.append("no range that calibration found is suspicious")
    worst = min((e.sqnr_db for e in layer_errors_of(run) if e.sqnr_db is not None), default=None)
    if worst is not None and worst >= _POOR_LAYER_DB:
        found.append(f"no layer is under {_POOR_LAYER_DB:g} dB behind its activation (the worst has {worst:.1f})")
    return found


def _accuracy(run: PtqRun, command: Command) -> list[Lead]:
    found = []
    poor = [e for e in run.evaluation.layers if e.sqnr_db is not None and e.sqnr_db < _POOR_LAYER_DB]
    if poor:
        worst = poor[0]
        names = listed([error.node for error in poor], most=4)
        found.append(
            Lead(
                f"{len(poor)} layer{'s' if len(poor) > 1 else ''} under {_POOR_LAYER_DB:g} dB behind the activation",
                f"{names if len(poor) == 1 else f'{names}; the worst, {worst.node},'} has {worst.sqnr_db:.1f} dB, with "
                f"what came from layers before it",
                f"quantbench sensitivity {command.model} --data {command.data}",
                "measured",
            )
        )
    sqnr = run.evaluation.outputs.sqnr_db
    if sqnr is not None and sqnr.value < _UNLIKE_CHANNELS_DB and run.calibration.folded is None:
        found.append(
            Lead(
                "Equalization and SmoothQuant were not tried",
                "where channels of one tensor differ much, they were worth 4.5 dB at BlazeFace's outputs, "
                "and much more where a norm has a few loud ones; auto takes them only where the outputs are better",
                f"{command.ptq} --equalize auto --smooth auto",
                "guess",
            )
        )
    parts = [part for part in run.evaluation.parts if isinstance(part.sqnr, Measured) and part.sqnr.value < 10]
    if len(run.evaluation.parts) > 1 and parts:
        named = ", ".join(f"{p.name} {p.sqnr.value:.1f} dB" for p in parts if isinstance(p.sqnr, Measured))
        found.append(
            Lead(
                "One output is much worse than the others",
                named,
                f"{command.tune} --min-sqnr 15",
                "measured",
            )
        )
    lost = lossy(run.calibration.ranges)
    if lost:
        worst_lost = lost[0]
        clips = command.method in ("mse", "entropy", "percentile", "auto")
        calibrators = f"{command.ptq} --calibrator mse"
        found.append(
            Lead(
                f"{len(lost)} tensor{'s lose' if len(lost) > 1 else ' loses'} most values to zero",
                f"{listed([facts.tensor for facts in lost], most=4)}; of {worst_lost.tensor}'s values other than zero "
                f"{100 * (worst_lost.share_lost or 0):.0f} % are less than half a step: outliers reach "
                f"{worst_lost.observed_max:.3g}, the range {worst_lost.amax:.3g}",
                f"quantbench sensitivity {command.model} --data {command.data}" if clips else calibrators,
                "measured",
            )
        )
    if run.calibration.warnings:
        more = f", and {len(run.calibration.warnings) - 1} more" if len(run.calibration.warnings) > 1 else ""
        found.append(
            Lead(
                "Ranges to look at",
                run.calibration.warnings[0] + more,
                _other_ranges(command, compared=run.calibration.judged is not None),
                "guess",
            )
        )
    return found


def _other_ranges(command: Command, *, compared: bool) -> str:
    if compared:  # mse and minmax, by calibrator auto
        return f"{command.tune} --min-sqnr 15"
    other = "minmax" if command.method == "mse" else "mse"
    return f"{command.ptq} --calibrator {other}"


def _speed(run: Run, command: Command) -> list[Lead]:
    found: list[Lead] = []
    if is_for_cpu(run):  # placed for other kernels than TensorRT's
        return found
    prediction = run.prediction
    floats = [item for item in (*prediction.float_outputs, *prediction.float_weighted) if item.reason != NO_QDQ]
    if floats:
        found.append(
            Lead(
                "1 weighted layer computes or writes float"
                if len(floats) == 1
                else f"{len(floats)} weighted layers compute or write float",
                f"{floats[0].node}: {floats[0].reason}; mend: {floats[0].mend}",
                f"{command.ptq} --placement best",
                "predicted",
            )
        )
    if prediction.float_bytes:
        found.append(
            Lead(
                f"{size(prediction.float_bytes)} of float tensors move between INT8 layers",
                f"reformats and copies: {prediction.reformats}; Q or DQ left over: {len(prediction.left_over)}",
                f"{command.ptq} --placement best",
                "predicted",
            )
        )
    return found


def _data(run: PtqRun, command: Command) -> list[Lead]:
    found = []
    if measured_on_calibration(run):
        found.append(
            Lead(
                "Measured on the calibration images",
                "they set the ranges; expect a little less on new ones",
                f"{command.ptq} --eval-dir HELD_OUT",
                "measured",
            )
        )
    if run.evaluated_on.images < _FEW_IMAGES:
        found.append(
            Lead(
                "Few images behind the accuracy",
                f"{run.evaluated_on.images} images leave wide intervals; {_FEW_IMAGES} and more are usual",
                "--eval-dir FOLDER with more images",
                "guess",
            )
        )
    if run.data.images < _FEW_CALIBRATED:
        found.append(
            Lead(
                "Few calibration images",
                f"{run.data.images} images; a few hundred are usual",
                "--calib-dir FOLDER with more images",
                "guess",
            )
        )
    return found
