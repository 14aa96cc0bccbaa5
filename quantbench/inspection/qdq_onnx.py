"""The Q and DQ nodes of an ONNX model and how well its weighted nodes are covered by them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from quantbench.errors import QuantbenchError
from quantbench.graph.ops import ACTIVATIONS, AVERAGES, KEEPS_VALUES, WEIGHTED
from quantbench.graph.order import sort_nodes
from quantbench.inspection.open_file import read_bytes
from quantbench.inspection.ort_graph import is_optimized, layers_of
from quantbench.layers.layer import Layer

# Between a weighted node and the Q of its result: activations (SiLU is Sigmoid, Mul), a residual Add, pooling, moves.
_PASSED = ACTIVATIONS | AVERAGES | KEEPS_VALUES | {"BatchNormalization", "Mul", "Add", "Concat", "Resize"}


@dataclass(frozen=True, slots=True)
class QdqNode:
    """One QuantizeLinear ("Q") or DequantizeLinear ("DQ"); `weight` where its input is an initializer.

    `neighbours` are the nodes that read its output, `producer` the node that makes its input ("" for none).
    """

    name: str
    op: str
    input: str
    output: str
    weight: bool = False
    producer: str = ""
    neighbours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightedNode:
    """A Conv, ConvTranspose, Gemm or MatMul and where it is quantized."""

    name: str
    op: str
    input_quantized: bool
    weight_quantized: bool
    output_quantized: bool
    weight: str = ""


@dataclass(frozen=True, slots=True)
class QdqModel:
    """What inspect shows of an ONNX file. `ops` maps each node to its op; `layers` only where onnxruntime saved it
    after optimizing: then `nodes` are the Q and DQ that it left over, and `weighted` is empty."""

    nodes: tuple[QdqNode, ...]
    weighted: tuple[WeightedNode, ...]
    ops: Mapping[str, str]
    opset: int
    producer: str
    layers: tuple[Layer, ...] = ()


def read_qdq_onnx(path: Path) -> QdqModel:
    """Read the graph of `path` (weights in other files stay unread).

    Raises QuantbenchError where the file is no ONNX model.
    """
    try:
        model = onnx.load_model_from_string(read_bytes(path))
    except (DecodeError, ValueError) as error:
        raise QuantbenchError(f"{path} is no readable ONNX model ({error}); export it again") from error
    graph = model.graph
    try:
        sort_nodes(graph)
    except QuantbenchError as error:
        raise QuantbenchError(f"{path}: {error}") from error
    constants = {i.name for i in graph.initializer} | {
        o for n in graph.node if n.op_type == "Constant" for o in n.output
    }
    # Held, for protobuf makes an object for each look at a node, and what nobody holds may be made anew elsewhere.
    nodes = list(graph.node)
    producers = {output: node for node in nodes for output in node.output if output}
    names = {id(node): node.name or f"{node.op_type}_{index}" for index, node in enumerate(nodes)}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)

    def is_weight(tensor: str) -> bool:
        if tensor in constants:
            return True
        made = producers.get(tensor)
        return made is not None and made.op_type in ("QuantizeLinear", "DequantizeLinear") and is_weight(made.input[0])

    found: list[QdqNode] = []
    weighted: list[WeightedNode] = []
    for node in nodes:
        name = names[id(node)]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input and node.output:
            made = producers.get(node.input[0])
            after = tuple(names[id(n)] for n in readers.get(node.output[0], ()))
            found.append(
                QdqNode(
                    name, "Q" if node.op_type == "QuantizeLinear" else "DQ", node.input[0], node.output[0],
                    is_weight(node.input[0]), names[id(made)] if made is not None else "", after,
                )
            )  # fmt: skip
        elif node.op_type in WEIGHTED and len(node.input) > 1 and node.output:
            weighted.append(_weighted(node, name, producers, readers))
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    ops = {names[id(node)]: node.op_type for node in graph.node}
    layers = layers_of(model) if is_optimized(model) else ()
    if layers:
        left = {layer.name for layer in layers}
        found, weighted = [node for node in found if node.name in left], []
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return QdqModel(tuple(found), tuple(weighted), ops, opset, producer, layers)


def _weighted(
    node: onnx.NodeProto,
    name: str,
    producers: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, list[onnx.NodeProto]],
) -> WeightedNode:
    def dequantized(tensor: str) -> bool:
        made = producers.get(tensor)
        return made is not None and made.op_type == "DequantizeLinear"

    return WeightedNode(
        name,
        node.op_type,
        input_quantized=dequantized(node.input[0]),
        weight_quantized=dequantized(node.input[1]),
        output_quantized=_reaches_q(node.output[0], readers),
        weight=_origin(node.input[1], producers),
    )


def _reaches_q(tensor: str, readers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    """Whether a Q follows, right behind or behind what is computed on single values or only moved."""
    queue, seen = [tensor], {tensor}
    while queue:
        for node in readers.get(queue.pop(), []):
            if node.op_type == "QuantizeLinear":
                return True
            if node.op_type in _PASSED:
                queue += [out for out in node.output if out not in seen]
                seen.update(node.output)
    return False


def _origin(tensor: str, producers: Mapping[str, onnx.NodeProto]) -> str:
    """The initializer behind a chain of Q and DQ."""
    while (made := producers.get(tensor)) is not None and made.op_type in ("QuantizeLinear", "DequantizeLinear"):
        tensor = made.input[0]
    return tensor
