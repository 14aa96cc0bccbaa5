"""The commands as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from quantbench.cache.tensorrt import parse, render
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.cli.cache import app
from quantbench.errors import QuantbenchError

DATA = Path(__file__).parents[1] / "data"
CALIB = DATA / "artefacts" / "calib"
PEERS = DATA / "cache"


def cache(*arguments: object, code: int = 0) -> str:
    """Output of `quantbench cache …` in this process; a QuantbenchError counts as exit code 2, as in `main`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, QuantbenchError):
        assert code == 2, result.exception
        return str(result.exception)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def files(resnet_case, tmp_path: Path) -> tuple[Path, Path]:
    """A cache and its float model on disk."""
    model, text = tmp_path / "model.onnx", tmp_path / "calib.cache"
    onnx.save(resnet_case.model, model)
    text.write_text(render(resnet_case.ranges))
    return text, model


def test_show_prints_headers_values_and_flags_of_several_files() -> None:
    out = cache("show", CALIB / "mlperf10_lenovo_rnnt_minmax.cache", CALIB / "mlperf05_inspur_mnist2.cache")
    assert "tensorrt, version 7.2.0, MinMaxCalibration, 22 tensors" in out
    assert "one_constant\t0.007874016\t1\t" in out
    assert "(Unnamed Layer* 3) [Padding]_output\t0.1206993\t15.3288\tunnamed" in out
    assert "header: TRT-5102-EntropyCalibration2" in out


def test_show_json_is_valid_with_infinities(tmp_path: Path) -> None:
    path = tmp_path / "bad.cache"
    path.write_text("TRT-8601-EntropyCalibration2\na: 7f800000\nb: 7fc00000\n")
    (data,) = json.loads(cache("show", path, "--json"))
    assert [entry["amax"] for entry in data["entries"]] == ["inf", "nan"]
    assert [flag["kind"] for flag in data["flags"]] == ["infinite", "nan"]


def test_diff_and_merge(tmp_path: Path) -> None:
    a, b, out = tmp_path / "a.cache", tmp_path / "b.cache", tmp_path / "out.cache"
    a.write_text(render(Ranges({"x": TensorRange(1.0)}), version="7203", algorithm="MinMaxCalibration"))
    b.write_text(render(Ranges({"x": TensorRange(3.0), "y": TensorRange(2.0)})))
    assert "x\t1\t3\t3" in cache("diff", a, b)
    assert "1 of them differed" in cache("merge", a, b, "-o", out)
    merged = parse(out.read_text())
    assert (merged.version, merged.algorithm) == ("7203", "MinMaxCalibration")
    assert merged.ranges["x"].amax == pytest.approx(3.0)


def test_check_reports_and_is_strict_on_request(files: tuple[Path, Path]) -> None:
    text, model = files
    assert "50 of 50 float tensors have a range" in cache("check", text, model, "--strict")
    lines = [line for line in text.read_text().splitlines() if not line.startswith("image:")]
    text.write_text("\n".join(lines) + "\n")
    out = cache("check", text, model)
    assert "/conv1/Conv (Conv) runs in float: no range for its input image" in out
    cache("check", text, model, "--strict", code=1)
    assert json.loads(cache("check", text, model, "--json"))["missing"] == ["image"]


def test_to_qdq_and_from_qdq_on_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    text, model = files
    quantized, back = tmp_path / "q.onnx", tmp_path / "back.cache"
    assert "20 layers quantized" in cache("to-qdq", text, model, "-o", quantized, "--keep-float", "/fc/Gemm")
    cache("from-qdq", quantized, "-o", back)
    assert back.read_bytes() == text.read_bytes()
    clean = onnx.load(tmp_path / "back.float.onnx")
    assert {node.op_type for node in clean.graph.node}.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
    assert "/fc/Gemm:fp16" in (tmp_path / "back.layer_precisions.txt").read_text()


def test_from_run_reads_ranges_json(tmp_path: Path) -> None:
    (tmp_path / "ranges.json").write_text(json.dumps(Ranges({"x": TensorRange(2.0, "mse")}).to_json()))
    out = tmp_path / "calib.cache"
    cache("from-run", tmp_path, "-o", out, "--trt-version", "100300")
    assert out.read_text() == "TRT-100300-EntropyCalibration2\nx: 3c810204\n"
    (tmp_path / "ranges.json").write_text(json.dumps(Ranges({"x": TensorRange(2.0, "minmax")}).to_json()))
    cache("from-run", tmp_path, "-o", out)
    assert out.read_text() == "TRT-8601-MinMaxCalibration\nx: 3c810204\n"
    assert "holds no ranges.json" in cache("from-run", CALIB, "-o", out, code=2)


def test_convert_between_tools(tmp_path: Path) -> None:
    out = tmp_path / "calib.cache"
    cache("convert", PEERS / "modelopt" / "tiny_modelopt.pth", "--model", PEERS / "tiny.onnx", "-o", out)
    assert list(parse(out.read_text()).by_name) == ["input", "/relu/Relu_output_0", "/ReduceMean_output_0"]
    encodings = tmp_path / "x.encodings"
    cache("convert", out, "--to", "aimet", "-o", encodings)
    assert "identical" not in cache("diff", out, encodings)
    assert "3 of them equal" in cache("diff", out, encodings)


def test_errors_are_one_line_with_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quantbench", "cache", "show", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("quantbench: error: cannot read")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_two_caches_of_one_name_are_told_apart(cli, tmp_path: Path) -> None:
    for folder, value in (("old", "3c010a14"), ("new", "3d010a14")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "calibration.cache").write_text(f"TRT-8501-EntropyCalibration2\nx: {value}\n")
    _, out, _ = cli("cache", "diff", *(tmp_path / name / "calibration.cache" for name in ("old", "new")))
    assert "amax in old/calibration.cache\tamax in new/calibration.cache" in out


def test_swapped_arguments_are_told(cli, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08")
    code, _, error = cli("cache", "check", tmp_path / "m.onnx", tmp_path / "calibration.cache")
    assert code == 2
    assert "m.onnx is a model, no calibration cache; where a command takes both, the cache comes first" in error
