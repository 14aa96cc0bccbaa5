"""The GPU session, bench and profile on the CPU: host memory as the device, scripts/torch_engine.py as TensorRT.

What needs a GPU is run by scripts/bench_runtime_gpu.py; its figures are in docs/measured/runtime.
"""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quantbench.engines import device_cuda, device_torch
from quantbench.engines.device import not_capturable, out_of_memory
from quantbench.engines.device_torch import TorchBuffer, TorchDevice
from quantbench.engines.tensorrt_bench import BenchOptions, bench
from quantbench.engines.tensorrt_profile import profile
from quantbench.engines.tensorrt_session import LoadedEngine
from quantbench.errors import QuantbenchError
from scripts import torch_engine
from tests.bindings import REPOSITORY
from tests.engines.host_device import HostDevice

SIZE = 16


def _loaded(profiles: tuple[tuple[int, int, int], ...] = ((1, 2, 4), (6, 7, 8))) -> LoadedEngine:
    data = torch_engine.engine("small", device="cpu", dtype="float32", size=SIZE, profiles=profiles)
    return LoadedEngine(torch_engine, data, HostDevice())


def _feed(batch: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    shape = (batch, 3, SIZE, SIZE)
    return {"image": np.random.default_rng(seed).standard_normal(shape, np.float32)}


def _expected(loaded: LoadedEngine, feed: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    value: Any = torch.from_numpy(feed["image"])
    with torch.inference_mode():
        for _, stage in loaded.engine._stages:
            value = stage(value)
    answer: NDArray[np.float32] = value.numpy()
    return answer


def test_outputs_are_those_of_the_network_for_every_batch_and_profile() -> None:
    loaded = _loaded()
    context = loaded.context()
    active = []
    for seed, batch in enumerate((1, 4, 8, 6, 2)):
        feed = _feed(batch, seed)
        outputs = context.run(feed)
        np.testing.assert_array_equal(outputs["logits"], _expected(loaded, feed))
        active.append(context.context.active_optimization_profile)
    assert active == [0, 0, 1, 1, 0]


def test_results_are_the_callers_to_keep() -> None:
    loaded = _loaded()
    context = loaded.context()
    first = context.run(_feed(2, 1))["logits"]
    kept = first.copy()
    context.run(_feed(2, 2))
    np.testing.assert_array_equal(first, kept)


def test_graph_stays_for_new_inputs_and_goes_with_the_shape() -> None:
    loaded = _loaded()
    context = loaded.context()
    context.load(_feed(3))
    context.send()
    context.capture()
    graph: Any = context._graph
    for seed in (4, 5):
        np.testing.assert_array_equal(context.run(_feed(3, seed))["logits"], _expected(loaded, _feed(3, seed)))
    assert context._graph is graph
    assert graph.launches == 2
    np.testing.assert_array_equal(context.run(_feed(2, 6))["logits"], _expected(loaded, _feed(2, 6)))
    assert context._graph is None
    assert graph.launches == 2


def test_transfers_go_through_page_locked_arrays_that_are_kept() -> None:
    loaded = _loaded()
    context = loaded.context()
    for seed in range(5):
        context.run(_feed(4, seed))
    device: Any = loaded.device
    assert device.host_arrays == 2, "one for the input, one for the output"


def test_other_memory_orders_and_types_are_converted_or_refused() -> None:
    loaded = _loaded()
    plain = _feed(2)
    strided = np.zeros((2, 3, SIZE, 2 * SIZE), np.float32)[..., ::2]
    strided[...] = plain["image"]
    outputs = loaded.context().run({"image": strided.astype(np.float64, order="F")})
    np.testing.assert_array_equal(outputs["logits"], _expected(loaded, plain))
    with pytest.raises(QuantbenchError, match="input image is complex64, but the engine takes float32"):
        loaded.context().run({"image": plain["image"].astype(np.complex64)})


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ((5, 3, 16, 16), "input image is 5x3x16x16, but the engine takes 1x3x16x16 to 4x3x16x16 (profile 0)"),
        ((2, 3, 16), "input image is 2x3x16, but the engine takes 1x3x16x16 to 4x3x16x16 (profile 0)"),
        ((2, 3, 16, 17), "input image is 2x3x16x17, but the engine takes 1x3x16x16 to 4x3x16x16 (profile 0)"),
    ],
)
def test_shapes_outside_all_profiles_are_refused_in_one_line(shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(QuantbenchError) as error:
        _loaded().context().run({"image": np.zeros(shape, np.float32)})
    assert str(error.value) == line


def test_an_engine_that_does_not_load_is_one_line_with_the_reason() -> None:
    with pytest.raises(QuantbenchError, match="cannot load the engine: no engine of torch: Expecting value"):
        LoadedEngine(torch_engine, b"ftrt junk", HostDevice())


@pytest.mark.parametrize(("streams", "graph"), [(1, False), (3, False), (3, True)])
def test_bench_counts_calls_and_parts(streams: int, graph: bool) -> None:
    timings = bench(_loaded(), _feed(4), BenchOptions(0, 0, 7, streams, graph))
    summary = timings.to_json()
    assert summary["calls"] == 7
    assert summary["images_per_second"] == pytest.approx(4 * summary["throughput_qps"])
    # One tick of the host device's clock between the stamps of a call.
    assert [summary[part]["median"] for part in ("h2d", "compute", "d2h", "latency")] == [1, 1, 1, 3]
    without = bench(_loaded(), _feed(4), BenchOptions(0, 0, 7, streams, graph, transfers=False)).to_json()
    assert "h2d" not in without
    assert "d2h" not in without


def test_profile_reports_each_stage() -> None:
    count, *layers = profile(_loaded(), _feed(2), calls=4, warm_up=1)
    assert count == {"count": 4}
    assert [layer["name"] for layer in layers] == ["cast", "conv", "head"]
    assert sum(layer["percentage"] for layer in layers) == pytest.approx(100)


def test_torch_copies_every_type_and_refuses_strides() -> None:
    device = TorchDevice.__new__(TorchDevice)
    device._torch = torch
    for dtype in (np.float32, np.float16, np.int64, np.bool_):
        array = np.random.default_rng(0).integers(0, 2, (3, 5)).astype(dtype)
        buffer = TorchBuffer(torch.zeros(array.nbytes + 8, dtype=torch.uint8))
        device.upload(buffer, array)
        back = np.zeros_like(array)
        device.download(back, buffer)
        np.testing.assert_array_equal(back, array)
    for copy in (lambda a: device.upload(buffer, a), lambda a: device.download(a, buffer)):
        with pytest.raises(ValueError, match="C-ordered"):
            copy(np.zeros((4, 6), np.float32)[:, ::2])


def test_lines_of_the_device_name_the_way_out() -> None:
    line = str(out_of_memory(3 << 30, (1 << 30, 8 << 30)))
    assert line == "the GPU has no 3.0 GiB left (1.0 GiB of 8.0 GiB free); use a smaller batch"
    first, last = RuntimeError("not permitted when stream is capturing\ntrace"), RuntimeError("a previous error")
    last.__context__ = first
    assert str(not_capturable(last)) == (
        "the inference cannot become a CUDA graph (not permitted when stream is capturing); leave out --cuda-graph"
    )


def test_no_device_here_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert device_torch.open_device() is None
    assert device_cuda.open_device() is None


@pytest.mark.parametrize("name", ["torch", "cuda"])
def test_the_figures_of_the_gpu_run_say_what_the_docs_say(name: str) -> None:
    found = json.loads((REPOSITORY / "docs" / "measured" / "runtime" / f"runtime-{name}.json").read_text())
    assert found["session"]["graph_replayed"]
    assert set(found["session"]["largest_difference_to_torch"].values()) == {0.0}
    assert all(row["percentiles_as_numpy"] for row in found["benches"])
    clocks = found["clocks"]
    for kind in ("eager", "graph"):
        assert clocks[f"quantbench_{kind}_ms"] == pytest.approx(clocks[f"torch_events_{kind}_ms"], rel=0.05)
    assert clocks["quantbench_graph_ms"] == pytest.approx(clocks["torch_profiler_graph_ms"], rel=0.05)
    runs, contexts, _ = found["leaks"]
    assert (runs["times"], runs["torch_allocated_mib_more"]) == (1000, 0.0)
    assert contexts["gpu_mib_more"] == 0.0


def test_threads_with_a_context_each_spinning_on_a_profile_of_choice() -> None:
    loaded = _loaded()
    options = BenchOptions(0.0, 0.0, 9, contexts=3, spin_wait=True, profile_index=1)
    timings = bench(loaded, _feed(7), options)
    assert len(timings.compute) == 9
    assert timings.started is not None
    assert (timings.started > 0).all()
    with pytest.raises(QuantbenchError, match=r"image is 2x3x16x16, but the engine takes 6x3x16x16 to 8x3x16x16 .*1"):
        bench(loaded, _feed(2), options)
    with pytest.raises(QuantbenchError, match=r"the engine has 2 optimization profiles \(0 to 1\), no 2"):
        loaded.context(profile=2)
    assert loaded.opt_shape("image", 1)[0] == 7
