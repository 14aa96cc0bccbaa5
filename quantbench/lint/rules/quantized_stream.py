"""A skip connection quantized though nothing reads its sum in INT8: it costs accuracy and saves no time.

The sums of transformers, ConvNeXt and group-normed U-Nets hold channels hundreds of times larger than the others
(Dettmers et al., arXiv:2208.07339): one scale for all of them leaves the others a few levels. In a pre-activation
network a batch norm reads the sum, and no layer can write it in INT8 either. ModelOpt's ONNX quantizer places such Q/DQ
by default; ResNet v2 lost 10 dB to it, and ran 10 kernels more.
"""

from collections.abc import Iterator

from onnx import NodeProto

from quantbench.graph.ops import ACTIVATIONS, DEQUANTIZE, QUANTIZE, SAMPLE_NORMS
from quantbench.graph.view import GraphView, NodeView
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.predict.with_qdq import without_qdq
from quantbench.qdq.rules.streams import normalised_streams

RULE = "quantized-stream"
_LEVELS = 127
# What reads a sum and computes in float: behind a Relu it is a conv's epilogue, and its Q goes into the conv.
_FLOAT_READERS = (SAMPLE_NORMS | ACTIVATIONS | {"BatchNormalization"}) - {"Relu"}


def find(index: Index) -> Iterator[Finding]:
    """One finding for each Add with such an input: what reads its sum, the range and the step of the scale."""
    for add, slot, q, why in _sites(index):
        scale = index.scale(q)
        step = float(scale.max()) if scale is not None else 0.0
        tensor = q.input[0]
        message = f"its skip input {tensor} is quantized, to ±{step * _LEVELS:.4g} in steps of {step:.3g}, and {why}"
        chosen = tensor in index.chosen.tensors and add.name not in index.chosen.floats
        yield Finding(RULE, add.name, 0, message, f"let input {slot} of the Add read {tensor} in float", True, chosen)


def fix(index: Index) -> int:
    """Let each such Add read what was before the Q. Returns how many inputs."""
    count = 0
    for add, slot, q, _ in list(_sites(index)):
        index.replace_input(add, slot, q.input[0])
        count += 1
    index.drop_unread()
    return count


def _sites(index: Index) -> Iterator[tuple[NodeProto, int, NodeProto, str]]:
    floats = float_sums(index)
    for add in index.nodes("Add"):
        for slot, name in enumerate(add.input) if add.name in floats else ():
            dq = index.makers.get(name)
            q = index.makers.get(dq.input[0]) if dq is not None and dq.op_type == DEQUANTIZE else None
            if q is not None and q.op_type == QUANTIZE:
                yield add, slot, q, floats[add.name]


def float_sums(index: Index) -> dict[str, str]:
    """Adds of two activations whose inputs are better left in float, by name, and why."""
    view = without_qdq(index.view)
    streams = normalised_streams(view)
    found = {}
    for node in view.nodes:
        if node.op != "Add" or len(node.inputs) != 2 or any(index.is_weight(name) for name in node.inputs):
            continue
        reader = _float_reader(view, node)
        if node.name in streams:
            found[node.name] = "a norm over its own values reads the stream that it sums"
        elif reader is not None:
            found[node.name] = f"{reader.name} ({reader.op}) reads the sum in float"
    return found


def _float_reader(view: GraphView, add: NodeView) -> NodeView | None:
    """What reads the sum and computes in float: in a pre-activation network, or with a SiLU behind the Add."""
    readers = [reader for reader, _ in view.readers(add.outputs[0])]
    return next((reader for reader in readers if reader.op in _FLOAT_READERS), None)
