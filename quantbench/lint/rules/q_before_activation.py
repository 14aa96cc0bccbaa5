"""Q/DQ between a weighted layer and its Relu or Clip: the activation then stays a kernel of its own."""

from collections.abc import Iterator

from onnx import NodeProto

from quantbench.graph.ops import BIASED, DEQUANTIZE, QUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index

RULE = "q-before-activation"
# What they put out lies within what they take in, so the scale that is there serves behind them too.
_SHRINKING = frozenset({"Relu", "Clip"})
_LAYERS = BIASED | {"Add", "BatchNormalization"}


def find(index: Index) -> Iterator[Finding]:
    """One finding for each such pair of Q and DQ."""
    for q, _, activation in _sites(index):
        message = f"it stands between a layer and its {activation.name}"
        cost = 4 * index.nbytes(q.input[0])
        yield Finding(RULE, q.name, cost, message, "move Q and DQ behind the activation", fixable=True)


def fix(index: Index) -> int:
    """Move each pair behind the activation. Returns how many."""
    count = 0
    while (site := next(_sites(index), None)) is not None:
        _move(index, *site)
        count += 1
    return count


def _move(index: Index, q: NodeProto, dq: NodeProto, activation: NodeProto) -> None:
    source, float_out, result = q.input[0], dq.output[0], activation.output[0]
    between = f"{result}_float"
    index.replace_input(activation, 0, source)
    activation.output[0] = between
    q.input[0] = between
    # The DQ now writes what the activation wrote; the name that it had is free.
    dq.output[0] = result
    assert float_out != result
    graph = index.model.graph
    nodes = [n for n in graph.node if n is not q and n is not dq]
    at = next(i for i, n in enumerate(nodes) if n.output and n.output[0] == between)
    ordered = [*nodes[: at + 1], q, dq, *nodes[at + 1 :]]
    copies = [type(n).FromString(n.SerializeToString()) for n in ordered]
    del graph.node[:]
    graph.node.extend(copies)
    index.refresh()


def _sites(index: Index) -> Iterator[tuple[NodeProto, NodeProto, NodeProto]]:
    for activation in index.nodes(*_SHRINKING):
        dq = index.makers.get(activation.input[0])
        if dq is None or dq.op_type != DEQUANTIZE or not _alone(index, dq) or activation.output[0] in index.outputs:
            continue
        q = index.makers.get(dq.input[0])
        if q is None or q.op_type != QUANTIZE or not _alone(index, q) or q.input[0] in index.outputs:
            continue
        maker = index.makers.get(q.input[0])
        alone = len(index.readers.get(q.input[0], ())) == 1
        if index.version.relu_past_qdq and activation.op_type == "Relu" and _quantized(index, maker):
            continue  # one layer as it is
        if alone and maker is not None and maker.op_type in _LAYERS:
            yield q, dq, activation


def _quantized(index: Index, maker: NodeProto | None) -> bool:
    """Whether `maker` is a weighted layer whose two inputs DQs make: it takes Q, DQ and Relu in from 10.9 on."""
    if maker is None or maker.op_type not in BIASED:
        return False
    makers = [index.makers.get(name) for name in maker.input[:2]]
    return all(one is not None and one.op_type == DEQUANTIZE for one in makers)


def _alone(index: Index, node: NodeProto) -> bool:
    return len(index.readers.get(node.output[0], ())) == 1 and node.output[0] not in index.outputs
