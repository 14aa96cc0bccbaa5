"""Predictions for rebuilt networks against the engines that an A100 built from them (TREx artefacts)."""

import json
from pathlib import Path

import pytest
from qdq_networks import mobilenet_v2, resnet18

from quantbench.inspection.layer_json import read_layer_info
from quantbench.predict.score import compare, score_layers
from quantbench.predict.simulate import predict

ENGINES = {
    "trex_pt_qat_resnet-qat.onnx.engine.graph.json": lambda: resnet18(residual=False),
    "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json": lambda: resnet18(residual=True),
    "trex_mobilenet.qat.onnx.engine.graph.json": mobilenet_v2,
}


@pytest.mark.parametrize("name", list(ENGINES))
def test_layers_dtypes_and_reformats_agree_with_the_engine(name: str, artefacts: Path) -> None:
    view, scales = ENGINES[name]()
    layers = read_layer_info(json.loads((artefacts / "json" / name).read_text())).layers
    prediction = predict(view, version="8.4", scales=scales)
    known = frozenset(node.name for node in view.nodes)
    plain, precise = score_layers(prediction, layers, known)
    left_over = compare(
        "reformats of Q/DQ",
        (layer.name for layer in prediction.layers if layer.origin == "QDQ"),
        (layer.name for layer in layers if layer.origin == "QDQ"),
    )
    for score in (plain, precise, left_over):
        print(f"{name[:40]:40} {score.kind:45} {score.hits:3} {score.precision:.3f} {score.recall:.3f}")
        assert score.precision >= 0.95, score.wrong
        assert score.recall >= 0.95, score.missed
    assert plain.hits > 20
