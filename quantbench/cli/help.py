"""Help as it is read: sentences instead of docstrings' lines, and no value after a flag that takes none."""

from typing import Any, get_args

# What stands for a value of these types, as typer calls them, and click before it, where an option does not say so.
_VALUES = {"str": "TEXT", "text": "TEXT", "path": "PATH", "int": "N", "integer": "N", "float": "N"}


def readable(command: Any) -> None:
    """Mend the texts of `command`, as typer made it, and of the commands in it."""
    if command.help:
        paragraphs = [" ".join(part.split()) for part in command.help.split("\n\n")]
        command.help = "\n\n".join(paragraphs)
        command.short_help = _first_sentence(paragraphs[0])
    for parameter in command.params:
        _name_value(parameter)
    own = command.get_help_option
    vars(command)["get_help_option"] = lambda ctx: _name_value(own(ctx))
    for inner in getattr(command, "commands", {}).values():
        readable(inner)


def _name_value(parameter: Any) -> Any:
    """`parameter` with a word for its value, where it takes one. The name of an argument and its help say enough."""
    if parameter is None:
        return None
    if parameter.param_type_name == "argument":
        vars(parameter)["display_type_rich"] = lambda ctx: None
    elif getattr(parameter, "is_flag", False):
        parameter.metavar = ""
    elif parameter.metavar is None:
        parameter.metavar = _VALUES.get(_type_of(parameter))
    return parameter


def _first_sentence(text: str) -> str:
    first, stop, _ = text.partition(". ")
    return first + "." if stop else first


def _type_of(parameter: Any) -> str:
    described = getattr(parameter, "type_descriptor", None)
    if described is None:
        return str(getattr(parameter.type, "name", "")).partition(" ")[0]
    inner = get_args(described.annotation)
    return str(getattr(inner[0] if inner else described.annotation, "__name__", "")).lower()
