"""The price of a kernel in bytes, fitted again from A100 profiles; what counts as cost."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantbench.demo.resnet18 import build
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of
from quantbench.inspection.layer_json import read_layer_info
from quantbench.predict.cost import LAUNCH_BYTES, cost_of, moved_bytes
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict
from quantbench.predict.with_qdq import with_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place

ENGINES = ("trex_pt_qat_resnet-qat.onnx", "trex_pt_qat-residual_resnet-qat-residual.onnx", "trex_mobilenet.qat.onnx")


def test_a_launch_is_worth_what_reformats_take_on_an_a100(artefacts: Path) -> None:
    points = []
    for name in ENGINES:
        layers = read_layer_info(json.loads((artefacts / f"json/{name}.engine.graph.json").read_text())).layers
        profile = json.loads((artefacts / f"json/{name}.engine.profile.json").read_text())
        times = [entry["averageMs"] for entry in profile if "averageMs" in entry]
        for layer, milliseconds in zip(layers, times, strict=True):
            if layer.type == "Reformat":
                points.append((sum(t.nbytes or 0 for t in (*layer.inputs, *layer.outputs)), milliseconds))
    assert len(points) == 33
    a_byte, a_launch = np.polyfit(*np.array(points).T, 1)
    assert a_launch / a_byte == pytest.approx(LAUNCH_BYTES, rel=0.02)
    assert a_launch == pytest.approx(5.5e-3, rel=0.01)
    assert a_byte * 1e6 == pytest.approx(1.6e-3, rel=0.01)


def prediction(options: PlacementOptions) -> Prediction:
    view = view_of(normalise(build(batch=1, size=64, width=16, classes=10)))
    quantized, scales = with_qdq(view, place(view, options))
    return predict(quantized, scales=scales)


def test_float_weights_and_kernels_cost() -> None:
    classifier, kept = prediction(PlacementOptions()), prediction(PlacementOptions(keep_float=("/fc/Gemm",)))
    gemm = 10 * 128 * 4
    assert moved_bytes(kept) > moved_bytes(classifier) + gemm
    fewer = replace(kept, layers=kept.layers[:-1])
    assert cost_of(kept) - cost_of(fewer) == LAUNCH_BYTES + moved_bytes(kept) - moved_bytes(fewer)
