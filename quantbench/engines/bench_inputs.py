"""Inputs of a benchmark: seeded noise, arrays, raw files as `trtexec --loadInputs` takes them, pictures, or what
calibration takes: folders of pictures or of arrays, and tar shards of either."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantbench import limits
from quantbench.engines.shapes import Shape, spelled
from quantbench.errors import QuantbenchError
from quantbench.images.arrays import DAMAGE, ArrayFiles, member

if TYPE_CHECKING:
    from PIL.Image import Image

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
    """The array of `shape` and `dtype` in `file`: an array file, the values as they lie in memory, a picture, or a
    folder or tar shards of pictures or arrays, as many as the batch takes, in turn. Pictures are preprocessed as
    `preprocess` says; of several arrays in a tar's sample the one called `name` is taken.

    Raises QuantbenchError where the file is missing or does not fit.
    """
    from quantbench.data.array_calls import holds_arrays
    from quantbench.images.shard_names import is_shards, names_data

    if not names_data(file):
        raise QuantbenchError(f"--input {name}={file}: no such file")
    if is_shards(file):
        return _of_shards(name, file, shape, dtype, preprocess)
    if file.is_dir() and holds_arrays(file):
        arrays = ArrayFiles(file)
        return _in_turn(lambda index: _row(name, arrays.load(index), shape, dtype, file), len(arrays), shape, dtype)
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


def _of_shards(name: str, file: Path, shape: Shape, dtype: np.dtype[Any], preprocess: str | None) -> NDArray[Any]:
    from quantbench.images.shard_arrays import ArraySamples, shards_hold_arrays
    from quantbench.images.shards import ShardPictures, opened

    shards = opened(file, shape[0] if shape else 1)
    if not shards_hold_arrays(shards):
        pictures = ShardPictures(shards)
        return _prepared(name, pictures.picture, len(pictures), shape, dtype, preprocess)
    samples = ArraySamples(shards)

    def row(index: int) -> NDArray[Any]:
        arrays = samples.arrays(index)
        if name not in arrays and len(arrays) != 1:
            raise QuantbenchError(f"{samples.name(index)}: its sample has arrays {', '.join(arrays)}, none for {name}")
        found = arrays[name] if name in arrays else next(iter(arrays.values()))
        return _row(name, found, shape, dtype, samples.name(index))

    return _in_turn(row, len(samples), shape, dtype)


def _row(name: str, array: NDArray[Any], shape: Shape, dtype: np.dtype[Any], where: object) -> NDArray[Any]:
    """`array` as one sample of a batch of `shape`, be it with or without the batch's axis."""
    if array.shape not in (shape[1:], (1, *shape[1:])):
        raise QuantbenchError(
            f"{where} holds {spelled(array.shape)} a sample, but input {name} is to be {spelled(shape)}"
        )
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise QuantbenchError(f"{where} holds {array.dtype}, but input {name} takes {dtype}")
    return array.reshape(shape[1:])


def _in_turn(load: Callable[[int], NDArray[Any]], count: int, shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A batch of those that it takes, each read once; a small set is gone through again."""
    loaded = [load(index) for index in range(min(count, shape[0]))]
    return np.stack([loaded[index % len(loaded)] for index in range(shape[0])]).astype(dtype)


def _pictures(name: str, file: Path, shape: Shape, dtype: np.dtype[Any], preprocess: str | None) -> NDArray[Any]:
    from quantbench.images.decode import decode_file
    from quantbench.images.folder import ImageFolder

    if not file.is_dir():
        return _prepared(name, lambda _: decode_file(file), 1, shape, dtype, preprocess)
    folder = ImageFolder(file)
    if not len(folder):
        raise QuantbenchError(f"no pictures in {file}")
    return _prepared(name, folder.picture, len(folder), shape, dtype, preprocess)


def _prepared(
    name: str, picture: Callable[[int], "Image"], count: int, shape: Shape, dtype: np.dtype[Any], preprocess: str | None
) -> NDArray[Any]:
    from quantbench.data.model_input import ImageInput, fitting_preprocess

    if len(shape) != 4 or str(dtype) not in ("float32", "float16", "uint8") or {1, 3}.isdisjoint((shape[1], shape[3])):
        raise QuantbenchError(f"input {name} is {dtype}[{spelled(shape)}], no batch of pictures; give an array file")
    chosen: Any = str(dtype)
    if shape[1] in (1, 3):
        image = ImageInput(name, "NCHW", shape[1], shape[2], shape[3], shape[0], chosen)
    else:
        image = ImageInput(name, "NHWC", shape[3], shape[1], shape[2], shape[0], chosen)
    how, _ = fitting_preprocess(preprocess, image)
    return _in_turn(lambda index: how(picture(index)), count, shape, dtype)
