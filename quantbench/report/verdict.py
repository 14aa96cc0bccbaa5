"""The verdict on a run in one sentence: ship INT8, mix, or stay with float; green, amber or red by thresholds."""

from dataclasses import dataclass
from typing import Literal

from quantbench.latency.device_file import device_names
from quantbench.records.evaluation import Measured, Outputs
from quantbench.report.figures import Accuracy, Latency, accuracy_of, speedup
from quantbench.report.words import capitalized, decibel, percent, points

Level = Literal["green", "amber", "red"]
_RANK: dict[Level, int] = {"green": 0, "amber": 1, "red": 2}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where green ends and where red begins. `good_drop`, `bad_drop`: points of the task's measure lost (MLPerf
    Inference's INT8 submissions must keep 99 % of FP32's accuracy: https://github.com/mlcommons/inference_policies);
    `…_alike`: percent of answers that are FP32's; `…_sqnr`: dB of the worst output, where nothing better is known.
    `least_speedup`: INT8 pays from this ratio on.
    """

    good_drop: float = 0.5
    bad_drop: float = 2.0
    good_alike: float = 98.0
    bad_alike: float = 90.0
    good_sqnr: float = 20.0
    bad_sqnr: float = 10.0
    least_speedup: float = 1.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """`headline`: what to do, a few words; `sentence`: with the figures; `next_step`: a command, "" where done."""

    level: Level
    headline: str
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """What a next command is put together from: model, images and Q/DQ model as a shell takes them, the calibrator.
    `bench`: of a run that is for a CPU, what times it there; "" of one for a GPU."""

    model: str
    data: str
    method: str
    labelled: bool
    quantized: str
    bench: str = ""

    @property
    def ptq(self) -> str:
        """The run anew; more words may follow."""
        return f"quantbench ptq {self.model} --calib-dir {self.data}{self._placed}"

    @property
    def tune(self) -> str:
        """The search for a better variant; a goal follows."""
        return f"quantbench tune {self.model} --data {self.data}{self._placed}"

    @property
    def _placed(self) -> str:
        return " --for-onnxruntime" if self.bench else ""


def judge(
    outputs: Outputs, latencies: list[Latency], device: str, command: Command, thresholds: Thresholds | None = None
) -> Verdict:
    """The verdict; `device`: the one that latency is judged on, "" where none is known."""
    given = thresholds or Thresholds()
    accuracy = accuracy_of(outputs)
    if accuracy is None:
        return Verdict("red", "Nothing measured", "No output of the model could be compared with FP32.", "")
    level = _level(accuracy, outputs, given)
    gain = speedup(latencies, device) if device else None
    told = f"{capitalized(_accuracy(accuracy, outputs))}; {_latency(gain, device, command, given)}"
    if level == "red":
        return Verdict("red", "Do not ship this INT8 model", told, _mend(accuracy, command))
    if gain is not None and gain[0] < given.least_speedup:
        headline = f"Stay with {gain[1].what}: INT8 is not worth it {_on(device)}"
        return Verdict("amber", headline, told, _why_slow(command, gain[2]))
    if level == "amber":
        return Verdict("amber", "Mix: keep the worst layers in float, then ship", told, _mend(accuracy, command))
    if gain is None:
        return Verdict("green", "Ship INT8, once it is known to be faster on your device", told, "")
    return Verdict("green", "Ship INT8", told, "")


def _level(accuracy: Accuracy, outputs: Outputs, given: Thresholds) -> Level:
    if accuracy.change is not None:
        drop = -100 * accuracy.change.value
        return _of(drop <= given.good_drop, drop >= given.bad_drop)
    if accuracy.unit == "%":
        alike = 100 * accuracy.int8.value
        level = _of(alike >= given.good_alike, alike < given.bad_alike)
        # Boxes may be found again with scores that are ruined.
        ruined = outputs.sqnr_db is not None and outputs.sqnr_db.value < given.bad_sqnr
        return max(level, "amber" if ruined else "green", key=lambda one: _RANK[one])
    return _of(accuracy.int8.value >= given.good_sqnr, accuracy.int8.value < given.bad_sqnr)


def _of(good: bool, bad: bool) -> Level:
    return "green" if good else "red" if bad else "amber"


def _accuracy(accuracy: Accuracy, outputs: Outputs) -> str:
    count = f"{accuracy.int8.count:,} {accuracy.int8.unit}, simulated in onnxruntime"
    sqnr = f", SQNR {decibel(outputs.sqnr_db)}" if outputs.sqnr_db is not None and accuracy.unit == "%" else ""
    if accuracy.change is not None and accuracy.plain is not None:
        start, end = (f"{100 * found.value:.1f} %" for found in (accuracy.plain, accuracy.int8))
        sure = "" if _excludes_zero(accuracy.change) else ", which may be chance"
        return f"{accuracy.label} {start} → {end}, {points(accuracy.change)}{sure} ({count})"
    if accuracy.unit == "%":
        return f"{accuracy.label} {percent(accuracy.int8)} of {count}{sqnr}"
    return f"{accuracy.label} {decibel(accuracy.int8)} ({count})"


def _excludes_zero(change: Measured) -> bool:
    return change.low > 0 or change.high < 0


def _latency(gain: tuple[float, Latency, Latency] | None, device: str, command: Command, given: Thresholds) -> str:
    if gain is None and command.bench:
        return f"latency on this CPU is not known ({command.bench})"
    if gain is None:
        return "latency on a GPU is not known (quantbench predict MODEL --device NAME, or measure on the device)"
    ratio, plain, int8 = gain
    worth = "" if ratio >= given.least_speedup else f", not worth it under {given.least_speedup:g} x"
    sure = "" if int8.high < plain.low or int8.low > plain.high else "; their intervals overlap"
    times = f"{plain.ms:.3g} → {int8.ms:.3g} ms, {int8.how}{worth}{sure}"
    return f"{ratio:.2f} x the speed of {plain.what} {_on(device)} ({times})"


def _on(device: str) -> str:
    """`on a100`, but `in onnxruntime on this CPU`."""
    return f"{'in' if ' on ' in device else 'on'} {device}"


def _mend(accuracy: Accuracy, command: Command) -> str:
    if command.method == "minmax":
        return f"{command.ptq} --calibrator mse"
    goal = "--max-drop 0.5" if command.labelled else "--min-sqnr 20" if accuracy.unit == "dB" else "--min-agreement 99"
    return f"{command.tune} {goal}"


def _why_slow(command: Command, int8: Latency) -> str:
    if command.bench:
        return f"{command.bench}  # in turns, with intervals: does it hold?"
    if int8.how == "predicted" and int8.device in device_names():
        return f"quantbench predict {command.quantized} --device {int8.device}  # what INT8 loses time on"
    return f"quantbench predict {command.quantized}  # which layers stay float, and why"
