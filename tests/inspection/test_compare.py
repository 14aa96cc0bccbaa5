"""Two engines side by side; the A100 pair must show why the second is faster."""

import json
from pathlib import Path

import pytest

from quantbench.inspection.compare import COPIES, Comparison, compare
from quantbench.inspection.gather import gather
from quantbench.inspection.page.render import comparison_page
from quantbench.inspection.pairing import pair, sections

JSON = Path(__file__).parents[1] / "data" / "artefacts" / "json"
LOGS = JSON.with_name("logs")
QAT = JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json"
RESIDUAL = JSON / "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json"
FP16 = JSON / "trex_pt_fp16_resnet.onnx.engine.graph.json"


@pytest.fixture(scope="module")
def a100() -> Comparison:
    first, second = gather([QAT, RESIDUAL])
    return compare(first, second)


def test_the_pair_is_matched_by_weights_since_the_numbering_shifts(a100: Comparison) -> None:
    assert a100.paired_by == "weights"
    anchors = [(r.first.anchor, r.second.anchor) for r in a100.rows if r.first and r.second]
    for first, second in anchors:
        if first is not None and second is not None:
            assert first.name.split(" + ")[0] == second.name.split(" + ")[0]
    assert sum(1 for a, b in anchors if a and b) == 21


def test_why_the_second_is_faster(a100: Comparison) -> None:
    text = "\n".join(a100.reasons)
    assert "33 % faster" in a100.reasons[0]
    assert f"{COPIES}: 10 → 3 (-0.1167 ms)" in text
    assert "11 weighted layers give INT8 instead of float" in text
    assert "read their residual as INT8 instead of float" in text
    assert "13 of 21 → 2 of 21" in text


def test_what_goes_against_the_whole_is_told_last(a100: Comparison) -> None:
    """The last residual Add has no Q/DQ in the second network: its conv reads and writes FP32."""
    last = a100.reasons[-1]
    assert last.startswith("but Conv_242 + Add_244 + Relu_245 / Conv_284 + Add_292 + Relu_293 is slower (+0.0389 ms)")
    assert "residual FP16 → FP32" in last


def test_figures_against_few_lines_over_the_json(a100: Comparison) -> None:
    """Origin QDQ counts and times straight from the files."""
    for path, number, time in ((QAT, "first_count", "first_ms"), (RESIDUAL, "second_count", "second_ms")):
        layers = json.loads(path.read_text())["Layers"]
        rows = json.loads(Path(str(path).replace("graph", "profile")).read_text())[1:]
        chosen = [row["averageMs"] for layer, row in zip(layers, rows, strict=True) if layer.get("Origin") == "QDQ"]
        share = next(s for s in a100.shares if s.name == COPIES)
        assert getattr(share, number) == len(chosen)
        assert getattr(share, time) == pytest.approx(sum(chosen))


def test_shares_and_rows_add_up_to_the_whole_difference(a100: Comparison) -> None:
    whole = (a100.second.total_ms or 0) - (a100.first.total_ms or 0)
    assert sum(s.delta_ms or 0 for s in a100.shares) == pytest.approx(whole)
    assert sum(r.delta_ms or 0 for r in a100.rows) == pytest.approx(whole)


def test_each_residual_conv_tells_its_change(a100: Comparison) -> None:
    row = next(r for r in a100.rows if r.label.startswith("Conv_34 "))
    assert "output FP16 → INT8" in row.changes
    assert "residual FP16 → INT8" in row.changes
    follower = next(r for r in a100.rows if r.label.startswith("Conv_47 "))
    assert any("QuantizeLinear_40" in change for change in follower.changes)


def test_sections_hold_each_layer_once() -> None:
    inspection = gather([QAT])[0]
    assert [x for s in sections(inspection) for x in s.layers] == list(inspection.layers)


@pytest.mark.parametrize(("a", "b"), [(FP16, RESIDUAL), (FP16, QAT), (QAT, FP16), (QAT, QAT)])
def test_any_pair_holds_each_section_once(a: Path, b: Path) -> None:
    first = gather([a])[0]
    second = gather([b])[0]
    pairs, _ = pair(first, second)
    left = [x.name for s, _ in pairs if s is not None for x in s.layers]
    right = [x.name for _, s in pairs if s is not None for x in s.layers]
    assert sorted(left) == sorted(x.name for x in first.layers)
    assert sorted(right) == sorted(x.name for x in second.layers)


def test_the_same_engine_differs_in_nothing() -> None:
    inspection = gather([QAT])[0]
    comparison = compare(inspection, inspection)
    assert all(not row.changes and row.delta_ms == 0 for row in comparison.rows)
    assert comparison.reasons[0].startswith("both take")


def test_float_against_int8_is_paired_by_shape() -> None:
    first, second = gather([FP16, RESIDUAL])
    comparison = compare(first, second)
    assert comparison.paired_by == "order"
    labels = {r.label.split(" / ")[0]: r.label for r in comparison.rows if r.first and r.second}
    assert len(labels) == 22
    # The builder ran a downsampling conv before its block's second conv in one engine and behind it in the other.
    assert labels["Conv_16 + Add_17 + Relu_18"].endswith("/ Conv_107")
    assert labels["Conv_15"].endswith("/ Conv_96 + Add_115 + Relu_116")
    assert any("compute in INT8 instead of float" in reason for reason in comparison.reasons)


def test_two_logs_pair_by_the_weights_that_the_parser_logged(artefacts: Path) -> None:
    """The RTX log holds the float build and the Q/DQ build of one network, whose weights keep their names."""
    log = artefacts / "logs" / "trtrtx17_resnet18_fp32_then_qdq.log"
    first = gather([log], build=1)[0]
    second = gather([log], build=2)[0]
    comparison = compare(first, second)
    assert comparison.paired_by == "weights"
    both = [r for r in comparison.rows if r.first and r.second and r.first.anchor and r.second.anchor]
    assert len(both) == 21
    assert sum("input FP32 → INT8" in r.changes for r in both) == 20


def test_page_and_json(a100: Comparison) -> None:
    data = json.loads(json.dumps(a100.to_json(), allow_nan=False))
    assert data["first_ms"] == pytest.approx(1.09568)
    html = comparison_page(a100)
    assert "33 % faster" in html
    assert "http" not in html


def test_two_networks_are_not_taken_for_one() -> None:
    first, second = gather([QAT, QAT.with_name("fuzzy_torchtrt_resnet18.engine_info.json")])
    assert "are these one network?" not in "\n".join(compare(first, second).reasons)
    (log,) = gather([LOGS / "trt852_qdq_yolo_verbose.log"])
    reasons = compare(log, second).reasons
    assert reasons[0].endswith("weighted layers have a partner: are these one network?")
    assert not any(reason.startswith("but ") for reason in reasons)  # the second has no times


def test_two_convs_of_one_shape_are_paired_by_names_that_tell(tmp_path: Path) -> None:
    """ResNet of Keras: the last conv of a block and its shortcut, in the other order where that took the Add in."""

    def engine(name: str, *convs: str) -> Path:
        tensor = {"Name": "x", "Dimensions": [1, 64, 56, 56], "Format/Datatype": "Half"}
        layers = [
            {"Name": conv, "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor], "Kernel": [1, 1]}
            for conv in convs
        ]
        path = tmp_path / f"{name}.graph.json"
        path.write_text(json.dumps({"Layers": layers}))
        return path

    first = gather([engine("a", "resnet50/conv2_block1_3_conv/Conv2D", "resnet50/conv2_block1_0_conv/Conv2D")])[0]
    other = engine("b", "resnet50/quant_conv2_block1_0_conv/Conv2D", "resnet50/quant_conv2_block1_3_conv/Conv2D")
    pairs = pair(first, gather([other])[0])[0]
    names = [(a.anchor.name[-14:], b.anchor.name[-14:]) for a, b in pairs if a and b and a.anchor and b.anchor]
    assert names == [("1_3_conv/Conv2D"[-14:],) * 2, ("1_0_conv/Conv2D"[-14:],) * 2]
    numbered = [gather([engine("c", "Conv_1", "Conv_5")])[0], gather([engine("d", "Conv_6", "Conv_2")])[0]]
    by_order = [(a.anchor.name, b.anchor.name) for a, b in pair(*numbered)[0] if a and b and a.anchor and b.anchor]
    assert by_order == [("Conv_1", "Conv_6"), ("Conv_5", "Conv_2")]
