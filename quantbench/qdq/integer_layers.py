"""For onnxruntime: layers that it would fuse, were it not for the DQ before them.

- A MatMul of a matrix and the Add of a bias behind it are a Gemm.
- x / sqrt(2), Erf, + 1, * x, * 0.5 are one Gelu (com.microsoft).
- The bias of a Gemm becomes integer with its kernel only where it stands so in the model: INT32 behind a DQ, its scale
  the product of those of activation and weight.
"""

import math

import numpy as np
import onnx_graphsurgeon as gs

_CLOSE = 1e-3


def made_by(tensor: gs.Tensor, op: str) -> bool:
    """Whether an `op` makes `tensor`."""
    return bool(tensor.inputs) and tensor.inputs[0].op == op


def only_reader(tensor: gs.Tensor) -> gs.Node | None:
    """The node that alone reads `tensor`."""
    return tensor.outputs[0] if len(tensor.outputs) == 1 else None


def one_value(tensor: gs.Tensor) -> float | None:
    """The value of a constant of one element."""
    if not isinstance(tensor, gs.Constant) or np.size(tensor.values) != 1:
        return None
    return float(np.asarray(tensor.values).reshape(-1)[0])


def linear(graph: gs.Graph, node: gs.Node) -> None:
    """Write the MatMul `node` of matrices and the bias behind it as a Gemm, where both its inputs come from DQ."""
    add = only_reader(node.outputs[0])
    if add is None or add.op != "Add" or not all(made_by(given, "DequantizeLinear") for given in node.inputs):
        return
    bias = next((given for given in add.inputs if isinstance(given, gs.Constant)), None)
    if bias is None or np.ndim(bias.values) != 1 or not _is_constant_behind(node.inputs[1]):
        return
    output = add.outputs[0]
    node.outputs.clear()
    add.outputs.clear()
    graph.nodes.append(gs.Node("Gemm", node.name, {}, [*node.inputs, bias], [output]))


def _is_constant_behind(tensor: gs.Tensor) -> bool:
    return isinstance(tensor.inputs[0].inputs[0], gs.Constant)


def gelu(graph: gs.Graph, erf: gs.Node) -> None:
    """x * 0.5 * (1 + erf(x / sqrt(2))), the half at the end or at x, as PyTorch and Paddle write it."""
    scaled = erf.inputs[0].inputs[0] if erf.inputs[0].inputs else None
    if scaled is None or scaled.op not in ("Div", "Mul"):
        return
    by = one_value(scaled.inputs[1])
    x = scaled.inputs[0]
    add = only_reader(erf.outputs[0])
    gate = only_reader(add.outputs[0]) if add is not None and add.op == "Add" else None
    if (
        by is None
        or add is None
        or gate is None
        or gate.op != "Mul"
        or not any(one_value(given) == 1.0 for given in add.inputs)
    ):
        return
    if abs((by if scaled.op == "Div" else 1 / by) - math.sqrt(2)) > _CLOSE or not made_by(x, "DequantizeLinear"):
        return
    other = next(given for given in gate.inputs if given is not add.outputs[0])
    end = gate if _is_half_of(other, x) else only_reader(gate.outputs[0]) if other is x else None
    if end is None or (
        end is not gate and not (end.op == "Mul" and any(one_value(given) == 0.5 for given in end.inputs))
    ):
        return
    output = end.outputs[0]
    end.outputs.clear()
    graph.nodes.append(gs.Node("Gelu", end.name, {}, [x], [output], domain="com.microsoft"))


def _is_half_of(tensor: gs.Tensor, x: gs.Tensor) -> bool:
    made = tensor.inputs[0] if tensor.inputs else None
    return made is not None and made.op == "Mul" and x in made.inputs and any(one_value(g) == 0.5 for g in made.inputs)


def integer_bias(graph: gs.Graph, node: gs.Node) -> None:
    """Store the bias of the Gemm `node`, whose inputs come from DQ, as INT32 behind a DQ."""
    if len(node.inputs) < 3 or not isinstance(node.inputs[2], gs.Constant) or node.attrs.get("beta", 1.0) != 1.0:
        return
    if not all(made_by(given, "DequantizeLinear") for given in node.inputs[:2]):
        return
    scales = [given.inputs[0].inputs[1] for given in node.inputs[:2]]
    bias = node.inputs[2]
    if not all(isinstance(scale, gs.Constant) for scale in scales) or np.ndim(bias.values) != 1:
        return
    step = np.asarray(scales[0].values, np.float64).reshape(()) * np.asarray(scales[1].values, np.float64)
    if step.size not in (1, bias.values.size):
        return
    levels = np.rint(np.asarray(bias.values, np.float64) / step)
    if np.abs(levels).max(initial=0) > np.iinfo(np.int32).max:
        return
    name = f"{node.name}_bias"
    parts = [gs.Constant(f"{name}_levels", levels.astype(np.int32)),
             gs.Constant(f"{name}_scale", step.astype(bias.values.dtype))]  # fmt: skip
    output = gs.Variable(f"{name}_dequantized", dtype=bias.values.dtype, shape=bias.values.shape)
    attributes = {"axis": 0} if step.ndim else {}
    graph.nodes.append(gs.Node("DequantizeLinear", f"{name}_DequantizeLinear", attributes, parts, [output]))
    node.inputs[2] = output
