"""`build` and `cache to-qdq` take calibration data in every form that `ptq` takes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from quantbench.data.array_calls import save_call
from tests.feeds.networks import NETWORKS, image_and_vector, stereo, tokens


def test_build_quantizes_a_network_of_several_inputs_on_arrays(cli, tmp_path: Path) -> None:
    network = stereo()
    onnx.save(network.model, tmp_path / "m.onnx")
    samples = network.samples(12)
    inputs = []
    for name, array in samples.items():
        np.save(tmp_path / f"{name}.npy", array)
        inputs += ["--input", f"{name}={tmp_path / name}.npy"]
    common = ("build", tmp_path / "m.onnx", "--backend", "onnxruntime", "--precision", "int8")
    code, printed, error = cli(*common, *inputs, "--out", tmp_path / "a.onnx")
    assert code == 0, error
    assert "INT8: quantbench placed Q/DQ" in printed
    save_call(tmp_path / "both.npz", samples)
    code, _, error = cli(*common, "--calib-data", tmp_path / "both.npz", "--out", tmp_path / "b.onnx")
    assert code == 0, error
    # The same samples, however they are given: the same engine.
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_build_says_what_data_lack_before_it_calibrates(cli, tmp_path: Path) -> None:
    onnx.save(image_and_vector().model, tmp_path / "m.onnx")
    np.save(tmp_path / "state.npy", np.zeros((4, 6), np.float32))
    code, _, error = cli(
        "build", tmp_path / "m.onnx", "--backend", "onnxruntime", "--precision", "int8", "--input",
        f"state={tmp_path / 'state.npy'}", "--out", tmp_path / "e.onnx",
    )  # fmt: skip
    assert code == 2
    assert "'image'" in error
    assert not (tmp_path / "e.onnx").exists()


def biases(path: Path) -> dict[str, np.ndarray]:
    model = onnx.load(path)
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 1}


def test_a_cache_becomes_a_model_with_corrected_biases(cli, tmp_path: Path) -> None:
    network = NETWORKS["audio"]()
    onnx.save(network.model, tmp_path / "m.onnx")
    save_call(tmp_path / "data.npz", network.samples(24))
    run = tmp_path / "run"
    command = ("ptq", tmp_path / "m.onnx", "--calib-data", tmp_path / "data.npz", "--out", run, "--no-compile")
    assert cli(*command, "--calibrator", "mse")[0] == 0
    convert = ("cache", "to-qdq", run / "calibration.cache", tmp_path / "m.onnx")
    assert cli(*convert, "-o", tmp_path / "plain.onnx")[0] == 0
    code, printed, error = cli(*convert, "-o", tmp_path / "better.onnx", "--calib-data", tmp_path / "data.npz")
    assert code == 0, error
    assert "biases corrected on 24 samples" in printed
    plain, better, ours = (
        biases(p) for p in (tmp_path / "plain.onnx", tmp_path / "better.onnx", run / "model.qdq.onnx")
    )
    moved = [name for name in plain if name in better and not np.array_equal(plain[name], better[name])]
    assert moved or set(better) - set(plain)
    assert all(np.allclose(better[name], ours[name], atol=1e-5) for name in better if name in ours)


def test_to_qdq_refuses_data_that_do_not_fit(cli, tmp_path: Path) -> None:
    network = tokens()
    onnx.save(network.model, tmp_path / "m.onnx")
    save_call(tmp_path / "data.npz", network.samples(8))
    run = tmp_path / "run"
    assert cli("ptq", tmp_path / "m.onnx", "--calib-data", tmp_path / "data.npz", "--out", run, "--no-compile")[0] == 0
    np.savez(tmp_path / "half.npz", ids=network.samples(8)["ids"])
    code, _, error = cli(
        "cache", "to-qdq", run / "calibration.cache", tmp_path / "m.onnx", "-o", tmp_path / "q.onnx", "--calib-data",
        tmp_path / "half.npz",
    )  # fmt: skip
    assert code == 2
    assert "'mask'" in error
    assert not (tmp_path / "q.onnx").exists()
