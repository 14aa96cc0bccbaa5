"""`quantbench record`: run a program of the user's and keep what it feeds its networks, as calibration data."""

from pathlib import Path

import typer

from quantbench.terminal import echo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("record", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(record)


def record(
    out: Path = typer.Option(Path("recorded"), help="Folder for the data: one folder a model in it."),
    most: int = typer.Option(512, "--max-calls", min=1, help="Calls to keep of each model, a fair sample of all."),
    seed: int = typer.Option(0, help="Which calls the sample holds."),
    program: Path = typer.Argument(..., help="Python program that runs its models in onnxruntime."),
    arguments: list[str] = typer.Argument(None, help="Its own arguments."),
) -> None:
    """Run PROGRAM and keep what it feeds each of its onnxruntime sessions.

    Real data for inner networks: 'quantbench record app.py', then
    'quantbench ptq decoder.onnx --calib-data recorded/decoder'.
    """
    import shlex

    from quantbench.data.recording import record as run

    for entry in run(program, arguments or [], out, most=most, seed=seed):
        echo(f"{entry.folder}: {entry.kept} of {entry.calls} calls of {entry.model}")
        command = ("quantbench", "ptq", str(entry.model), "--calib-data", str(entry.folder))
        echo(f"next: {shlex.join(command)}", err=True)
