"""Activations in the order in which onnxruntime's convolutions write them, for whoever only counts them.

On x86-64 its convolutions compute in blocks of channels (NCHWc). A tensor that leaves the session is rearranged to
NCHW first (ReorderOutput), which costs a third of a pass where all of them leave. A histogram asks for no order: here
the session is made twice, the first time only for its optimized graph, and the second gives out what stood before the
rearrangement. The kernels and the values are the same to the bit.
"""

import tempfile
from collections.abc import Sequence
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
_REORDER = "ReorderOutput"
# The second session is worth its making where a good part of the tensors may come out of convolutions.
_TENSORS_A_CONV = 8


def create_unordered_session(
    model: onnx.ModelProto, outputs: Sequence[str], *, threads: int = 0
) -> tuple["onnxruntime.InferenceSession", list[str]]:
    """A session that gives the values of each of `outputs`, and the name under which it gives them.

    Shapes are those of the network, but elements may stand in another order. Raises as `create_session`.
    """
    convs = sum(node.op_type in CONVS for node in model.graph.node)
    if convs * _TENSORS_A_CONV >= len(outputs) > 0:
        with tempfile.TemporaryDirectory(prefix="quantbench-", ignore_cleanup_errors=True) as folder:
            try:
                return _without_reordering(model, outputs, Path(folder), threads)
            except (QuantbenchError, OSError):
                pass  # no room for the file, or a graph that onnxruntime cannot read back: as everywhere else then
    return create_session(model, threads=threads, outputs=outputs), list(outputs)


def _without_reordering(
    model: onnx.ModelProto, outputs: Sequence[str], folder: Path, threads: int
) -> tuple["onnxruntime.InferenceSession", list[str]]:
    path = folder / "optimized.onnx"
    create_session(model, threads=1, outputs=outputs, optimized=path)
    graph = onnx.load(path, load_external_data=False)
    given = _before_reordering(graph, outputs)
    if given == list(outputs):
        raise QuantbenchError("nothing is rearranged")
    path.write_bytes(graph.SerializeToString())
    return create_session(path, threads=threads, optimize=False), given


def _before_reordering(model: onnx.ModelProto, outputs: Sequence[str]) -> list[str]:
    """What stands before the rearrangement of each of `outputs`, its own name where there is none; `model` returns
    these from now on, in place, and loses the nodes that nobody needs any more."""
    made = {name: node for node in model.graph.node for name in node.output}
    given: list[str] = []
    for name in outputs:
        node = made.get(name)
        before = node.input[0] if node is not None and _whole_blocks(node) else name
        given.append(name if before in given else before)
    set_outputs(model, list(dict.fromkeys(given)))
    needed = {*given, *(name for node in model.graph.node for name in node.input)}
    kept = [node for node in model.graph.node if node.op_type != _REORDER or node.output[0] in needed]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return given


def _whole_blocks(node: onnx.NodeProto) -> bool:
    """Whether `node` rearranges blocks that are full of channels."""
    channels = next((a.i for a in node.attribute if a.name == "channels"), 0)
    return node.op_type == _REORDER and channels > 0 and channels % _BLOCK == 0
