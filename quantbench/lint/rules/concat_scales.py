"""A Concat joins tensors of different scales: each branch must be requantized before it."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index

RULE = "concat-scales"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each Concat with a Q behind it whose quantized inputs, or whose Qs behind it, differ in scale."""
    for concat, qs in _groups(index):
        if _differ(index, qs):
            cost = sum(2 * index.nbytes(t) // 4 for t in concat.input)
            values = sorted({float(s) for q in qs if (s := index.scale(q)) is not None})
            yield Finding(RULE, concat.name, cost, f"{len(values)} scales, {values[0]:.4g} to {values[-1]:.4g}",
                          "give all of them the largest", fixable=True)  # fmt: skip


def fix(index: Index) -> int:
    """Give each group its largest scale; again until chains of Concats agree. Returns how many Concats changed."""
    changed: set[str] = set()
    again = True
    while again:
        again = False
        for concat, qs in _groups(index):
            if not _differ(index, qs):
                continue
            largest = max(float(s) for q in qs if (s := index.scale(q)) is not None)
            for q in qs:
                for node in [q, *(r for r in index.readers.get(q.output[0], ()) if r.op_type == DEQUANTIZE)]:
                    index.set_scale(node, np.asarray(largest))
            changed.add(concat.name)
            again = True
    return len(changed)


def _groups(index: Index) -> Iterator[tuple[NodeProto, list[NodeProto]]]:
    for concat in index.nodes("Concat"):
        qs = [q for q in index.readers.get(concat.output[0], ()) if q.op_type == QUANTIZE]
        if not qs or any(r.op_type != QUANTIZE for r in index.readers.get(concat.output[0], ())):
            continue
        for tensor in concat.input:
            dq = index.makers.get(tensor)
            q = index.makers.get(dq.input[0]) if dq is not None and dq.op_type == DEQUANTIZE else None
            if q is not None and q.op_type == QUANTIZE:
                qs.append(q)
        if all((s := index.scale(q)) is not None and s.ndim == 0 for q in qs):
            yield concat, qs


def _differ(index: Index, qs: list[NodeProto]) -> bool:
    return len({float(s) for q in qs if (s := index.scale(q)) is not None}) > 1
