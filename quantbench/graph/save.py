"""Write an ONNX model: atomically, in the precision that it came in, over 2 GB with its weights in a file beside it."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from quantbench.atomic import atomic_path
from quantbench.errors import QuantbenchError
from quantbench.graph.surgery import ONE_MESSAGE, bytes_of, set_outputs, without_weights
from quantbench.graph.to_fp16 import as_it_came

# External data begins at multiples of this, so that it can be mapped into memory (onnx, external_data_helper).
_ALIGNED = 4096
# Smaller tensors stay in the model: shapes, scales and bounds are read by whoever looks at the graph alone.
_KEPT = 1024


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` to `path`, with `path`.data beside it where it is too large for one file.

    Raises QuantbenchError where nothing can be written there.
    """
    model = as_it_came(model)
    if bytes_of(model) <= ONE_MESSAGE:
        with atomic_path(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
        return
    data = path.with_name(f"{path.name}.data")
    with atomic_path(data) as weights, atomic_path(path) as temporary:
        temporary.write_bytes(_with_external_weights(model, weights, data.name).SerializeToString())


def saved_briefly(model: onnx.ModelProto, folder: Path, outputs: Sequence[str] = ()) -> Path:
    """Write `model` into a temporary `folder`, whatever its size, as it is or with other `outputs`; its path."""
    handle, name = tempfile.mkstemp(suffix=".onnx", dir=folder)
    os.close(handle)
    path = Path(name)
    data = path.with_suffix(".data")
    light = _with_external_weights(model, data, data.name)
    set_outputs(light, outputs)
    path.write_bytes(light.SerializeToString())
    return path


def _with_external_weights(model: onnx.ModelProto, file: Path, location: str) -> onnx.ModelProto:
    """`model` without its larger weights, which are written to `file`; the model names `location` for them."""
    light = without_weights(model)
    try:
        with file.open("wb") as stream:
            for tensor in model.graph.initializer:
                raw = tensor.raw_data
                if len(raw) < _KEPT:
                    light.graph.initializer.append(tensor)
                    continue
                stream.write(b"\0" * (-stream.tell() % _ALIGNED))
                stored = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                stored.data_location = TensorProto.EXTERNAL
                for key, value in (("location", location), ("offset", stream.tell()), ("length", len(raw))):
                    stored.external_data.add(key=key, value=str(value))
                stream.write(raw)
    except OSError as error:
        raise QuantbenchError(f"cannot write {file}: {error.strerror or error}") from error
    return light
