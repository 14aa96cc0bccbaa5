"""Opening a source: a folder or array file by its path, a data set by its name or its adapter's path."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.images.arrays import SUFFIXES, ArrayFiles
from quantbench.images.folder import ImageFolder, LabelOf
from quantbench.images.preprocess import Preprocess
from quantbench.images.shard_arrays import ShardArrays, shards_hold_arrays
from quantbench.images.shard_labels import by_path
from quantbench.images.shard_names import is_shards
from quantbench.images.shards import LabelOfSample, ShardPictures, opened
from quantbench.images.source import Pictures, Prepared, Source
from quantbench.load_object import load_file, user_code
from quantbench.shipped import shipped_names


def open_folder(
    path: Path | str, preprocess: Preprocess, *, label_of: LabelOf | None = None, most: int | None = None
) -> Source:
    """Source of what lies at `path`: an `.npy`/`.npz` file or a folder of them (as stored), tar shards, else images in
    a folder. `most`: so many of them will be taken.

    Raises QuantbenchError where there is nothing to read.
    """
    path = Path(path)
    if is_shards(path):
        return open_shards(path, preprocess, by_path(label_of) if label_of is not None else None, most)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return ArrayFiles(path)
    if path.is_dir():
        endings = {file.suffix.lower() for file in path.iterdir() if file.is_file()}
        if endings and endings <= set(SUFFIXES):
            return ArrayFiles(path)
    return Prepared(ImageFolder(path, label_of=label_of), preprocess)


def open_shards(path: Path, preprocess: Preprocess, label_of: LabelOfSample | None, most: int | None) -> Source:
    """Source of tar shards: pictures, or arrays as stored. Raises QuantbenchError as `Shards`."""
    shards = opened(path, most)
    if shards_hold_arrays(shards):
        return ShardArrays(shards)
    return Prepared(ShardPictures(shards, label_of), preprocess)


def dataset_names() -> tuple[str, ...]:
    """Names of the data sets that `open_dataset` knows."""
    return tuple(_adapters())


def open_dataset(name: str, preprocess: Preprocess, options: Mapping[str, Any] | None = None) -> Source:
    """Source of the data set `name`, or of the adapter at a path that ends in `.py`.

    An adapter is a Python file with `pictures(**options)` that returns Pictures (to be preprocessed), or with
    `source(**options)` that returns a ready Source. Raises QuantbenchError for names and options that do not exist.
    """
    module = _load(name)
    if hasattr(module, "source"):
        ready: Source = _call(module.source, name, options)
        return ready
    return Prepared(_pictures(module, name, options), preprocess)


def open_pictures(name: str, options: Mapping[str, Any] | None = None) -> Pictures:
    """Pictures of the data set `name` before preprocessing. Raises QuantbenchError as `open_dataset` does."""
    return _pictures(_load(name), name, options)


def _pictures(module: ModuleType, name: str, options: Mapping[str, Any] | None) -> Pictures:
    if not hasattr(module, "pictures"):
        raise QuantbenchError(f"{module.__file__} has no pictures(**options), which a data set of pictures defines")
    pictures: Pictures = _call(module.pictures, name, options)
    return pictures


def _call(maker: Callable[..., Any], name: str, options: Mapping[str, Any] | None) -> Any:
    """Call an adapter's function after checking the options against its signature."""
    known = inspect.signature(maker).parameters
    options = dict(options or {})
    for option in options:
        if option not in known:
            raise QuantbenchError(f"data set {name} has no option {option!r}; it has {', '.join(known) or 'none'}")
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise QuantbenchError(f"data set {name} needs the option {option!r}")
    with user_code(name):
        return maker(**options)


def _adapters() -> dict[str, Path]:
    # The folder also holds generators and helpers; an adapter is what offers one of the two functions.
    return {
        name: file
        for name, file in shipped_names("datasets", ".py").items()
        if re.search(r"^def (pictures|source)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }


def _load(name: str) -> ModuleType:
    if name.endswith(".py"):
        return load_file(Path(name))
    shipped = _adapters()
    if name not in shipped:
        raise QuantbenchError(
            f"no data set {name!r}; there are {', '.join(shipped)}, or give the path of an adapter (.py)"
        )
    return load_file(shipped[name])
