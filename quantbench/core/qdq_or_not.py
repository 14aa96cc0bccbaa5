"""Whether a model holds Q/DQ, and the refusal where it should or should not.

Apart from the work itself, so that commands that only look at a model need not load what quantizes one.
"""

import shlex

import onnx

from quantbench.errors import QuantbenchError
from quantbench.predict.captures import inner_qdq

_DYNAMIC = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")


def refuse_quantized(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError where `model` is quantized already: by Q/DQ, by operators on integers, or at run time."""
    refuse_integers(model, name)
    count = sum(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
    if count:
        raise QuantbenchError(
            f"{name} already holds {count} Q/DQ nodes; give the float model, or look at this one with "
            f"'quantbench inspect {shlex.quote(name)}'"
        )


def refuse_integers(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError where `model` computes on integers, so that neither calibration nor advice on Q/DQ fits."""
    dynamic = [node.op_type for node in model.graph.node if node.op_type in _DYNAMIC]
    if dynamic:
        raise QuantbenchError(
            f"{name} is dynamically quantized ({', '.join(sorted(set(dynamic)))}): its weights are integers already, "
            f"and no calibration applies; give the float model that it was made from"
        )
    integer = [node.op_type for node in model.graph.node if node.op_type.startswith(("QLinear", "QGemm"))]
    if integer:
        raise QuantbenchError(
            f"{name} is quantized in onnxruntime's QOperator form ({integer[0]} and {len(integer) - 1} more); give the "
            f"float model that it was made from"
        )


def require_qdq(model: onnx.ModelProto, name: str, purpose: str, make: str) -> None:
    """Raise QuantbenchError where `model` holds no Q/DQ, or computes on integers; `purpose` is what they are wanted for
    ("to predict"), `make` how a Q/DQ model comes about."""
    refuse_integers(model, name)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        return
    where = " outside of bodies of If, Loop and Scan" if inner_qdq(model) else ""
    raise QuantbenchError(f"{name} holds no Q/DQ{where} {purpose}; make a Q/DQ model with {make}")
