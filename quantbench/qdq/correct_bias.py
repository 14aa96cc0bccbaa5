"""Bias correction: take the mean error that quantization adds to each output channel out of the bias.

For every quantized conv, Gemm, and MatMul with a bias behind it, the error E[W x - Q(W) Q(x)] of each output channel,
the mean over images and positions alike, is added to its bias, where x are the quantized network's own activations.
These layers are linear, so the mean of what a layer gives is what it gives for the mean of its inputs: a sweep runs the
quantized network once, for the means of x and Q(x) (`mean_inputs.py`), and each layer on those alone.

What a layer is given depends on the biases of those before it, so it is measured in sweeps: the second one, under the
biases of the first, is what counts; the first takes a few of the images. Source: Nagel et al., "Data-free quantization
through weight equalization and bias correction", arXiv:1906.04721, section 4.2 (their empirical variant, which corrects
layer by layer).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, first_feeds
from quantbench.calibration.sums import Levels
from quantbench.graph.surgery import edited
from quantbench.qdq.mean_inputs import MeanInputs, MeanLayer
from quantbench.qdq.options import BIAS_SWEEPS
from quantbench.qdq.quantized_layers import quantized_layers
from quantbench.qdq.simulate import simulated

# The first sweep only gives the second one something to stand on, so that part of the images does.
_ROUGH = 16


@dataclass(frozen=True, slots=True)
class _Site:
    """A layer: the node that multiplies, its float input and how that is quantized, its float weight (as stored, of
    which there is no other copy), the node that holds its bias, at which input."""

    node: onnx.NodeProto
    source: str
    levels: Levels
    weight: onnx.TensorProto
    holder: str
    index: int


def correct_bias(
    model: onnx.ModelProto,
    open_feeds: Callable[[], Iterable[Feed]],
    *,
    floats: Mapping[str, onnx.TensorProto] | None = None,
    run_as: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None,
    sweeps: int = BIAS_SWEEPS,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> onnx.ModelProto:
    """Return a copy of the Q/DQ `model` (float weights behind Q and DQ) with corrected biases.

    `floats`: what weights were before something other than Q moved them, by name. `open_feeds` starts the images from
    the beginning; it is called `sweeps` times, the first time read in part. A bias that is computed stays. `run_as`:
    other Q/DQ on the same nodes, for which the biases are to be right.
    """
    run = run_as(model) if run_as is not None else model
    sites = _sites(run, floats or {})
    if not sites:
        return model
    plain = simulated(run)
    errors = _mean_errors(plain, sites, first_feeds(open_feeds(), _ROUGH), threads, on_batch)
    for _ in range(sweeps - 1):
        plain = _with_biases(plain, sites, errors)
        errors = _mean_errors(plain, sites, open_feeds(), threads, on_batch)
    return _with_biases(model, sites, errors)


def planned(images: int, sweeps: int = BIAS_SWEEPS) -> int:
    """Images that `correct_bias` runs where its feeds hold `images`, give or take a batch."""
    return min(_ROUGH, images) + (sweeps - 1) * images


def _mean_errors(
    model: onnx.ModelProto,
    sites: list[_Site],
    feeds: Iterable[Feed],
    threads: int,
    on_batch: Callable[[int], None] | None,
) -> dict[str, NDArray[np.float64]]:
    """Mean error [channels] of each site of a `simulated` model by its node's name, over all images and positions."""
    layers = [MeanLayer(site.node, site.source, site.levels, site.weight) for site in sites]
    with_means = MeanInputs(model, layers, threads=threads)
    for count in with_means.over(feeds):
        if on_batch:
            on_batch(count)
    found = with_means.errors()
    return {site.node.name: error for site, error in zip(sites, found, strict=True)}


def _sites(model: onnx.ModelProto, floats: Mapping[str, onnx.TensorProto]) -> list[_Site]:
    """The quantized layers whose bias is a constant, or which can be given one."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    sites = []
    for layer in quantized_layers(model):
        node = layer.node
        holder, index = node.name, 2
        if node.op_type == "MatMul":
            found = _add_behind(node, readers, stored) if node.output[0] not in outputs else None
            if found is None:
                continue
            holder, index = found
        elif len(node.input) > 2 and node.input[2] and node.input[2] not in stored:
            continue
        weight = floats.get(layer.stored.name, layer.stored)
        sites.append(_Site(node, layer.source, layer.levels, weight, holder, index))
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
            old: NDArray[np.floating] = np.zeros(
                correction.shape, onnx.helper.tensor_dtype_to_np_dtype(site.weight.data_type)
            )
            if holder.op == "Gemm":
                beta = holder.attrs["beta"] = 1.0
        else:
            old = given.values
        bias = gs.Constant(f"{site.node.name}_bias_corrected", (old + correction / beta).astype(old.dtype))
        if len(holder.inputs) > site.index:
            holder.inputs[site.index] = bias
        else:
            holder.inputs.append(bias)
