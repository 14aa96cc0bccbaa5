"""`quantbench lint`: advice on a Q/DQ model, one line a finding."""

import json
import shlex
from pathlib import Path

import typer

from quantbench.cli.options import Gpu, PlainJson
from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lint")(lint)


def lint(
    model: Path = typer.Argument(..., help="Q/DQ ONNX file."),
    fix: bool = typer.Option(False, "--fix", help="Write a mended copy: all that needs no new ranges."),
    out: Path = typer.Option(None, help="Where --fix writes. (default: MODEL.fixed.onnx)"),
    for_: str = typer.Option("", "--for", help="Version of TensorRT: 8.6.1, 10.9 ... (default: 10.9)."),
    gpu: Gpu = "",
    as_json: PlainJson = False,
) -> None:
    """Tell what will cost time in TensorRT: node, bytes, mend. Exit code 1 where there are findings left."""
    from quantbench.core.qdq_or_not import require_qdq
    from quantbench.errors import QuantbenchError
    from quantbench.graph.load import load_model
    from quantbench.graph.save import save_model
    from quantbench.lint import run

    if out is not None and not fix:
        raise QuantbenchError("--out says where --fix writes; give --fix too")
    loaded = load_model(model)
    require_qdq(loaded, str(model), "to advise on", f"'quantbench ptq {shlex.quote(str(model))} ...'")
    findings = run.lint(loaded, version=for_, gpu=gpu)
    counts: dict[str, int] = {}
    target = out or model.with_suffix(".fixed.onnx")
    before = len(findings)
    if fix:
        mended, counts = run.fix(loaded, version=for_, gpu=gpu)
        findings = run.lint(mended, version=for_, gpu=gpu)
        save_model(mended, target)
    if as_json:
        data = {"findings": [f.to_json() for f in findings], "fixed": counts, "written": str(target) if fix else None}
        echo(json.dumps(data, indent=2))
    else:
        for finding in findings:
            echo(finding.line())
        if fix:
            done = ", ".join(f"{count} {rule}" for rule, count in counts.items() if count) or "nothing to mend"
            echo(f"{target}: {done}; {before} findings before, {len(findings)} after", err=True)
        elif not findings:
            echo(f"{model}: no findings", err=True)
        if count := len(run.chosen(loaded, version=for_, gpu=gpu)):
            echo(f"{count} more that the placement rules chose on purpose; see quantbench predict {model}", err=True)
    if findings:
        raise typer.Exit(1)
