"""An Add reads in float a tensor that has Q/DQ for its other readers: the trailing Q then cannot fuse.

On an A100 this alone takes ResNet-18 from 1.10 to 0.73 ms (tests/data/artefacts/json/trex_pt_*).
"""

from collections.abc import Iterator

from onnx import NodeProto

from quantbench.graph.ops import CONVS, DEQUANTIZE, QUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.lint.rules.quantized_stream import float_sums

RULE = "residual-float"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each Add with such an input beside a branch that ends in a conv."""
    for add, slot, _ in _sites(index):
        tensor = add.input[slot]
        yield Finding(RULE, add.name, 2 * index.nbytes(tensor), f"input {slot} ({tensor}) is float beside its own Q/DQ",
                      "let the Add read the DQ", fixable=True)  # fmt: skip


def fix(index: Index) -> int:
    """Let each such Add read the DQ that is there. Returns how many."""
    count = 0
    while (site := next(_sites(index), None)) is not None:
        add, slot, dq = site
        index.replace_input(add, slot, dq.output[0])
        index.sort()
        count += 1
    return count


def _sites(index: Index) -> Iterator[tuple[NodeProto, int, NodeProto]]:
    floats = {*float_sums(index), *index.chosen.floats}
    for add in index.nodes("Add"):
        if add.name in floats or len(add.input) != 2 or any(index.is_weight(t) for t in add.input):
            continue
        makers = [index.makers.get(t) for t in add.input]
        if any(m is not None and m.op_type == DEQUANTIZE for m in makers):
            continue
        for slot in (0, 1):
            dq = _dq_beside(index, add.input[slot])
            if dq is not None and _is_branch(index, makers[1 - slot]):
                yield add, slot, dq
                break


def _dq_beside(index: Index, tensor: str) -> NodeProto | None:
    for q in index.readers.get(tensor, ()):
        if q.op_type == QUANTIZE:
            for dq in index.readers.get(q.output[0], ()):
                if dq.op_type == DEQUANTIZE:
                    return dq
    return None


def _is_branch(index: Index, maker: NodeProto | None) -> bool:
    """Whether a conv with Q/DQ, with or without BatchNormalization, makes the tensor for the Add alone."""
    while maker is not None and maker.op_type in ("BatchNormalization", "Identity"):
        if len(index.readers.get(maker.output[0], ())) != 1:
            return False
        maker = index.makers.get(maker.input[0])
    if maker is None or maker.op_type not in CONVS:
        return False
    dq = index.makers.get(maker.input[0])
    return dq is not None and dq.op_type == DEQUANTIZE and len(index.readers.get(maker.output[0], ())) == 1
