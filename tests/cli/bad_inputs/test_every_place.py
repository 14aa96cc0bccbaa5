"""Every place of every command that takes a file is in the table, or named here with the reason why not."""

import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from quantbench.cli.main import app, register_commands
from tests.cli.bad_inputs.table import LINES_OF_COMMANDS, PLACES

# What an option of text says where it takes a file as well.
_SAYS_FILE = re.compile(r"\bfiles?\b|\bfolder\b|\barrays\b|\.npy|\.py|=FILE|\bor a YAML\b|photos\?", re.IGNORECASE)
_WRITTEN = "written, not read: tests/files/test_atomic.py, tests/ptq/test_hostile_folders.py"
_TENSORRT = "read by TensorRT on a GPU, which comes before: tests/engines"
_A_NAME = "a name"
ELSEWHERE = {
    "--out": _WRITTEN, "--log": _WRITTEN, "--times": _WRITTEN, "--profile": _WRITTEN, "--onnx": _WRITTEN,
    "--precisions": _WRITTEN, "--timing-cache": _WRITTEN,
    "--replay": _TENSORRT, "bench --plugin": _TENSORRT, "inspect --plugin": _TENSORRT, "refit --plugin": _TENSORRT,
    "qat-export --plugin": _TENSORRT, "build --calib-data": _TENSORRT, "build --input": _TENSORRT,
    "bench --backend": _A_NAME, "device learn --name": _A_NAME, "device learn --gpu": _A_NAME,
    "cache merge --policy": _A_NAME,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A parameter of a command: its name or its spellings, and whether it stands alone (a switch)."""

    command: str
    spellings: tuple[str, ...]
    position: int
    switch: bool
    takes_file: bool


def test_every_place_that_takes_a_file_is_in_the_table() -> None:
    places = list(_places())
    assert len({place.command for place in places}) > 25
    tried = _tried(places)
    missing = [
        f"{place.command} {place.spellings[0]}"
        for place in places
        if place.takes_file and not tried & {(place.command, spelling) for spelling in place.spellings}
    ]
    known = {name for name in missing if name in ELSEWHERE or name.rsplit(" ", 1)[-1] in ELSEWHERE}
    assert set(missing) - known == set()
    ends = {*missing, *(name.rsplit(" ", 1)[-1] for name in missing)}
    assert set(ELSEWHERE) <= ends  # no reason outlives its place


def _commands(group: typer.Typer, before: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield " ".join((*before, command.name or command.callback.__name__)), command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _commands(inner.typer_instance, (*before, str(inner.name or inner.typer_instance.info.name)))


def _places() -> Iterator[Place]:
    register_commands()
    for name, function in _commands(app):
        hints = typing.get_type_hints(function, include_extras=True)
        position = 0
        for parameter in inspect.signature(function).parameters.values():
            hint, info = hints[parameter.name], parameter.default
            if typing.get_origin(hint) is typing.Annotated:
                info = next(entry for entry in hint.__metadata__ if hasattr(entry, "help"))
                hint = typing.get_args(hint)[0]
            option = isinstance(info, typer.models.OptionInfo)
            # Where an option is annotated its first spelling stands where a default would.
            given = (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ()))
            spelled = [
                part
                for entry in given
                if isinstance(entry, str)
                for part in str(entry).split("/")
                if part.startswith("-")
            ]
            default = f"--{parameter.name.replace('_', '-')}" if option else parameter.name
            kinds = set(typing.get_args(hint)) | {hint}
            kinds |= {inner for kind in kinds for inner in typing.get_args(kind)}
            takes = Path in kinds or (str in kinds and _SAYS_FILE.search(getattr(info, "help", "") or "") is not None)
            spelled.sort(key=len, reverse=True)
            yield Place(name, tuple(spelled) or (default,), -1 if option else position, bool in kinds, takes)
            position += not option


def _tried(places: list[Place]) -> set[tuple[str, str]]:
    """(command, spelling) of every place where the table puts a bad file."""
    found = set()
    commands = {place.command for place in places}
    lines = [command for _, commands in PLACES.values() for command in commands]
    lines += [command for command, _ in LINES_OF_COMMANDS]
    for line in lines:
        words = line.split(" ")
        fit = [command for command in commands if words[: command.count(" ") + 1] == command.split(" ")]
        name = max(fit, key=len, default="")
        own = [place for place in places if place.command == name]
        switches = {spelling for place in own if place.switch for spelling in place.spellings}
        last, position = "", 0
        arguments = [place for place in own if place.position >= 0]
        for word in words[len(name.split(" ")) :]:
            bad = "{x}" in word
            if word.startswith("--"):
                last = "" if word in switches else word
                continue
            if last:
                found |= {(name, last)} if bad else set()
            elif arguments:
                if bad or line in dict(LINES_OF_COMMANDS):
                    found.add((name, arguments[min(position, len(arguments) - 1)].spellings[0]))
                position += 1
            last = ""
    return found
