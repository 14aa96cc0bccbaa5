"""A stage as a value: a name, what its work gets, the versions that can change the result, and the work.

The key of a stage is the digest of that value, and the work function is given the value and nothing else; so an input
that was forgotten in the key cannot be used.
"""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, JsonValue

from quantbench.unkeyed import UNKEYED as UNKEYED

Inputs = TypeVar("Inputs")


@runtime_checkable
class Keyed(Protocol):
    """A value that knows its own identity: a loaded model (its file's hash), images (hash of their contents)."""

    def key(self) -> str:
        """Text that differs where the value does, the same on every machine."""
        ...


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file by its content; where it lies changes nothing."""

    sha256: str
    path: Path = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class Stage(Generic[Inputs]):
    """`inputs` is a frozen dataclass of plain data and `Keyed` values. `work` writes the outputs into the folder that
    it is given; all that it leaves there, hidden files aside, are the stage's outputs. `after` names the stages whose
    outputs it reads; `versions`, by package, are those that can change the result."""

    name: str
    inputs: Inputs
    versions: Mapping[str, str]
    work: Callable[[Inputs, Path], None]
    after: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 of name, inputs and versions."""
        return digest({"stage": self.name, "inputs": self.inputs, "versions": dict(self.versions)})

    def facts(self) -> dict[str, JsonValue]:
        """The inputs by field, for people: short plain values as they are, others by their digest."""
        return {item.name: _shown(getattr(self.inputs, item.name)) for item in _fields(self.inputs)}


def digest(value: Any) -> str:
    """SHA-256 of plain data, dataclasses and `Keyed` values, independent of the order of keys.

    Raises TypeError for a value of another kind, above all a path: what lies there must be hashed.
    """
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """`value` as JSON data; see `digest`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, Keyed):
        return value.key()
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in _fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=json.dumps)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be part of a stage's key")


def _fields(value: Any) -> list["dataclasses.Field[Any]"]:
    return [item for item in dataclasses.fields(value) if not item.metadata.get("unkeyed")]


def _shown(value: Any) -> Any:
    found = plain(value)
    return found if not isinstance(found, (dict, list)) or len(json.dumps(found)) < 200 else digest(value)
