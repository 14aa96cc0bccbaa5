"""The `quantbench` command: gathers the sub-commands and turns user errors into one line.

Each `cli/<command>.py` imports at its top nothing heavier than typer, so that `--help` stays fast.
"""

import importlib
import signal
import sys
from types import FrameType

import typer

import quantbench
from quantbench.errors import Interrupted, QuantbenchError

# In the order in which `--help` shows them.
COMMANDS = (
    "ptq", "qat_export", "build", "bench", "inspect", "predict", "lint", "explain", "cache", "recipes", "schema",
    "doctor", "demo_images",
)  # fmt: skip
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="quantbench",
    help="INT8 quantization workbench: calibrate, place Q/DQ, build, inspect, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"quantbench {quantbench.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """INT8 quantization workbench: calibrate, place Q/DQ, build, inspect, report."""


def register_commands() -> None:
    """Let each module of COMMANDS add its command; the others in `quantbench.cli` are their helpers."""
    for name in COMMANDS:
        importlib.import_module(f"quantbench.cli.{name}").register(app)


def main() -> None:
    """Run the CLI; a `QuantbenchError` becomes one line and exit code 2, Ctrl-C exit code 130."""
    register_commands()
    usual = signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except QuantbenchError as error:
        print(f"quantbench: error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except Interrupted:
        print("quantbench: interrupted; earlier results are whole; run the same command to go on", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, usual)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted


if __name__ == "__main__":
    main()
