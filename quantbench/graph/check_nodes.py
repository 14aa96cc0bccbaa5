"""Nodes that are what the standard says of their operator, so that whoever reads them may count on it."""

from collections.abc import Iterator

import onnx

from quantbench.errors import QuantbenchError
from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.graph.standard import DOMAINS, known, schema_of, shown_op
from quantbench.graph.subgraphs import bodies
from quantbench.graph.surgery import default_opset

_NEWEST = 1 << 16
_MODEL_TEXTS = ("producer_name", "producer_version", "domain", "doc_string")
_TYPES = {number: name for name, number in onnx.AttributeProto.AttributeType.items()}
# Operators of onnxruntime's own that read otherwise than ONNX's of the same name.
_OWN_INPUTS = frozenset({"Attention", "Range"})
_DTYPES = frozenset(onnx.helper.get_all_tensor_dtypes())


def check_nodes(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError for the first node, in the graph or a body, with a name that is no UTF-8, or, where the
    ONNX standard has its operator, with too few or too many inputs or outputs, without an attribute that it needs, or
    with one of another type; and for a tensor declared with a dtype that is none. `name`: what messages call the model.
    """
    opset = default_opset(model)
    if opset > _NEWEST:
        raise QuantbenchError(f"{name} has opset {opset}, which ONNX will never have; export it again")
    for graph in _graphs(model.graph):
        texts = _is_text(graph, "name") and _is_text(graph, "doc_string")
        if not texts or not all(_is_text(model, field) for field in _MODEL_TEXTS):
            raise QuantbenchError(f"{name}: the model or its graph has a name that is no UTF-8; export it again")
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type.elem_type
            if not (_is_text(value, "name") and _is_text(value, "doc_string")) or kind not in _DTYPES:
                shown = repr(value.name) if _is_text(value, "name") else "of a name that is no UTF-8"
                raise QuantbenchError(f"{name}: tensor {shown} is declared with dtype {kind}; export the model again")
        for index, node in enumerate(graph.node):
            fault = _bare_fault(node) or _standard_fault(node, opset)
            if fault:
                shown = node.name if _is_text(node, "name") and node.name else f"number {index}"
                raise QuantbenchError(f"{name}: node {shown} {fault}; the file is damaged, export the model again")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from _graphs(body)


def _bare_fault(node: onnx.NodeProto) -> str:
    if not all(_is_text(node, field) for field in ("name", "op_type", "domain", "input", "output", "doc_string")):
        return "holds a name that is no UTF-8"
    if not all(_is_text(attribute, "name") for attribute in node.attribute):
        return "holds an attribute whose name is no UTF-8"
    if not node.output:
        return f"({shown_op(node)}) writes nothing"
    return "" if node.op_type else "names no operator"


def _is_text(message: object, field: str) -> bool:
    try:
        found = getattr(message, field)
        texts = [found] if isinstance(found, str | bytes) else list(found)
    except (UnicodeDecodeError, ValueError):
        return False
    return all(isinstance(text, str) for text in texts)


def _standard_fault(node: onnx.NodeProto, opset: int) -> str:
    if opset < 1 or not known(node.op_type, opset):
        return ""
    schema = schema_of(node.op_type, opset)
    inputs = len(node.input)
    if node.domain not in DOMAINS:
        # Another's of that name: what it reads is for its owner to say, those apart that go by their plain names.
        plain = shown_op(node) == node.op_type and node.op_type not in _OWN_INPUTS
        whole = plain or node.op_type in (QUANTIZE, DEQUANTIZE)
        fewest = schema.min_input if whole else min(schema.min_input, 1)
        if inputs < fewest:
            return f"({shown_op(node)}) has {inputs} inputs"
        return _attribute_fault(node, schema, required=False) if shown_op(node) == node.op_type else ""
    if not schema.min_input <= inputs <= schema.max_input:
        return f"({node.op_type}) has {inputs} inputs"
    if any(not given for given in node.input[: schema.min_input]):
        return f"({node.op_type}) lacks an input that it needs"
    if not schema.min_output <= len(node.output) <= schema.max_output:
        return f"({node.op_type}) has {len(node.output)} outputs"
    return _attribute_fault(node, schema, required=True)


def _attribute_fault(node: onnx.NodeProto, schema: onnx.defs.OpSchema, *, required: bool) -> str:
    types = {attribute.name: attribute.type for attribute in node.attribute}
    for key, wanted in schema.attributes.items():
        if required and wanted.required and key not in types:
            return f"({node.op_type}) lacks its attribute {key}"
        if key in types and f"AttrType.{_TYPES.get(types[key])}" != str(wanted.type):
            return f"({node.op_type}) has the attribute {key} in another type than the standard's"
    return ""
