"""What the ONNX standard says of an operator: whether it is known, in which opset, and its name in views."""

import functools

import onnx

from quantbench.graph.subgraphs import bodies

DOMAINS = ("", "ai.onnx")
# onnxruntime's own operators go by their plain names: some are rows of the operator table.
_PLAIN = (*DOMAINS, "com.microsoft")


def is_plugin(node: onnx.NodeProto) -> bool:
    """Whether no opset of the standard has the operator of `node`, or of a node in its bodies."""
    if node.domain not in DOMAINS or not known(node.op_type):
        return True
    return any(is_plugin(inner) for body in bodies(node) for inner in body.node)


@functools.cache
def known(op: str, opset: int = 0) -> bool:
    """Whether `opset` of the ONNX domain (0: any) defines `op`."""
    try:
        onnx.defs.get_schema(op, opset or onnx.defs.onnx_opset_version(), "")
    except onnx.defs.SchemaError:
        return not opset and any(schema.name == op for schema in _every())
    return True


@functools.cache
def schema_of(op: str, opset: int) -> onnx.defs.OpSchema:
    """What `opset` of the ONNX domain says of `op`, which it must know."""
    return onnx.defs.get_schema(op, opset, "")


@functools.cache
def _every() -> tuple[onnx.defs.OpSchema, ...]:
    return tuple(schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain in DOMAINS)


def shown_op(node: onnx.NodeProto) -> str:
    """The operator of `node` as views and messages name it: `domain::Op` outside of the standard, so that a custom
    Conv is taken for none of ONNX's."""
    return node.op_type if node.domain in _PLAIN else f"{node.domain}::{node.op_type}"
