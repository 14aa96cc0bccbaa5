"""How low a tensor of a Q/DQ graph can get, and how low what reads it can tell: what an asymmetric range need not hold.

Told by the operators alone: SiLU never falls below -0.2785, HardSwish below -0.375, GELU below -0.17; what reads x by a
SiLU sees nothing of values under -8 (silu(-8) = -0.003), a HardSwish nothing under -3.
"""

import math

import numpy as np
import onnx_graphsurgeon as gs

# Least values of x sigmoid(x), x hard_sigmoid(x) (alpha 1/6, beta 1/2), x clip(x + 3, 0, 6), x (1 + erf(x / sqrt 2)).
SILU, HARD_SWISH, HARD_SWISH_6, GELU_2 = -0.2785, -0.375, -2.25, -0.34
_LOWEST = {
    "Relu": 0.0, "Sigmoid": 0.0, "HardSigmoid": 0.0, "Softmax": 0.0, "Tanh": -1.0, "HardSwish": HARD_SWISH,
    "Gelu": GELU_2 / 2, "Exp": 0.0, "Sqrt": 0.0, "Abs": 0.0, "Softplus": 0.0,
}  # fmt: skip
# Nothing lower comes out than went in, at input 0.
_OF_FIRST = frozenset({
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "Reshape", "Flatten", "Transpose",
    "Identity", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Resize", "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip
# Under these a reader sees nothing.
_SILU_SEES, _GELU_SEES, _HARD_SEES = -8.0, -4.0, -3.0
_AT_MOST_ONE = frozenset({"Sigmoid", "HardSigmoid", "Softmax"})


class Bounds:
    """Lower bounds of the tensors of one graph; what was told is remembered by name."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def lowest(self, tensor: gs.Tensor) -> float:
        """The least value that `tensor` can hold, -inf where nothing says so."""
        if tensor.name not in self._known:
            self._known[tensor.name] = -math.inf  # until told otherwise
            self._known[tensor.name] = self._tell(tensor)
        return self._known[tensor.name]

    def _tell(self, tensor: gs.Tensor) -> float:
        if isinstance(tensor, gs.Constant):
            return float(np.min(tensor.values)) if np.size(tensor.values) else -math.inf
        if not tensor.inputs:
            return -math.inf
        node = tensor.inputs[0]
        if node.op in _LOWEST:
            return _LOWEST[node.op]
        if node.op == "ConstantOfShape":
            value = node.attrs.get("value")
            return 0.0 if value is None else float(np.min(value.values))
        if node.op == "Clip":
            low = _scalar(node.inputs[1]) if len(node.inputs) > 1 else None
            return max(-math.inf if low is None else low, self.lowest(node.inputs[0]))
        if node.op == "LeakyRelu":
            return float(node.attrs.get("alpha", 0.01)) * min(self.lowest(node.inputs[0]), 0.0)
        if node.op in _OF_FIRST:
            return self.lowest(node.inputs[0])
        if node.op == "Pad":
            return min(self.lowest(node.inputs[0]), 0.0)
        if node.op in ("Concat", "Max"):
            return min(self.lowest(given) for given in node.inputs)
        if node.op == "Add":
            return sum(self.lowest(given) for given in node.inputs)
        if node.op == "Div":
            by = _scalar(node.inputs[1])
            return self.lowest(node.inputs[0]) / by if by is not None and by > 0 else -math.inf
        return self._of_product(node) if node.op == "Mul" else -math.inf

    def _of_product(self, node: gs.Node) -> float:
        for x, gate in (node.inputs, reversed(node.inputs)):
            if (least := _gated(x, gate)) is not None:
                return least
        lows = [self.lowest(given) for given in node.inputs]
        if min(lows) >= 0:
            return 0.0
        for given, low in zip(node.inputs, reversed(lows), strict=True):
            made = behind(given)
            by = _scalar(given)
            if by is not None and by > 0:
                return low * by
            if made is not None and made.op in _AT_MOST_ONE:
                return min(low, 0.0)
        return -math.inf


def floor(tensor: gs.Tensor) -> float:
    """Under what value all that reads `tensor`, past Q and DQ, sees nothing; -inf where something sees all."""
    return max(-math.inf, min((_seen(reader, tensor) for reader in tensor.outputs), default=-math.inf))


def _seen(reader: gs.Node, tensor: gs.Tensor) -> float:
    if reader.op in ("QuantizeLinear", "DequantizeLinear"):
        return floor(reader.outputs[0])
    if reader.op == "Relu":
        return 0.0
    if reader.op == "Sigmoid":
        return _SILU_SEES
    if reader.op == "HardSwish":
        return _HARD_SEES
    if reader.op == "HardSigmoid":
        alpha, beta = float(reader.attrs.get("alpha", 0.2)), float(reader.attrs.get("beta", 0.5))
        return -beta / alpha if alpha > 0 else -math.inf
    if reader.op == "Add":  # x + 3, clipped at 0
        by = next((_scalar(given) for given in reader.inputs if given is not tensor), None)
        clips = _readers(reader.outputs[0])
        low = [_scalar(node.inputs[1]) if node.op == "Clip" and len(node.inputs) > 1 else None for node in clips]
        return -by if by is not None and low and all(each == 0.0 for each in low) else -math.inf
    if reader.op in ("Div", "Mul") and any(node.op == "Erf" for node in reader.outputs[0].outputs):
        return _GELU_SEES
    if reader.op == "Mul" and len(reader.inputs) == 2:
        gate = reader.inputs[0] if reader.inputs[1] is tensor else reader.inputs[1]
        least = _gated(tensor, gate)
        sees = {SILU: _SILU_SEES, HARD_SWISH: _HARD_SEES, HARD_SWISH_6: _HARD_SEES, GELU_2: _GELU_SEES}
        return sees.get(least, -math.inf) if least is not None else -math.inf
    return -math.inf


def behind(tensor: gs.Tensor) -> gs.Node | None:
    """What makes `tensor`, past Q and DQ."""
    node = tensor.inputs[0] if tensor.inputs else None
    while node is not None and node.op in ("QuantizeLinear", "DequantizeLinear"):
        node = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    return node


def _gated(x: gs.Tensor, gate: gs.Tensor) -> float | None:
    """The least value of x times `gate`, where that is a function of x whose shape is known."""
    made = behind(gate)
    if made is None:
        return None
    if made.op == "Sigmoid" and _same(made.inputs[0], x):
        return SILU
    if made.op == "HardSigmoid" and _same(made.inputs[0], x):
        alpha, beta = float(made.attrs.get("alpha", 0.2)), float(made.attrs.get("beta", 0.5))
        return HARD_SWISH if abs(alpha - 1 / 6) < 1e-3 and abs(beta - 0.5) < 1e-3 else None
    if made.op == "Clip" and len(made.inputs) > 2 and (_scalar(made.inputs[1]), _scalar(made.inputs[2])) == (0.0, 6.0):
        add = behind(made.inputs[0])
        if add is None or add.op != "Add" or not any(_scalar(given) == 3.0 for given in add.inputs):
            return None
        return HARD_SWISH_6 if any(_same(given, x) for given in add.inputs) else None
    if made.op == "Add" and any(_scalar(given) == 1.0 for given in made.inputs):
        erf = next((node for given in made.inputs if (node := behind(given)) is not None and node.op == "Erf"), None)
        scaled = behind(erf.inputs[0]) if erf is not None else None
        return GELU_2 if scaled is not None and any(_same(given, x) for given in scaled.inputs) else None
    return None


def _same(one: gs.Tensor, other: gs.Tensor) -> bool:
    """Whether both are one tensor, past Q and DQ."""
    return _source(one) is _source(other)


def _source(tensor: gs.Tensor) -> gs.Tensor:
    while tensor.inputs and tensor.inputs[0].op in ("QuantizeLinear", "DequantizeLinear"):
        tensor = tensor.inputs[0].inputs[0]
    return tensor


def _readers(tensor: gs.Tensor) -> list[gs.Node]:
    found: list[gs.Node] = []
    for node in tensor.outputs:
        found += _readers(node.outputs[0]) if node.op in ("QuantizeLinear", "DequantizeLinear") else [node]
    return found


def _scalar(tensor: gs.Tensor) -> float | None:
    """The value of a stored constant of one element, past a DQ of one."""
    if isinstance(tensor, gs.Constant) and np.size(tensor.values) == 1:
        return float(np.asarray(tensor.values).reshape(-1)[0])
    return None
