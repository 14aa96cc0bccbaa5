"""The one seam to onnx-graphsurgeon, and what whole models need around it: copies, checks, other opsets.

onnx-graphsurgeon carries nodes and tensors. Lost on the way are metadata and doc strings of model, graph, nodes,
inputs and outputs; ultralytics keeps names, stride, task and imgsz there, and every tool behind it reads them. `edited`
puts them back. Large weights stay outside of what is copied and serialized, so that models over 2 GB, the most that
one protobuf message holds, pass through: each weight alone is small.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues
from onnx_graphsurgeon.util.exception import OnnxGraphSurgeonException

from quantbench.errors import QuantbenchError
from quantbench.graph.standard import is_plugin

# Weights beyond this many bytes are kept out of messages; fewer would be looked at by shape inference.
_LARGE = 1 << 16
# Protobuf holds less than 2 GiB; names and nodes need some of it too.
ONE_MESSAGE = 1_900_000_000
_ASIDE = "aside"
_PLUGINS = "quantbench.plugins"
_LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS)


def edited(model: onnx.ModelProto, *changes: Callable[[gs.Graph], None]) -> onnx.ModelProto:
    """A copy of `model` after `changes` worked on its graph, one after the other: dead nodes taken out after each,
    sorted, with its metadata."""
    graph = gs.import_onnx(model)
    # A list of its own: domains of new nodes are appended to it, and it is the model's.
    graph.import_domains = [type(entry).FromString(entry.SerializeToString()) for entry in model.opset_import]
    for change in changes:
        change(graph)
        graph.cleanup(remove_unused_graph_inputs=False).toposort()
    large, empty = _set_aside(graph), _empty_lists(model)
    for node in graph.nodes if empty else ():
        node.attrs = {name: value for name, value in node.attrs.items() if not (isinstance(value, list) and not value)}
    try:
        result: onnx.ModelProto = gs.export_onnx(graph)
    except (OnnxGraphSurgeonException, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise QuantbenchError(
            f"a part of the model cannot be written ({words}); export it with the types of its tensors"
        ) from error
    _put_back(result, large)
    for node in result.graph.node if empty else ():
        node.attribute.extend(empty.get((_key(node), node.op_type), ()))
    keep_notes(result, model)
    result.ir_version = model.ir_version
    return result


def _empty_lists(model: onnx.ModelProto) -> dict[tuple[str, str], list[onnx.AttributeProto]]:
    """Attributes of nodes that are lists of nothing: graphsurgeon keeps no type of them, and cannot write them."""
    found: dict[tuple[str, str], list[onnx.AttributeProto]] = {}
    for node in model.graph.node:
        for a in node.attribute:
            if a.type in _LISTS and not helper.get_attribute_value(a):
                found.setdefault((_key(node), node.op_type), []).append(a)
    return found


def keep_notes(result: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Give `result` the metadata, doc strings, producer and version of `source`, in place.

    Nodes are known by name, or by their first output where they have none; inputs and outputs by name.
    """
    result.producer_name, result.producer_version = source.producer_name, source.producer_version
    result.domain, result.model_version = source.domain, source.model_version
    _note(result, source)
    _note(result.graph, source.graph)
    nodes = {_key(node): node for node in source.graph.node}
    for node in result.graph.node:
        if (before := nodes.get(_key(node))) is not None and before.op_type == node.op_type:
            _note(node, before)
    values = {value.name: value for value in (*source.graph.input, *source.graph.output)}
    for value in (*result.graph.input, *result.graph.output):
        if (given := values.get(value.name)) is not None:
            _note(value, given)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model`, whatever its size."""
    return _copied_but(model, ())


def values_of(constant: gs.Constant) -> NDArray[Any]:
    """The values of `constant`, which its own `values` would keep in it: large weights would be held twice."""
    stored = constant._values
    values: NDArray[Any] = stored.load() if isinstance(stored, LazyValues) else stored
    return values


def set_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Let `model` return the tensors `names`, in place; its own outputs where there are none."""
    if names:
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)


def default_opset(model: onnx.ModelProto) -> int:
    """Version of the default ONNX operator set that the model imports (0 when it names none)."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` without its initializers."""
    return _copied_but(model, {"initializer"})


def bytes_of(model: onnx.ModelProto) -> int:
    """About what `model` takes when it is written: its weights in bytes. `ByteSize` fails above 2 GiB."""
    return sum(bytes_of_tensor(tensor) for tensor in model.graph.initializer)


def check(model: onnx.ModelProto, *, full: bool = False) -> None:
    """The checker's word on `model`: raises QuantbenchError. Large weights are not looked at.

    With `full` types and shapes are inferred strictly too.
    """
    bare = _copied_but(model, {"initializer"})
    listed = {value.name for value in bare.graph.input}
    for tensor in model.graph.initializer:
        if bytes_of_tensor(tensor) <= _LARGE:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            bare.graph.input.append(value)
    _plugins_apart(bare)
    # Outputs of plugins often have no shape, which the checker wants of all.
    shaped = [value for value in bare.graph.output if value.type.tensor_type.HasField("shape")]
    del bare.graph.output[:]
    bare.graph.output.extend(shaped)
    try:
        onnx.checker.check_model(bare, full_check=full)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        words = " ".join(str(error).split())[:200]
        raise QuantbenchError(f"ONNX's checker refuses the model: {words}; export it again") from error


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """`model` converted to `opset` of the ONNX domain, with its metadata. Raises RuntimeError or ValueError, as
    onnx.version_converter does, where an operator cannot be converted."""
    large = {t.name: t for t in model.graph.initializer if bytes_of_tensor(t) > _LARGE}
    light = _copied_but(model, {"initializer"})
    light.graph.initializer.extend(t if t.name not in large else _stub(t) for t in model.graph.initializer)
    domains = _plugins_apart(light)
    try:
        result: onnx.ModelProto = onnx.version_converter.convert_version(light, opset)
    except (onnx.version_converter.ConvertError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(str(error)) from error  # they are no ValueErrors of their own
    for node in result.graph.node:
        if node.domain == _PLUGINS:
            node.domain = domains[node.output[0]]
    for index in reversed([i for i, entry in enumerate(result.opset_import) if entry.domain == _PLUGINS]):
        del result.opset_import[index]
    _put_back(result, large)
    keep_notes(result, model)
    return result


def _plugins_apart(model: onnx.ModelProto) -> dict[str, str]:
    """Give the plugins of `model`, in place, a domain of their own: checker and converter do not look into it, and stop
    at an operator that the default domain lacks. Returns the domain that each had, by its first output."""
    found = {}
    for node in model.graph.node:
        if is_plugin(node) and node.domain != _PLUGINS:
            found[node.output[0]], node.domain = node.domain, _PLUGINS
    if found:
        model.opset_import.add(domain=_PLUGINS, version=1)
    return found


def _copied_but(model: onnx.ModelProto, left_out: Iterable[str]) -> onnx.ModelProto:
    """Copy of `model` without these fields of its graph, field by field: CopyFrom serializes, and fails over 2 GiB."""
    copy = onnx.ModelProto()
    _copy_fields(copy, model, {"graph"})
    _copy_fields(copy.graph, model.graph, set(left_out))
    return copy


def _copy_fields(target: Any, source: Any, left_out: set[str]) -> None:
    for field, value in source.ListFields():
        if field.name in left_out:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _note(result: Any, source: Any) -> None:
    """Doc string and metadata of `source`, where `result` does not say otherwise. Older onnx knows fewer of them."""
    known = result.DESCRIPTOR.fields_by_name
    if "doc_string" in known and source.doc_string and not result.doc_string:
        result.doc_string = source.doc_string
    if "metadata_props" in known:
        said = {prop.key for prop in result.metadata_props}
        result.metadata_props.extend(prop for prop in source.metadata_props if prop.key not in said)


def _key(node: onnx.NodeProto) -> str:
    return str(node.name or next(iter(node.output), ""))


def bits_of(data_type: int) -> int:
    """Bits of one element of an ONNX type."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
    small = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}
    return small.get(str(dtype), dtype.itemsize * 8)


def bytes_of_tensor(tensor: TensorProto) -> int:
    """Bytes of the values of `tensor`, wherever they stand; `raw_data` is not asked, for each look at it is a copy."""
    count = math.prod(tensor.dims)
    if not tensor.HasField("raw_data"):
        return 8 * count
    return -(-count * bits_of(tensor.data_type) // 8)


def _stub(tensor: TensorProto) -> TensorProto:
    """`tensor` without its values. Marked as external: else it would be broken."""
    stub = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    stub.data_location = TensorProto.EXTERNAL
    stub.external_data.add(key="location", value=_ASIDE)
    return stub


def _set_aside(graph: gs.Graph) -> dict[str, TensorProto]:
    """Take the values of large constants out of `graph`, which is about to be exported; by name."""
    found: dict[str, TensorProto] = {}
    for name, tensor in graph.tensors().items():
        if not isinstance(tensor, gs.Constant) or tensor._export_dtype is not None:
            continue
        if type(tensor._values) not in (LazyValues, np.ndarray):
            continue
        lazy = isinstance(tensor._values, LazyValues)
        stored = tensor._values.tensor if lazy else None
        if stored is not None and stored.name != name:
            stored = _renamed(stored, name)
        if (bytes_of_tensor(stored) if stored is not None else tensor._values.nbytes) <= _LARGE:
            continue
        found[name] = stored if stored is not None else numpy_helper.from_array(tensor._values, name)
        tensor._values = LazyValues(_stub(found[name]))
    return found


def _renamed(tensor: TensorProto, name: str) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _put_back(model: onnx.ModelProto, large: dict[str, TensorProto]) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and tensor.name in large:
            tensor.CopyFrom(large.pop(tensor.name))  # what was made for this alone goes at once
