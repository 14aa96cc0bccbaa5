"""Load an ONNX file as a ModelProto that the rest can rely on, or say in one line why not."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from quantbench.errors import QuantbenchError
from quantbench.graph.fold_constants import fold_constants
from quantbench.graph.normalise import normalise

OLDEST_OPSET = 13  # the first whose QuantizeLinear has an axis

_FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def load_model(path: Path) -> onnx.ModelProto:
    """Read `path` with its external data, check it, give every node a unique name, compute constant weights.

    Raises QuantbenchError for a missing file, a file that is no ONNX model, an operator that the ONNX standard does
    not know, missing external data, an opset under 13 that cannot be converted, and NaN or infinite weights.
    """
    if not path.exists():
        raise QuantbenchError(f"model {path} does not exist")
    if not path.is_file():
        raise QuantbenchError(f"model {path} is not a file")
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise QuantbenchError(f"model {path}: external data is missing: {error}") from error
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise QuantbenchError(
            f"{path} is not an ONNX model (or its external data is broken): {_first(error)}"
        ) from error
    if not model.graph.node or not model.graph.output:
        raise QuantbenchError(f"{path} is not an ONNX model: it holds no graph with nodes and outputs")
    model = _at_least_opset(model, path)
    check_ops(model, str(path))
    check_weights(model, str(path))
    return fold_constants(normalise(model))


def model_sha256(path: Path) -> str:
    """SHA-256 of the file and, in name order, of the external data files that it names."""
    digest = hashlib.sha256()
    files = [path]
    try:
        bare = onnx.load(str(path), load_external_data=False)
        files += sorted(
            {
                path.parent / entry.value
                for tensor in bare.graph.initializer
                for entry in tensor.external_data
                if entry.key == "location"
            }
        )
    except (DecodeError, ValueError):
        pass  # a file that is no model still has a hash
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def check_ops(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError for the first operator that the model's opset of the ONNX domain does not define."""
    opset = default_opset(model)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise QuantbenchError(
                f"{name}: node {node.name or node.op_type!r} uses operator {node.domain}::{node.op_type}, which is "
                f"not standard ONNX; export the model without custom operators"
            )
        try:
            onnx.defs.get_schema(node.op_type, opset, "")
        except onnx.defs.SchemaError as error:
            raise QuantbenchError(
                f"{name}: node {node.name or node.op_type!r} uses operator {node.op_type}, which ONNX opset {opset} "
                f"does not define"
            ) from error


def check_weights(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError for the first float initializer that holds NaN or infinity (and is no clip bound)."""
    bounds = {
        i for node in model.graph.node if node.op_type in ("Clip", "Pad", "Where", "Max", "Min") for i in node.input
    }
    for tensor in model.graph.initializer:
        if tensor.data_type not in _FLOAT_TYPES or tensor.name in bounds:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float32)
        if values.size > 1 and not np.isfinite(values).all():
            count = int(values.size - np.isfinite(values).sum())
            raise QuantbenchError(
                f"{name}: weight {tensor.name} holds {count} NaN or infinite values; the training diverged or the "
                f"export is broken"
            )


def default_opset(model: onnx.ModelProto) -> int:
    """Version of the default ONNX operator set that the model imports (0 when it names none)."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _at_least_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    opset = default_opset(model)
    if opset >= OLDEST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OLDEST_OPSET)
    except (RuntimeError, ValueError) as error:
        raise QuantbenchError(
            f"{path} has opset {opset} and could not be converted to {OLDEST_OPSET} ({_first(error)}); export it "
            f"again with opset {OLDEST_OPSET} or newer"
        ) from error


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
