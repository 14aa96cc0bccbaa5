"""Figures of a compiled network: INT8 layers, float tensors between them, stand-alone kernels, bytes moved."""

from collections.abc import Sequence

from quantbench.layers.layer import Layer
from quantbench.records.compiled import Kernel, LayerTotals, TensorBytes

_FLOATS = ("FP32", "FP16", "BF16")
# Types of layers that carry weights, in TensorRT-RTX's words: correlation is a convolution, gemm a matrix product.
_WEIGHTED_TYPES = ("correlation", "gemm", "convolution", "deconvolution", "conv", "matmul", "fc")


def compile_summary(layers: Sequence[Layer], quantized: Sequence[str], weighted: Sequence[str]) -> LayerTotals:
    """Figures for the report's compiler table.

    `weighted_int8` counts the ONNX nodes of `weighted` whose layer takes INT8 at its first input; `float_between` are
    float tensors written by a layer that takes INT8 and read by a layer that writes or takes INT8 elsewhere.
    """
    owners = weighted_layers(layers, weighted)
    int8 = sorted(node for node, layer in owners.items() if layer.inputs and layer.inputs[0].dtype == "INT8")
    between = float_tensors_between(layers)
    alone = [layer for layer in layers if is_conversion(layer)]
    return LayerTotals(
        layers=len(layers),
        traffic_bytes=sum(layer.traffic_bytes for layer in layers),
        weighted=len(weighted),
        weighted_int8=len(int8),
        not_int8=tuple(sorted(set(weighted) - set(int8))),
        quantized_but_float=tuple(sorted(set(quantized) - set(int8))),
        float_between=tuple(TensorBytes(tensor=name, bytes=size) for name, size in between.items()),
        float_between_bytes=sum(between.values()),
        conversions=tuple(Kernel(name=layer.name, bytes=layer.traffic_bytes) for layer in alone),
        conversion_bytes=sum(layer.traffic_bytes for layer in alone),
    )


def weighted_layers(layers: Sequence[Layer], weighted: Sequence[str]) -> dict[str, Layer]:
    """ONNX node to the layer that computes it: a layer of a weighted type that names the node first among its own."""
    wanted = set(weighted)
    owners: dict[str, Layer] = {}
    for layer in layers:
        if layer.type.lower() not in _WEIGHTED_TYPES:
            continue
        for node in layer.nodes:
            if node in wanted:
                owners.setdefault(node, layer)
                break
    return owners


def float_tensors_between(layers: Sequence[Layer]) -> dict[str, int]:
    """Float tensors (name to bytes) that one layer with INT8 input writes and another layer with INT8 output reads."""
    written = {
        tensor.name: tensor.nbytes or 0
        for layer in layers
        if any(t.dtype == "INT8" for t in layer.inputs)
        for tensor in layer.outputs
        if tensor.dtype in _FLOATS
    }
    read = {
        tensor.name
        for layer in layers
        if any(t.dtype == "INT8" for t in layer.outputs)
        for tensor in layer.inputs
        if tensor.dtype in _FLOATS
    }
    return {name: size for name, size in written.items() if name in read}


def is_conversion(layer: Layer) -> bool:
    """Whether a layer of no weights only changes dtype or format: one dtype in, another out, of the same elements."""
    if layer.type.lower() in _WEIGHTED_TYPES or not layer.inputs or not layer.outputs:
        return False
    ins, outs = {t.dtype for t in layer.inputs}, {t.dtype for t in layer.outputs}
    return "INT8" in ins | outs and ins != outs
