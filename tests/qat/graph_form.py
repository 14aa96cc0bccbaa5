"""A Q/DQ graph without names: what each node computes from what, so that two exports can be compared."""

import hashlib
from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper


def forms(model: onnx.ModelProto) -> Counter[str]:
    """Multiset of node forms: a node's operator, float scales and everything above it, hashed; names play no part.

    Weights count by shape and, to four digits, by magnitude; scales to four digits.
    """
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    known: dict[str, str] = {i.name: "input" for i in model.graph.input if i.name not in constants}
    found: list[str] = []
    for node in model.graph.node:
        parts = [node.op_type]
        for name in node.input:
            parts.append(_constant(constants[name]) if name in constants else known.get(name, "none"))
        text = hashlib.sha256("|".join(parts).encode()).hexdigest()
        for index, out in enumerate(node.output):
            known[out] = f"{text}:{index}"
        found.append(f"{node.op_type} {text}")
    return Counter(found)


def _constant(value: np.ndarray) -> str:
    if value.dtype.kind != "f":
        return f"{value.dtype}{value.shape}"
    total = float(np.abs(value.astype(np.float64)).sum())
    return f"{value.shape}{total:.4g}"
