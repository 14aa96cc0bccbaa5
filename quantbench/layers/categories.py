"""What sort of work a layer does, and in which precision, whatever the version calls its type."""

from quantbench.layers.formats import UNKNOWN
from quantbench.layers.layer import Layer
from quantbench.layers.names import reformat_target

INTEGER = frozenset({"INT8", "UINT8", "INT4"})
QUANTIZED = frozenset({"INT8", "UINT8", "INT4", "FP8", "FP4"})
FLOAT = frozenset({"FP32", "FP16", "BF16", "FP64"})

_EXACT = {
    "reformat": "reformat", "noop": "noop", "constant": "constant", "trainstation": "sync", "signal": "sync",
    "wait": "sync", "myelin": "myelin", "kgen": "pointwise", "pointwise": "pointwise", "pointwisev2": "pointwise",
    "elementwise": "pointwise", "scale": "pointwise", "activation": "pointwise", "unary": "pointwise",
    "correlation": "convolution", "conv": "convolution", "convactpool": "convolution", "deconvolution": "convolution",
    "fusedconvactdirect": "convolution", "gemm": "gemm", "fc": "gemm", "runtime_fusion": "gemm",
    "fusion": "gemm", "cudafusedblocklocalmlp": "gemm", "matrixmultiply": "gemm", "shuffle": "shuffle",
    "slice": "shuffle",
    "concat": "shuffle", "resize": "resize", "softmax": "softmax", "reduce": "reduce", "shape_call": "host",
    "qlinearconv": "convolution", "fusedconv": "convolution", "convtranspose": "convolution", "qlinearmatmul": "gemm",
    "qgemm": "gemm", "fusedgemm": "gemm", "fusedmatmul": "gemm", "matmul": "gemm", "matmulintegertofloat": "gemm",
    "dynamicquantizematmul": "gemm", "add": "pointwise", "clip": "pointwise", "relu": "pointwise", "mul": "pointwise",
    "sigmoid": "pointwise", "reducemean": "reduce", "transpose": "shuffle", "reshape": "shuffle", "split": "shuffle",
    "qlinearadd": "pointwise", "qlinearmul": "pointwise", "qlinearsigmoid": "pointwise", "qlinearconcat": "shuffle",
    "quantizelinear": "pointwise", "dequantizelinear": "pointwise",
    "maxpool": "pooling", "avgpool": "pooling", "nms": "nms", "devicetoshapehostcopy": "host", "cast": "reformat",
}  # fmt: skip
# A conv fused with its pooling (ConvActPool, conv_act_pool, CaskJitConv) is a conv; "convert" is none.
_PARTS = (("conv", "convolution"), ("fullyconnected", "gemm"), ("gemm", "gemm"),
          ("matrixmultiply", "gemm"), ("mlp", "gemm"), ("pool", "pooling"), ("softmax", "softmax"),
          ("plugin", "plugin"), ("reduce", "reduce"), ("shuffle", "shuffle"), ("gather", "shuffle"),
          ("topk", "reduce"), ("rnn", "recurrent"))  # fmt: skip
# A Myelin kernel compiled at run time is named after the operations inside it: FcAdd, ConvMul …
_MATMUL_NAMES = ("Fc", "Gemm", "MatMul", "Mma", "Conv")


def category(layer: Layer) -> str:
    """One of: convolution, gemm, pooling, pointwise, reformat, noop, constant, shuffle, resize, softmax, reduce, nms,
    plugin, recurrent, myelin, host, sync, other."""
    kind = layer.type.lower().replace(" ", "")
    found = _EXACT.get(kind)
    if (
        found == "gemm"
        and kind in ("runtime_fusion", "fusion")
        and not any(word in layer.name for word in _MATMUL_NAMES)
    ):
        return "pointwise"
    if found:
        return found
    for part, name in _PARTS:
        if part in kind:
            return name
    if not kind and reformat_target(layer.name):
        return "reformat"
    return "other"


def is_weighted(layer: Layer) -> bool:
    """Whether the layer multiplies with weights (or another matrix): what INT8 is for."""
    return category(layer) in ("convolution", "gemm")


def precision(layer: Layer) -> str:
    """dtype of the first input (NVIDIA's trt-engine-explorer counts so), of the first output where there is no
    input, "?" where neither is known."""
    for tensors in (layer.inputs, layer.outputs):
        if tensors:
            return tensors[0].dtype
    return UNKNOWN


def weight_dtype(layer: Layer) -> str:
    """dtype of the weights: `Weights` of a TensorRT layer, the largest constant of an RTX kernel; "" without any."""
    if not is_weighted(layer) or not layer.constants:
        return ""
    named = next((c for c in layer.constants if c.name == "Weights"), None)
    chosen = named or max(layer.constants, key=lambda c: c.nbytes or 0)
    return "" if chosen.dtype == UNKNOWN else chosen.dtype


def output_dtype(layer: Layer) -> str:
    """dtype of the first output, "?" without one."""
    return layer.outputs[0].dtype if layer.outputs else UNKNOWN


def is_leftover_qdq(layer: Layer) -> bool:
    """Whether the layer is a Q or DQ that fused into nothing: a Reformat of origin QDQ, or a Scale named after one."""
    if layer.origin == "QDQ":
        return True
    if category(layer) not in ("reformat", "pointwise") or reformat_target(layer.name):
        return False
    alone = len(layer.nodes) >= 1 and all("QuantizeLinear" in n or "DequantizeLinear" in n for n in layer.nodes)
    return alone and layer.type.lower() != "constant"
