"""Plugins: nodes whose operator the ONNX standard lacks. Who runs them is the compiler's business, and here nobody's.

TensorRT's parser looks an operator that it does not know up among its plugins, whatever domain it stands in, and
exporters write EfficientNMS_TRT in the default domain as often as in `TRT` or `trt.plugins`.
"""

from collections.abc import Collection

import onnx
from onnx import helper

from quantbench.graph.onnx_view import infer_shapes
from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.graph.order import drop_dead
from quantbench.graph.standard import is_plugin
from quantbench.graph.subgraphs import captures
from quantbench.graph.surgery import copied


def plugins(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """The plugin nodes of the main graph, those with a plugin in a body among them."""
    return tuple(node for node in model.graph.node if is_plugin(node))


def behind(model: onnx.ModelProto, nodes: Collection[str]) -> frozenset[str]:
    """Names of `nodes` and of every node that what they write reaches, in a sorted graph."""
    reached: set[str] = set()
    found: set[str] = set()
    for node in model.graph.node:
        if node.name in nodes or any(name in reached for name in (*node.input, *captures(node))):
            found.add(node.name)
            reached.update(out for out in node.output if out)
    return frozenset(found)


def cut_before(model: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
    """A copy of `model` that ends before `nodes`: without them and all that is behind them. It returns the outputs that
    are left, in order, and then what `nodes` read, each tensor once, constants and inputs of the network left out."""
    gone = behind(model, nodes)
    result = copied(model)
    removed = [node for node in result.graph.node if node.name in gone]
    lost = {out for node in removed for out in node.output}
    stored = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.output if value.name not in lost]
    makers = {node.output[0]: node for node in result.graph.node if node.op_type in (QUANTIZE, DEQUANTIZE)}
    there = {value.name for value in (*kept, *model.graph.input)}
    ends: dict[str, str] = {}
    for node in removed:
        for name in (*node.input, *captures(node)) if node.name in nodes else ():
            root = name
            while root in makers:
                root = makers[root].input[0]
            if name and not (name in lost or name in stored or root in there):
                # INT8 tensors are compared as what they were before.
                ends.setdefault(root, root if name in makers and makers[name].op_type == QUANTIZE else name)
    inferred = infer_shapes(model).graph
    known = {value.name: value for value in (*inferred.input, *inferred.value_info)}
    del result.graph.output[:]
    result.graph.output.extend(kept)
    result.graph.output.extend(known.get(name) or helper.make_empty_tensor_value_info(name) for name in ends.values())
    for index in reversed([i for i, node in enumerate(result.graph.node) if node.name in gone]):
        del result.graph.node[index]
    for index in reversed([i for i, value in enumerate(result.graph.value_info) if value.name in lost]):
        del result.graph.value_info[index]
    drop_dead(result.graph)
    return result
