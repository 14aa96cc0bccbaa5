"""ConstWeightsFusion: the INT8 constant `W + Q` goes into its layer, and stands first in the layer's name."""

from quantbench.predict.net import Net

NAME = "ConstWeightsFusion"


def run(net: Net) -> None:
    """Drop the weight (and bias) inputs of weighted layers; INT8 ones enter name and ONNX nodes."""
    for op in net.ops:
        if not op.weighted:
            continue
        for tensor in [t for t in op.inputs[1:] if t in net.constants]:
            weight = net.weights.get(tensor)
            if weight is not None:
                net.step(NAME, "fuse", weight.name, op.name)
                op.name = f"{weight.name} + {op.name}"
                op.nodes.extend(weight.nodes)
            op.constants.append(weight.inputs[0] if weight is not None else tensor)
