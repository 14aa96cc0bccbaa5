"""`quantbench predict`: what TensorRT will make of a Q/DQ model, without a GPU."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quantbench.cli.options import Gpu, PlainJson
from quantbench.terminal import console, echo

if TYPE_CHECKING:
    from quantbench.graph.view import GraphView
    from quantbench.inspection.logs.build_log import Build, BuildLog
    from quantbench.json_types import JsonObject
    from quantbench.predict.prediction import Prediction
    from quantbench.predict.score import Score

_RTX = "RTX"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def predict(
    model: Path = typer.Argument(None, help="Q/DQ ONNX file, or a verbose TensorRT log with its parser section."),
    for_: str = typer.Option(
        "", "--for", help="Version of TensorRT: 8.4, 8.6.1, 10.9, 11 ... (default: 10.9; for a log: its own)."
    ),
    gpu: Gpu = "",
    against: Path = typer.Option(None, help="Verbose log of a real build of this model: score the prediction by it."),
    fp16: bool = typer.Option(
        None, "--fp16/--no-fp16", help="May the build use FP16 kernels? (default: yes; for a log: as it was built)"
    ),
    device: str = typer.Option(
        "", "--device", help="How long it takes there: a learnt device, by name or file ('quantbench device list')."
    ),
    batch: int = typer.Option(1, "--batch", min=1, help="Batch to time, with --device."),
    explain_version: bool = typer.Option(
        False, "--explain-version", help="Say what is known of the version named by --for, and what shows it."
    ),
    as_json: PlainJson = False,
) -> None:
    """Predict the engine: fused layers, precisions, the fate of each Q/DQ, what stays float and how to mend it.

    The prediction speaks of TensorRT 8 to 11. What TensorRT-RTX makes of a model, 'quantbench build' shows for real.
    """
    from quantbench.errors import QuantbenchError
    from quantbench.predict.versions import known_gpu, version_of

    facts = version_of(for_, gpu)
    if explain_version:
        _explain(for_, gpu)
        return
    if model is None:
        raise QuantbenchError("name a model or a log: quantbench predict MODEL.qdq.onnx")
    source = against or (model if model.suffix != ".onnx" else None)
    log = _read_log(source) if source is not None else None
    rtx = log is not None and log.version == _RTX
    version = for_ or (log.version if log is not None and log.version and not rtx else facts.name)
    if fp16 is None:
        fp16 = log is None or "FP16" in log.options.get("Precision", "FP16")
    build = _Build(version, gpu or (known_gpu(log.options.get("Compute Capability", "")) if log else ""), fp16)
    notes: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    told: list[str] = []
    if device and model.suffix != ".onnx":
        raise QuantbenchError(
            f"--device times an ONNX model, and {model} is none; give the model, and --against the log"
        )
    latency = None
    if model.suffix == ".onnx":
        view, prediction, notes = _of_model(model, build)
        latency = _latency(view, prediction, device, batch) if device else None
    else:
        prediction = _of_log(model, build)
    if rtx:
        notes = (*notes, "Not scored: the log is of TensorRT-RTX, another compiler")
    elif log is not None:
        _check(log, source or model)
        scores, told = _scored(prediction, log)
    if as_json:
        data: JsonObject = {"model": str(model), "notes": list(notes), **prediction.to_json()}
        if scores:
            data["scores"] = [{"kind": s.kind, "hits": s.hits, "precision": s.precision, "recall": s.recall}
                              for s in scores]  # fmt: skip
            data["feedback"] = told
        if latency is not None:
            data["latency"] = latency[0]
        echo(json.dumps(data, indent=2))
        return
    _print(prediction, notes, told)
    for line in latency[1] if latency is not None else ():
        echo(line)


def _latency(view: "GraphView", prediction: "Prediction", name: str, batch: int) -> "tuple[JsonObject, list[str]]":
    """Times on the device `name`, as plain data and in words."""
    from quantbench.latency import words
    from quantbench.latency.device_file import find_device
    from quantbench.latency.network import network_of

    found = find_device(name)
    asked, judged = words.timed(network_of(view, prediction), found, batch)
    return words.to_json(found, asked, judged), list(words.lines(found, asked, judged))


def _read_log(path: Path) -> "BuildLog":
    from quantbench.inspection.logs.build_log import read_build_log

    return read_build_log(path)


def _scored(prediction: "Prediction", log: "BuildLog") -> "tuple[tuple[Score, ...], list[str]]":
    from quantbench.predict.feedback import feedback
    from quantbench.predict.score import score_log

    scores = score_log(prediction, log.build)
    return scores, list(feedback(prediction, scores, log))


@dataclass(frozen=True, slots=True)
class _Build:
    """What is predicted for."""

    version: str
    gpu: str
    fp16: bool


def _explain(for_: str, gpu: str) -> None:
    from quantbench.predict.explain import explain
    from quantbench.predict.versions import version_of

    for line in explain(version_of(for_, gpu)):
        echo(line)


def _of_model(path: Path, build: _Build) -> "tuple[GraphView, Prediction, tuple[str, ...]]":
    """The model's view, the prediction, and what to know before believing it."""
    from quantbench.core.qdq_or_not import require_qdq
    from quantbench.graph.load import load_model
    from quantbench.graph.onnx_view import view_of
    from quantbench.lint.refused import refused
    from quantbench.predict.captures import inner_nodes
    from quantbench.predict.simulate import predict_model
    from quantbench.predict.words import model_notes

    model = load_model(path)
    require_qdq(model, str(path), "to predict", f"'quantbench ptq {shlex.quote(str(path))} ...'")
    view = view_of(model)
    notes = model_notes([f"{f.node}: {f.message}" for f in refused(model, view)], inner_nodes(model))
    return view, predict_model(model, view=view, version=build.version, gpu=build.gpu, fp16=build.fp16), notes


def _of_log(path: Path, build: _Build) -> "Prediction":
    from quantbench.errors import QuantbenchError
    from quantbench.inspection.logs.build_log import read_build_log
    from quantbench.predict.simulate import predict as simulate
    from quantbench.predict.topology import scales_of_log, view_from_log

    log = read_build_log(path)
    view = view_from_log(log.build)
    if not any(node.op == "QuantizeLinear" for node in view.nodes):
        raise QuantbenchError(
            f"{path} is neither an .onnx file nor a verbose log with parsed Q/DQ nodes; give the model, or a log that "
            f"begins before its parsing"
        )
    lost = next((layer for layer in _fused(log.build) if layer not in log.build.nodes), "")
    if lost:
        raise QuantbenchError(f"{path} logs only part of its parsing ({lost} is not in it); give the whole log, or the "
                              f"ONNX file and --against {path}")  # fmt: skip
    scales = scales_of_log(view, log.build)
    return simulate(view, version=build.version, gpu=build.gpu, scales=scales, fp16=build.fp16)


def _fused(build: "Build") -> Iterator[str]:
    """Layers that took their DQs, by the names that the parser gave them."""
    from quantbench.layers.names import split_parts
    from quantbench.predict.score import TOOK_DQS, statements_of_log

    return (split_parts(str(found[0]))[0] for found in statements_of_log(build)[TOOK_DQS] if isinstance(found, tuple))


def _check(log: "BuildLog", path: Path) -> None:
    """Raise QuantbenchError where there is nothing to score by, as in any other file."""
    from quantbench.errors import QuantbenchError
    from quantbench.predict.score import statements_of_log

    said = statements_of_log(log.build)
    if not any(said.values()) and not log.build.layers:
        raise QuantbenchError(
            f"{path} tells neither the optimizer's Q/DQ passes nor the layers of a build; give the log of a verbose "
            f"build"
        )


def _print(prediction: "Prediction", notes: tuple[str, ...], told: list[str]) -> None:
    from quantbench.predict.words import COLUMNS, lines, rows

    out = console(soft_wrap=not console().is_terminal)
    if out.is_terminal:
        from rich.table import Table

        table = Table(title=f"Predicted engine, TensorRT {prediction.version}", box=None, pad_edge=False)
        for column in COLUMNS:
            table.add_column(column, overflow="fold")
        for row in rows(prediction):
            table.add_row(*row)
        out.print(table)
    else:
        for row in rows(prediction):
            echo("\t".join(row))
    for line in (*notes, *lines(prediction), *told):
        out.print(line)
