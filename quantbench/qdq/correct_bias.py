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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.sums import Levels
from quantbench.graph.ops import WEIGHTED
from quantbench.graph.surgery import edited
from quantbench.qdq.mean_inputs import MeanInputs, MeanLayer
from quantbench.qdq.simulate import simulated

SWEEPS = 2
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
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> onnx.ModelProto:
    """Return a copy of the Q/DQ `model` (float weights behind Q and DQ) with corrected biases.

    `open_feeds` starts the images from the beginning; it is called `SWEEPS` times, the first time read in part. A bias
    that is computed stays.
    """
    sites = _sites(model)
    if not sites:
        return model
    plain = simulated(model)
    errors = _mean_errors(plain, sites, _first(open_feeds(), _ROUGH), threads, on_batch)
    for _ in range(SWEEPS - 1):
        plain = _with_biases(plain, sites, errors)
        errors = _mean_errors(plain, sites, open_feeds(), threads, on_batch)
    return _with_biases(model, sites, errors)


def planned(images: int) -> int:
    """Images that `correct_bias` runs where its feeds hold `images`, give or take a batch."""
    return min(_ROUGH, images) + images


def _first(feeds: Iterable[Feed], images: int) -> Iterator[Feed]:
    """Feeds until they hold `images` samples."""
    seen = 0
    for feed in feeds:
        yield feed
        seen += next(iter(feed.values())).shape[0]
        if seen >= images:
            return


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
    for feed in feeds:
        count = with_means.add(feed)
        if on_batch:
            on_batch(count)
    found = with_means.errors()
    return {site.node.name: error for site, error in zip(sites, found, strict=True)}


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
        quantizers = [_quantizer(makers, name) for name in node.input[:2]]
        activation, weight = quantizers if len(quantizers) == 2 else (None, None)
        if activation is None or weight is None or weight.input[0] not in stored:
            continue
        levels = _levels(activation, stored)
        if levels is None:
            continue
        holder, index = node.name, 2
        if node.op_type == "MatMul":
            found = _add_behind(node, readers, stored) if node.output[0] not in outputs else None
            if found is None:
                continue
            holder, index = found
        elif len(node.input) > 2 and node.input[2] and node.input[2] not in stored:
            continue
        sites.append(_Site(node, activation.input[0], levels, stored[weight.input[0]], holder, index))
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


def _quantizer(makers: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """The Q behind whose DQ stands the tensor `name`."""
    dequantize = makers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = makers.get(dequantize.input[0])
    return quantize if quantize is not None and quantize.op_type == "QuantizeLinear" else None


def _levels(quantize: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> Levels | None:
    """What a Q with one constant scale does; None where it is computed, or there is one a channel."""
    constants = [numpy_helper.to_array(stored[name]) for name in quantize.input[1:] if name in stored]
    if len(constants) != 2 or constants[0].size != 1:
        return None
    scale, zero = constants
    info = np.iinfo(zero.dtype)
    offset = int(zero.reshape(-1)[0])
    return Levels(float(scale.reshape(-1)[0]), info.min - offset, info.max - offset)


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
