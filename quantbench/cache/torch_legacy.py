"""Tensors of a file that torch.save wrote before 1.6 (no zip archive), with neither torch nor any code of the file.

The file is five pickles one after another (magic number, protocol, machine, the object, the keys of its storages) and
then, for each key in that order, the number of elements (int64) and the raw elements. Source: torch/serialization.py,
`_legacy_save`.
"""

import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quantbench.cache.torch_zip import DTYPES, Opaque
from quantbench.errors import QuantbenchError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Unpickler(pickle.Unpickler):
    """Containers and tensors; a tensor becomes (kind, key, offset, shape, strides) until storages are read."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _Stored
        if module == "torch" and name.endswith("Storage"):
            return name
        return type(name, (Opaque,), {"__module__": module})

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, kind, key, *_ = pid
        return (kind if isinstance(kind, str) else "?"), str(key)


class _Stored:
    def __init__(self, storage: tuple[str, str], offset: int, shape: Any, strides: Any, *_: object) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, int(offset), tuple(shape), tuple(strides)


def load_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Tensors of the state dict in `path`, by name, in the dtypes they are stored in.

    Raises QuantbenchError where the file is not of that form, is cut short or holds no state dict.
    """
    try:
        with path.open("rb") as stream:
            if _next(stream) != _MAGIC or _next(stream) != _PROTOCOL:
                raise QuantbenchError(f"{path} was not written by torch.save")
            _next(stream)
            found = _next(stream)
            if not isinstance(found, dict):
                raise QuantbenchError(f"{path} holds no state dict")
            tensors = {str(name): value for name, value in found.items() if isinstance(value, _Stored)}
            kinds = {value.storage[1]: value.storage[0] for value in tensors.values()}
            storages = {str(key): _storage(stream, kinds.get(str(key), "")) for key in _next(stream)}
        return {name: _view(storages[value.storage[1]], value) for name, value in tensors.items()}
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise QuantbenchError(f"{path} is broken, or no file of torch.save: {error}") from error


def _next(stream: IO[bytes]) -> Any:
    return _Unpickler(stream).load()


def _storage(stream: IO[bytes], kind: str) -> NDArray[Any]:
    dtype = np.dtype(DTYPES[kind])
    count = int(np.frombuffer(stream.read(8), "<i8")[0])
    data = stream.read(count * dtype.itemsize)
    return np.frombuffer(data, dtype, count)


def _view(flat: NDArray[Any], stored: _Stored) -> NDArray[Any]:
    size = flat.itemsize
    strides = [stride * size for stride in stored.strides]
    reach = stored.offset + sum(max(n - 1, 0) * s for n, s in zip(stored.shape, stored.strides, strict=True))
    if (
        stored.offset < 0
        or min(stored.strides, default=0) < 0
        or reach >= flat.size > 0
        or math.prod(stored.shape) > flat.size
    ):
        raise ValueError("a tensor reaches past its storage")
    return np.lib.stride_tricks.as_strided(flat[stored.offset :], stored.shape, strides).copy()
