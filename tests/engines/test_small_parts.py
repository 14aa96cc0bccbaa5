"""Statistics, timing caches, profiles, discovery, the onnxruntime backend, the commands."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.engines import onnxruntime_cpu
from quantbench.engines.base import BuildOptions
from quantbench.engines.bench_inputs import noise
from quantbench.engines.build_log import BuildLog
from quantbench.engines.discover import discover
from quantbench.engines.tensorrt_profile import as_json
from quantbench.engines.timing_cache import cache_file, merge, read
from quantbench.engines.timings import Timings
from quantbench.errors import QuantbenchError
from quantbench.inspection.logs.layer_line import read_rtx_layers
from quantbench.statistics import percentile, summarize, throughput
from tests.engines.models import conv_net, qdq_conv_net


def test_percentile_is_trtexecs_on_a_hand_count() -> None:
    ms = np.array([5.0, 1.0, 2.0, 4.0, 3.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    # 10 samples: 10 % = 1 is left out for p90, so the 9th; floor(0.5) = 0 for p95, so the largest.
    assert (percentile(ms, 90), percentile(ms, 95), percentile(ms, 99)) == (9.0, 10.0, 10.0)
    stats = summarize(ms)
    assert (stats.min, stats.max, stats.mean, stats.median) == (1.0, 10.0, 5.5, 5.5)
    assert stats.variation == pytest.approx(np.std(ms) / 5.5)


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=300), st.floats(1, 100))
def test_percentile_is_a_sample_and_leaves_out_what_it_says(values: list[float], share: float) -> None:
    ms = np.array(values)
    found = percentile(ms, share)
    assert found in ms
    assert (ms > found).sum() <= (1 - share / 100) * len(ms) + 1e-6


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize(np.array([]))
    with pytest.raises(ValueError, match="0 samples"):
        percentile(np.array([]), 50)
    with pytest.raises(ValueError, match="wall time"):
        throughput(3, 0.0)


def test_latency_is_the_sum_of_the_parts() -> None:
    one = np.array([1.0, 2.0])
    summary = Timings(one, one, one * 10, one * 100, 0.5, 4).to_json()
    assert summary["latency"]["max"] == 222.0
    assert (summary["throughput_qps"], summary["images_per_second"]) == (4.0, 16.0)
    assert "h2d" not in Timings(one, None, None, None, 0.5, 4).to_json()


def test_profile_json_adds_up() -> None:
    data = as_json({"conv": [1.0, 3.0, 2.0], "pool": [2.0, 2.0, 2.0]}, 3)
    assert data[0] == {"count": 3}
    assert data[1] == {"name": "conv", "timeMs": 6.0, "averageMs": 2.0, "medianMs": 2.0, "percentage": 50.0}


def test_timing_cache_is_one_a_device_and_merges_under_a_lock(tmp_path: Path) -> None:
    path = cache_file(tmp_path / "new", "tensorrt10", "10.16.1", "NVIDIA RTX A6000 (x)")
    assert path.name == "tensorrt10-10.16.1-NVIDIA-RTX-A6000-x.timing"
    assert read(path) == b""

    def slow(theirs: bytes, ours: bytes) -> bytes:
        time.sleep(0.02)
        return theirs + ours

    threads = [threading.Thread(target=merge, args=(path, bytes([65 + i]), slow)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read(path)) == [65, 66, 67, 68, 69, 70], "no run's timings are lost"


def test_log_keeps_trtexecs_layout(tmp_path: Path) -> None:
    with BuildLog("x [TensorRT v10] # cmd", tmp_path / "a" / "b.log") as log:
        log.write(4, "Layers:\nName: a")
        log.write(1, "broken")
        log.write(2, "careful")
    lines = (tmp_path / "a" / "b.log").read_text().splitlines()
    assert lines[0] == "&&&& RUNNING x [TensorRT v10] # cmd"
    assert lines[1].endswith("] [V] [TRT] Layers:")
    assert lines[2] == "Name: a"
    assert lines[3].endswith("[E] [TRT] broken")
    assert (log.errors, log.warnings) == (["broken"], ["careful"])
    with pytest.raises(QuantbenchError, match="cannot write log"):
        BuildLog("x", tmp_path / "a" / "b.log" / "c.log")


def test_onnxruntime_builds_and_runs_arrays_to_arrays(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(conv_net(), str(model))
    built = onnxruntime_cpu.build(model, BuildOptions())
    optimized = tmp_path / "o.onnx"
    optimized.write_bytes(built.engine)
    feeds = [{"x": np.full((2, 3, 16, 16), value, np.float32)} for value in (0.5, 1.0, 2.0)]
    plain, fast = onnxruntime_cpu.run(model, feeds, threads=1), onnxruntime_cpu.run(optimized, feeds, threads=1)
    assert plain.milliseconds.shape == (3,)
    assert (plain.milliseconds > 0).all()
    for first, second in zip(plain.outputs, fast.outputs, strict=True):
        np.testing.assert_allclose(first["y"], second["y"], rtol=1e-4, atol=1e-5)
    with pytest.raises(QuantbenchError, match="refuses batch 0"):
        onnxruntime_cpu.run(model, [{"x": np.zeros((2, 3, 16), np.float32)}])
    (tmp_path / "bad.onnx").write_text("no model")
    with pytest.raises(QuantbenchError, match="onnxruntime cannot build"):
        onnxruntime_cpu.build(tmp_path / "bad.onnx", BuildOptions())


def test_noise_has_the_type_it_should() -> None:
    assert noise((3,), np.dtype("float16")).dtype == np.float16
    assert set(np.unique(noise((99,), np.dtype(bool)))) == {False, True}
    assert noise((99,), np.dtype("int64")).max() < 100


def test_doctor_tells_what_is_here_and_what_to_do(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    found = {backend.name: backend for backend in discover()}
    assert list(found) == ["onnxruntime", "tensorrt10", "tensorrt11", "tensorrt-rtx", "torch", "cuda"]
    import onnxruntime
    import tensorrt_rtx

    assert found["onnxruntime"].version == onnxruntime.__version__
    assert found["tensorrt-rtx"].version == tensorrt_rtx.__version__
    assert found["tensorrt-rtx"].can == ("build", "inspect"), "running needs a GPU"
    assert not found["cuda"].available
    assert all(backend.how_to_install for backend in found.values())

    code, out, _ = cli("doctor", "--json")
    assert code == 0
    assert [b["name"] for b in json.loads(out)["backends"]] == list(found)
    code, out, _ = cli("doctor")
    assert code == 0
    assert "tensorrt11: no" in out
    assert "get it: pip install" in out


@pytest.mark.parametrize(
    ("metadata", "ten", "eleven"),
    [
        ("Name: tensorrt\nVersion: 10.16.1.11\n", "10.16.1.11", ""),
        ("Name: tensorrt\nVersion: 11.4.0.106\n", "", "11.4.0.106"),
        ("Name: tensorrt\n", "unknown", ""),
        (None, "unknown", ""),
    ],
)
def test_doctor_finds_an_installed_tensorrt(metadata: str | None, ten: str, eleven: str, tmp_path: Path) -> None:
    """A package that would fail on import is found all the same, and one without a GPU is no use."""
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("raise ImportError('libnvinfer.so')\n")
    if metadata is not None:
        (tmp_path / "tensorrt-1.dist-info").mkdir()
        (tmp_path / "tensorrt-1.dist-info" / "METADATA").write_text(metadata)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-m", "quantbench", "doctor", "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {b["name"]: b for b in json.loads(done.stdout)["backends"]}
    assert (found["tensorrt10"]["version"], found["tensorrt11"]["version"]) == (ten, eleven)
    assert not found["tensorrt10"]["available"]
    assert not found["tensorrt11"]["available"]
    there = found["tensorrt10" if ten else "tensorrt11"]
    assert there["detail"] == "installed, but there is no NVIDIA GPU"


def test_doctor_tells_of_two_onnxruntimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files lie in one folder, so that only one of them is there."""
    assert discover()[0].detail == "CPU"
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info").mkdir()
    metadata = tmp_path / "onnxruntime_gpu-1.31.1.dist-info" / "METADATA"
    metadata.write_text("Name: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "onnxruntime and onnxruntime-gpu share a folder" in discover()[0].detail


def test_build_command_leaves_engine_log_and_layers(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # inspect writes into the current folder
    model = tmp_path / "m.onnx"
    onnx.save(qdq_conv_net(batch="n"), str(model))
    code, out, err = cli(
        "build", model, "--backend", "tensorrt-rtx", "--precision", "fp16", "--target", "sm80,sm120",
        "--shapes", "x=1x3x16x16:2x3x16x16:4x3x16x16", "--pool", "workspace=1G", "--out", tmp_path / "e" / "m.engine",
        "--json",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert (tmp_path / "e" / "m.engine").read_bytes()[:4] == b"vtrt"
    assert summary["targets"] == ["sm80", "sm120"]
    assert summary["notes"] == ["FP16: float parts cast in the ONNX"]
    layers = json.loads(Path(summary["layers"]).read_text())["layers"]
    assert len(layers) == len(read_rtx_layers(Path(summary["log"]).read_text().splitlines()))
    assert any(t["dtype"] == "FP16" for layer in layers for t in (*layer["inputs"], *layer["outputs"]))
    code, out, _ = cli("inspect", tmp_path / "e" / "m.engine")
    assert code == 0
    assert "INT8" in out


def test_build_command_calibrates_a_float_model(cli, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(conv_net(batch="n"), str(model))
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32))
    code, out, err = cli(
        "build", model, "--backend", "tensorrt-rtx", "--precision", "int8,fp16", "--calib-dir",
        tmp_path / "images.npy", "--calibrator", "minmax", "--calib-batch", "2",
    )  # fmt: skip
    assert code == 0, err
    assert "INT8: quantbench placed Q/DQ on" in out
    assert (tmp_path / "m.engine").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "tensorrt-rtx", "--version-compatible"], "has no --version-compatible: its wheel has no lean"),
        (["--backend", "tensorrt-rtx", "--layer-precision", "a=fp32"], "has no --layer-precision: types come from"),
        (["--backend", "onnxruntime", "--precision", "fp16"], "its CPU kernels compute in FP32"),
        (["--backend", "tensorrt-rtx", "--target", "sm1"], "has no target 'sm1'"),
        (["--backend", "tensorrt-rtx", "--precision", "int8"], "has no Q/DQ and no ranges"),
        (["--backend", "tensorrt-rtx", "--precision", "fp16,bf16"], "exclude each other"),
        (["--backend", "nonsense"], "compile.backend = 'nonsense': input should be 'auto', 'tensorrt'"),
        (["--precision", "fp17"], "--precision fp17 is none of"),
    ],
)
def test_build_command_refuses_in_one_line(cli, arguments: list[str], message: str, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(conv_net(), str(model))
    code, _, err = cli("build", model, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "m.engine").exists()
