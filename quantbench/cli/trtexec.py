"""`quantbench trtexec`: a trtexec command line in quantbench's words."""

from typing import TYPE_CHECKING

import typer

from quantbench.cli.options import Json
from quantbench.terminal import echo

if TYPE_CHECKING:
    from quantbench.trtexec.flag import Translation


def register(app: typer.Typer) -> None:
    """Add the command."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["-h"]}
    app.command("trtexec", context_settings=settings)(trtexec)


def trtexec(
    context: typer.Context,
    run: bool = typer.Option(False, "--run", help="Run the commands instead of printing them."),
    as_json: Json = False,
) -> None:
    """Say a trtexec command line (any version, 8 to 11) in quantbench's words, and what changes.

    quantbench trtexec -- --onnx=m.onnx --fp16 --saveEngine=m.engine; or the whole line in quotes, as it was pasted.
    """
    import json
    import shlex

    from quantbench.errors import QuantbenchError
    from quantbench.trtexec.read import commands, printed, translate

    words = [word for word in context.args if word != "--"]
    if words == ["--help"]:  # in a longer line it is trtexec's
        echo(context.get_help())
        return
    if not words:
        raise QuantbenchError("no command line given: quantbench trtexec -- --onnx=m.onnx --saveEngine=m.engine")
    found = translate(words[0] if len(words) == 1 else shlex.join(words))
    if as_json:
        data = {
            "commands": commands(found), "environment": found.environment,
            "changed": [{"flag": f, "words": w} for f, w in found.changed],
            "lost": [{"flag": f, "words": w} for f, w in found.lost],
        }  # fmt: skip
        echo(json.dumps(data, indent=2))
        return
    for line in printed(found):
        echo(line)
    for title, entries in (("changed", found.changed), ("lost", found.lost)):
        for flag, said in entries:
            echo(f"{title}: {flag}: {said}", err=run)
    if run:
        _run(found, commands(found))


def build_of(line: str, as_version: int | None) -> None:
    """Run the build of a trtexec command line, or print it for another version; says what changes and what follows."""
    import shlex

    from quantbench.errors import QuantbenchError
    from quantbench.trtexec.read import commands, translate

    found = translate(line)
    if found.loads or not found.model:
        raise QuantbenchError(f"the command line builds nothing, it runs {found.loads}: quantbench trtexec -- …")
    words, *later = commands(found)
    for title, entries in (("changed", found.changed), ("lost", found.lost)):
        for flag, said in entries:
            echo(f"{title}: {flag}: {said}", err=True)
    _run(found, [[*words, *(["--as-trtexec", str(as_version)] if as_version is not None else [])]])
    for command in later if as_version is None else ():
        echo(f"then: {shlex.join(command)}", err=True)


def _run(found: "Translation", lines: list[list[str]]) -> None:
    import os

    from typer.main import get_command

    from quantbench.cli.main import app

    os.environ.update(dict(word.partition("=")[::2] for word in found.environment))
    for words in lines:
        get_command(app).main(args=words[1:], prog_name="quantbench", standalone_mode=False)
