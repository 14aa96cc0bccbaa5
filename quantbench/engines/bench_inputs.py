"""Inputs of a benchmark: seeded noise, arrays, raw files as `trtexec --loadInputs` takes them, or pictures."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench import limits
from quantbench.engines.shapes import Shape, spelled
from quantbench.errors import QuantbenchError
from quantbench.images.arrays import DAMAGE, member

# As quantbench.images.decode has them; not imported, for Pillow is.
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_ARRAYS = (".npy", ".npz")


def noise(shape: Shape, dtype: np.dtype[Any], seed: int = 0) -> NDArray[Any]:
    """Seeded inputs: normal for floats, 0 to 99 for integers, both truths for booleans."""
    limits.check("an input of this benchmark", math.prod(shape) * max(dtype.itemsize, 8), limits.INPUT_BYTES)
    random = np.random.default_rng(seed)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)


def named_files(texts: tuple[str, ...]) -> dict[str, Path]:
    """`NAME=FILE` texts, each split at its last `=`. Raises QuantbenchError for another form."""
    found = {}
    for text in texts:
        name, sign, file = text.rpartition("=")
        if not (name and sign and file):
            raise QuantbenchError(f"--input {text!r} is not NAME=FILE, like images=photos/ or x=x.npy")
        found[name] = Path(file)
    return found


def array_shape(file: Path) -> Shape | None:
    """The shape that a file of one array holds; None where the file does not say (raw values, pictures)."""
    return tuple(_array(file).shape) if file.suffix.lower() in _ARRAYS and file.is_file() else None


def read_input(name: str, file: Path, shape: Shape, dtype: np.dtype[Any], preprocess: str | None) -> NDArray[Any]:
    """The array of `shape` and `dtype` in `file`: an array file, a picture or a folder of pictures (preprocessed as
    `preprocess` says, as many as the batch takes, in turn), or the values as they lie in memory.

    Raises QuantbenchError where the file is missing or does not fit.
    """
    if not file.exists():
        raise QuantbenchError(f"--input {name}={file}: no such file")
    if file.is_dir() or file.suffix.lower() in _PICTURES:
        return _pictures(name, file, shape, dtype, preprocess)
    if file.suffix.lower() in _ARRAYS:
        array = _array(file)
        if array.shape != shape:
            raise QuantbenchError(f"{file} holds {spelled(array.shape)}, but input {name} is to be {spelled(shape)}")
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise QuantbenchError(f"{file} holds {array.dtype}, but input {name} takes {dtype}")
        return array.astype(dtype)
    wanted, size = math.prod(shape) * dtype.itemsize, file.stat().st_size
    if size != wanted:
        raise QuantbenchError(
            f"{file} holds {size} bytes, but input {name} takes {wanted} ({spelled(shape)} of {dtype}); raw files hold "
            f"the values alone, as trtexec --loadInputs wants them"
        )
    return np.fromfile(file, dtype).reshape(shape)


def _array(file: Path) -> NDArray[Any]:
    try:
        limits.regular_file(file, limits.ANY_BYTES)
        found = np.load(file, allow_pickle=False)
        if isinstance(found, Mapping):
            names = list(found)
            if len(names) != 1:
                raise QuantbenchError(f"{file} holds {len(names)} arrays ({', '.join(names)}); give a file with one")
            found = member(found, names[0])
    except DAMAGE as error:
        raise QuantbenchError(f"cannot read {file}: {error}") from error
    array: NDArray[Any] = found
    return array


def _pictures(name: str, file: Path, shape: Shape, dtype: np.dtype[Any], preprocess: str | None) -> NDArray[Any]:
    from quantbench.data.model_input import ImageInput, fitting_preprocess
    from quantbench.images.decode import decode_file
    from quantbench.images.folder import ImageFolder

    if len(shape) != 4 or str(dtype) not in ("float32", "float16", "uint8") or {1, 3}.isdisjoint((shape[1], shape[3])):
        raise QuantbenchError(f"input {name} is {dtype}[{spelled(shape)}], no batch of pictures; give an array file")
    chosen: Any = str(dtype)
    if shape[1] in (1, 3):
        image = ImageInput(name, "NCHW", shape[1], shape[2], shape[3], shape[0], chosen)
    else:
        image = ImageInput(name, "NHWC", shape[3], shape[1], shape[2], shape[0], chosen)
    how, _ = fitting_preprocess(preprocess, image)
    if file.is_dir():
        folder = ImageFolder(file)
        if not len(folder):
            raise QuantbenchError(f"no pictures in {file}")
        # Those that the batch takes, each read once; a small folder is gone through again.
        loaded = [how(folder.picture(index)) for index in range(min(len(folder), shape[0]))]
    else:
        loaded = [how(decode_file(file))]
    return np.stack([loaded[index % len(loaded)] for index in range(shape[0])]).astype(dtype)
