"""Load an ONNX file as a ModelProto that the rest can rely on, or say in one line why not."""

import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

from quantbench.errors import QuantbenchError
from quantbench.graph.check_edges import check_edges
from quantbench.graph.check_nodes import check_nodes
from quantbench.graph.check_tensors import check_tensors
from quantbench.graph.fold_constants import fold_constants
from quantbench.graph.half import as_float
from quantbench.graph.normalise import normalise
from quantbench.graph.ops import DEQUANTIZE, KEEPS_VALUES, QUANTIZE, RECURRENT, WEIGHTED, Kind, of_kind
from quantbench.graph.order import drop_dead, sort_nodes
from quantbench.graph.standard import DOMAINS, known
from quantbench.graph.subgraphs import tensors_of
from quantbench.graph.surgery import at_opset, bits_of, default_opset, keep_notes

OLDEST_OPSET = 13  # the first whose QuantizeLinear has an axis

_FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


# What takes an initializer for a weight, and what may stand between the two.
_TAKES_WEIGHTS = WEIGHTED | RECURRENT | of_kind(Kind.NORM)
_PASSES = KEEPS_VALUES | {"Cast", QUANTIZE, DEQUANTIZE}


def load_model(path: Path) -> onnx.ModelProto:
    """Read `path` with its external data, check it, and bring it into the form that the rest expects: nodes sorted and
    uniquely named, dead ones gone, constant weights computed, half precision as FP32 (`graph.half`). Plugins stay.

    Raises QuantbenchError for a missing file, a file that is no ONNX model, an operator that is not of the model's
    opset, missing or broken external data, an opset under 13 that cannot be converted, a cycle, and NaN or infinite
    weights.
    """
    return prepared_model(read_model(path), str(path))


def read_model(path: Path) -> onnx.ModelProto:
    """The model in `path` as it stands there, with its external data, whatever operators it has.

    Raises QuantbenchError for a missing file, a file that is no ONNX model, missing or broken external data.
    """
    if not path.exists():
        raise QuantbenchError(f"model {path} does not exist")
    if not path.is_file():
        raise QuantbenchError(f"model {path} is not a file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise QuantbenchError(f"{path} is not an ONNX model: {_first(error)}") from error
    if not model.graph.node or not model.graph.output:
        raise QuantbenchError(f"{path} is not an ONNX model: it holds no graph with nodes and outputs")
    load_external_data(model, path)
    check_tensors(model.graph, str(path))
    return model


def has_qdq(model: onnx.ModelProto) -> bool:
    """Whether `model` is quantized explicitly: holds Q/DQ at all."""
    return any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in model.graph.node)


def prepared_model(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """`model` (changed in place) in the form that `load_model` gives; `name` is what messages call it. Raises as that.

    For models that come from elsewhere than a file.
    """
    if model.functions:
        model = _inlined(model)
    check_nodes(model, name)
    check_edges(model, name)
    try:
        sort_nodes(model.graph)
    except QuantbenchError as error:
        raise QuantbenchError(f"{name}: {error}") from error
    model = _at_least_opset(model, name)
    check_ops(model, name)
    check_weights(model, name)
    normalise(model)
    _check_outputs(model.graph, name)
    drop_dead(model.graph)
    if not model.graph.node:
        raise QuantbenchError(f"{name}: no node leads to an output of the model; export it again")
    return fold_constants(as_float(model), name)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its own functions written out where they are called, as compilers do."""
    result: onnx.ModelProto = onnx.inliner.inline_local_functions(model)
    keep_notes(result, model)
    return result


def _check_outputs(graph: onnx.GraphProto, name: str) -> None:
    made = {out for node in graph.node for out in node.output}
    made |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for value in graph.output:
        if value.name not in made:
            raise QuantbenchError(f"{name}: no node writes output {value.name!r}; export the model again")


def load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Read into `model` the weights that its file `path` keeps in other files.

    Raises QuantbenchError, in one line, where such a file is missing, too short, or outside of the model's folder.
    """
    for tensor in tensors_of(model.graph):
        if not external_data_helper.uses_external_data(tensor):
            continue
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except (FileNotFoundError, onnx.checker.ValidationError) as error:
            raise QuantbenchError(f"model {path}: external data is missing: {_first(error)}") from error
        except (OSError, ValueError) as error:
            raise QuantbenchError(f"model {path}: external data of {tensor.name}: {_first(error)}") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
        wanted, length = math.prod(tensor.dims) * bits_of(tensor.data_type) // 8, len(tensor.raw_data)
        if length != wanted:
            raise QuantbenchError(
                f"model {path}: external data of {tensor.name} has {length} bytes in place of {wanted}; "
                f"the file beside the model is of another model, or was copied in part"
            )


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
    """Raise QuantbenchError for the first operator of the ONNX domain that the model's opset of it does not define.

    One that no opset has is a plugin (`graph.plugins`), and whoever runs the model may know it.
    """
    opset = default_opset(model)
    for node in model.graph.node:
        if node.domain in DOMAINS and known(node.op_type) and not known(node.op_type, opset):
            raise QuantbenchError(
                f"{name}: node {node.name or node.op_type!r} uses operator {node.op_type}, which ONNX opset {opset} "
                f"does not define; export the model again, with an opset that has it"
            )


def check_weights(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError for the first float initializer that holds NaN, or infinity where a layer or norm takes it
    for a weight: an attention's mask may well be infinite."""
    bounds = {
        i for node in model.graph.node if node.op_type in ("Clip", "Pad", "Where", "Max", "Min") for i in node.input
    }
    weights: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in _TAKES_WEIGHTS:
            weights.update(node.input)
        elif node.op_type in _PASSES and weights.intersection(node.output):
            weights.add(node.input[0])
    for tensor in model.graph.initializer:
        if tensor.data_type not in _FLOAT_TYPES or tensor.name in bounds:
            continue
        values = numpy_helper.to_array(tensor)
        # Of half precisions that are no numpy types, both ends want to be floats; NaN is both ends of what holds it.
        ends = [float(values.min()), float(values.max())] if values.size > 1 else [0.0]
        if np.isnan(ends).any() or (tensor.name in weights and np.isinf(ends).any()):
            values = values.astype(np.float32)
            count = int(values.size - np.isfinite(values).sum())
            raise QuantbenchError(
                f"{name}: weight {tensor.name} holds {count} NaN or infinite values; the training diverged or the "
                f"export is broken"
            )


def _at_least_opset(model: onnx.ModelProto, path: str) -> onnx.ModelProto:
    opset = default_opset(model)
    if opset >= OLDEST_OPSET:
        return model
    try:
        return at_opset(model, OLDEST_OPSET)
    except (RuntimeError, ValueError) as error:
        raise QuantbenchError(
            f"{path} has opset {opset} and could not be converted to {OLDEST_OPSET} ({_first(error)}); export it "
            f"again with opset {OLDEST_OPSET} or newer"
        ) from error


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
