"""Engine layers of an optimized Net: types by TensorRT's names, dtypes of inputs and outputs."""

from collections.abc import Mapping

from quantbench.graph.ops import AFFINE, AVERAGES, SHUFFLES, SWAPS, WEIGHTED
from quantbench.json_types import JsonObject
from quantbench.layers.layer import Layer, LayerTensor
from quantbench.predict.evidence import GUESS, confidence
from quantbench.predict.net import Net, Op
from quantbench.predict.passes import blackwell, myelin
from quantbench.predict.versions import Version

_DTYPES = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16", "int8": "INT8", "int32": "INT32",
           "int64": "INT64", "bool": "BOOL", "uint8": "UINT8", "float64": "FP64"}  # fmt: skip
_TYPES = {"Conv": "CaskConvolution", "ConvTranspose": "CaskDeconvolution", "MaxPool": "CaskPooling",
          "QuantizeLinear": "Reformat", "DequantizeLinear": "Reformat", "Copy": "Reformat",
          "FormatReformat": "Reformat", "Pointwise": "PointWiseV2",
          "Resize": "Resize", "Myelin": "Myelin", "NonMaxSuppression": "NMS", "Softmax": "SoftMax",
          "Gemm": "CaskGemm", "MatMul": "CaskGemm", "Slice": "Slice", "Relu": "PointWiseV2",
          "BatchNormalization": "Scale"}  # fmt: skip
# Kinds that logs and engines at hand show as layers of their own, whatever was done to them.
_PLAIN = WEIGHTED | AVERAGES | AFFINE | frozenset(
    {"Resize", "Softmax", "Slice", "Transpose", "Pointwise", "Relu", "BatchNormalization", "UnfoldedBN",
     "NonMaxSuppression", "MaxPool", "Copy", "FormatReformat"}
)  # fmt: skip
_IMAGE, _STEM = 4, 4  # dimensions; channels
_GONE = frozenset({"InPlace", "View"})
_KEEP_DTYPE = SWAPS | {"InPlace", "View", "Copy", "FormatReformat", "Concat"}


def layers_of(net: Net, version: Version) -> tuple[Layer, ...]:
    """Layers in order of execution. Concats and slices done in place are no layers; what writes into a concat names
    the concat's tensor as its output, as TensorRT's dumps do."""
    dtypes = dtypes_of(net)
    homes = _homes(net)
    layers: list[Layer] = []
    for op in net.ops:
        if op.kind in _GONE:
            continue
        if op.kind == "UnfoldedBN":
            layers.extend(_unfolded(net, op, dtypes, _attributes(op, version)))
            continue
        inputs = [t for t in op.inputs if t not in net.constants]
        layers.append(
            Layer(
                name=op.name,
                type=(blackwell.type_of(op) if version.whole_network_in_myelin else "") or _type_of(net, op, version),
                inputs=tuple(_tensor(net, t, dtypes, homes.get(t, t)) for t in inputs),
                outputs=tuple(_tensor(net, t, dtypes, homes.get(t, t)) for t in op.outputs),
                constants=_constants(net, op),
                nodes=tuple(dict.fromkeys(op.nodes)),
                origin="QDQ" if op.is_q or op.is_dq else ("REFORMAT" if op.kind == "FormatReformat" else ""),
                attributes=_attributes(op, version),
            )
        )  # fmt: skip
    return tuple(layers)


def dtypes_of(net: Net) -> dict[str, str]:
    """Dtype of every tensor of `net`: INT8 behind Q and INT8 layers, and as far as data movement carries it."""
    dtypes: dict[str, str] = {}
    for op in net.ops:
        for name in op.outputs:
            if op.is_q or op.int8_out:
                dtypes[name] = "INT8"
            elif op.kind in _KEEP_DTYPE and op.inputs and op.inputs[0] in dtypes:
                dtypes[name] = dtypes[op.inputs[0]]
            else:
                view = net.tensors.get(name)
                given = _DTYPES.get(view.dtype, "?") if view is not None else "FP32"
                dtypes[name] = "FP32" if given in ("INT8", "UINT8") else given
    return dtypes


def _homes(net: Net) -> dict[str, str]:
    """Tensor to the tensor that it is part of: what a concat gathers in place, what a slice or reshape views."""
    homes: dict[str, str] = {}
    for op in reversed(net.ops):
        if op.kind == "InPlace":
            for tensor in op.inputs:
                homes[tensor] = homes.get(op.out, op.out)
    for op in net.ops:
        if op.kind == "View":
            homes[op.out] = homes.get(op.inputs[0], op.inputs[0])
    return homes


def _tensor(net: Net, tensor: str, dtypes: Mapping[str, str], shown: str) -> LayerTensor:
    view = net.tensors.get(tensor)
    dtype = dtypes.get(tensor)
    if dtype is None:
        dtype = _DTYPES.get(view.dtype, "?") if view is not None else "?"
    shape = view.shape if view is not None else None
    # An unknown rank is one unknown dimension: its size then counts as unknown, not as one element.
    dims = tuple(d if isinstance(d, int) else -1 for d in shape) if shape is not None else (-1,)
    name, vector = _format(dtype, dims)
    return LayerTensor(shown, dtype, format=name, dims=dims, vector=vector)


def _format(dtype: str, dims: tuple[int, ...]) -> tuple[str, int]:
    """Format of an INT8 image: CHW4 up to 4 channels, else CHW32 (153 of 163 tensors of the 8.6.0 backbone log, 29 of
    31 of the fuser's, 90 of 99 of the trt852 log; linear and CHW4 for the rest). Floats are chosen by timing: ""."""
    if dtype != "INT8" or len(dims) != _IMAGE:
        return "", 1
    return ("CHW4", 4) if 0 <= dims[1] <= _STEM else ("CHW32", 32)


def _constants(net: Net, op: Op) -> tuple[LayerTensor, ...]:
    """Weights and bias; of a ForeignNode the weights of its matrix products."""
    if op.kind == "Myelin":
        return tuple(_constant(net, product.weights, product.int8) for product in myelin.products(op))
    return tuple(_constant(net, t, op.int8_in and i == 0) for i, t in enumerate(op.constants))


def _constant(net: Net, tensor: str, int8: bool) -> LayerTensor:
    view = net.tensors.get(tensor)
    dims = tuple(d if isinstance(d, int) else -1 for d in (view.shape or ())) if view is not None else (-1,)
    return LayerTensor(tensor, "INT8" if int8 else "FP32", dims=dims)


def _type_of(net: Net, op: Op, version: Version) -> str:
    if "stem-pool" in op.traits:
        # As engines of 8.4 print it, and one of 10.14.1 (RTX 4050).
        return "CaskConvActPool" if version.number >= (10,) else "ConvActPool"
    group = op.attributes.get("group", 1)
    if op.kind == "Conv" and isinstance(group, int) and group > 1:
        shape = net.shape(op.inputs[0])
        if shape is not None and len(shape) > 1 and shape[1] == group:
            return "CudaDepthwiseConvolution"
    if op.kind in SHUFFLES:
        return "Shuffle"
    view = net.producer(op.inputs[0]) if op.kind == "Gemm" else None
    if view is not None and view.kind == "View":
        return "CaskConvolution"  # FCToConvTransform
    if op.kind in AVERAGES:
        return "CaskPooling"
    return _TYPES.get(op.kind, "ElementWise" if op.kind in AFFINE else op.kind)


def _attributes(op: Op, version: Version) -> JsonObject:
    found: JsonObject = {}
    if op.weighted and op.int8_in:
        found["int8"] = True
    if op.residual:
        found["residual"] = op.residual
    if op.activation:
        found["activation"] = op.activation
    own = op.kind not in _PLAIN and not op.is_q and not op.is_dq
    level, why = confidence(version, [*op.traits, *(["own-kernel"] if own and not op.traits else [])])
    found["confidence"] = level
    if level == GUESS:
        found["guess"] = why
    if op.kind == "Myelin":
        inside = myelin.products(op)
        found["weighted_inside"] = len(inside)
        found["int8_inside"] = sum(product.int8 for product in inside)
        found["kernels_estimated"] = op.attributes.get("kernels_estimated", 1)
        found["products_inside"] = [[*p[:4], int(p.int8)] for p in myelin.sizes(op)]
    return found


def _unfolded(net: Net, op: Op, dtypes: Mapping[str, str], attributes: JsonObject) -> tuple[Layer, Layer]:
    """(x - mean) / sqrt(var + eps) is one PWN, the affine part one Scale (trt852 log, layer2.0.downsample.1)."""
    source, result = (_tensor(net, t, dtypes, t) for t in (op.inputs[0], op.out))
    between = _tensor(net, op.out, dtypes, f"{op.out} (normalized)")
    pointwise = f"PWN((Unnamed Layer* of {op.nodes[0]}) [ElementWise])"
    return (
        Layer(pointwise, "PointWiseV2", (source,), (between,), attributes=attributes),
        Layer(op.name, "Scale", (between,), (result,), nodes=tuple(op.nodes), attributes=attributes),
    )
