"""`quantbench.qat` for a module of one's own: put quantizers in, find their ranges, train as before, export."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from quantbench.calibration.ranges import Ranges
from quantbench.errors import QuantbenchError
from quantbench.graph.save import save_model
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import calibrate as find_and_set
from quantbench.qat.quantizer import Mode, set_mode
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import Trace, trace
from quantbench.qdq.options import PlacementOptions

_TRACE, _EXAMPLE = "_quantbench_trace", "_quantbench_example"


def prepare(
    model: nn.Module,
    example: Tensor,
    *,
    placement: PlacementOptions | None = None,
    keep_float: Iterable[str] = (),
    learned_scales: bool = False,
) -> nn.Module:
    """Put quantizers into `model`, in place, where the placement rules want them; returns it. They are off until
    `calibrate`. `example`: a batch [n, ...] float32 that the model takes. `keep_float`: modules that stay float.

    Raises QuantbenchError where nothing can be quantized, or the model is prepared already.
    """
    if hasattr(model, _TRACE):
        raise QuantbenchError("model is prepared already; prepare it once")
    names = {name for name, _ in model.named_modules()}
    unknown = [name for name in keep_float if name not in names]
    if unknown:
        raise QuantbenchError(f"keep_float: the model has no module {unknown[0]!r}")
    traced = trace(model, example)
    plan = plan_for(traced, placement or PlacementOptions(), tuple(keep_float))
    if not plan.weights:
        raise QuantbenchError("no layer can be quantized: every Conv, ConvTranspose and Linear is kept float")
    insert(model, traced, plan, learned=learned_scales)
    set_mode(model, Mode.OFF)
    object.__setattr__(model, _TRACE, traced)
    object.__setattr__(model, _EXAMPLE, example)
    return model


def calibrate(model: nn.Module, data: Iterable[Any], *, method: str = "entropy") -> Ranges:
    """Find the range of every quantizer by one threshold `method` over `data`, and switch the quantizers on.

    `data`: a DataLoader or another iterable of batches: tensors, or tuples and lists of which the first is one.
    Raises QuantbenchError for a model that is not prepared, and where there are no batches.
    """
    _trace_of(model)
    return find_and_set(model, lambda: map(_tensor, data), method)


def export(
    model: nn.Module, path: str | Path | None = None, *, exporter: str = "dynamo", opset: int | None = None,
    dynamic_batch: bool = False, int8_weights: bool = False,
) -> onnx.ModelProto:  # fmt: skip
    """The Q/DQ model of a calibrated `model`, with clean names and batch norms folded; with `path` it is written too.

    Raises QuantbenchError for a model that is not prepared, and where torch's exporter refuses it.
    """
    traced = _trace_of(model)
    example: Tensor = getattr(model, _EXAMPLE)
    options = ExportOptions(exporter, opset, dynamic_batch, int8_weights)
    exported = export_onnx(model, example, traced.folds, options)
    if path is not None:
        save_model(exported, Path(path))
    return exported


def _trace_of(model: nn.Module) -> Trace:
    found = getattr(model, _TRACE, None)
    if not isinstance(found, Trace):
        raise QuantbenchError("model has no quantizers; call quantbench.qat.prepare(model, example) first")
    return found


def _tensor(batch: Any) -> Tensor:
    if isinstance(batch, (list, tuple)) and batch:
        batch = batch[0]
    if not isinstance(batch, Tensor):
        raise QuantbenchError(f"data: {type(batch).__name__} is no tensor, nor a tuple that begins with one")
    return batch.to(torch.float32)
