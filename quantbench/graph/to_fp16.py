"""Cast the float parts of a model to FP16 (or BF16): what a strongly typed compiler wants instead of a flag.

Every float tensor becomes half precision, Q/DQ scales among them, except where ONNX forbids it (Resize's `scales`,
NonMaxSuppression …), where it would break the numbers (shape arithmetic: FP16 holds no integer above 2048 exactly;
scales too small for FP16) and inside If, Loop and Scan. Casts stand at those edges and at the graph's own.
"""

from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from quantbench.errors import QuantbenchError
from quantbench.graph.half import Half, detach, half_of
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import infer_shapes
from quantbench.graph.ops import MATRIX, WEIGHTED
from quantbench.graph.standard import is_plugin
from quantbench.graph.subgraphs import bodies
from quantbench.graph.surgery import at_opset, check, copied, default_opset

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_QDQ_HALF_OPSET = 19  # the first whose Q and DQ take FP16 scales
_BF16_OPSET = 22  # the first whose Conv, pooling and the like take BF16: below, each would stay float between casts
_IR_OF_OPSET = {19: 9, 22: 10}
_SUFFIX: dict[int, str] = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
_SPELLED: dict[int, str] = {TensorProto.FLOAT16: "tensor(float16)", TensorProto.BFLOAT16: "tensor(bfloat16)"}
_LARGEST: dict[int, float] = {TensorProto.FLOAT16: 65504.0, TensorProto.BFLOAT16: 3.3895313892515355e38}
# FP16 subnormals step by 2**-24: from here on a scale is off by at most 3 %, and Q and DQ are off alike.
_SMALLEST_SCALE: dict[int, float] = {TensorProto.FLOAT16: 2.0**-20, TensorProto.BFLOAT16: 2.0**-126}
_DTYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype",
                     "RandomNormalLike": "dtype", "RandomUniformLike": "dtype", "Bernoulli": "dtype",
                     "DequantizeLinear": "output_dtype"}  # fmt: skip


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` with float32 tensors as float16; inputs and outputs of the graph stay float32.

    What computed in float32 on purpose in a model that came in half stays so; where weights were only stored in half,
    everything is cast. Weights beyond 65504 saturate. A model with Q/DQ is raised to opset 19 where it is older. Names
    of nodes and of tensors stay, so that plans and reports still fit. Meant for TensorRT: onnxruntime 1.31 on the CPU
    quantizes biases at the product of two FP16 scales, which underflows where weights are small (EfficientNet-Lite0:
    -8 dB SQNR instead of 27), unless the session has `disabled_optimizers=["WeightBiasQuantization"]`.

    Raises QuantbenchError where the opset cannot be raised.
    """
    return _cast_model(model, TensorProto.FLOAT16, half_of(model))


def to_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """As `to_fp16`, with bfloat16; a model older than opset 22 is raised to it."""
    return _cast_model(model, TensorProto.BFLOAT16, half_of(model))


def as_it_came(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` in the half precision that it had in its file (`graph.half`); itself where it had none."""
    half = half_of(model)
    return model if half is None else _cast_model(model, half.elem, replace(half, stored=False))


def _cast_model(model: onnx.ModelProto, half: int, came: Half | None) -> onnx.ModelProto:
    copy = copied(model)
    detach(copy)
    if copy.functions:
        copy = inline_local_functions(copy)
    copy = normalise(_raise_opset(copy, half))
    # Where weights were only stored in half, nobody chose float32 for what computes with them.
    same = came is not None and came.elem == half and not came.stored
    _Caster(copy, came if came is not None and same else Half(half), came=same).run()
    check(copy)
    return copy


def _raise_opset(model: onnx.ModelProto, half: int) -> onnx.ModelProto:
    wanted = _BF16_OPSET if half == TensorProto.BFLOAT16 else _QDQ_HALF_OPSET
    needed = half == TensorProto.BFLOAT16 or any(node.op_type in _QDQ for node in model.graph.node)
    if default_opset(model) >= wanted or not needed:
        return model
    try:
        model = at_opset(model, wanted)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise QuantbenchError(
            f"{_SUFFIX[half].upper()} here needs opset {wanted}, and this model cannot be raised to it ({reason}); "
            f"export it with opset {wanted} or build with FP32 float parts"
        ) from error
    model.ir_version = max(model.ir_version, _IR_OF_OPSET[wanted])
    return model


class _Caster:
    """One pass over the nodes: each says which type it takes, casts are made where the type at hand differs. `came`:
    the model was in this half before."""

    def __init__(self, model: onnx.ModelProto, half: Half, *, came: bool) -> None:
        self.graph = model.graph
        self.came = came
        self.half = half.elem
        self.ends = half.ends
        self.given_floats = half.floats
        self.opset = default_opset(model)
        self.floats = _float_tensors(model)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.outputs = {value.name for value in self.graph.output}
        self.shape_like = _shape_arithmetic(self.graph)
        self.weight_scales = _weight_scales(self.graph)
        self.float_matmuls = self._matmuls_of_small_scales()
        self.float_pairs = _pairs_of_floats(self.graph, half.floats)
        self.nodes: list[onnx.NodeProto] = []
        self.at_hand: dict[tuple[str, int], str] = {
            (value.name, self.half if value.name in self.ends else TensorProto.FLOAT): value.name
            for value in self.graph.input
            if value.name in self.floats
        }
        self.made: list[onnx.TensorProto] = []
        self.taken = {name for node in self.graph.node for name in (*node.input, *node.output)} | set(self.constants)

    def run(self) -> None:
        kept_constants = [t for t in self.graph.initializer if t.data_type != TensorProto.FLOAT]
        for name in sorted(self.outputs & set(self.constants)):
            self._want(name, self.half if name in self.ends else TensorProto.FLOAT)
        for node in list(self.graph.node):
            self._convert(node)
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend([*kept_constants, *self.made])
        for value in (*self.graph.input, *self.graph.output):
            if value.name in self.ends:
                value.type.tensor_type.elem_type = self.half

    def _convert(self, node: onnx.NodeProto) -> None:
        keep = self._stays_float(node)
        for index, name in enumerate(node.input):
            if name in self.floats:
                fits = not keep and self._allows(node, index, is_input=True)
                node.input[index] = self._want(name, self.half if fits else TensorProto.FLOAT)
        for graph in bodies(node):
            self._rename_captures(graph)
        late: list[onnx.NodeProto] = []
        for index, name in enumerate(node.output):
            if name not in self.floats:
                continue
            half = not keep and self._allows(node, index, is_input=False)
            if not half and name in self.outputs & self.ends:
                node.output[index] = self._fresh(name, TensorProto.FLOAT)
                self.at_hand[name, TensorProto.FLOAT] = node.output[index]
                self.at_hand[name, self.half] = name
                late.append(_cast(node.output[index], name, self.half))
            elif not half:
                self.at_hand[name, TensorProto.FLOAT] = name
            elif name in self.outputs - self.ends:
                node.output[index] = self._fresh(name, self.half)
                self.at_hand[name, self.half] = node.output[index]
                self.at_hand[name, TensorProto.FLOAT] = name
                late.append(_cast(node.output[index], name, TensorProto.FLOAT))
            else:
                self.at_hand[name, self.half] = name
        if not keep:
            self._convert_attributes(node)
        self.nodes.extend([node, *late])

    def _stays_float(self, node: onnx.NodeProto) -> bool:
        if is_plugin(node):
            # Where the model came in half, what the plugin took; else nobody knows whether it takes half.
            return not self.came or node.name in self.given_floats
        if any(True for _ in bodies(node)):
            return True
        if node.op_type == "Cast" and node.output[0] in self.outputs - self.ends:
            return True
        if node.op_type in _QDQ and self._scale_underflows(node.input[1]):
            return True
        if node.name in self.float_matmuls or node.name in self.given_floats or node.name in self.float_pairs:
            return True
        return any(name in self.shape_like for name in node.output)

    def _matmuls_of_small_scales(self) -> set[str]:
        """Names of matrix products one of whose scales has to stay float32, with all their Q and DQ: TensorRT-RTX
        wants the scales of both operands in one type."""
        makers = {out: node for node in self.graph.node for out in node.output}
        found: set[str] = set()
        for node in self.graph.node:
            if node.op_type not in MATRIX:
                continue
            pairs = [makers[name] for name in node.input[:2] if name in makers and makers[name].op_type in _QDQ]
            if any(self._scale_underflows(dq.input[1]) for dq in pairs):
                quantizers = [makers[dq.input[0]] for dq in pairs if dq.input[0] in makers]
                found |= {n.name for n in (node, *pairs, *quantizers) if n is node or n.op_type in _QDQ}
        return found

    def _scale_underflows(self, name: str) -> bool:
        if name not in self.constants or name in self.weight_scales:
            return False
        scale = np.abs(numpy_helper.to_array(self.constants[name]).astype(np.float64))
        return bool(((scale < _SMALLEST_SCALE[self.half]) | (scale > _LARGEST[self.half])).any())

    def _allows(self, node: onnx.NodeProto, index: int, *, is_input: bool) -> bool:
        if is_plugin(node):
            return True
        schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        formal = schema.inputs if is_input else schema.outputs
        # The last parameter of a variadic operator stands for all that follow.
        return _SPELLED[self.half] in formal[min(index, len(formal) - 1)].types

    def _want(self, name: str, elem: int) -> str:
        """Name of tensor `name` as element type `elem`; makes a Cast, or a converted constant, the first time."""
        known = self.at_hand.get((name, elem))
        if known is not None:
            return known
        constant = self.constants.get(name)
        if constant is not None:
            # The form asked for first keeps the name, so that most weights do.
            first = not any(key[0] == name for key in self.at_hand)
            result = name if first else self._fresh(name, elem)
            least = _SMALLEST_SCALE[self.half] if name in self.weight_scales else None
            self.made.append(_convert_tensor(constant, result, elem, least))
        else:
            other = self.half if elem == TensorProto.FLOAT else TensorProto.FLOAT
            result = self._fresh(name, elem)
            self.nodes.append(_cast(self.at_hand[name, other], result, elem))
        self.at_hand[name, elem] = result
        return result

    def _fresh(self, name: str, elem: int) -> str:
        result = f"{name}_{_SUFFIX[elem]}"
        while result in self.taken:
            result += "_"
        self.taken.add(result)
        return result

    def _rename_captures(self, graph: onnx.GraphProto) -> None:
        """Let a subgraph read the float32 form of what it captures from outside."""
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        own |= {name for node in graph.node for name in node.output}
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name in self.floats and name not in own:
                    node.input[index] = self._want(name, TensorProto.FLOAT)
            for inner in bodies(node):
                self._rename_captures(inner)
        for value in graph.output:
            if value.name in self.floats and value.name not in own:
                value.name = self._want(value.name, TensorProto.FLOAT)

    def _convert_attributes(self, node: onnx.NodeProto) -> None:
        for attribute in node.attribute:
            if attribute.name == _DTYPE_ATTRIBUTES.get(node.op_type) and attribute.i == TensorProto.FLOAT:
                attribute.i = self.half
            elif node.op_type == "ConstantOfShape" and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_convert_tensor(attribute.t, attribute.t.name, self.half))
        names = {attribute.name for attribute in node.attribute}
        if node.op_type == "ConstantOfShape" and "value" not in names:
            zero = _convert_tensor(numpy_helper.from_array(np.zeros(1, np.float32)), "", self.half)
            node.attribute.append(helper.make_attribute("value", zero))
        elif node.op_type in ("RandomNormal", "RandomUniform") and "dtype" not in names:
            node.attribute.append(helper.make_attribute("dtype", self.half))


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    inferred = infer_shapes(model).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    typed = {v.name for v in values if v.type.tensor_type.elem_type}
    # What a plugin writes, nothing infers; where the file does not say, it is most likely float.
    found |= {out for node in model.graph.node if is_plugin(node) for out in node.output if out and out not in typed}
    return found | {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}


def _shape_arithmetic(graph: onnx.GraphProto) -> set[str]:
    """Tensors computed from shapes and constants alone."""
    constants = {t.name for t in graph.initializer} | {""}
    found: set[str] = set()
    for node in graph.node:
        inputs = [name for name in node.input if name not in constants]
        if node.op_type in ("Shape", "Size") or (inputs and all(name in found for name in inputs)):
            found.update(node.output)
    return found


def _pairs_of_floats(graph: onnx.GraphProto, floats: frozenset[str]) -> set[str]:
    """Names of Q and DQ whose values a node of `floats` computes with, and nobody else or as its operand.

    A Cast between DQ and convolution or matrix product would keep TensorRT from computing it in INT8.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: set[str] = set()
    written: set[str] = set()
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        taking = readers.get(node.output[0], [])
        alone = bool(taking) and all(reader.name in floats for reader in taking)
        if alone or any(reader.op_type in WEIGHTED and reader.name in floats for reader in taking):
            found.add(node.name)
            written.add(node.input[0])
    return found | {n.name for n in graph.node if n.op_type == "QuantizeLinear" and n.output[0] in written}


def _cast(source: str, target: str, elem: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}_Cast_{_SUFFIX[elem]}", to=elem)


def _weight_scales(graph: onnx.GraphProto) -> set[str]:
    """Scales of Q/DQ pairs on float constants.

    A channel of dead weights has a scale near 0. A larger scale rounds it to 0 and costs nothing, so these are raised
    to the smallest good one; the weights of such a pair are quantized by the compiler, so Q and DQ still agree.
    """
    constants = {t.name for t in graph.initializer}
    quantizers = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants]
    quantized = {n.output[0] for n in quantizers}
    dequantizers = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in quantized]
    return {n.input[1] for n in (*quantizers, *dequantizers)}


def _convert_tensor(tensor: onnx.TensorProto, name: str, elem: int, least: float | None = None) -> onnx.TensorProto:
    values: NDArray[np.float32] = numpy_helper.to_array(tensor).astype(np.float32)
    if least is not None:
        values = np.maximum(values, np.float32(least))
    if elem == TensorProto.FLOAT:
        return numpy_helper.from_array(values, name)
    limit = _LARGEST[elem]
    # Infinities stay: they are masks and open bounds; finite values saturate rather than become infinite.
    values = np.where(np.isfinite(values), np.clip(values, -limit, limit), values).astype(np.float32)
    result = TensorProto(name=name, data_type=elem, dims=values.shape)
    if elem == TensorProto.FLOAT16:
        result.raw_data = values.astype("<f2").tobytes()
    else:
        bits = values.view(np.uint32)
        result.raw_data = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    return result
