"""Layer-info JSON: precision counts against few lines over the JSON, time shares, joins, forms of all versions."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from quantbench.inspection.gather import gather
from quantbench.inspection.layer_json import read_layer_info, read_own_layers
from quantbench.inspection.profile import join, read_latency_lists, read_profile, shares
from quantbench.inspection.timing import read_timing

JSON = Path(__file__).parents[1] / "data" / "artefacts" / "json"
DETAILED = [
    "fuzzy_resnet18_fp16.graph.json", "fuzzy_torchtrt_resnet18.engine_info.json",
    "trex_mobilenet.qat.onnx.engine.graph.json", "trex_pt_fp16_resnet.onnx.engine.graph.json",
    "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json", "trex_pt_qat_resnet-qat.onnx.engine.graph.json",
]  # fmt: skip
WITH_PROFILE = {
    "fuzzy_resnet18_fp16.graph.json": "fuzzy_resnet18_fp16.profile.json",
    "fuzzy_torchtrt_resnet18.engine_info.json": "fuzzy_torchtrt_resnet18.layer_latency.json",
    "trex_mobilenet.qat.onnx.engine.graph.json": "trex_mobilenet.qat.onnx.engine.profile.json",
    "trex_pt_fp16_resnet.onnx.engine.graph.json": "trex_pt_fp16_resnet.onnx.engine.profile.json",
    "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json":
        "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.profile.json",
    "trex_pt_qat_resnet-qat.onnx.engine.graph.json": "trex_pt_qat_resnet-qat.onnx.engine.profile.json",
}  # fmt: skip


@pytest.mark.parametrize("name", DETAILED)
def test_precision_counts_equal_a_count_over_the_json(name: str) -> None:
    counts: Counter[str] = Counter()
    for layer in json.loads((JSON / name).read_text())["Layers"]:
        tensors = layer["Inputs"] or layer["Outputs"]
        text = tensors[0]["Format/Datatype"].lower() if tensors else ""
        counts["INT8" if "int8" in text else "FP16" if "fp16" in text or "half" in text
               else "FP32" if "fp32" in text or "float" in text else "other"] += 1  # fmt: skip
    found = gather([JSON / name], siblings=False)[0].precisions
    assert {k: found[k] for k in ("INT8", "FP16", "FP32")} == {k: counts[k] for k in ("INT8", "FP16", "FP32")}
    assert sum(found.values()) == sum(counts.values())


@pytest.mark.parametrize(("graph", "profile"), WITH_PROFILE.items())
def test_time_shares_add_up_to_100_percent(graph: str, profile: str) -> None:
    inspection = gather([JSON / graph, JSON / profile])[0]
    assert all(layer.time_ms is not None for layer in inspection.layers)
    assert inspection.unjoined == ()
    assert math.isclose(sum(s for s in shares(inspection.layers) if s is not None), 1.0, abs_tol=1e-12)


def test_a_count_of_infinity_is_none() -> None:
    profile = read_profile([{"count": float("inf")}, {"name": "conv", "timeMs": 2.0}])
    assert (profile.iterations, profile.total_ms) == (0, 2.0)


def test_sums_of_the_a100_profiles() -> None:
    """Sums of averageMs by an independent few lines; the same figures as TREx' users know."""
    for name, rounded in (("trex_pt_fp16_resnet", 1.02), ("trex_pt_qat_resnet-qat", 1.10),
                          ("trex_pt_qat-residual_resnet-qat-residual", 0.73)):  # fmt: skip
        rows = json.loads((JSON / f"{name}.onnx.engine.profile.json").read_text())[1:]
        inspection = gather([JSON / f"{name}.onnx.engine.graph.json"])[0]
        assert inspection.total_ms == pytest.approx(sum(row["averageMs"] for row in rows))
        assert round(inspection.total_ms or 0, 2) == rounded


def test_companions_are_found_and_told() -> None:
    path = JSON / "trex_mobilenet.qat.onnx.engine.graph.json"
    names = [s.path.name for s in gather([path])[0].sources]
    assert names[0] == path.name
    assert "trex_mobilenet.qat.onnx.engine.profile.json" in names
    assert [s.path for s in gather([path], siblings=False)[0].sources] == [path]


def test_names_only_json_takes_its_detail_from_the_log_of_the_build(artefacts: Path) -> None:
    names = JSON / "trex_poetry_notebooks_layer_info.json"
    alone = gather([names])[0]
    assert alone.names_only
    joined = gather([names, artefacts / "logs" / "trt852_qdq_yolo_verbose.log"])
    assert len(joined) == 1
    assert not joined[0].names_only
    assert joined[0].precisions["INT8"] > 0
    assert [layer.name for layer in joined[0].layers] == json.loads(names.read_text())["Layers"]


def test_two_engines_of_one_model_stay_apart_and_keep_their_own_profiles() -> None:
    names = ("qat_resnet-qat", "qat-residual_resnet-qat-residual")
    paths = [JSON / f"trex_pt_{name}.onnx.engine.{part}.json" for part in ("graph", "profile") for name in names]
    first, second = gather(paths)
    assert (round(first.total_ms or 0, 2), round(second.total_ms or 0, 2)) == (1.10, 0.73)


def test_the_form_of_tensorrt_11_and_rtx() -> None:
    """Datatype and Format apart, `I/O Tensors` for `Bindings`, separators in Metadata, -1 dims, Myelin types."""
    info = read_layer_info(
        {
            "Layers": [
                {
                    "Name": "conv [profile 1]", "LayerType": "correlation",
                    "Inputs": [{"Name": "x [profile 1]", "Dimensions": [-1, 4, 8, 8], "Datatype": "Int8",
                                "Format": "(NHWC) Channel major format"}],
                    "Constants": [{"Name": "w", "Dimensions": [16, 4, 3, 3], "Datatype": "Int8", "Format": ""}],
                    "Outputs": [{"Name": "y", "Dimensions": [-1, 16, 8, 8], "Datatype": "Half",
                                 "Format": "Thirty-two wide channel vectorized row major FP16 format."}],
                    "TacticName": "sm80_imma", "StreamId": 0,
                    "Metadata": "[ONNX Layer: /a/Conv]\u001f[ONNX Layer: /a, b -> [c]]",
                },
                {"Name": "signal", "LayerType": "signal", "Inputs": [], "Outputs": []},
                "only a name",
                17,
            ],
            "I/O Tensors": [{"Name": "x", "IOMode": "Input"}, {"Name": "y", "IOMode": "Output"}],
        }
    )  # fmt: skip
    conv = info.layers[0]
    assert conv.nodes == ("/a/Conv", "/a, b -> [c]")
    assert (conv.inputs[0].dtype, conv.inputs[0].format, conv.inputs[0].nbytes) == ("INT8", "NHWC", None)
    assert (conv.outputs[0].dtype, conv.outputs[0].format, conv.outputs[0].vector) == ("FP16", "CHW32", 32)
    assert conv.constants[0].nbytes == 16 * 4 * 9
    assert info.bindings == ("x", "y")
    assert [x.name for x in info.layers] == ["conv [profile 1]", "signal", "only a name", "17"]


def test_own_layers_round_trip(artefacts: Path) -> None:
    layers = gather([JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json"])[0].layers
    data = json.loads(json.dumps([layer.to_json() for layer in layers]))
    again = read_own_layers(data)
    assert [x.to_json() for x in again] == data
    assert [x.time_ms for x in again] == [x.time_ms for x in layers]


def test_latency_lists_are_means_over_the_runs() -> None:
    data = json.loads((JSON / "fuzzy_torchtrt_resnet18.layer_latency.json").read_text())
    profile = read_latency_lists(data)
    assert profile.iterations == 100
    assert [r.name for r in profile.rows] == list(data)
    assert profile.rows[0].mean_ms == pytest.approx(float(np.mean(data[profile.rows[0].name])))


def test_join_by_name_takes_repeated_names_in_order() -> None:
    layers = read_layer_info({"Layers": ["a", "b", "a", "c"]}).layers
    means = [("a", 1.0), ("a", 3.0), ("stray", 9.0), ("c [profile 0]", 4.0)]
    rows = [{"count": 10}, {"name": "b", "timeMs": 20.0}, *({"name": n, "averageMs": t} for n, t in means)]
    timed, rest = join(layers, read_profile(rows))
    assert [x.time_ms for x in timed] == [1.0, 2.0, 3.0, 4.0]
    assert [r.name for r in rest] == ["stray"]


@pytest.mark.parametrize(
    "name", ["fuzzy_resnet18_fp16.timing.json", "trex_inputs_mobilenet.qat.onnx.engine.timing.json"]
)
def test_timing_statistics_against_numpy(name: str) -> None:
    data = json.loads((JSON / name).read_text())
    found = read_timing(data)
    times = np.array([e["computeMs"] for e in data])
    assert found["compute"].count == len(data)
    assert found["compute"].mean == pytest.approx(times.mean())
    assert found["compute"].median == pytest.approx(np.median(times))
    assert found["compute"].p99 == pytest.approx(np.percentile(times, 99, method="inverted_cdf"))
    assert found["enqueue"].max == pytest.approx(max(e["endEnqMs"] - e["startEnqMs"] for e in data))
