"""What TensorRT refuses outright: asked of every model that is predicted, so that no other rule need be loaded."""

import onnx

from quantbench.graph.view import GraphView
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.lint.rules import int32_bias, list_inputs, zero_point


def refused(model: onnx.ModelProto, view: GraphView) -> tuple[Finding, ...]:
    """Findings of what TensorRT does not take at all, or what no prediction speaks of; `view` is that of `model`."""
    index = Index(model, view=view)
    return tuple(f for rule in (zero_point, int32_bias, list_inputs) for f in rule.find(index))
