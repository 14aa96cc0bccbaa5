"""What is checked of an exported Q/DQ model: it runs, it agrees with torch, its concats have one scale each."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from quantbench.evaluate.boxes import detections
from quantbench.evaluate.mean_ap import iou
from quantbench.evaluate.statistics import share, sqnr_db
from quantbench.evaluate.task import Task
from quantbench.graph.ops import WEIGHTED
from quantbench.ort import create_session
from quantbench.ort import run as ort_run
from quantbench.qat.trace import output_tensors
from quantbench.records.qat import Agreement, BoxesAlike, Exported, TensorSignature

_CONFIDENT = 0.25
_SAME_BOX = 0.9


def run_torch(module: nn.Module, images: Tensor) -> list[NDArray[np.float32]]:
    """Outputs of `module` in evaluation mode, one array an output."""
    module.eval()
    with torch.no_grad():
        return [t.float().cpu().numpy() for t in output_tensors(module(images))]


def run_onnx(model: onnx.ModelProto, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Outputs of `model` in onnxruntime on the CPU, image by image where its batch is fixed at 1."""
    session = create_session(model)
    entry = session.get_inputs()[0]
    step = entry.shape[0] if isinstance(entry.shape[0], int) else len(images)
    parts = [ort_run(session, None, {entry.name: images[i : i + step]}) for i in range(0, len(images), step)]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def compare(
    reference: list[NDArray[np.float32]], exported: list[NDArray[np.float32]], boxes: Task | None = None
) -> Agreement:
    """Largest difference, SQNR, and argmax agreement, or agreement of the `boxes` of a detector."""
    a, b = reference[0], exported[0]
    flat_a, flat_b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    agreement, alike = None, None
    if boxes is not None:
        found, total = _boxes_found(a, b, boxes)
        alike = BoxesAlike(reference=total, found=found)
        agreement = share(found, total, "boxes") if total else None
    elif a.ndim == 2:
        agreement = share(int((a.argmax(1) == b.argmax(1)).sum()), len(a))
    return Agreement(
        images=len(a),
        max_difference=float(max(np.abs(x - y).max() for x, y in zip(reference, exported, strict=True))),
        largest_output=float(np.abs(a).max()),
        sqnr_db=sqnr_db((flat_a**2).sum(1), ((flat_a - flat_b) ** 2).sum(1)),
        agreement=agreement,
        boxes=alike,
    )


def _boxes_found(a: NDArray[np.float32], b: NDArray[np.float32], task: Task) -> tuple[int, int]:
    """How many confident boxes of `a` have one of the same class and IoU of at least 0.9 in `b`, and their number."""
    found = total = 0
    wanted, given = (detections([x], task, (1, 1), least) for x, least in ((a, _CONFIDENT), (b, _CONFIDENT / 2)))
    for mine, theirs in zip(wanted, given, strict=True):
        total += len(mine)
        for box in mine:
            same = theirs[theirs[:, 5] == box[5]]
            found += bool(len(same) and iou(box[None, :4], same[:, :4]).max() >= _SAME_BOX)
    return found, total


def concat_scales(model: onnx.ModelProto) -> dict[str, tuple[float, ...]]:
    """For each Concat whose result is quantized: the scales on its result and on whatever of its inputs is quantized
    for other readers. One scale each is what lets TensorRT drop the Concat."""
    constants = {t.name: t for t in model.graph.initializer}
    scales: dict[str, set[float]] = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in constants and node.input[0] not in constants:
            value = numpy_helper.to_array(constants[node.input[1]])
            scales.setdefault(node.input[0], set()).add(float(value.reshape(-1)[0]))
    return {
        node.name: tuple(sorted(scales[node.output[0]].union(*(scales.get(i, set()) for i in node.input))))
        for node in model.graph.node
        if node.op_type == "Concat" and node.output[0] in scales
    }


def quantized_nodes(model: onnx.ModelProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names of weighted nodes with Q/DQ on input and weight, names of all weighted nodes)."""
    dequantized = {o for node in model.graph.node if node.op_type == "DequantizeLinear" for o in node.output}
    weighted = [n for n in model.graph.node if n.op_type in WEIGHTED]
    both = tuple(n.name for n in weighted if n.input[0] in dequantized and n.input[1] in dequantized)
    return both, tuple(n.name for n in weighted)


def exported_facts(model: onnx.ModelProto, path: Path) -> Exported:
    """What the graph of `model`, written to `path`, holds."""
    quantized, weighted = quantized_nodes(model)
    return Exported(
        file=path.name,
        bytes=path.stat().st_size,
        opset=max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        inputs=_signature(model.graph.input),
        outputs=_signature(model.graph.output),
        weighted=weighted,
        quantized=quantized,
        concats=concat_scales(model),
    )


def _signature(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSignature, ...]:
    found = []
    for value in values:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        found.append(TensorSignature(name=value.name, shape=shape, type=kind))
    return tuple(found)
