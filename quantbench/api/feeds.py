"""Calibration data as users hold it, to feeds: dicts of arrays by input name, as often as they are wanted."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, images_of, static_batch
from quantbench.data.model_input import fitting_preprocess, image_input
from quantbench.data.sources import at_most, feeds, folder_source
from quantbench.errors import QuantbenchError
from quantbench.images.shard_names import names_data

# A folder's images a batch, where the model leaves that free.
_BATCH = 8


class Feeds:
    """Feeds of `data` for `model`.

    `data`: a folder of images or of `.npy`/`.npz` batches; or an iterable (a torch DataLoader, a list, a generator) of
    batches, each a mapping of input names to arrays, an array for a model with one input, or a tuple or list of which
    the first is that (images, labels). Arrays or tensors are [batch, ...] as the model takes them.
    """

    def __init__(
        self, model: onnx.ModelProto, data: Any, *, preprocess: str | Mapping[str, Any] | None, max_images: int
    ) -> None:
        stored = {tensor.name for tensor in model.graph.initializer}
        self._inputs = {value.name: value for value in model.graph.input if value.name not in stored}
        self._batch = static_batch(model)
        self._max_images = max_images
        self._open = self._opened(model, data, preprocess)

    def __iter__(self) -> Iterator[Feed]:
        """The feeds, at most `max_images` images. A generator can be walked once only."""
        seen = 0
        for batch in self._open():
            for feed in self._fitting(batch):
                if seen >= self._max_images:
                    return
                seen += images_of(feed)
                yield feed

    def _opened(self, model: onnx.ModelProto, data: Any, preprocess: Any) -> Callable[[], Iterable[Any]]:
        if isinstance(data, (str, Path)):
            if not names_data(Path(data)):
                raise QuantbenchError(f"data: {data} does not exist; give a folder, or an iterable of batches")
            image = image_input(model, "model")
            declared = dict(preprocess) if isinstance(preprocess, Mapping) else preprocess
            whole = folder_source(Path(data), fitting_preprocess(declared, image)[0], most=self._max_images)
            source = at_most(whole, self._max_images)
            return lambda: feeds(source, image.name, self._batch or _BATCH, max_bad=0)
        if preprocess is not None:
            raise QuantbenchError("preprocess goes with a folder; batches are taken as they are")
        if isinstance(data, (Mapping, np.ndarray)):
            return lambda: [data]
        if not isinstance(data, Iterable):
            raise QuantbenchError(
                f"data: {type(data).__name__} is neither a folder nor an iterable of batches (dicts of arrays by input "
                f"name, arrays, or a DataLoader)"
            )
        return lambda: data

    def _fitting(self, batch: Any) -> Iterator[Feed]:
        feed = {name: self._array(name, values) for name, values in self._by_name(batch).items()}
        count = images_of(feed)
        step = self._batch if self._batch and count > self._batch else count
        for start in range(0, count, max(step, 1)):
            yield {name: array[start : start + step] for name, array in feed.items()}

    def _by_name(self, batch: Any) -> Mapping[str, Any]:
        if isinstance(batch, (list, tuple)) and batch:
            batch = batch[0]
        if isinstance(batch, Mapping):
            missing = [name for name in self._inputs if name not in batch]
            if missing:
                raise QuantbenchError(
                    f"data: a batch lacks input {missing[0]!r}; the model takes {', '.join(self._inputs)}"
                )
            return {name: batch[name] for name in self._inputs}
        if len(self._inputs) != 1:
            names = ", ".join(self._inputs)
            raise QuantbenchError(f"data: the model has {len(self._inputs)} inputs; give dicts of arrays by {names}")
        return {next(iter(self._inputs)): batch}

    def _array(self, name: str, values: Any) -> NDArray[Any]:
        if hasattr(values, "detach"):
            values = values.detach().cpu().numpy()
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(self._inputs[name].type.tensor_type.elem_type)
            array = np.asarray(values)
        except (TypeError, ValueError) as error:
            raise QuantbenchError(f"data: {type(values).__name__} for input {name!r} is no array: {error}") from error
        if array.dtype.kind not in "biuf":
            raise QuantbenchError(f"data: {type(values).__name__} for input {name!r} is no array of numbers")
        dims = [d.dim_value for d in self._inputs[name].type.tensor_type.shape.dim]
        if array.ndim != len(dims) or any(d > 0 and d != n for d, n in zip(dims[1:], array.shape[1:], strict=True)):
            wanted = ", ".join(str(d) if d > 0 else "any" for d in dims)
            raise QuantbenchError(f"data: input {name!r} takes [{wanted}], a batch has {list(array.shape)}")
        return array.astype(dtype, copy=False)
