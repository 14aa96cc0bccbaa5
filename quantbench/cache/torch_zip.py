"""Tensors of a torch.save archive as numpy arrays, with neither torch nor any code of the file.

The archive (zip; torch 1.6 and later) holds a pickle whose tensors point at raw storage files. The unpickler here
rebuilds containers and tensors only; every other class becomes an inert `Opaque` that keeps its arguments.
"""

import io
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantbench import limits
from quantbench.errors import QuantbenchError

DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?", "BFloat16Storage": "<u2",
}  # fmt: skip

# What zipfile raises for a member that is damaged, encrypted, or packed in a way that Python does not know.
_DAMAGE = (
    KeyError, IndexError, ValueError, NotImplementedError, RuntimeError, EOFError, OSError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of the archive, read when asked for. `kind` is torch's storage class, `strides` count elements."""

    archive: Path
    member: str
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> npt.NDArray[np.float64]:
        """Values as float64 of `shape`. Raises QuantbenchError for a storage that is missing or too short."""
        if self.kind not in DTYPES:
            raise QuantbenchError(f"{self.archive}: cannot read a tensor of {self.kind}")
        dtype = np.dtype(DTYPES[self.kind])
        limits.check(f"{self.archive}: a range", math.prod(self.shape), limits.RANGE_ELEMENTS, "numbers")
        try:
            with zipfile.ZipFile(self.archive) as archive:
                flat = np.frombuffer(archive.read(self.member), dtype)
            if self.kind == "BFloat16Storage":
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            index = np.full(self.shape, self.offset, np.int64)
            for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
                steps = np.arange(size) * stride
                index = index + steps.reshape([-1 if a == axis else 1 for a in range(len(self.shape))])
            return flat[index].astype(np.float64)
        except _DAMAGE as error:
            raise QuantbenchError(f"{self.archive}: the storage {self.member} is missing or broken") from error


class Opaque:
    """Stands for an object of a class that is not rebuilt."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self.items: dict[Any, Any] = {}

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, _value: object) -> None:
        """Ignore list items."""

    def extend(self, _values: object) -> None:
        """Ignore list items."""


def is_archive(data: bytes) -> bool:
    """Whether the first bytes of a file are those of a zip archive."""
    return data.startswith(b"PK\x03\x04")


def load(path: Path) -> Any:
    """The pickled object of `path`, with `StoredTensor` for tensors and `Opaque` for foreign classes.

    Raises QuantbenchError where the file is no archive of torch.save or its pickle is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(pickles) != 1:
                raise QuantbenchError(f"{path} is a zip archive, but not one of torch.save")
            limits.check(f"the pickle in {path}", archive.getinfo(pickles[0]).file_size, limits.CACHE_BYTES)
            data = archive.read(pickles[0])
        return _Unpickler(data, path, pickles[0].removesuffix("data.pkl")).load()
    except (zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError,
            IndexError, KeyError, OSError, RuntimeError, MemoryError, OverflowError) as error:  # fmt: skip
        raise QuantbenchError(f"{path} is broken, or no archive of torch.save: {error}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path, prefix: str) -> None:
        super().__init__(io.BytesIO(data))
        self._path, self._prefix = path, prefix

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return self._tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _first
        if module == "torch" and name.endswith("Storage"):
            return name
        return type(name, (Opaque,), {"__module__": module})

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, kind, key, *_ = pid
        return (kind if isinstance(kind, str) else "?"), f"{self._prefix}data/{key}"

    def _tensor(self, storage: tuple[str, str], offset: int, shape: Any, strides: Any, *_: object) -> StoredTensor:
        return StoredTensor(self._path, storage[1], storage[0], int(offset), tuple(shape), tuple(strides))


def _first(value: Any, *_: object) -> Any:
    return value
