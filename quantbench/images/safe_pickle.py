"""Reading arrays out of pickles of others without running their code."""

import io
import pickle
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError

# The rebuilding function has moved between NumPy 1 and 2; take it from what this NumPy itself writes.
_REBUILD: Any = np.zeros(0).__reduce__()[0]


def _from_buffer(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray[Any]:
    """What protocol 5 rebuilds arrays with."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 and older write bytes; they use Latin-1 alone."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encodes bytes as {encoding}")
    return text.encode("latin-1")


# All that a pickled array of numbers refers to, under the names of NumPy 1 and 2, in protocols 2 to 5.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy._core.multiarray", "_reconstruct"): _REBUILD,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"refers to {module}.{name}")
        return _ALLOWED[module, name]


def load_array(data: bytes, name: str) -> NDArray[Any]:
    """The one numeric array in the pickle `data`; anything else in it is refused before it runs.

    Raises QuantbenchError, naming `name`, where the pickle is damaged or holds something else.
    """
    try:
        array = _ArrayUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise QuantbenchError(f"{name} is not a pickled array of numbers ({error}); not loaded") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise QuantbenchError(f"{name} is not a pickled array of numbers; not loaded")
    return array
