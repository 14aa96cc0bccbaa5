"""The model that onnxruntime optimized and saved: its nodes are the layers of an engine for the CPU."""

import re
from dataclasses import replace

import onnx

from quantbench.graph.ops import KEEPS_VALUES
from quantbench.layers.layer import Layer, LayerTensor

# onnx.TensorProto.DataType -> our names.
_DTYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "FP16", 11: "FP64", 16: "BF16",
    17: "FP8", 18: "FP8", 19: "FP8", 20: "FP8", 21: "UINT4", 22: "INT4",
}  # fmt: skip
# Ops that onnxruntime's optimizers make; no exporter writes them.
_MADE = frozenset({"QLinearConv", "QLinearMatMul", "QGemm", "FusedConv", "FusedGemm", "FusedMatMul", "QLinearAdd",
                   "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearConcat", "QLinearSigmoid",
                   "QLinearLeakyRelu", "QLinearMul", "QLinearSoftmax", "MatMulIntegerToFloat",
                   "DynamicQuantizeMatMul", "ReorderInput", "ReorderOutput"})  # fmt: skip
# These give what they take.
_KEEP = KEEPS_VALUES | {"Clip", "Relu", "ReorderInput", "ReorderOutput"}
_TOKEN = re.compile(r"_token_\d+$|_nchwc$")


def is_optimized(model: onnx.ModelProto) -> bool:
    """Whether onnxruntime saved the graph after optimizing it (`optimized_model_filepath`)."""
    domains = {o.domain for o in model.opset_import}
    return "com.microsoft.nchwc" in domains or any(node.op_type in _MADE for node in model.graph.node)


def layers_of(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """One layer a node, in the order of execution; scales and zero-points are left out, weights are constants.

    A Q or DQ that stands alone has origin QDQ, as TensorRT's copies have. Those of constants are left out: they run
    once, when the session is made. Types that the file does not state follow from the zero-points.
    """
    graph = model.graph
    known = {v.name: _tensor(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    initializers = {i.name: LayerTensor(i.name, _DTYPES.get(i.data_type, "?"), "", tuple(i.dims))
                    for i in graph.initializer}  # fmt: skip
    constants = set(initializers)
    found: list[Layer] = []
    for index, node in enumerate(graph.node):
        if node.input and all(name in constants for name in node.input if name):
            constants.update(node.output)
            continue
        _tell_types(node, known, initializers)
        name = node.name or f"{node.op_type}_{index}"
        quantizes = node.op_type in ("QuantizeLinear", "DequantizeLinear")
        weights = [initializers[n] for n in node.input if n in initializers and len(initializers[n].dims) > 1]
        found.append(
            Layer(
                name=name,
                type=node.op_type,
                inputs=tuple(known.get(n, LayerTensor(n, dims=(-1,))) for n in node.input if n and n not in constants),
                outputs=tuple(known.get(n, LayerTensor(n, dims=(-1,))) for n in node.output if n),
                constants=() if quantizes else tuple(weights),
                nodes=(_TOKEN.sub("", name),),
                origin="QDQ" if quantizes else "",
            )
        )
    return tuple(found)


def _tell_types(node: onnx.NodeProto, known: dict[str, LayerTensor], initializers: dict[str, LayerTensor]) -> None:
    """Complete `known` with the types of a node's input and output."""

    def zero_point(position: int) -> str:
        tensor = initializers.get(node.input[position]) if len(node.input) > position else None
        return tensor.dtype if tensor is not None else "?"

    def tell(name: str, dtype: str) -> None:
        old = known.get(name, LayerTensor(name, dims=(-1,)))
        if old.dtype == "?":
            known[name] = replace(old, dtype=dtype)

    kind = node.op_type
    if kind == "QuantizeLinear":
        tell(node.output[0], zero_point(2))
    elif kind == "DequantizeLinear":
        tell(node.input[0], zero_point(2))
        tell(node.output[0], "FP32")
    elif kind in ("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"):
        tell(node.input[0], zero_point(2))
        tell(node.output[0], zero_point(7))
    elif kind in _KEEP:
        tell(node.output[0], known.get(node.input[0], LayerTensor("")).dtype)


def _tensor(value: onnx.ValueInfoProto) -> LayerTensor:
    tensor = value.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return LayerTensor(value.name, _DTYPES.get(tensor.elem_type, "?"), "", dims)
