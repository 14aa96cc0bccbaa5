"""Which class an answer's number stands for: the list that the model was trained with, never the folders at hand."""

from collections.abc import Sequence
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.text_file import read_text


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names of a file, one a line, in the order of their numbers; or of a folder, its folders sorted by name, as
    torchvision and ultralytics number a training set. Raises QuantbenchError."""
    if path.is_dir():
        names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."))
    else:
        text = read_text(path, "classes", encoding="utf-8-sig")
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise QuantbenchError(f"{path} names no class; it must hold one name a line, or be the training folder")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise QuantbenchError(f"{path}: class {twice!r} stands twice")
    return names


def folder_classes(
    folders: Sequence[str], known: Sequence[str], count: int | None, origin: str = "the list"
) -> tuple[str, ...]:
    """The list that gives folders their numbers: `known` (given, or from the model), else the folders themselves where
    they are numbers or as many as the model has answers (`count`).

    Raises QuantbenchError where it cannot be told which folder is which class.
    """
    if not folders:
        raise QuantbenchError("--labels folder: the images lie in no folders of classes")
    if known:
        missing = [name for name in folders if name not in known]
        if missing:
            raise QuantbenchError(
                f"--labels folder: folder {missing[0]!r} is none of the {len(known)} classes of {origin}"
            )
        return tuple(known)
    if all(name.isdecimal() for name in folders):
        return tuple(map(str, range(max(map(int, folders)) + 1)))
    if count == len(folders):
        return tuple(folders)
    answers = f"the model has {count} answers" if count else "how many answers the model has is unknown"
    raise QuantbenchError(
        f"--labels folder: {len(folders)} folders ({', '.join(folders[:5])}{'…' if len(folders) > 5 else ''}), but "
        f"{answers}: which is which? Give the list that it was trained with: --classes FILE (one name a line) or the "
        f"training folder"
    )
