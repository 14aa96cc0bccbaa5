"""Labels out of paths: from the folder that a file lies in, or from the file's name."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from quantbench.errors import QuantbenchError
from quantbench.images.folder import LabelOf


def class_folders(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted names of the topmost folders in relative paths; files outside any folder have none."""
    return tuple(sorted({path.parts[0] for path in map(PurePosixPath, names) if len(path.parts) > 1}))


def from_folder(classes: Sequence[str]) -> LabelOf:
    """Label = position of the topmost folder in `classes` (torchvision's ImageFolder sorts them by name).

    A data set that holds only some of a model's classes needs the model's full list here, not the folders at hand.
    """
    index = {name: number for number, name in enumerate(classes)}

    def label_of(path: PurePosixPath) -> int | None:
        return index.get(path.parts[0]) if len(path.parts) > 1 else None

    return label_of


def from_file_name(pattern: str = r"(\d+)$") -> LabelOf:
    """Label = the number that the group of `pattern` matches in the file's stem (default: digits at its end).

    Raises QuantbenchError where the pattern is no regular expression with one group.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise QuantbenchError(f"label pattern {pattern!r} is no regular expression: {error}") from error
    if regex.groups != 1:
        raise QuantbenchError(f"label pattern {pattern!r} needs exactly one group, such as '(\\d+)$'")

    def label_of(path: PurePosixPath) -> int | None:
        match = regex.search(path.stem)
        if match is None:
            return None
        if not match.group(1).isdecimal():
            raise QuantbenchError(f"label pattern {pattern!r} gives {match.group(1)!r} for {path}, which is no number")
        return int(match.group(1))

    return label_of
