"""The TensorRT 10 and 11 adapters and the GPU runtime against the real bindings: 8.6, 10.16 and 11.4.

Nothing native runs: see tests/engines/replica.py for what is checked, tests/engines/contract_run.py for the runs.
"""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quantbench.engines import device_cuda, device_torch
from tests.bindings import run_with_bindings, wheels

_RUN = "import runpy, sys; sys.argv = ['run', *sys.argv[1:]]; runpy.run_module('tests.engines.contract_run', run_name='__main__')"  # noqa: E501

# Attributes of lists, files, arrays and quantbench's own values that the bindings happen to have on some class too.
_NOT_TENSORRT = frozenset({
    "algorithm_variant", "allocate", "append", "clear", "dtype", "engine", "enqueue", "get_algorithm", "get_batch",
    "get_batch_size", "kernel", "logger", "nbytes", "node", "parse", "read",
    "read_calibration_cache", "tactic", "tactic_sources", "write", "write_calibration_cache",
})  # fmt: skip
# Shared helpers that only the adapter for TensorRT 10 calls.
_ONLY_10 = frozenset({"get_layer", "num_layers"})
# What stands behind a question for it, or is asked of one version alone: 8 has no parser that refits and no editable
# timing cache, 10 asks its algorithm selector instead of editing, 11 has none.
_BEHIND_A_QUESTION: dict[int, tuple[list[str], frozenset[str]]] = {
    8: (["trt.OnnxParserRefitter", "trt.TimingCacheKey", "trt.TimingCacheKey.parse", "trt.TimingCacheValue"],
        frozenset()),
    10: ([], frozenset({"set_named_weights", "update"})),
    11: (["trt.IAlgorithmSelector", "trt.IAlgorithmSelector.__init__"], _ONLY_10 | {"set_named_weights"}),
}  # fmt: skip


@pytest.fixture(scope="module", params=[8, 10, 11])
def contract(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    return request.param, run_with_bindings(request.param, _RUN, str(tmp_path_factory.mktemp("timing")))


def test_every_name_in_the_source_exists_and_was_used_in_a_run(contract: tuple[int, dict[str, Any]]) -> None:
    major, data = contract
    assert data["version"].startswith(f"{major}.")
    missing, unused = _BEHIND_A_QUESTION[major]
    assert data["missing"] == missing
    # BF16 came with TensorRT 9.
    assert data["absent"] == (["BuilderFlag.BF16", "BuilderFlag.BF16", "DataType.BF16"] if major == 8 else [])
    assert len(data["chains"]) > 15
    runs = (*data["builds"].values(), data["run"], *data["refits"].values())
    used = {name.split(".")[-1] for run in runs for name in run["used"]}
    assert set(data["attributes"]) - used - _NOT_TENSORRT == unused


def _calls(run: dict[str, Any], member: str) -> list[list[str]]:
    return [arguments for name, arguments in run["calls"] if name == member]


def test_every_option_reaches_the_config(contract: tuple[int, dict[str, Any]]) -> None:
    major, data = contract
    run = data["builds"]["everything"]
    assert run["error"] is None
    flags = [f for (f,) in _calls(run, "IBuilderConfig.set_flag")]
    assert flags == ["REFIT", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "SPARSE_WEIGHTS", "GPU_FALLBACK"]
    assert _calls(run, "IBuilderConfig.avg_timing_iterations") == [["4"]]
    assert _calls(run, "IBuilderConfig.max_aux_streams") == [["0"]]
    ((library,),) = _calls(run, "IPluginRegistry.load_library")
    assert library.endswith("/p.so")
    assert _calls(run, "IBuilderConfig.plugins_to_serialize") == [[f"['{library}']"]]
    assert _calls(run, "IBuilderConfig.build_route") == ([["a.b"]] if major == 11 else [])
    assert _calls(run, "IBuilderConfig.clear_flag") == [["TF32"]]
    assert _calls(run, "IBuilderConfig.set_memory_pool_limit") == [["WORKSPACE", str(1 << 30)]]
    assert _calls(run, "IBuilderConfig.builder_optimization_level") == [["4"]]
    assert _calls(run, "IBuilderConfig.hardware_compatibility_level") == [["AMPERE_PLUS"]]
    assert _calls(run, "IBuilderConfig.default_device_type") == [["DLA"]]
    assert _calls(run, "IBuilderConfig.DLA_core") == [["0"]]
    (mask,) = _calls(run, "IBuilderConfig.set_tactic_sources")[0]
    assert bin(int(mask)).count("1") == 1
    shape = _calls(run, "IOptimizationProfile.set_shape")
    assert shape == [["x", "(1, 3, 8, 8)", "(4, 3, 8, 8)", "(8, 3, 8, 8)"]]
    assert _calls(run, "IBuilderConfig.set_timing_cache") == [["ITimingCache", "False"]]


def test_timing_caches_are_combined_with_what_is_there(contract: tuple[int, dict[str, Any]]) -> None:
    builds = contract[1]["builds"]
    assert _calls(builds["everything"], "ITimingCache.combine") == []
    assert _calls(builds["timing cache again"], "ITimingCache.combine") == [["ITimingCache", "True"]]
    first, *_ = _calls(builds["timing cache again"], "IBuilderConfig.create_timing_cache")
    assert first == ["b'timings'"], "the second build starts from what the first has timed"


def test_tactics_are_forbidden_chosen_and_replayed(contract: tuple[int, dict[str, Any]]) -> None:
    major, data = contract
    builds = data["builds"]
    title = f"TensorRT {data['version']}"
    replay = builds["replay of timings"]
    if major == 8:
        assert replay["error"].startswith(f"{title} has no builder flag ERROR_ON_TIMING_CACHE_MISS")
    else:
        assert (replay["error"], _flags(replay)) == (None, {"ERROR_ON_TIMING_CACHE_MISS"})
        assert _calls(replay, "IBuilderConfig.create_timing_cache") == [["b'timings'"]], "taken, and not written again"
    if major == 11:
        assert _flags(builds["chosen"]) == {"EDITABLE_TIMING_CACHE"}
        ((key, value),) = _calls(builds["chosen"], "ITimingCache.update")
        assert (key, "TimingCacheValue" in value) == ("0x" + 16 * "0a", True)
        assert builds["no such key"]["error"].endswith("the timing cache has no such key; build once with it first")
        assert "wants KEY=0x" in builds["no key"]["error"]
        assert "give --timing-cache FOLDER" in builds["nothing to edit"]["error"]
        assert "a log cannot be replayed" in builds["replay of a log"]["error"]
        return
    assert builds["route"]["error"] == f"{title} has no --build-route: it came with TensorRT 11.1; leave it out"
    assert len(_calls(builds["tactics"], "IBuilderConfig.algorithm_selector")) == 1
    assert "only a verbose log tells" in builds["tactic without a log"]["error"]
    selections = data["selections"]
    assert selections["of_bindings"]
    assert selections["answers"] == {"conv0": [1], "gone": [1, 3], "old": [3], "else": [1, 3]}
    assert selections["notes"][-1] == "1 layers do not know the kernel that was wanted: gone"


def test_refit_sets_what_the_engine_lets_go(contract: tuple[int, dict[str, Any]]) -> None:
    major, data = contract
    refits, title = data["refits"], f"TensorRT {data['version']}"
    done = refits["done"]
    names = done["names"]
    assert (done["engine"], done["refitted"], done["missing"]) == ("new engine", names[:2], ["made up"])
    assert done["kept"] == len(names) - 2
    by_name = [name for name, _ in _calls(done, "Refitter.set_named_weights")]
    assert by_name == (names[:2] if major == 8 else [])
    assert len(_calls(done, "OnnxParserRefitter.refit_from_file")) == (0 if major == 8 else 1)
    assert refits["fixed"]["error"] == "the engine is not refittable; build it with quantbench build --refittable"
    assert "none of the engine's 1 refittable weights is in" in refits["another"]["error"]
    assert refits["incomplete"]["error"].endswith(f"wants together with others: {names[0]}")
    assert refits["refused"]["error"] == f"{title} could not refit the engine: no reason given"
    assert major == 8 or refits["parser"]["error"].endswith("m.onnx: no such weight")


def test_a_plugin_that_does_not_load_is_one_line(contract: tuple[int, dict[str, Any]]) -> None:
    assert contract[1]["builds"]["no such plugin"]["error"].startswith("--plugin p.so cannot be loaded: ")


def test_an_output_whose_shape_depends_on_data_is_allocated(contract: tuple[int, dict[str, Any]]) -> None:
    run = contract[1]["run"]
    assert run["allocated"] == [True, [6, 2]]
    members = [name for name, _ in run["last_calls"]]
    assert "IExecutionContext.set_output_allocator" in members
    assert "IPluginRegistry.load_library" in members


def test_a_function_fills_the_network(contract: tuple[int, dict[str, Any]]) -> None:
    major, data = contract
    run = data["builds"]["function"]
    assert run["error"] is None
    assert _calls(run, "INetworkDefinition.add_input")[0][0] == "x"
    assert len(_calls(run, "INetworkDefinition.add_convolution_nd")) == 1
    assert _calls(run, "OnnxParser.parse_from_file") == []
    failed = data["builds"]["function fails"]["error"]
    assert failed.endswith(":fails fails in line 11: AttributeError: INetworkDefinition has no add_everything")
    if major < 11:
        calibrated = data["builds"]["function with calibrator"]
        assert calibrated["error"] is None
        assert _flags(calibrated) == {"FP16", "INT8"}
        assert len(_calls(calibrated, "IBuilderConfig.int8_calibrator")) == 1


def test_failures_are_one_line(contract: tuple[int, dict[str, Any]]) -> None:
    major, data = contract
    builds = data["builds"]
    title = f"TensorRT {data['version']}"
    # TensorRT 8 gives the number of the node; its name comes from the file, which these runs do without.
    where = "cannot read model.onnx" if major == 8 else "cannot build model.onnx: node boxes (NonMaxSuppression)"
    assert builds["parser refuses"]["error"] == f"{title} {where}: no importer"
    assert builds["builder refuses"]["error"] == f"{title} cannot build model.onnx: no reason given"
    assert "refused an optimization profile" in builds["profile refused"]["error"]
    assert "has no memory pool swimming; it has dla_global_dram" in builds["unknown pool"]["error"]
    old = builds["old tactic source"]["error"]
    expected = "TensorRT 11.4.0.106 has no tactic source CUDNN (gone since TensorRT 11; leave it out)"
    assert (old or "").startswith(expected) if major == 11 else old is None


def test_network_is_typed_as_the_version_wants(contract: tuple[int, dict[str, Any]]) -> None:
    major, data = contract
    ((plain,),) = _calls(data["builds"]["plain"], "Builder.create_network")
    if major == 11:
        assert plain == "1", "STRONGLY_TYPED is bit 0 in TensorRT 11"
        return
    if major == 8:
        assert "TensorRT 8.6.1 has no network flag STRONGLY_TYPED" in data["builds"]["strongly typed"]["error"]
        return
    ((typed,),) = _calls(data["builds"]["strongly typed"], "Builder.create_network")
    assert (plain, typed) == ("1", "2")


def test_engine_runs_with_bound_buffers_and_profile(contract: tuple[int, dict[str, Any]]) -> None:
    run = contract[1]["run"]
    assert run["outputs"] == {"y": [4, 2]}
    assert ["x", "(4, 2)"] in _calls(run, "IExecutionContext.set_input_shape")
    assert {name for name, _ in _calls(run, "IExecutionContext.set_tensor_address")} == {"x", "y"}
    assert {handle for (handle,) in _calls(run, "IExecutionContext.execute_async_v3")} == {"7"}
    assert len(_calls(run, "IExecutionContext.profiler")) == 1
    assert _calls(run, "EngineInspector.get_engine_information") == [["JSON"]]
    assert run["timings"]["calls"] == 4
    assert _calls(run, "IExecutionContext.set_optimization_profile_async") == []
    assert _calls(run, "Runtime.engine_host_code_allowed") == []
    assert ["Runtime.engine_host_code_allowed", ["True"]] in run["other_calls"]
    others = [arguments for name, arguments in run["other_calls"] if name.endswith("set_optimization_profile_async")]
    assert others == [["0", "7"]]
    assert run["timings"]["latency"]["median"] == 3.0, "three parts of one tick each on the fixture's clock"


def test_the_stand_in_of_the_gpu_script_is_spelled_as_the_bindings(contract: tuple[int, dict[str, Any]]) -> None:
    assert contract[1]["stand_in_differs"] == []


@pytest.fixture(scope="module", params=[8, 10])
def ten(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    builds: dict[str, Any] = run_with_bindings(request.param, _RUN, str(tmp_path_factory.mktemp("timing")))["builds"]
    return builds


def _flags(run: dict[str, Any]) -> set[str]:
    return {flag for (flag,) in _calls(run, "IBuilderConfig.set_flag")}


def test_implicit_int8_by_calibrator(ten: dict[str, Any]) -> None:
    run = ten["calibrator"]
    assert _flags(run) == {"FP16", "INT8"}
    ((calibrator,),) = _calls(run, "IBuilderConfig.int8_calibrator")
    assert "CalibratorIInt8EntropyCalibrator2" in calibrator
    assert _calls(run, "IBuilderConfig.set_calibration_profile") == [["IOptimizationProfile"]]
    calibrated = _calls(run, "IOptimizationProfile.set_shape")[-1]
    assert calibrated == ["x", *["(4, 3, 8, 8)"] * 3], "the calibrator's batch size, not the profile's"


def test_a_static_batch_must_be_the_calibrators(ten: dict[str, Any]) -> None:
    assert ten["static batch"]["error"] == (
        "input x has a fixed batch of 8, the calibrator one of 4; give --calib-batch 8"
    )


def test_implicit_int8_by_ranges(ten: dict[str, Any]) -> None:
    run = ten["ranges"]
    assert _calls(run, "ITensor.set_dynamic_range") == [["-12.7", "12.7"]] * 2
    assert _calls(run, "IBuilderConfig.int8_calibrator") == []


def test_int8_with_neither_is_refused(ten: dict[str, Any]) -> None:
    assert ten["nothing for int8"]["error"] == (
        "INT8 of a model without Q/DQ needs --calib-dir, --ranges, or a Q/DQ model from quantbench ptq"
    )


def test_explicit_int8_needs_neither(ten: dict[str, Any]) -> None:
    run = ten["q/dq and ranges"]
    assert run["notes"][-1] == "Q/DQ in the model: ranges and calibrator are not used"
    assert _calls(run, "ITensor.set_dynamic_range") == []


def test_best_takes_int8_only_where_it_has_scales(ten: dict[str, Any]) -> None:
    best = _flags(ten["best"])
    assert _flags(ten["best with q/dq"]) == best | {"INT8"}
    if ten["bf16, tf32"]["error"]:
        assert best == {"FP16", "TF32"}
        assert ten["bf16, tf32"]["error"].startswith("TensorRT 8.6.1 has no builder flag BF16; it has")
    else:
        assert best == {"FP16", "BF16", "TF32"}
        assert _flags(ten["bf16, tf32"]) == {"BF16", "TF32"}


def test_layer_precisions(ten: dict[str, Any]) -> None:
    assert _calls(ten["layers obey"], "ILayer.precision") == [["FLOAT"]]
    assert _flags(ten["layers obey"]) == {"OBEY_PRECISION_CONSTRAINTS"}
    assert _calls(ten["layers prefer"], "ILayer.precision") == [["HALF"]]
    assert _flags(ten["layers prefer"]) == {"PREFER_PRECISION_CONSTRAINTS"}
    assert _calls(ten["integer layer"], "ILayer.precision") == []
    assert "no layer of the network has such a name" in ten["no such layer"]["error"]


def test_what_the_facts_say_of_11_is_so() -> None:
    script = """
import json, tensorrt as trt
print(json.dumps({
    "calibrators": [n for n in dir(trt) if "Calibrator" in n],
    "flags": [n for n in ("INT8", "FP16", "BF16", "OBEY_PRECISION_CONSTRAINTS") if n in trt.BuilderFlag.__members__],
    "layer": [n for n in ("precision", "set_output_type") if hasattr(trt.ILayer, n)],
    "range": hasattr(trt.ITensor, "set_dynamic_range"),
    "config": [n for n in ("int8_calibrator", "set_calibration_profile") if hasattr(trt.IBuilderConfig, n)],
    "sources": [n for n in ("CUDNN", "CUBLAS", "CUBLAS_LT") if n in trt.TacticSource.__members__],
}))"""
    gone = {"calibrators": [], "flags": [], "layer": [], "range": False, "config": [], "sources": []}
    assert run_with_bindings(11, script) == gone
    there = run_with_bindings(10, script)
    assert all(there.values())
    assert there["sources"] == ["CUDNN", "CUBLAS", "CUBLAS_LT"]


def _attributes_of(module: Any, *roots: str) -> set[str]:
    """`a.b.c` chains in the module's source that begin with one of `roots`, roots cut off."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    chains = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {chain[len(root) + 1 :] for chain in chains for root in roots if chain.startswith(root + ".")}


def test_cuda_python_has_all_that_the_device_calls() -> None:
    folder = wheels("cuda-bindings==13.5.0", "cuda-pathfinder==1.5.6")
    names = sorted(_attributes_of(device_cuda, "runtime", "self._runtime"))
    assert "cudaMemcpyAsync" in names
    script = (
        "import json, sys, operator\nfrom quantbench.engines.device_cuda import load_runtime, open_device\n"
        "runtime = load_runtime()\nmissing = []\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        operator.attrgetter(name)(runtime)\n"
        "    except AttributeError:\n        missing.append(name)\n"
        "print(json.dumps([runtime.__name__, missing]))"
    )
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", script, *names],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["cuda.bindings.runtime", []]


@pytest.mark.parametrize("name", ["torch"] if importlib.util.find_spec("torch") else [])
def test_torch_has_all_that_the_device_calls(name: str) -> None:
    torch = importlib.import_module(name)
    chains = _attributes_of(device_torch, "torch", "self._torch")
    assert "cuda.CUDAGraph" in chains
    for chain in sorted(chains):
        here = torch
        for part in chain.split("."):
            assert hasattr(here, part), f"torch.{chain}"
            here = getattr(here, part)
