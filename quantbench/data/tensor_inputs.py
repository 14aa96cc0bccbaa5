"""The inputs of a model as they are declared, and whether arrays fit them: any rank, any dtype, any number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from quantbench.errors import QuantbenchError

_DTYPES = frozenset(helper.get_all_tensor_dtypes()) - {onnx.TensorProto.UNDEFINED}
Call = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TensorInput:
    """One input: dtype as numpy spells it, shape with None for a dynamic dimension (None: rank unknown)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def describe(self) -> str:
        """`int64[N, 128]`, as messages have it."""
        return f"{self.dtype}{_dims(self.shape)}"

    def fits(self, shape: tuple[int, ...], *, batch: bool) -> bool:
        """Whether an array of `shape` can be given; with `batch` whatever its first axis is."""
        if self.shape is None:
            return True
        if len(shape) != len(self.shape):
            return False
        pairs = list(zip(shape, self.shape, strict=True))
        return all(want in (None, have) for have, want in (pairs[1:] if batch else pairs))


def tensor_inputs(model: onnx.ModelProto) -> tuple[TensorInput, ...]:
    """The inputs of `model` that a caller gives, in order (initializers left out).

    Raises QuantbenchError where there is none, and for one that is no tensor of numbers.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    found = tuple(_input(value) for value in model.graph.input if value.name not in stored)
    if not found:
        raise QuantbenchError("the model takes no input: there is nothing to feed it with")
    return found


def fitted(want: TensorInput, array: NDArray[Any], where: str, *, batch: bool = True) -> NDArray[Any]:
    """`array` in the dtype of `want`, where that loses nothing but float precision.

    Raises QuantbenchError, naming `where` it came from, the input, what is wanted and what is given.
    """
    if not want.fits(array.shape, batch=batch):
        raise QuantbenchError(_mismatch(want, array, where))
    if str(array.dtype) == want.dtype:
        return array
    kinds = array.dtype.kind + np.dtype(want.dtype).kind
    if kinds not in ("ff", "ii", "uu", "iu", "ui", "bi", "bu", "ib", "ub"):
        raise QuantbenchError(f"{_mismatch(want, array, where)}; save it as {want.dtype}, in the values that it has")
    cast = array.astype(want.dtype)
    if kinds != "ff" and not np.array_equal(cast, array):
        raise QuantbenchError(f"{_mismatch(want, array, where)}; it holds values that {want.dtype} cannot")
    return cast


def refuse_unfit(inputs: tuple[TensorInput, ...], given: Mapping[str, object], where: str) -> None:
    """Raise QuantbenchError for an input that `given` (by name) lacks, or a name that is no input."""
    names = [entry.name for entry in inputs]
    missing = [entry for entry in inputs if entry.name not in given]
    if missing:
        raise QuantbenchError(
            f"{where} gives {', '.join(given) or 'nothing'}, but the model also takes {missing[0].name!r}, "
            f"{missing[0].describe()}; add it"
        )
    extra = [name for name in given if name not in names]
    if extra:
        raise QuantbenchError(
            f"{where} gives {extra[0]!r}, which is no input of the model; it takes {', '.join(names)}"
        )


def _input(value: onnx.ValueInfoProto) -> TensorInput:
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type" or tensor.elem_type not in _DTYPES:
        raise QuantbenchError(f"input {value.name!r} is declared as no tensor of numbers; declare its dtype and shape")
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return TensorInput(value.name, dtype, None)
    dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
    return TensorInput(value.name, dtype, tuple(dims))


def _mismatch(want: TensorInput, array: NDArray[Any], where: str) -> str:
    return f"{where} gives input {want.name!r} {array.dtype}{_dims(array.shape)}, the model takes {want.describe()}"


def _dims(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "[…]"
    # A first axis that is free is the batch.
    return f"[{', '.join(str(d) if d is not None else '?' if index else 'N' for index, d in enumerate(shape))}]"
