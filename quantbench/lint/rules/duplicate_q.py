"""Several Qs of one tensor: of one scale they are work done twice, of different scales no layer can write INT8.

Qs with different zero points or types are left alone: a larger scale would not hold the values of both, and a DQ reads
one type.
"""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index

RULE = "duplicate-q"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each tensor with several per-tensor Qs."""
    for tensor, qs in _groups(index):
        scales = sorted({float(s) for q in qs if (s := index.scale(q)) is not None})
        same = len(scales) == 1
        message = f"{len(qs)} Qs read {tensor}" + ("" if same else f" with scales {scales[0]:.4g} to {scales[-1]:.4g}")
        cost = 0 if same else (len(qs) - 1) * index.nbytes(tensor) // 4 + 2 * index.nbytes(tensor)
        mend = "keep one" if same else "keep the one of the largest scale"
        yield Finding(RULE, qs[0].name, cost, message, mend, fixable=True)


def fix(index: Index) -> int:
    """Keep one Q a tensor, the first, with the largest scale. Returns how many Qs went."""
    count = 0
    for _, qs in list(_groups(index)):
        largest = max(float(s) for q in qs if (s := index.scale(q)) is not None)
        stays = qs[0]
        readers = list(index.readers.get(stays.output[0], ()))
        for q in qs[1:]:
            for reader in index.readers.get(q.output[0], ()):
                readers.append(reader)
                for slot, name in enumerate(reader.input):
                    if name == q.output[0]:
                        index.replace_input(reader, slot, stays.output[0])
            count += 1
        for node in [stays, *(r for r in readers if r.op_type == DEQUANTIZE)]:
            index.set_scale(node, np.asarray(largest))
    index.drop_unread()
    return count


def _groups(index: Index) -> Iterator[tuple[str, list[NodeProto]]]:
    groups: dict[tuple[str, str, bytes], list[NodeProto]] = {}
    for q in index.nodes(QUANTIZE):
        scale = index.scale(q)
        if (
            not index.is_weight(q.input[0])
            and scale is not None
            and scale.ndim == 0
            and q.output[0] not in index.outputs
        ):
            levels, zero = index.levels(q), index.zero_point(q)
            groups.setdefault((q.input[0], levels, zero.tobytes() if zero is not None else b""), []).append(q)
    for (tensor, *_), qs in groups.items():
        if len(qs) > 1:
            yield tensor, qs
