"""Commands and options that sentences name, and what the command line has of them."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import typer

from quantbench.cli.main import app, register_commands

# A command ends where its sentence goes on: at a quote, a bracket, a semicolon, a comma.
_COMMAND = re.compile(r"(?<![\w./-])quantbench (?=[a-z-])([^;,()`\"\n]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


@cache
def commands() -> Mapping[str, frozenset[str]]:
    """Command ("ptq", "cache to-qdq") to its options."""
    register_commands()
    found: dict[str, frozenset[str]] = {"": frozenset({"--help", "--version", "--debug", "--no-limits"})}
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        inner_commands = getattr(command, "commands", {})
        waiting += [(f"{name} {inner}".strip(), known) for inner, known in inner_commands.items()]
        if name:
            found[name] = frozenset(
                text
                for option in command.params
                if option.param_type_name == "option"
                for text in (*option.opts, *option.secondary_opts)
            ) | {"--help"}
    return found


@dataclass(frozen=True)
class Named:
    """A command that a sentence names, "" where it speaks of quantbench ("quantbench reads"), and the words behind."""

    command: str
    arguments: tuple[str, ...]
    text: str

    @property
    def options(self) -> tuple[str, ...]:
        own = self.arguments
        if self.command == "record":  # what stands behind the program is its own
            own = own[: next((i for i, word in enumerate(own) if word.endswith(".py")), len(own))]
        return tuple(match[0] for word in own if (match := OPTION.match(word)))


def named_commands(text: str) -> Iterator[Named]:
    """Every `quantbench …` in `text`."""
    for match in _COMMAND.finditer(text):
        inner = match[1]
        # In single quotes the quote ends it; else the single quotes are its own.
        if match.start() and text[match.start() - 1] == "'":
            inner = inner.partition("'")[0]
        try:
            words = shlex.split(inner, comments=True)
        except ValueError:
            words = inner.split()
        # What stands behind a bare -- is another program's.
        words = words[: words.index("--")] if "--" in words else words
        words = [word.rstrip(".:") for word in words[:2]] + words[2:]
        # "quantbench --no-limits ptq": options of the whole command line stand before.
        while words and words[0] in commands()[""]:
            words = words[1:]
        two = " ".join(words[:2])
        name = two if two in commands() else words[0] if words and words[0] in commands() else ""
        yield Named(name, tuple(words[len(name.split()) :]), match[0])


def concrete(named: Named, run_folder: str, images: str) -> list[str] | None:
    """`named` as it can be run: what stands for "and so on" filled in; None where it names a placeholder of the user's
    (MODEL, FOLDER …) or another program."""
    words = [word for word in named.arguments if word not in ("...", "…")]
    # A command alone, or of a placeholder (MODEL, FLOAT.onnx, FOLDER), is the reader's to fill in.
    if (
        not (named.command and words)
        or any(re.match(r"[A-Z]{3}", word) for word in words)
        or "--" in named.text.split()
    ):
        return None
    if named.command == "ptq":
        words += [] if "--calib-dir" in words or "--input" in words else ["--calib-dir", images]
        words += [] if "--calibrator" in words else ["--calibrator", "minmax"]
        words += ["--no-compile", "--out", run_folder]
    return [*named.command.split(), *words]
