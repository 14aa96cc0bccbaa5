"""The `quantbench` command: gathers the sub-commands and turns every error into one line.

Each `cli/<command>.py` imports at its top nothing heavier than typer, so that `--help` stays fast.
"""

import functools
import importlib
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import typer

import quantbench
from quantbench import limits
from quantbench.cli.help import readable
from quantbench.errors import Interrupted, QuantbenchError
from quantbench.terminal import echo, one_line

# In the order in which `--help` shows them.
COMMANDS = (
    "ptq", "qat_export", "evaluate", "sensitivity", "tune", "sweep", "report", "verify", "build", "bench", "inspect",
    "tactics", "refit", "trtexec", "predict", "device", "lint", "explain", "explain_node", "cache", "recipes", "record",
    "schema", "doctor", "demo_images",
)  # fmt: skip
EXIT_USER_ERROR = 2
EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

app = typer.Typer(
    name="quantbench",
    help="INT8 quantization workbench: calibrate, place Q/DQ, build, inspect, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_DEBUG = "QUANTBENCH_DEBUG"
# The CLI library's own: typer brings its click along from 0.26 on and uses the installed one before.
_USAGE_ERROR = cast("type[Exception]", typer.BadParameter.__mro__[1])


def _version(value: bool) -> None:
    if value:
        echo(f"quantbench {quantbench.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Print the traceback of an error too.", show_default=False),
    no_limits: bool = typer.Option(
        False, "--no-limits", help="Read files of any size (quantbench/limits.py).", show_default=False
    ),
) -> None:
    """INT8 quantization workbench: calibrate, place Q/DQ, build, inspect, report."""
    if debug:
        os.environ[_DEBUG] = "1"
    if no_limits:
        limits.lift()


@functools.cache
def register_commands() -> None:
    """Let each module of COMMANDS add its command, once; the others in `quantbench.cli` are their helpers."""
    for name in COMMANDS:
        importlib.import_module(f"quantbench.cli.{name}").register(app)


@functools.cache
def _commands() -> Callable[..., Any]:
    # Building it takes as long as many a command: tests and notebooks call `main` hundreds of times.
    register_commands()
    commands = typer.main.get_command(app)
    readable(commands)
    return commands


def main() -> None:
    """Run the CLI; whatever goes wrong becomes one line on stderr and an exit code.

    `QuantbenchError`, and what the operating system refuses: 2. Ctrl-C: 130, SIGTERM: 143. Anything else is a fault of
    ours: 70, with the details in a file.
    """
    try:
        _run()
    except QuantbenchError as error:
        _debug()
        echo(f"quantbench: error: {one_line(str(error))}", err=True)
        sys.exit(EXIT_USER_ERROR)
    except Interrupted as stop:
        word, code = ("terminated", EXIT_TERMINATED) if stop.terminated else ("interrupted", EXIT_INTERRUPTED)
        echo(f"quantbench: {word}; earlier results are whole; run the same command to go on", err=True)
        sys.exit(code)
    except BrokenPipeError:
        # `quantbench inspect … | head`: nobody reads on, which is no error. Python must not flush into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        # The disk is full, a file vanished, a folder may not be read: faults of the machine, not of quantbench.
        _debug()
        named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        echo(f"quantbench: error: {one_line(named + (error.strerror or str(error)))}", err=True)
        sys.exit(EXIT_USER_ERROR)
    except Exception as error:  # the last net: a user never sees a traceback that was not asked for
        _debug()
        echo(f"quantbench: error: {one_line(_unexpected(error))}", err=True)
        sys.exit(EXIT_INTERNAL)


def _debug() -> None:
    if os.environ.get(_DEBUG):
        traceback.print_exc()


def _run() -> None:
    """Run the command. What is wrong with the command line itself is one line, too; a bare group shows its help."""
    try:
        code = _commands()(prog_name="quantbench", standalone_mode=False)
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            echo(str(error))
            sys.exit(EXIT_USER_ERROR)
        explained = getattr(error, "format_message", None)
        message = " ".join((explained() if explained else str(error)).split()).rstrip(".")
        asked = getattr(getattr(error, "ctx", None), "command_path", "quantbench")
        raise QuantbenchError(f"{message}; see '{asked} --help'") from error
    except typer.Abort as error:
        # The library's word for an end of file or Ctrl-C inside a command.
        raise error.__cause__ or error from None
    if isinstance(code, int) and code:
        sys.exit(code)


def _unexpected(error: Exception) -> str:
    """What the last net says: the error, the command, and where its details were written."""
    line = shlex.join(["quantbench", *sys.argv[1:]])
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    details = f"{line}\nquantbench {quantbench.__version__}, Python {sys.version}\n\n{traceback.format_exc()}"
    try:
        handle, name = tempfile.mkstemp(prefix="quantbench-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(details)
        where = f"details in {Path(name)}"
    except OSError:
        where = "details with --debug"
    return f"{type(error).__name__}: {first}; a fault of quantbench's in '{line[:300]}'; {where}"


if __name__ == "__main__":
    main()
