"""Labels of samples in tar shards: their members `.cls`, `.txt` or `.json`, or the names of their pictures."""

import reprlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.images.folder import LabelOf
from quantbench.images.shards import LabelOfSample, Sample, Shards
from quantbench.images.truth import PictureLabel
from quantbench.text_file import parse_json

FIELDS = ("cls", "txt", "json")
_KEYS = ("label", "cls", "class", "class_id", "category_id", "target")
_MOST_CHARACTERS = 1 << 16


def from_fields(classes: Sequence[str], field: str = "") -> LabelOfSample:
    """Label = the class number, or the name of one of `classes`, in the sample's `field` (default: the first of FIELDS
    that it has); a JSON object holds it under `label` or a like name. None for a sample without.

    Raises QuantbenchError, naming tar and member, for what is neither.
    """
    index = {name: number for number, name in enumerate(classes)}
    wanted = (field.lower(),) if field else FIELDS

    def label_of(shards: Shards, sample: Sample, picture: str) -> PictureLabel:
        found = next((name for name in wanted if name in sample.fields), None)
        if found is None:
            return None
        name = shards.name(sample, found)
        data = shards.read(sample, found)
        if len(data) > _MOST_CHARACTERS:
            raise QuantbenchError(f"{name} is of {len(data):,} bytes, no label; name another member: --labels cls=json")
        return _number(_value(data, found, name), index, name)

    return label_of


def by_path(label_of: LabelOf) -> LabelOfSample:
    """Labels by the path of the picture in its tar, as of files in a folder."""
    return lambda shards, sample, picture: label_of(PurePosixPath(sample.fields[picture].name))


def _value(data: bytes, field: str, name: str) -> Any:
    if not field.endswith("json"):
        return data.decode("utf-8", "backslashreplace").strip()
    found = parse_json(data, name)
    if isinstance(found, dict):
        key = next((key for key in _KEYS if key in found), None)
        if key is None:
            raise QuantbenchError(f"{name} has none of the keys {', '.join(_KEYS)}")
        return found[key]
    return found


def _number(value: Any, index: dict[str, int], name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        if value in index:
            return index[value]
        if value.isascii() and value.isdecimal() and len(value) < 10:
            return int(value)
    known = "give their names with --classes FILE" if not index else f"there are {len(index)} classes"
    raise QuantbenchError(
        f"{name} holds {reprlib.repr(value)}, neither a class number nor the name of a class; {known}"
    )
