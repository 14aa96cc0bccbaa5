"""`quantbench refit`: new weights in an engine, without a rebuild."""

from pathlib import Path

import typer

from quantbench.cli.options import Json
from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("refit")(refit)


def refit(
    engine: Path = typer.Argument(..., help="Engine built with --refittable."),
    model: Path = typer.Argument(..., help="ONNX file of the same network with the new weights."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the refitted engine goes."),
    plugin: list[Path] = typer.Option(None, "--plugin", metavar="LIB.so", help="Library of plugins that it needs."),
    check: bool = typer.Option(True, help="Compare its outputs with onnxruntime's on the model."),
    as_json: Json = False,
) -> None:
    """Put weights, biases and Q/DQ scales of a model into a refittable engine: after bias correction or fine-tuning.

    Lists what was refitted and what was not. Needs the GPU that the engine was built for.
    """
    import json

    from quantbench.atomic import write_bytes
    from quantbench.engines.check_refit import outputs_against_model
    from quantbench.engines.load_engine import load_engine
    from quantbench.engines.refit import refit as put_into
    from quantbench.errors import QuantbenchError

    if not model.is_file():
        raise QuantbenchError(f"{model} does not exist")
    loaded = load_engine(engine, plugins=plugin or ())
    found = put_into(loaded, model)
    write_bytes(out, found.engine)
    outputs = dict(outputs_against_model(loaded, model)) if check else {}
    if as_json:
        data = {
            "engine": str(out), "refitted": list(found.refitted), "not_in_model": list(found.missing),
            "not_refittable": list(found.kept), "sqnr_db": outputs,
        }  # fmt: skip
        echo(json.dumps(data, indent=2, default=str))
        return
    echo(f"{out}: {len(found.refitted)} weights refitted")
    for words, names in (("not in the model", found.missing), ("in the model and not refittable", found.kept)):
        if names:
            echo(f"  {len(names)} {words}: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}")
    for name, decibels in outputs.items():
        echo(f"  output {name}: {decibels:.1f} dB SQNR against {model.name} in onnxruntime")
