"""The decision part of a report: verdict, leads and the data of the page, of one run or of several."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from quantbench.errors import QuantbenchError
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict_model
from quantbench.records.run import QatRun
from quantbench.report.figures import (
    ORT,
    Accuracy,
    Latency,
    Opened,
    Run,
    accuracy_of,
    is_for_cpu,
    layer_errors_of,
    main_device,
    measured_latencies,
    outputs_of,
)
from quantbench.report.leads import Lead, fine, leads_of
from quantbench.report.page.data import Milliseconds, PageData, Point
from quantbench.report.page.parts import depth_of, edges_of, layer_rows, range_rows
from quantbench.report.page.searched import region_costs, region_rows, trial_points, with_costs
from quantbench.report.verdict import Command, Thresholds, Verdict, judge
from quantbench.text_file import read_json

QDQ_MODEL, ORT_MODEL = "model.qdq.onnx", "model.ort.onnx"


@dataclass(frozen=True)
class PredictedTimes:
    """Of one model: latencies by precision and device, and the ms of each predicted INT8 layer by device."""

    latencies: tuple[Latency, ...] = ()
    layers: Mapping[str, Sequence[float]] = field(default_factory=dict)


# From the Q/DQ model's prediction and file to times; where no device is known, to nothing.
Times = Callable[[onnx.ModelProto, Prediction], PredictedTimes]


@dataclass(frozen=True)
class Decision:
    """What stands at the top of a page, what its script gets, and pictures as (caption, data URI); `for_cpu`: the model
    is not placed for TensorRT, of which its layers speak."""

    verdict: Verdict
    leads: tuple[Lead, ...]
    fine: tuple[str, ...]
    data: PageData
    pictures: tuple[tuple[str, str], ...] = ()
    for_cpu: bool = False


def decide(
    folder: Path,
    run: Run,
    *,
    times: Times | None = None,
    device: str = "",
    thresholds: Thresholds | None = None,
    others: Sequence[tuple[Path, Run]] = (),
) -> Decision:
    """The decision on `run` in `folder`; `others` stand beside it in the plot of accuracy against latency."""
    path = model_file(folder, run)
    model = onnx.load(str(path)) if path.exists() else None
    prediction = predict_model(model) if model is not None else None
    predicted = times(model, prediction) if times is not None and model is not None and prediction else PredictedTimes()
    opened = [Opened(folder, run, accuracy_of(outputs_of(run)),
                     (*predicted.latencies, *measured_latencies(run)))]  # fmt: skip
    opened += [_open(*other, times) for other in others]
    first = opened[0]
    command = command_of(folder, run)
    chosen = main_device(list(first.latencies), device or (ORT if is_for_cpu(run) else ""))
    verdict = judge(outputs_of(run), list(first.latencies), chosen, command, thresholds)
    devices = dict.fromkeys(latency.device for one in opened for latency in one.latencies)
    ordered = sorted(devices, key=lambda name: (name != chosen, name == ORT))
    errors = layer_errors_of(run)
    nodes = list(model.graph.node) if model is not None else []
    quantizers = {node.name for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    costs = region_costs(folder)
    data = PageData(
        measure=first.accuracy.label if first.accuracy else "accuracy",
        unit=first.accuracy.unit if first.accuracy else "%",
        devices=tuple(ordered),
        points=tuple(
            point for one in opened for point in (*points_of(one, first.accuracy), *trial_points(one, chosen))
        ),
        layers=with_costs(layer_rows(prediction, errors, predicted.layers, quantizers), costs) if prediction else (),
        edges=edges_of(prediction.layers) if prediction else (),
        regions=region_rows(costs),
        ranges=range_rows(folder, run.ranges if isinstance(run, QatRun) else run.calibration.ranges),
        depth=depth_of(errors, [node.name for node in nodes]),
    )
    return Decision(verdict, tuple(leads_of(run, command)), tuple(fine(run)), data, _pictures(folder), is_for_cpu(run))


def _pictures(folder: Path) -> tuple[tuple[str, str], ...]:
    """Pictures that the run kept; only images, as the run writes them, go into a page."""
    try:
        found = read_json(folder / "pictures.json")
        pairs = tuple((str(entry["caption"]), str(entry["uri"])) for entry in found)
    except (QuantbenchError, KeyError, TypeError):
        return ()
    return tuple((caption, uri) for caption, uri in pairs if uri.startswith("data:image/jpeg;base64,"))


def _open(folder: Path, run: Run, times: Times | None) -> Opened:
    path = model_file(folder, run)
    predicted = PredictedTimes()
    if times is not None and path.exists():
        model = onnx.load(str(path))
        predicted = times(model, predict_model(model))
    return Opened(folder, run, accuracy_of(outputs_of(run)), (*predicted.latencies, *measured_latencies(run)))


def model_file(folder: Path, run: Run) -> Path:
    """The Q/DQ model of a run."""
    return folder / (run.exported.file if isinstance(run, QatRun) else QDQ_MODEL)


def points_of(one: Opened, measure: Accuracy | None) -> list[Point]:
    """The float model and the INT8 one of a run; none where the run has another measure than the page."""
    found = one.accuracy
    if found is None or measure is None or found.name != measure.name:
        return []
    factor = 100 if found.unit == "%" else 1
    command = one.run.measured_by("evaluate").command
    name = str(one.folder)
    points = []
    for what in dict.fromkeys(latency.what for latency in one.latencies) or ["INT8"]:
        value = found.int8 if what == "INT8" else found.plain
        if value is None:
            continue
        # FP16 was not run: its accuracy is taken for FP32's, whose rounding it shares to three digits.
        note = "accuracy taken as FP32's" if what not in ("INT8", "FP32") else ""
        times = {t.device: Milliseconds(t.ms, t.low, t.high, t.how) for t in one.latencies if t.what == what}
        points.append(
            Point(name, what, factor * value.value, factor * value.low, factor * value.high, times, command, note)
        )
    return points


def command_of(folder: Path, run: Run) -> Command:
    """Model and images as the recipe of the run in `folder` names them, for the next commands."""
    recipe = run.recipe
    data = recipe.get("data")
    evaluation = recipe.get("evaluation")
    images = (data.get("calib_dir") or data.get("dataset")) if isinstance(data, dict) else None
    labelled = isinstance(evaluation, dict) and evaluation.get("labels", "none") != "none"
    model = str(recipe.get("model") or run.model.path)
    method = run.calibration.method if run.calibration is not None else "none"
    quantized = shlex.quote(str(model_file(folder, run)))
    bench = ""
    if is_for_cpu(run):
        bench = f"quantbench bench {shlex.quote(run.model.path)} {shlex.quote(str(folder / ORT_MODEL))}"
    return Command(shlex.quote(model), shlex.quote(str(images or "IMAGES")), method, labelled, quantized, bench)
