"""`quantbench bench` as a user meets it, and how files and machines that do not fit are refused."""

import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from quantbench.engines.bench_inputs import array_shape, named_files, read_input
from quantbench.engines.bench_model import BenchRequest, bench_model
from quantbench.engines.discover import _cuda, _tensorrt_rtx
from quantbench.engines.gpus import Driver, Gpu, find_driver
from quantbench.engines.load_engine import load_engine, plan_of
from quantbench.engines.nvtx import Ranges
from quantbench.engines.timings import Timings, as_trtexec, images_of
from quantbench.errors import QuantbenchError
from tests.bindings import REPOSITORY
from tests.engines.models import conv_net
from tests.images.tars import tar, write_shards

MODELS = REPOSITORY / "tests" / "data" / "models"
RESNET = MODELS / "animals_resnet18.onnx"
H200 = Gpu("NVIDIA H200", (9, 0), 150_000_000_000)
RTX4090 = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 25_000_000_000)


def test_bench_of_an_onnx_file(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(conv_net(batch="n"), str(model))
    summary = bench_model(model, BenchRequest({"x": (4, 3, 16, 16)}, seconds=0, least_calls=25, threads=1))
    times = summary.timings
    assert times.calls == 25
    assert summary.shapes == {"x": (4, 3, 16, 16)}
    assert times.images_per_second == pytest.approx(4 * times.calls_per_second)
    latency = times.parts()["latency"]
    assert latency.min <= latency.median <= latency.p99
    with pytest.raises(QuantbenchError, match="for engines on a GPU"):
        bench_model(model, BenchRequest({}, streams=2))
    with pytest.raises(QuantbenchError, match="names input 'z'"):
        bench_model(model, BenchRequest({"z": (1,)}, seconds=0))


def test_engine_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    (tmp_path / "m.engine").write_bytes(b"vtrt....")
    with pytest.raises(QuantbenchError, match="needs an NVIDIA GPU to run"):
        load_engine(tmp_path / "m.engine")
    with pytest.raises(QuantbenchError, match="cannot read engine"):
        load_engine(tmp_path / "none.engine")


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_the_models_of_the_repository_run(cli, path: Path) -> None:
    code, out, err = cli("bench", path, "--seconds", "0", "--calls", "3", "--threads", "1", "--backend", "onnxruntime")
    assert code == 0, err
    assert f"{path}: 3 calls in" in out
    assert "note:" not in out


def test_json_is_all_that_is_printed(cli) -> None:
    code, out, _ = cli("bench", RESNET, "--seconds", "0", "--shapes", "image=4x1x28x28", "--json")
    assert code == 0
    summary = json.loads(out)
    assert (summary["calls"], summary["shapes"], summary["notes"]) == (10, {"image": [4, 1, 28, 28]}, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.onnx"], "none.onnx does not exist"),
        ([MODELS], "models is a folder, not a model"),
        ([RESNET, "--shapes", "image=2x3x10"], "--shapes gives image as 2x3x10, but the model has ?x1x28x28"),
        ([RESNET, "--shapes", "image=2x3x28x28"], "--shapes gives image as 2x3x28x28, but the model has ?x1x28x28"),
        ([RESNET, "--shapes", "image=0x1x28x28"], "image=0x1x28x28 holds a zero: nothing to time"),
        ([RESNET, "--shapes", "x=1x1x28x28"], "names input 'x', but the model's inputs are image"),
        ([RESNET, "--shapes", "image"], "'image' is no shape; write 1x3x224x224"),
        ([RESNET, "--backend", "tensorrt"], "--backend tensorrt runs engines: quantbench build"),
        ([RESNET, "--backend", "nonsense"], "--backend nonsense is none of auto, onnxruntime, tensorrt"),
        ([RESNET, "--cuda-graph"], "are for engines on a GPU"),
        ([RESNET, "--spin-wait"], "are for engines on a GPU"),
        ([RESNET, "--input", "x=none.npy"], "--input names input 'x', but the model's inputs are image"),
        ([RESNET, "--input", "image=none.npy"], "none.npy: no such file"),
        ([REPOSITORY / "README.md"], "README.md is neither an engine of TensorRT or TensorRT-RTX nor an .onnx file"),
        ([REPOSITORY / "README.md", "--backend", "onnxruntime"], "runs .onnx files, and"),
    ],
)
def test_wrong_commands_are_one_line(cli, arguments: list[object], message: str) -> None:
    code, out, err = cli("bench", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_model_is_one_line(cli, tmp_path: Path) -> None:
    for content in (b"", b"junk"):
        (tmp_path / "m.onnx").write_bytes(content)
        code, _, err = cli("bench", tmp_path / "m.onnx")
        assert code == 2
        assert "onnxruntime refuses the model" in err
        assert err.count("\n") == 1


def test_a_model_that_fails_at_run_time_is_one_line(tmp_path: Path) -> None:
    """A reshape to five elements takes a batch of five and no other; the file alone does not say so."""
    reshape = onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])
    graph = onnx.helper.make_graph(
        [reshape], "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([5], np.int64), "shape")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]), str(path))
    assert bench_model(path, BenchRequest({"x": (5,)}, seconds=0, least_calls=1)).timings.calls == 1
    with pytest.raises(QuantbenchError, match="onnxruntime refuses to run"):
        bench_model(path, BenchRequest({"x": (4,)}, seconds=0))


def test_the_json_before_an_ultralytics_engine_is_left_out() -> None:
    header = json.dumps({"task": "detect", "imgsz": [640, 640]}).encode()
    file = len(header).to_bytes(4, "little", signed=True) + header + b"ftrt plan"
    assert plan_of(file) == b"ftrt plan"
    for other in (b"ftrt plan", b"", b"\x01", b"\x05\0\0\0{oops", b"\x02\0\0\0[]ftrt", b"\xff\xff\xff\xff{}"):
        assert plan_of(other) == other


def test_notes_say_what_bounds_the_throughput() -> None:
    def notes(compute: float, enqueue: float, h2d: float, d2h: float) -> list[str]:
        arrays = (np.full(3, value) for value in (compute, enqueue, h2d, d2h))
        return Timings(*arrays, 1.0, 1).notes()

    assert notes(10, 8, 9, 9) == []
    (note,) = notes(10, 8.1, 1, 1)
    assert "--cuda-graph" in note
    assert [note.split(" takes")[0] for note in notes(1, 0.1, 1, 2)] == ["copying to the GPU", "copying from the GPU"]
    assert Timings(np.ones(3), None, None, None, 1.0, 1).notes() == []


def test_images_are_the_first_dimension_of_the_first_input() -> None:
    assert images_of({"a": np.zeros((4, 3)), "b": np.zeros((7,))}) == 4
    assert images_of({"a": np.zeros(())}) == 1
    assert images_of({}) == 1


def test_doctor_names_the_gpu_and_what_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = _cuda(True, Driver("580.1", (H200,)))
    assert (here.available, here.version) == (True, "driver 580.1")
    assert here.detail.startswith("NVIDIA H200 (sm90, 140 GiB); ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    hidden = _cuda(False, Driver("580.1", (H200,)))
    assert (hidden.available, hidden.how_to_install) == (False, "unset CUDA_VISIBLE_DEVICES")
    assert hidden.detail == "CUDA_VISIBLE_DEVICES=-1 hides NVIDIA H200 (sm90, 140 GiB)"
    assert _cuda(False, Driver()).detail == "no NVIDIA GPU"


def test_doctor_knows_where_tensorrt_rtx_runs() -> None:
    assert _tensorrt_rtx((RTX4090,)).can == ("build", "run", "inspect")
    assert _tensorrt_rtx((H200, RTX4090)).can == ("build", "run", "inspect")
    found = _tensorrt_rtx((H200,))
    assert found.can == ("build", "inspect")
    assert found.detail == "ahead-of-time builds only: it does not run on NVIDIA H200 (sm90)"


def test_a_machine_without_driver_has_no_gpus() -> None:
    driver = find_driver()
    assert bool(driver.version) or driver.gpus == ()


def _same_from_folders_and_tars(folder: Path, pictures: NDArray[Any], values: NDArray[Any]) -> None:
    """What the other commands take as data: tars, a pattern of them, folders of arrays."""
    f32 = np.dtype(np.float32)
    samples = {file.stem: {"png": file.read_bytes()} for file in sorted((folder / "photos").iterdir())}
    shards = write_shards(folder / "shards", samples, 1)
    for named in (shards, shards / "train-{000..001}.tar"):
        assert np.array_equal(read_input("x", named, (3, 3, 16, 16), f32, "yolo"), pictures)
    members = {}
    (folder / "arrays").mkdir()
    for number, value in enumerate(values):
        file = folder / "arrays" / f"{number}.npy"
        np.save(file, value[None])
        members |= {f"{number}.x.npy": file.read_bytes(), f"{number}.y.npy": (folder / "x.npy").read_bytes()}
    (folder / "x.tar").write_bytes(tar(members))
    wanted = np.concatenate([values, values[:1]])
    for named in ("arrays", "x.tar"):
        assert np.array_equal(read_input("x", folder / named, (3, 3, 2, 2), f32, None), wanted)
    for name, named, shape, message in (
        ("z", "x.tar", (1, 3, 2, 2), "its sample has arrays x, y, none for z"),
        ("x", "x.tar", (1, 3, 4, 4), r"x\.tar/0\.x\.npy holds 1x3x2x2 a sample, but input x is to be 1x3x4x4"),
        ("x", "none.tar", (1, 3, 4, 4), "none.tar does not exist"),
    ):
        with pytest.raises(QuantbenchError, match=message):
            read_input(name, folder / named, shape, f32, None)


def test_inputs_from_files(tmp_path: Path) -> None:
    """Arrays, raw values as trtexec's --loadInputs takes them, and pictures in turn until the batch is full."""
    f32 = np.dtype(np.float32)
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    np.save(tmp_path / "x.npy", values)
    values.tofile(tmp_path / "x.bin")
    assert array_shape(tmp_path / "x.npy") == (2, 3, 2, 2)
    assert array_shape(tmp_path / "x.bin") is None
    for name in ("x.npy", "x.bin"):
        assert np.array_equal(read_input("x", tmp_path / name, (2, 3, 2, 2), f32, None), values)
    photos = tmp_path / "photos"
    photos.mkdir()
    for shade in (0, 255):
        Image.new("RGB", (40, 30), (shade,) * 3).save(photos / f"{shade}.png")
    batch = read_input("x", photos, (3, 3, 16, 16), f32, "yolo")
    assert batch.shape == (3, 3, 16, 16)
    assert np.array_equal(batch[0], batch[2])
    assert not np.array_equal(batch[0], batch[1])
    one = read_input("x", photos / "255.png", (2, 16, 16, 3), f32, "yolo")
    assert one.shape == (2, 16, 16, 3)
    for file, shape, message in (
        ("none.npy", (1,), "no such file"), ("x.npy", (1, 3), "is to be 1x3"), ("x.bin", (1, 3), "holds 96 bytes, but"),
        ("photos", (2, 2), "no batch of pictures"),
    ):  # fmt: skip
        with pytest.raises(QuantbenchError, match=message):
            read_input("x", tmp_path / file, shape, f32, None)
    _same_from_folders_and_tars(tmp_path, batch, values)
    with pytest.raises(QuantbenchError, match="is not NAME=FILE"):
        named_files(("x.npy",))


def test_bench_on_a_file_by_several_callers_with_the_times_of_all(cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 1, 28, 28), np.float32))
    code, out, err = cli(
        "bench", RESNET, "--input", f"image={tmp_path / 'x.npy'}", "--contexts", "3", "--duration", "0", "--iterations",
        "9", "--threads", "1", "--times", tmp_path / "t.json", "--json",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["calls"], summary["shapes"]) == (9, {"image": [4, 1, 28, 28]})
    times = json.loads((tmp_path / "t.json").read_text())
    assert len(times) == 9
    assert [t["startEnqMs"] for t in times] == sorted(t["startEnqMs"] for t in times)
    assert times[0]["latencyMs"] == pytest.approx(times[0]["computeMs"])
    code, out, err = cli("inspect", tmp_path / "t.json")
    assert code == 0, err
    assert "inference times" in out


def test_times_are_those_of_trtexec() -> None:
    ones = np.ones(2)
    timings = Timings(2 * ones, ones / 4, ones, ones / 2, 1.0, 1, np.array([5.0, 1.0]))
    first, second = as_trtexec(timings)
    assert (first["startH2dMs"], second["startH2dMs"]) == (1.0, 5.0)
    assert (first["endH2dMs"], first["endComputeMs"], first["endD2hMs"]) == (2.0, 4.0, 4.5)
    assert (first["h2dMs"], first["computeMs"], first["d2hMs"], first["latencyMs"]) == (1.0, 2.0, 0.5, 3.5)


def test_several_shapes_one_after_the_other(cli) -> None:
    words = ["bench", RESNET, "--seconds", "0", "--threads", "1", "--shapes", "image=1x1x28x28"]
    words += ["--shapes", "image=3x1x28x28"]
    code, out, err = cli(*words)
    assert code == 0, err
    assert "(image 1x1x28x28): 10 calls" in out
    assert "(image 3x1x28x28): 10 calls" in out
    code, out, _ = cli(*words, "--json")
    assert [summary["shapes"]["image"][0] for summary in json.loads(out)] == [1, 3]
    code, _, err = cli(*words, "--times", "t.json")
    assert (code, "--times holds the calls of one --shapes" in err) == (2, True)


def test_ranges_are_those_of_the_package_itself() -> None:
    """Its C extension is called; no profiler listens here."""
    import nvtx

    own = Ranges()
    with own.stage("build") as stage, own.batch(3) as batch:
        assert isinstance(stage, nvtx.annotate)
        assert isinstance(batch, nvtx.annotate)


def test_ranges_are_nvtx_where_that_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[tuple[str, object]] = []

    def annotate(message: str, domain: str, payload: object = None) -> contextlib.AbstractContextManager[None]:
        assert domain == "quantbench"
        said.append((message, payload))
        return contextlib.nullcontext()

    monkeypatch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=annotate))
    own = Ranges()
    with own.stage("build"), own.batch(3):
        pass
    assert said == [("build", None), ("batch", 3)]
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with Ranges().stage("build"):
        pass
    assert len(said) == 2
