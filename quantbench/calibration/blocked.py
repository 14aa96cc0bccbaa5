"""Activations as onnxruntime's convolutions write them, for whoever does not ask in which order elements stand.

On x86-64 its convolutions compute in blocks of channels (NCHWc). A tensor that leaves the session is rearranged to
NCHW first (ReorderOutput), which costs a third of a pass where all of them leave; and a Q and DQ between two
convolutions have it rearranged twice. A histogram asks for no order, and two networks can be compared where both have
the same one. Here the session is made twice, the first time only for its optimized graph; the second gives out what
stood before the rearrangement. The kernels and the values are the same to the bit.
"""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from quantbench.errors import QuantbenchError
from quantbench.graph.ops import CONVS
from quantbench.graph.surgery import set_outputs
from quantbench.ort import create_session

if TYPE_CHECKING:
    import onnxruntime

# Channels in a block are 16 at most. Of a tensor whose channels end within one the last block holds zeros that the
# network has not.
_BLOCK = 16
_OUT, _IN = "ReorderOutput", "ReorderInput"
# The domain of these operators.
NCHWC = "com.microsoft.nchwc"
_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
# The second session is worth its making where a good part of the tensors may come out of convolutions.
_TENSORS_A_CONV = 8


def create_blocked_session(
    model: onnx.ModelProto, outputs: Sequence[str], free: Collection[str], *, threads: int = 0, fuse_qdq: bool = True
) -> tuple["onnxruntime.InferenceSession", list[str]]:
    """A session that gives `outputs`, and the name under which it gives each: another one where a tensor of `free`
    comes in blocks of channels. Shapes are those of the network.

    Raises as `create_session`.
    """
    convs = sum(node.op_type in CONVS for node in model.graph.node)
    if outputs and convs * _TENSORS_A_CONV >= len(outputs):
        with tempfile.TemporaryDirectory(prefix="quantbench-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "optimized.onnx"
            try:
                create_session(model, threads=1, fuse_qdq=fuse_qdq, outputs=outputs, optimized=path)
                graph = onnx.load(path, load_external_data=False)
                pass_through_quantizers(graph, outputs)
                given = _take_before_reordering(graph, outputs, free)
                if given != list(outputs):
                    path.write_bytes(graph.SerializeToString())
                    return create_session(path, threads=threads, optimize=False), given
            except (QuantbenchError, OSError):
                pass  # no room for the file, or a graph that onnxruntime cannot read back: as everywhere else then
    return create_session(model, threads=threads, fuse_qdq=fuse_qdq, outputs=outputs), list(outputs)


def pass_through_quantizers(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Let Qs and DQs that stand alone between two rearrangements read and write blocks, in place: they take element by
    element, with one scale for all."""
    made = {name: node for node in model.graph.node for name in node.output}
    reads: dict[str, int] = dict.fromkeys(outputs, 1)  # what leaves the session is read there
    for node in model.graph.node:
        for name in node.input:
            reads[name] = reads.get(name, 0) + 1
    scalars = {tensor.name for tensor in model.graph.initializer if tuple(tensor.dims) in ((), (1,))}
    for last in [node for node in model.graph.node if node.op_type == _IN and not _channels_last(node)]:
        first: onnx.NodeProto | None = None
        behind = made.get(last.input[0])
        while behind and behind.op_type in _QDQ and behind.input[1] in scalars and reads[behind.output[0]] == 1:
            first, behind = behind, made.get(behind.input[0])
        if first is not None and behind and _whole_blocks(behind):
            first.input[0] = behind.input[0]
            # The name behind the rearrangement goes to the DQ; the node itself has nobody left to read it.
            made[last.input[0]].output[0] = last.output[0]
            last.output[0] = ""
    _keep(model, [node for node in model.graph.node if node.op_type != _IN or node.output[0]])


def _take_before_reordering(model: onnx.ModelProto, outputs: Sequence[str], free: Collection[str]) -> list[str]:
    """What stands before the rearrangement of each of `outputs` that is `free`, its own name where there is none;
    `model` returns these from now on, in place, and loses the rearrangements that nobody needs any more."""
    made = {name: node for node in model.graph.node for name in node.output}
    given: list[str] = []
    for name in outputs:
        node = made.get(name)
        before = node.input[0] if node is not None and name in free and _whole_blocks(node) else name
        given.append(name if before in given else before)
    set_outputs(model, given)
    needed = {*given, *(name for node in model.graph.node for name in node.input)}
    _keep(model, [node for node in model.graph.node if node.op_type != _OUT or node.output[0] in needed])
    return given


def _keep(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _whole_blocks(node: onnx.NodeProto) -> bool:
    """Whether `node` rearranges blocks that are full of channels."""
    channels = next((a.i for a in node.attribute if a.name == "channels"), 0)
    return node.op_type == _OUT and channels > 0 and channels % _BLOCK == 0


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(a.name == "channels_last" and a.i for a in node.attribute)


def rearranged(blocked: str, plain: str, channels: int) -> onnx.NodeProto:
    """The node that makes of the tensor `blocked`, as a session of `create_blocked_session` gave it, `plain`, in the
    network's own order; it has so many channels."""
    return onnx.helper.make_node(_OUT, [blocked], [plain], domain=NCHWC, channels=channels)
