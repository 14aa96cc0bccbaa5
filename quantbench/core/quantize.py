"""The quantization stage: Plan and Ranges to the Q/DQ model, its biases corrected, and its onnxruntime twin."""

from collections.abc import Callable, Iterable
from pathlib import Path

import onnx

from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.ranges import Ranges
from quantbench.errors import QuantbenchError
from quantbench.graph.half import detach
from quantbench.graph.save import save_model
from quantbench.graph.surgery import check
from quantbench.progress import Progress
from quantbench.qdq.correct_bias import SWEEPS, correct_bias
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.integer_activation import activations_on_integers
from quantbench.qdq.plan import Plan
from quantbench.qdq.reencode import to_u8_activations

QDQ_MODEL = "model.qdq.onnx"
ORT_MODEL = "model.ort.onnx"
_DYNAMIC = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
# Mean errors settle after few images; more only cost time (measured on EfficientNet-Lite0: 32 and 256 agree to 0.1 dB).
BIAS_IMAGES = 64


def refuse_quantized(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError where `model` is quantized already: by Q/DQ, by operators on integers, or at run time."""
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
    count = sum(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
    if count:
        raise QuantbenchError(
            f"{name} already holds {count} Q/DQ nodes; give the float model, or look at this one with "
            f"'quantbench inspect {name}'"
        )


def carry_out(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Ranges,
    progress: Progress,
    *,
    feeds: Callable[[], Iterable[Feed]] | None,
    images: int,
    threads: int = 0,
) -> onnx.ModelProto:
    """The Q/DQ model of `plan` with `ranges`. `feeds` (None: no bias correction) are calibration images.

    Raises QuantbenchError where nothing can be quantized.
    """
    if not plan.weights:
        raise QuantbenchError("no layer can be quantized: every Conv, ConvTranspose, Gemm and MatMul is kept float")
    quantized = insert_qdq(model, plan, ranges)
    if feeds is not None:
        with progress.task("Bias correction", SWEEPS * images) as advance:
            quantized = correct_bias(quantized, feeds, threads=threads, on_batch=advance)
    check(quantized, full=True)
    return quantized


def quantize(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Ranges,
    folder: Path,
    progress: Progress,
    *,
    feeds: Callable[[], Iterable[Feed]] | None,
    images: int,
    threads: int = 0,
) -> None:
    """Write model.qdq.onnx and model.ort.onnx into `folder`: `carry_out`, saved. Raises as that."""
    quantized = carry_out(model, plan, ranges, progress, feeds=feeds, images=images, threads=threads)
    save_model(quantized, folder / QDQ_MODEL)
    save_model(for_onnxruntime(quantized), folder / ORT_MODEL)


def for_onnxruntime(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers in the form that onnxruntime's CPU kernels are fast on; its float parts are FP32."""
    result = activations_on_integers(to_u8_activations(model))
    detach(result)
    return result
