"""One rule set, two front ends: Q/DQ inserted into the torch model and into its float ONNX give the same graph."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext

import onnx
import pytest
import torch
from torch import nn

from quantbench.calibration.collect import collect as collect_onnx
from quantbench.calibration.collect import maxima_of
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.graph.onnx_view import view_of
from quantbench.predict.best import best_placement
from quantbench.predict.versions import PredictedFor
from quantbench.qat import yolo
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import apply_ranges, collect
from quantbench.qat.quantizer import Mode, set_mode
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from tests.qat import networks
from tests.qat.graph_form import forms

_LEGACY: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "residual": (networks.residual, 32),
    "resnet18": (networks.resnet18, 64),
    "mobilenet_v2": (networks.mobilenet_v2, 64),
    "efficientnet_lite0": (networks.efficientnet_lite0, 64),
    "yolov8n": (networks.yolov8n, 64),
}
# dynamo takes ten times as long, by the number of layers: one of each kind.
_DYNAMO: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "residual": (networks.residual, 32),
    "resnet": (networks.short_resnet, 64),
    "mobilenet_v2": (networks.short_mobilenet_v2, 64),
    "efficientnet_lite0": (networks.short_efficientnet_lite0, 64),
    "yolo": (networks.small_yolo, 64),
}


def _snapped(maxima: Mapping[str, float]) -> Ranges:
    """Ranges rounded to eighths of an octave: the two sides sum in another order and differ in the last bits."""
    return Ranges({n: TensorRange(2.0 ** (round(8 * math.log2(max(a, 1e-30))) / 8)) for n, a in maxima.items()})


@pytest.mark.parametrize(
    ("exporter", "name"), [*(("legacy", name) for name in _LEGACY), *(("dynamo", name) for name in _DYNAMO)]
)
def test_same_qdq_graph(exporter: str, name: str) -> None:
    make, size = (_LEGACY if exporter == "legacy" else _DYNAMO)[name]
    model = make()
    example = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    is_yolo = name.startswith("yolo")
    options = ExportOptions(exporter=exporter, output_names=("output0",) if is_yolo else ())
    with yolo.exporting(model) if is_yolo else nullcontext():
        traced = trace(model, example)
        float_onnx = export_onnx(model, example, traced.folds, options)
        torch_plan = plan_for(traced, PlacementOptions(), yolo.float_modules(model) if is_yolo else ())
        insert(model, traced, torch_plan)
        apply_ranges(model, _snapped({name: h.amax for name, h in collect(model, lambda: [example]).items()}))
        set_mode(model, Mode.QUANTIZE)
        from_torch = export_onnx(model, example, traced.folds, options)
    kept = (f"*model.{len(model.model) - 1}*",) if is_yolo else ()  # the head
    onnx_plan = place(view_of(float_onnx), PlacementOptions(keep_float=kept, head_float=not is_yolo))
    maxima = maxima_of(collect_onnx(float_onnx, [{"input": example.numpy()}], onnx_plan.tensors))
    from_onnx = insert_qdq(float_onnx, onnx_plan, _snapped(maxima))
    assert len(torch_plan.weights) == len(onnx_plan.weights) > 0
    assert _pairs(from_torch) == _pairs(from_onnx)
    assert forms(from_torch) == forms(from_onnx)


def _pairs(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_histograms_of_both_sides_agree() -> None:
    """torch's observers and the ONNX collector see the same tensors (sums differ in the last bits)."""
    model = networks.residual()
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    traced = trace(model, x[:1])
    exported = export_onnx(model, x[:1], traced.folds, ExportOptions(dynamic_batch=True))
    onnx_plan = place(view_of(exported))
    theirs = collect_onnx(exported, [{"input": x.numpy()}], onnx_plan.tensors)
    plan = plan_for(traced, PlacementOptions())
    insert(model, traced, plan)
    ours = collect(model, lambda: [x])
    assert len(ours) == len(theirs) > 5
    for mine, other in zip(_sorted(ours), _sorted(theirs), strict=True):
        assert mine.total == other.total
        assert mine.amax == pytest.approx(other.amax, rel=1e-5)
        assert abs(mine.counts - other.counts).sum() <= 0.01 * mine.total


def _sorted(histograms: Mapping[str, Histogram]) -> list[Histogram]:
    return sorted(histograms.values(), key=lambda h: (h.total, round(h.amax, 3)))


def test_the_best_placement_is_searched_for_torch_too() -> None:
    """`placement: {method: best}` is no rule of the ONNX side alone."""
    traced = trace(networks.residual(), torch.zeros(1, 3, 32, 32))
    options = PlacementOptions()
    assert plan_for(traced, options, best=PredictedFor()) == best_placement(traced.view, options).plan
    assert plan_for(traced, options) == place(traced.view, options)
