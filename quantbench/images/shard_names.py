"""Which paths are WebDataset's tar shards: a tar, a folder of them, or a pattern such as `train-{000..012}.tar`."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from quantbench import limits
from quantbench.errors import QuantbenchError
from quantbench.images.decode import SUFFIXES

# The compressed ones are named too, so that they are refused as what they are.
_ENDINGS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})(?:\.\.(\d{1,9}))?")
_SHARDS = 1 << 17


def is_shards(path: Path) -> bool:
    """Whether `path` is a tar, a brace pattern of tars, or a folder that holds tars, no images and no folders: beside
    an archive there often lies what was unpacked of it."""
    if path.is_dir():
        inside = [file for file in path.iterdir() if not file.name.startswith(".")]
        names = [file.name.lower() for file in inside]
        tars = any(name.endswith(_ENDINGS) for name in names) and not any(name.endswith(SUFFIXES) for name in names)
        return tars and not any(file.is_dir() for file in inside)
    return path.name.lower().endswith(_ENDINGS)


def names_data(path: Path) -> bool:
    """Whether `path` is there, or named as a tar: a pattern of tars is no file itself."""
    return path.exists() or is_shards(path)


def shard_files(path: Path) -> list[Path]:
    """The tars that `path` stands for: those of a folder by name, those of a pattern in its order.

    Raises QuantbenchError for a pattern that is none and for a tar that is not there.
    """
    if path.is_dir():
        return sorted(f for f in path.iterdir() if f.name.lower().endswith(_ENDINGS) and not f.name.startswith("."))
    if path.exists() or not _BRACES.search(str(path)):
        files = [path]
    else:
        files = [Path(name) for name in _expanded(str(path))]
        if len(set(files)) < len(files):
            raise QuantbenchError(f"{path} names a tar twice; each once")
    gone = [file for file in files if not file.exists()]
    if gone:
        of = f", one of {len(files)} tars of {path}" if len(files) > 1 else ""
        raise QuantbenchError(f"{gone[0]} does not exist{of}")
    return files


def _expanded(pattern: str) -> Iterator[str]:
    """Every text that `pattern` stands for, as a shell has it."""
    parts = _BRACES.split(pattern)
    choices = [_choices(part, pattern) if number % 2 else [part] for number, part in enumerate(parts)]
    count = 1
    for each in choices:
        count *= len(each)
    limits.check(pattern, count, _SHARDS, "tars")
    return ("".join(words) for words in itertools.product(*choices))


def _choices(inside: str, pattern: str) -> list[str]:
    """`000..012` (with or without a step) or `a,b,c`."""
    found = _RANGE.fullmatch(inside)
    if found is None:
        if "," not in inside:
            raise QuantbenchError(f"{pattern}: {{{inside}}} is no range like {{000..012}} and no list like {{a,b}}")
        return inside.split(",")
    first, last, step = int(found[1]), int(found[2]), max(int(found[3] or 1), 1)
    limits.check(pattern, abs(last - first) // step, _SHARDS, "tars")
    padded = any(len(word) > 1 and word[0] == "0" for word in (found[1], found[2]))
    width = max(len(found[1]), len(found[2])) if padded else 0
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]
