"""`ptq` where TensorRT 10 or 11 builds the engine: what reaches the builder, and what the run folder then holds."""

from pathlib import Path
from typing import Any

import pytest

from tests.bindings import run_with_bindings

_RUN = "import runpy, sys; sys.argv = ['run', *sys.argv[1:]]; runpy.run_module('tests.engines.contract_ptq', run_name='__main__')"  # noqa: E501
_LAYERS = "json/trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json"


@pytest.fixture(scope="module", params=[10, 11])
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, artefacts: Path
) -> tuple[int, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ptq")
    return request.param, run_with_bindings(request.param, _RUN, str(folder), str(artefacts / _LAYERS))


def _flags(run: dict[str, Any]) -> list[str]:
    return [arguments[0] for name, arguments in run["calls"] if name == "IBuilderConfig.set_flag"]


def test_explicit_builds_the_qdq_model_and_the_float_one(runs: tuple[int, dict[str, Any]]) -> None:
    major, data = runs
    run = data["explicit"]
    int8, plain = run["seen"]
    assert int8["Conv"] == plain["Conv"] == 20
    assert (int8["QuantizeLinear"] > 40, plain["QuantizeLinear"]) == (True, 0)
    if major == 10:
        # INT8 and FP16 are flags of the builder, the files are as they were.
        assert _flags(run) == ["FP16", "INT8", "FP16"]
        assert int8["Cast"] == plain["Cast"] == 0
    else:
        # TensorRT 11 has neither flag: the float parts were cast in the ONNX.
        assert _flags(run) == []
        assert int8["Cast"] > 0
        assert plain["Cast"] > 0
        assert run["facts"]["notes"] == ["FP16: float parts cast in the ONNX"]


def test_implicit_is_ranges_where_there_are_any(runs: tuple[int, dict[str, Any]]) -> None:
    major, data = runs
    run = data["implicit"]
    ranges = [name for name, _ in run["calls"] if name == "ITensor.set_dynamic_range"]
    if major == 10:
        assert run["seen"][0] == run["seen"][1]
        assert run["facts"]["quantization"] == "implicit"
        assert ranges
        assert run["facts"]["notes"][0].startswith("INT8: ranges on ")
    else:
        assert run["seen"][0]["QuantizeLinear"] > 40
        assert run["facts"]["quantization"] == "explicit"
        assert ranges == []
        assert "has no implicit quantization" in run["facts"]["notes"][0]


def test_layers_come_from_the_engine_inspector_and_both_engines_are_timed(runs: tuple[int, dict[str, Any]]) -> None:
    facts = runs[1]["explicit"]["facts"]
    assert facts["backend"] == f"tensorrt{runs[0]}"
    assert facts["int8"]["layers"] == 26  # that engine has as many
    assert facts["shape"] == [4, 3, 64, 64]
    for side in ("int8", "plain"):
        assert facts["latency"][side]["median_ms"] > 0
    assert {"layers.json", "build.log", "model.engine"} <= set(runs[1]["explicit"]["files"])
    assert not any("float.engine" in name or "compile.onnx" in name for name in runs[1]["explicit"]["files"])


def test_the_timing_cache_is_shared_by_all_builds_of_a_device(runs: tuple[int, dict[str, Any]]) -> None:
    calls = [arguments for run in ("explicit", "implicit") for name, arguments in runs[1][run]["calls"]
             if name == "IBuilderConfig.create_timing_cache"]  # fmt: skip
    # The first build starts from nothing, every later one from what the ones before it left.
    assert calls[0] != calls[-1]
    assert len(calls) >= 4
