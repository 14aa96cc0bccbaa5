"""Predictions for rebuilt networks against the engines that an A100 built from them (TREx artefacts)."""

import json
from pathlib import Path

import pytest

from quantbench.inspection.compare import compare as compare_inspections
from quantbench.inspection.gather import gather
from quantbench.inspection.layer_json import read_layer_info
from quantbench.predict.evidence import ELSEWHERE, GUESS, SEEN
from quantbench.predict.score import compare, score_layers
from quantbench.predict.simulate import predict
from tests.predict.qdq_networks import mobilenet_v2, resnet18

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
    plain, precise, counted = score_layers(prediction, layers, known)
    left_over = compare(
        "reformats of Q/DQ",
        (layer.name for layer in prediction.layers if layer.origin == "QDQ"),
        (layer.name for layer in layers if layer.origin == "QDQ"),
    )
    for score in (plain, precise, counted, left_over):
        print(f"{name[:40]:40} {score.kind:45} {score.hits:3} {score.precision:.3f} {score.recall:.3f}")
        assert score.precision >= 0.95, score.wrong
        assert score.recall >= 0.95, score.missed
    assert plain.hits > 20
    assert counted.hits == sum(1 for x in layers if x.type != "NoOp")


def test_builds_without_fp16_keep_float_linear_and_need_no_reformat() -> None:
    view, scales = mobilenet_v2()
    with_fp16, without = (predict(view, version="8.4", scales=scales, fp16=fp16) for fp16 in (True, False))
    added = [layer for layer in with_fp16.layers if layer.origin == "REFORMAT"]
    assert [layer.name for layer in added] == ["Reformatting CopyNode for Input Tensor 0 to GlobalAveragePool_843"]
    assert len(without.layers) == len(with_fp16.layers) - 1
    assert with_fp16.float_bytes == without.float_bytes
    assert not any(layer.origin == "REFORMAT" for layer in without.layers)


def test_reformats_carry_the_confidence_that_engines_of_their_version_give() -> None:
    view, scales = resnet18(residual=False)
    pool, gap = (f"Reformatting CopyNode for {x}" for x in ("Output Tensor 0 to MaxPool_12",
                                                            "Input Tensor 0 to GlobalAveragePool_246"))  # fmt: skip
    for version, expected in (("8.4", (GUESS, SEEN)), ("10", (GUESS, ELSEWHERE))):
        layers = {layer.name: layer for layer in predict(view, version=version, scales=scales).layers}
        assert tuple(layers[name].attributes["confidence"] for name in (pool, gap)) == expected


def test_a_prediction_beside_its_engine_shows_only_what_differs(artefacts: Path, tmp_path: Path) -> None:
    """inspect A B: what the engine folds away without a name (BatchNormalization) is no difference."""
    view, scales = resnet18(residual=True)
    predicted = tmp_path / "predicted.json"
    predicted.write_text(json.dumps(predict(view, version="8.4", scales=scales).to_json()))
    engine = artefacts / "json" / "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json"
    comparison = compare_inspections(*gather([predicted, engine], siblings=False))
    assert len(comparison.rows) > 20
    changes = [change for row in comparison.rows for change in row.changes]
    # The reformat of DequantizeLinear_291 runs a layer earlier, and the engine ends in a NoOp.
    assert [change.split(":")[0] for change in changes] == ["new", "gone", "only in the second"]
