"""Data that a program gives one item at a time (a DataLoader, a data set, a generator), as calls.

Such data has no names and may be read only from its beginning, while calibration, bias correction and evaluation each
want some of it, and a run that was interrupted goes on. So the items that are used are written to a temporary folder
first, as arrays in the model's dtypes, one file a batch; nothing is held in memory.
"""

import itertools
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.data.array_calls import LABELS, ArrayCalls, save_call
from quantbench.data.tensor_inputs import Call, TensorInput, fitted, refuse_unfit
from quantbench.errors import QuantbenchError
from quantbench.load_object import user_code


class Spooled(ArrayCalls):
    """The first samples of `items` (at most about `most`), in files that go with this object.

    An item is a mapping of input names to arrays, a tuple of arrays in the inputs' order (what follows them is the
    label, as a torch data set has it), or one array; numpy, torch or nested lists; with or without the batch axis.
    Raises QuantbenchError where there is no item, or one does not fit the model.
    """

    def __init__(self, inputs: tuple[TensorInput, ...], items: Iterable[Any], most: int, where: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="quantbench-data-"))
        self._tidy = weakref.finalize(self, rmtree, folder, ignore_errors=True)
        seen = 0
        given = _items(items, where)
        for number in itertools.count():
            with user_code(where):
                item = next(given, _END)
            if item is _END:
                break
            call, label = _call(inputs, item, f"{where}: item {number}")
            rows = max((len(array) for array in call.values() if array.ndim), default=1)
            extra = {} if label is None else {LABELS: label}
            save_call(folder / f"{number:06d}.npz", {**call, **extra})
            seen += rows
            if seen >= most:
                break
        if not seen:
            raise QuantbenchError(f"{where} gives no items")
        super().__init__(inputs, folder)


_END = object()


def _items(items: Any, where: str) -> Iterator[Any]:
    with user_code(where):
        call = callable(items) and not hasattr(items, "__iter__") and not hasattr(items, "__getitem__")
        made = items() if call else items
    if hasattr(made, "__iter__"):
        with user_code(where):
            return iter(made)
    if hasattr(made, "__getitem__") and hasattr(made, "__len__"):
        return (made[index] for index in range(len(made)))
    raise QuantbenchError(
        f"{where} is {type(made).__name__}; it takes something to iterate over (a DataLoader, a data set, a generator "
        f"function) whose items are arrays by input name"
    )


def _call(inputs: tuple[TensorInput, ...], item: Any, where: str) -> tuple[Call, NDArray[Any] | None]:
    label = None
    if isinstance(item, Mapping):
        names = {entry.name for entry in inputs}
        for key in ("labels", "label"):
            if key in item and key not in names:
                label = _array(item[key])
        # What a data set holds beside the inputs (texts, ids) is nobody's business here.
        given = {name: value for name, value in item.items() if name in names}
        refuse_unfit(inputs, given or dict.fromkeys(item), where)
    elif isinstance(item, tuple | list) and item and not np.isscalar(item[0]):
        given = {entry.name: value for entry, value in zip(inputs, item, strict=False)}
        refuse_unfit(inputs, given, where)
        rest = list(itertools.islice(item, len(inputs), None))
        label = _array(rest[0]) if rest else None
    else:
        given = {inputs[0].name: item}
        refuse_unfit(inputs, given, where)
    call: Call = {}
    for entry in inputs:
        array = _array(given[entry.name])
        if entry.shape is not None and array.ndim == len(entry.shape) - 1:
            array = array[None]
        call[entry.name] = fitted(entry, array, where)
    return call, label if label is not None and label.dtype.kind in "iu" else None


def _array(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):  # torch, which is not imported here
        value = value.detach().cpu().numpy()
    return np.asarray(value)
