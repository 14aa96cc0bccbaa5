"""`quantbench explain-node`: why a node is or is not quantized."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain-node")(explain_node)


def explain_node(
    model: Path = typer.Argument(..., help="ONNX file; Q/DQ in it is told by the prediction instead."),
    node: str = typer.Argument(..., help="Name of a node, or of a tensor that it writes."),
) -> None:
    """Say which placement rule quantizes a node or leaves it in float, and what TensorRT does with its operator.

    Example: quantbench explain-node model.onnx /layer1/conv1/Conv
    """
    from quantbench.graph.load import has_qdq, load_model
    from quantbench.lint.run import lint
    from quantbench.qdq.explain_node import explained, find_node
    from quantbench.qdq.place import place
    from quantbench.runnable import view_to_quantize
    from quantbench.terminal import echo

    loaded = load_model(model)
    view = view_to_quantize(loaded)
    found = find_node(view, node)
    if has_qdq(loaded):
        echo(f"{found.name}: {found.op}")
        lines = [finding.line() for finding in lint(loaded) if finding.node == found.name]
        for line in lines or ["nothing to advise on it: quantbench predict shows its layer"]:
            echo(line)
        return
    for line in explained(view, place(view), found):
        echo(line)
