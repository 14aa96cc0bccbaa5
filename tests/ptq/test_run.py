"""Whole PTQ runs through the command line: what they leave, skip, resume and refuse to mix."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantbench.cache.tensorrt import parse
from quantbench.calibration.ort_outputs import runner
from quantbench.demo import resnet18
from quantbench.ort import create_session

FILES = {
    "model.qdq.onnx", "model.ort.onnx", "calibration.cache", "calibration.cache.json", "ranges.json", "run.json",
    "layers.json", "build.log", "model.engine", "evaluation.json", "pictures.json", "report.md",
    "report.html",
}  # fmt: skip


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


def test_a_run_leaves_everything_with_its_provenance(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, printed, error = cli("ptq", small_model, "--calib-dir", pictures, "--out", out, "--calibrator", "entropy")
    assert code == 0, error
    assert {p.name for p in out.iterdir() if p.is_file()} == FILES
    assert "by default: declare with --preprocess" in (out / "report.md").read_text()

    run = json.loads((out / "run.json").read_text())
    assert run["provenance"]["versions"]["quantbench"]
    assert run["model"]["sha256"]
    assert run["data"]["sha256"]
    assert run["provenance"]["command"].startswith("quantbench ptq")
    assert run["recipe"]["calibration"]["calibrator"] == run["calibration"]["method"] == "entropy"
    assert run["preprocess"]["settings"]["crop"] == [64, 64]
    outputs = run["evaluation"]["outputs"]
    assert outputs["sqnr_db"]["value"] > 15
    assert outputs["agreement"]["count"] == 12

    ranges = json.loads((out / "ranges.json").read_text())["tensors"]
    cache = parse((out / "calibration.cache").read_text())
    assert {entry.name for entry in cache.entries} == set(ranges)
    for entry in cache.entries:
        assert np.float32(entry.scale) == np.float32(ranges[entry.name]["amax"] / 127)
    assert "report.html" in printed
    html = (out / "report.html").read_text()
    # Scripts stand in the page and load nothing (tests/report/test_page.py watches it in a browser).
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not any(word in own for word in ("http://", "https://", "src=", "href="))
    assert any(verdict in html for verdict in ("Ship INT8", "Mix", "Do not ship", "Stay with"))


def test_layers_are_int8_and_traffic_is_counted(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cli("ptq", small_model, "--calib-dir", pictures, "--out", out, "--precision", "fp32", "--batch", 2)
    data = json.loads((out / "layers.json").read_text())
    assert data["shape"] == [2, 3, 64, 64]
    weighted = [n.name for n in onnx.load(str(small_model)).graph.node if n.op_type in ("Conv", "Gemm")]
    assert data["int8"]["weighted_int8"] == len(weighted) == 21
    assert data["int8"]["not_int8"] == []
    total = 0
    for layer in data["layers"]:
        total += sum(t["bytes"] or 0 for t in (*layer["inputs"], *layer["outputs"], *layer["constants"]))
    assert data["int8"]["traffic_bytes"] == total > 0


def test_the_same_command_again_does_no_work_twice(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("ptq", small_model, "--calib-dir", pictures, "--out", out, "--no-compile")
    assert cli(*command)[0] == 0
    before = snapshot(out)
    code, _, error = cli(*command)
    assert code == 0
    assert "Calibrating" not in error
    after = snapshot(out)
    for name in ("model.qdq.onnx", "ranges.json", "evaluation.json", "calibration.cache"):
        assert after[name] == before[name]


def test_another_method_needs_a_word_and_no_second_look_at_the_images(
    cli, small_model: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ("ptq", small_model, "--calib-dir", pictures, "--out", out, "--no-compile", "--calibrator")
    assert cli(*command, "minmax")[0] == 0
    before = snapshot(out)
    code, _, error = cli(*command, "percentile:99")
    assert code == 2
    assert "belongs to another method; --reuse-cache" in error
    assert snapshot(out) == before

    code, _, error = cli(*command, "percentile:99", "--refresh")
    assert code == 0
    assert json.loads((out / "run.json").read_text())["calibration"]["method"] == "percentile:99"
    assert snapshot(out)["ranges.json"] != before["ranges.json"]

    code, _, error = cli(*command, "minmax", "--reuse-cache")
    assert code == 0
    assert "as --reuse-cache says" in error
    found = json.loads((out / "ranges.json").read_text())["tensors"]
    assert {r["method"] for r in found.values()} == {"cache calibration.cache"}


def test_a_folder_of_another_run_is_not_touched(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert cli("ptq", small_model, "--calib-dir", pictures, "--out", out, "--no-compile")[0] == 0
    other = tmp_path / "other.onnx"
    onnx.save(resnet18.build(width=8, size=64, classes=10, seed=1), other)
    before = snapshot(out)
    code, _, error = cli("ptq", other, "--calib-dir", pictures, "--out", out, "--no-compile")
    assert code == 2
    assert "holds another run" in error
    assert snapshot(out) == before
    assert cli("ptq", other, "--calib-dir", pictures, "--out", out, "--no-compile", "--overwrite")[0] == 0


def test_json_prints_run_json_alone(cli, small_model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, printed, error = cli("ptq", small_model, "--calib-dir", pictures, "--out", out, "--no-compile", "--json")
    assert code == 0
    assert json.loads(printed) == json.loads((out / "run.json").read_text())
    assert not error


@pytest.mark.parametrize("batch", [5, 1])
def test_static_batch_models(cli, pictures: Path, tmp_path: Path, batch: int) -> None:
    """A static batch that does not divide the images gives the ranges of the dynamic model."""
    fixed, free = tmp_path / "fixed.onnx", tmp_path / "free.onnx"
    onnx.save(resnet18.build(batch=batch, width=8, size=64, classes=10), fixed)
    onnx.save(resnet18.build(width=8, size=64, classes=10), free)
    found = {}
    for path in (fixed, free):
        out = tmp_path / path.stem
        code, _, error = cli("ptq", path, "--calib-dir", pictures, "--out", out, "--no-compile", "--calibrator", "mse")
        assert code == 0, error
        found[path.stem] = json.loads((out / "ranges.json").read_text())["tensors"]
    for name, expected in found["free"].items():
        assert found["fixed"][name]["histogram"]["elements"] == expected["histogram"]["elements"]
        assert found["fixed"][name]["amax"] == pytest.approx(expected["amax"], rel=0.02)


def test_external_data(cli, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    model = resnet18.build(width=8, size=64, classes=10)
    onnx.save(model, path, save_as_external_data=True, location="big.weights", size_threshold=0)
    out = tmp_path / "run"
    assert cli("ptq", path, "--calib-dir", pictures, "--out", out)[0] == 0
    assert json.loads((out / "layers.json").read_text())["int8"]["weighted_int8"] == 21
    session = create_session(out / "model.ort.onnx")
    assert runner(session, 0)({"image": np.zeros((1, 3, 64, 64), np.float32)})[0].shape == (1, 10)


@pytest.mark.parametrize("opset", [13, 21])
def test_opsets(cli, pictures: Path, tmp_path: Path, opset: int) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(resnet18.build(width=8, size=64, classes=10, opset=opset), path)
    code, _, error = cli("ptq", path, "--calib-dir", pictures, "--out", tmp_path / "run")
    assert code == 0, error


def test_ready_batches_as_npz(cli, small_model: Path, tmp_path: Path) -> None:
    batches = tmp_path / "batches.npz"
    np.savez(batches, images=np.random.default_rng(0).normal(size=(10, 3, 64, 64)).astype(np.float32))
    code, _, error = cli("ptq", small_model, "--calib-dir", batches, "--out", tmp_path / "run", "--no-compile")
    assert code == 0, error


def test_ctrl_c_leaves_the_old_results_whole_and_says_how_to_go_on(
    cli, small_model: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["ptq", small_model, "--calib-dir", pictures, "--out", out, "--no-compile"]
    assert cli(*command)[0] == 0
    before = {n: v for n, v in snapshot(out).items() if not n.startswith(".quantbench")}
    again = [sys.executable, "-m", "quantbench", *map(str, command), "--refresh", "--batch-size", "1"]
    process = subprocess.Popen(again, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("Calibrating" in line for line in process.stderr)  # the images are running now
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command to go on" in error
    assert "Traceback" not in error
    after = {n: v for n, v in snapshot(out).items() if not n.startswith(".quantbench")}
    assert after == before
    assert cli(*command, "--refresh")[0] == 0
