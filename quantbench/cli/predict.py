"""`quantbench predict`: what TensorRT will make of a Q/DQ model, without a GPU."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from quantbench.inspection.layer import Layer
    from quantbench.predict.prediction import Prediction
    from quantbench.predict.score import Score

_FAMILY = "tensorrt"
_SHOWN_STATEMENTS = 12


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def predict(
    model: Path = typer.Argument(..., help="Q/DQ ONNX file, or a verbose TensorRT log with its parser section."),
    for_: str = typer.Option(_FAMILY, "--for", help="tensorrt (10), or tensorrt-8.4, tensorrt-8.5, tensorrt-10."),
    against: Path = typer.Option(None, help="Verbose log of a real build of this model: score the prediction by it."),
    as_json: bool = typer.Option(False, "--json", help="Print plain data on stdout and nothing else."),
) -> None:
    """Predict the engine: fused layers, precisions, the fate of each Q/DQ, what stays float and how to mend it.

    The prediction speaks of TensorRT 8 to 10. What TensorRT-RTX makes of a model, 'quantbench build' shows for real.
    """
    from quantbench.inspection.logs.build_log import read_build_log
    from quantbench.predict.score import score_log

    version = _version(for_)
    prediction = _of_model(model, version) if model.suffix == ".onnx" else _of_log(model, version)
    source = against or (model if model.suffix != ".onnx" else None)
    scores = score_log(prediction, read_build_log(source).build) if source is not None else ()
    if as_json:
        data = {"model": str(model), **prediction.to_json()}
        if scores:
            data["scores"] = [{"kind": s.kind, "hits": s.hits, "precision": s.precision, "recall": s.recall}
                              for s in scores]  # fmt: skip
        typer.echo(json.dumps(data, indent=2))
        return
    _print(prediction, scores)


def _version(text: str) -> str:
    from quantbench.errors import QuantbenchError
    from quantbench.predict.versions import VERSIONS

    family, dash, version = text.partition("-")
    if family != _FAMILY or (dash and version not in VERSIONS):
        known = ", ".join([_FAMILY, *(f"{_FAMILY}-{v}" for v in VERSIONS)])
        raise QuantbenchError(f"--for {text} is not known; it takes {known} (TensorRT-RTX compiles: quantbench build)")
    return version or "10"


def _of_model(path: Path, version: str) -> "Prediction":
    from quantbench.errors import QuantbenchError
    from quantbench.graph.load import load_model
    from quantbench.graph.normalise import normalise
    from quantbench.predict.simulate import predict_model

    model = normalise(load_model(path))
    if not any(node.op_type == "QuantizeLinear" or node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise QuantbenchError(f"{path} holds no Q/DQ to predict; make a Q/DQ model with 'quantbench ptq {path} ...'")
    return predict_model(model, version=version)


def _of_log(path: Path, version: str) -> "Prediction":
    from quantbench.errors import QuantbenchError
    from quantbench.inspection.logs.build_log import read_build_log
    from quantbench.predict.simulate import predict as simulate
    from quantbench.predict.topology import view_from_log

    log = read_build_log(path)
    view = view_from_log(log.build)
    if not any(node.op == "QuantizeLinear" for node in view.nodes):
        raise QuantbenchError(f"{path} logs no parsed Q/DQ nodes; give a verbose log from before parsing, or the ONNX")
    return simulate(view, version=log.version if version == "10" and log.version else version)


def _print(prediction: "Prediction", scores: "tuple[Score, ...]") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=not Console().is_terminal, highlight=False)
    table = Table(title=f"Predicted engine, TensorRT {prediction.version}", box=None, pad_edge=False)
    for column in ("layer", "type", "in", "out", "nodes", "note"):
        table.add_column(column, overflow="fold")
    for layer in prediction.layers:
        table.add_row(*_row(layer))
    if console.is_terminal:
        console.print(table)
    else:
        for layer in prediction.layers:
            console.print("\t".join(_row(layer)), markup=False)
    _print_fates(console, prediction)
    _print_in_place(console, prediction)
    _print_mends(console, prediction)
    if prediction.guesses:
        console.print("Guesses (no log at hand shows them):", markup=False)
        for why, count in Counter(prediction.guesses.values()).items():
            console.print(f"  {why}: {count} layers", markup=False)
    for score in scores:
        console.print(
            f"{score.kind}: {score.hits} right, precision {score.precision:.1%}, recall {score.recall:.1%}",
            markup=False,
        )


def _row(layer: "Layer") -> tuple[str, str, str, str, str, str]:
    notes = []
    if "residual" in layer.attributes:
        notes.append(f"+ {layer.attributes['residual']}")
    if "guess" in layer.attributes:
        notes.append("guess")
    name = layer.nodes[0] if layer.nodes and layer.origin != "QDQ" else layer.name
    return (
        name, layer.type, ",".join(t.dtype for t in layer.inputs), ",".join(sorted({t.dtype for t in layer.outputs})),
        str(len(layer.nodes)), "; ".join(notes),
    )  # fmt: skip


def _print_fates(console: "Console", prediction: "Prediction") -> None:
    counts = Counter((fate.op, fate.status) for fate in prediction.fates)
    text = ", ".join(f"{count} {op} {status}" for (op, status), count in sorted(counts.items()))
    console.print(f"Q/DQ: {text}", markup=False)
    for fate in prediction.leftover:
        console.print(f"  left over: {fate.name}", markup=False)
    console.print(
        f"{len(prediction.layers)} layers, {prediction.int8_layers} weighted in INT8, {len(prediction.reformats)} "
        f"reformats, {prediction.float_bytes / 1e6:.1f} MB moved in float between INT8 layers",
        markup=False,
    )


def _print_in_place(console: "Console", prediction: "Prediction") -> None:
    counts = prediction.in_place
    if any(counts.values()):
        text = f"In place: {counts['concats']} concats ({counts['copies']} copies), {counts['slices']} slices"
        console.print(text, markup=False)
    for step in prediction.steps:
        if step.name == "Merging layers":
            console.print(f"Merged: {' || '.join((step.target, *step.others))}", markup=False)


def _print_mends(console: "Console", prediction: "Prediction") -> None:
    for title, found in (
        ("Weighted layers in float:", prediction.float_weighted),
        ("INT8 layers that write float:", prediction.float_outputs),
    ):
        if found:
            console.print(title, markup=False)
        for item in found[:_SHOWN_STATEMENTS]:
            console.print(f"  {item.node}: {item.reason}; {item.mend}", markup=False)
        if len(found) > _SHOWN_STATEMENTS:
            console.print(f"  and {len(found) - _SHOWN_STATEMENTS} more (--json tells all)", markup=False)
