"""Bias correction: take the mean error that quantization adds to each output channel out of the bias.

For every quantized conv or Gemm the error E[W x - Q(W) Q(x)] per output channel is measured on calibration images and
added to its bias, where x are the quantized network's own activations. So each layer becomes unbiased given its
inputs, in one pass over the images. Source: Nagel et al., "Data-free quantization through weight equalization and
bias correction", arXiv:1906.04721, section 4.2 (their empirical variant).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantbench.calibration.ort_outputs import Feed, InnerTensors
from quantbench.graph.surgery import copied, edited
from quantbench.qdq.reencode import to_u8_activations

_BIASED = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True, slots=True)
class _Site:
    node: str
    error: str


def correct_bias(
    model: onnx.ModelProto,
    feeds: Iterable[Feed],
    *,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> onnx.ModelProto:
    """Return a copy of the Q/DQ `model` (float weights behind Q and DQ) with corrected biases."""
    probed, sites = _with_errors(model)
    if not sites:
        return model
    runner = InnerTensors(to_u8_activations(probed), [site.error for site in sites], threads=threads)
    sums: dict[str, NDArray[np.float64]] = {}
    images = 0
    for feed in feeds:
        count = next(iter(feed.values())).shape[0]
        for name, error in runner.run(feed):
            sums[name] = sums.get(name, 0.0) + error.astype(np.float64).sum(axis=0)
        images += count
        if on_batch:
            on_batch(count)
    return _with_biases(model, {site.node: sums[site.error] / images for site in sites})


def _with_errors(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[_Site]]:
    """Copy of `model` with, for each quantized weighted node, an output [N, C]: mean float minus quantized result."""
    probed = copied(model)
    makers = {out: node for node in model.graph.node for out in node.output}
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    ranks = {t.name: len(t.dims) for t in model.graph.initializer}
    sites = []
    for node in model.graph.node:
        if node.op_type not in _BIASED:
            continue
        source, weight = (_before_qdq(makers, name) for name in node.input[:2])
        if source is None or weight is None:
            continue
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        prefix = f"{node.name}__quantbench"
        twin.name, twin.output[0] = f"{prefix}_float", f"{prefix}_float"
        twin.input[0], twin.input[1] = source, weight
        error = f"{prefix}_error"
        probed.graph.node.extend(
            [twin, helper.make_node("Sub", [twin.output[0], node.output[0]], [f"{prefix}_difference"])]
        )
        axes = list(range(2, ranks.get(weight, 4)))
        probed.graph.node.extend(_mean(f"{prefix}_difference", error, axes, opset, probed.graph))
        # An output, or the clean-up of the re-encoding would take it for dead.
        probed.graph.output.append(helper.make_tensor_value_info(error, onnx.TensorProto.FLOAT, None))
        sites.append(_Site(node.name, error))
    return probed, sites


def _mean(source: str, target: str, axes: list[int], opset: int, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    if not axes:
        return [helper.make_node("Identity", [source], [target])]
    if opset < 18:
        return [helper.make_node("ReduceMean", [source], [target], axes=axes, keepdims=0)]
    graph.initializer.append(numpy_helper.from_array(np.asarray(axes, np.int64), f"{target}_axes"))
    return [helper.make_node("ReduceMean", [source, f"{target}_axes"], [target], keepdims=0)]


def _before_qdq(makers: dict[str, onnx.NodeProto], name: str) -> str | None:
    dequantize = makers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = makers.get(dequantize.input[0])
    return quantize.input[0] if quantize is not None and quantize.op_type == "QuantizeLinear" else None


def _with_biases(model: onnx.ModelProto, corrections: dict[str, NDArray[np.float64]]) -> onnx.ModelProto:
    return edited(model, lambda graph: _add_corrections(graph, corrections))


def _add_corrections(graph: gs.Graph, corrections: dict[str, NDArray[np.float64]]) -> None:
    for node in graph.nodes:
        correction = corrections.get(node.name)
        if correction is None:
            continue
        given = node.inputs[2] if len(node.inputs) > 2 else None
        if given is not None and not isinstance(given, gs.Constant):
            continue
        old = given.values if given is not None else np.zeros(correction.shape, np.float32)
        bias = gs.Constant(f"{node.name}_bias_corrected", (old + correction).astype(old.dtype))
        if given is not None:
            node.inputs[2] = bias
        else:
            node.inputs.append(bias)
