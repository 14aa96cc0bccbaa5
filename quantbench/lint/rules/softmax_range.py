"""A Q behind a softmax whose range is not that of what it quantizes: a softmax writes 0 to 1.

Tools that calibrate with a margin, by histograms with coarse bins or over a padded range give it more, and the small
weights of attention, which are most of them, lose levels: at a range of 4 two of eight bits.
"""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.predict.with_qdq import without_qdq
from quantbench.qdq.reach import maker

RULE = "softmax-range"
_LEVELS = 127
# FP16 scales and rounding up are no fault.
_SLACK = 1.02


def find(index: Index) -> Iterator[Finding]:
    """One finding for each Q of a softmax's output with a range over 1."""
    for q, scale in _sites(index):
        yield Finding(RULE, q.name, 0, f"range {scale * _LEVELS:.3g} for {q.input[0]}, which a softmax writes: 0 to 1",
                      f"a scale of 1/{_LEVELS}", fixable=True)  # fmt: skip


def fix(index: Index) -> int:
    """Give each such Q and its DQs a range of 1. Returns how many Qs."""
    count = 0
    for q, _ in list(_sites(index)):
        readers = [node for node in index.readers.get(q.output[0], ()) if node.op_type == DEQUANTIZE]
        for node in (q, *readers):
            index.set_scale(node, np.asarray(1 / _LEVELS))
        count += 1
    return count


def _sites(index: Index) -> Iterator[tuple[NodeProto, float]]:
    view = without_qdq(index.view)
    for q in index.nodes(QUANTIZE):
        scale = index.scale(q)
        source = maker(view, q.input[0])
        if scale is None or scale.size != 1 or source is None or source.op != "Softmax":
            continue
        if float(scale.max()) * _LEVELS > _SLACK:
            yield q, float(scale.max())
