"""What of a model onnxruntime can run: all of it, or what comes before a plugin that it lacks."""

import functools
from dataclasses import replace

import onnx

from quantbench.graph.onnx_view import view_of
from quantbench.graph.plugins import behind, cut_before, plugins
from quantbench.graph.standard import DOMAINS, known, shown_op
from quantbench.graph.subgraphs import bodies
from quantbench.graph.suppression import Suppression, suppression
from quantbench.graph.view import GraphView


def lacking(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """The plugins in the main graph of `model` that onnxruntime has no kernel for on the CPU. Its own operators
    (com.microsoft) it has."""
    return tuple(node for node in plugins(model) if not _runs(node))


def runnable_part(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself where onnxruntime can run it; else a copy that ends before the plugins it lacks, and returns what
    they read (`cut_before`)."""
    names = {node.name for node in lacking(model)}
    return cut_before(model, names) if names else model


def view_to_quantize(model: onnx.ModelProto) -> GraphView:
    """View of `model` that says which nodes cannot be run here."""
    return replace(view_of(model), opaque=frozenset(node.name for node in lacking(model)))


def suppression_behind(model: onnx.ModelProto) -> Suppression | None:
    """The plugin that suppresses the boxes that the runnable part of `model` ends in; None where there is none."""
    found = lacking(model)
    ends = {value.name for value in runnable_part(model).graph.output} if found else set()
    known = (suppression(model, node) for node in found)
    return next((how for how in known if how is not None and {how.boxes, how.scores} <= ends), None)


def told(model: onnx.ModelProto) -> str:
    """One line on what cannot be run and what follows from it; "" where all can."""
    found = lacking(model)
    if not found:
        return ""
    first = found[0]
    count = f", and {len(found) - 1} more" if len(found) > 1 else ""
    ends = cut_before(model, {node.name for node in found}).graph.output
    own = {value.name for value in model.graph.output}
    kept = [value.name for value in ends if value.name in own]
    read = [value.name for value in ends if value.name not in own]
    reach = len(behind(model, {node.name for node in found})) - len(found)
    tail = f"; nothing of the {reach} nodes behind it is calibrated" if reach else ""
    tail += "; boxes are suppressed here as it does it" if suppression_behind(model) is not None else ""
    return (
        f"onnxruntime cannot run plugin {first.name} ({shown_op(first)}){count}: calibration and evaluation end before "
        f"it, at {', '.join([*read, *kept][:6])}{tail}"
    )


def _runs(node: onnx.NodeProto) -> bool:
    standard = node.domain in DOMAINS
    if not (standard and known(node.op_type)) and ("" if standard else node.domain, node.op_type) not in _kernels():
        return False
    return all(_runs(inner) for body in bodies(node) for inner in body.node)


@functools.cache
def _kernels() -> frozenset[tuple[str, str]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return frozenset(
        (kernel.domain, kernel.op_name)
        for kernel in state.get_all_opkernel_def()
        if kernel.provider == "CPUExecutionProvider"
    )
