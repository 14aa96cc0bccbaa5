"""Bias correction: take the mean error that quantization adds to each output channel out of the bias.

For every quantized conv, Gemm, and MatMul with a bias behind it, the error E[W x - Q(W) Q(x)] of each output channel,
the mean over images and positions alike, is added to its bias, where x are the quantized network's own activations.
What a layer is given depends on the biases of those before it, so it is measured in sweeps: the second one, under the
biases of the first, is what counts. Source: Nagel et al., "Data-free quantization through weight equalization and bias
correction", arXiv:1906.04721, section 4.2 (their empirical variant, which corrects layer by layer).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quantbench.calibration.ort_outputs import Feed, padded, static_batch
from quantbench.graph.ops import WEIGHTED
from quantbench.graph.surgery import copied, edited
from quantbench.ort import create_session
from quantbench.qdq.reencode import to_u8_activations
from quantbench.runnable import runnable_part

SWEEPS = 2


@dataclass(frozen=True, slots=True)
class _Site:
    """A layer: the node that multiplies, its float input and weight, the node that holds its bias, at which input."""

    node: onnx.NodeProto
    source: str
    weight: NDArray[np.generic]
    weight_name: str
    holder: str
    index: int

    @property
    def error(self) -> str:
        return f"{self.node.name}__quantbench_error"


def correct_bias(
    model: onnx.ModelProto,
    open_feeds: Callable[[], Iterable[Feed]],
    *,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> onnx.ModelProto:
    """Return a copy of the Q/DQ `model` (float weights behind Q and DQ) with corrected biases.

    `open_feeds` starts the images from the beginning; it is called `SWEEPS` times. A bias that is computed stays.
    """
    sites = _sites(model)
    corrected = model
    for _ in range(SWEEPS if sites else 0):
        means = _mean_errors(corrected, _sites(corrected), open_feeds(), threads, on_batch)
        corrected = _with_biases(model, sites, means)
    return corrected


def _mean_errors(
    model: onnx.ModelProto,
    sites: list[_Site],
    feeds: Iterable[Feed],
    threads: int,
    on_batch: Callable[[int], None] | None,
) -> dict[str, NDArray[np.float64]]:
    """Mean error [channels] of each site by its node's name, over all images and positions."""
    batch = static_batch(model)
    names = [site.error for site in sites]
    session = create_session(to_u8_activations(runnable_part(_with_errors(model, sites))), threads=threads)
    sums = [np.zeros(()) for _ in sites]
    images = 0
    for feed in feeds:
        count = next(iter(feed.values())).shape[0]
        # Where a static batch is padded its images are repeated, and a mean hardly notices.
        found = session.run(names, padded(feed, batch))
        sums = [total + error.astype(np.float64) * count for total, error in zip(sums, found, strict=True)]
        images += count
        if on_batch:
            on_batch(count)
    return {site.node.name: total / max(images, 1) for site, total in zip(sites, sums, strict=True)}


def _sites(model: onnx.ModelProto) -> list[_Site]:
    """The quantized layers whose bias is a constant, or which can be given one."""
    makers = {out: node for node in model.graph.node for out in node.output}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    sites = []
    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        source, weight = (_before_qdq(makers, name) for name in node.input[:2])
        if source is None or weight not in stored:
            continue
        holder, index = node.name, 2
        if node.op_type == "MatMul":
            found = _add_behind(node, readers, stored) if node.output[0] not in outputs else None
            if found is None:
                continue
            holder, index = found
        elif len(node.input) > 2 and node.input[2] and node.input[2] not in stored:
            continue
        sites.append(_Site(node, source, numpy_helper.to_array(stored[weight]), weight, holder, index))
    return sites


def _add_behind(
    node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], stored: Mapping[str, onnx.TensorProto]
) -> tuple[str, int] | None:
    """(name, input) of the Add that alone reads a MatMul and adds a constant vector: the bias of a linear layer."""
    behind = readers.get(node.output[0], [])
    if len(behind) != 1 or behind[0].op_type != "Add":
        return None
    index = 1 if behind[0].input[0] == node.output[0] else 0
    bias = stored.get(behind[0].input[index])
    return (behind[0].name, index) if bias is not None and len(bias.dims) <= 1 else None


def _with_errors(model: onnx.ModelProto, sites: list[_Site]) -> onnx.ModelProto:
    """Copy of `model` with, for each site, an output [channels]: the mean of its float minus its quantized result."""
    probed = copied(model)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for site in sites:
        node = site.node
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        prefix = f"{node.name}__quantbench"
        twin.name, twin.output[0] = f"{prefix}_float", f"{prefix}_float"
        twin.input[0], twin.input[1] = site.source, site.weight_name
        difference = f"{prefix}_difference"
        probed.graph.node.extend([twin, helper.make_node("Sub", [twin.output[0], node.output[0]], [difference])])
        axes = [0, *range(2, site.weight.ndim)]
        if node.op_type == "MatMul":  # [..., channels] of any rank
            shape = numpy_helper.from_array(np.asarray([-1, site.weight.shape[-1]], np.int64), f"{prefix}_shape")
            probed.graph.initializer.append(shape)
            probed.graph.node.append(helper.make_node("Reshape", [difference, shape.name], [f"{prefix}_rows"]))
            difference, axes = f"{prefix}_rows", [0]
        probed.graph.node.append(_mean(difference, site.error, axes, opset, probed.graph))
        # An output, or the clean-up of the re-encoding would take it for dead.
        kind = helper.np_dtype_to_tensor_dtype(site.weight.dtype)
        probed.graph.output.append(helper.make_tensor_value_info(site.error, kind, None))
    return probed


def _mean(source: str, target: str, axes: list[int], opset: int, graph: onnx.GraphProto) -> onnx.NodeProto:
    if opset < 18:
        return helper.make_node("ReduceMean", [source], [target], axes=axes, keepdims=0)
    graph.initializer.append(numpy_helper.from_array(np.asarray(axes, np.int64), f"{target}_axes"))
    return helper.make_node("ReduceMean", [source, f"{target}_axes"], [target], keepdims=0)


def _before_qdq(makers: dict[str, onnx.NodeProto], name: str) -> str | None:
    dequantize = makers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = makers.get(dequantize.input[0])
    return quantize.input[0] if quantize is not None and quantize.op_type == "QuantizeLinear" else None


def _with_biases(
    model: onnx.ModelProto, sites: list[_Site], corrections: dict[str, NDArray[np.float64]]
) -> onnx.ModelProto:
    return edited(model, lambda graph: _add_corrections(graph, sites, corrections))


def _add_corrections(graph: gs.Graph, sites: list[_Site], corrections: dict[str, NDArray[np.float64]]) -> None:
    nodes = {node.name: node for node in graph.nodes}
    for site in sites:
        holder, correction = nodes[site.holder], corrections[site.node.name]
        given = holder.inputs[site.index] if len(holder.inputs) > site.index else None
        beta = float(holder.attrs.get("beta", 1.0)) if holder.op == "Gemm" else 1.0
        if not isinstance(given, gs.Constant) or beta == 0.0:
            old: NDArray[np.floating] = np.zeros(correction.shape, site.weight.dtype)
            if holder.op == "Gemm":
                beta = holder.attrs["beta"] = 1.0
        else:
            old = given.values
        bias = gs.Constant(f"{site.node.name}_bias_corrected", (old + correction / beta).astype(old.dtype))
        if len(holder.inputs) > site.index:
            holder.inputs[site.index] = bias
        else:
            holder.inputs.append(bias)
