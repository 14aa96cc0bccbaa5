"""The Python API: light to import, errors in its own words, documented snippets and the notebook that run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import quantbench
from quantbench.ort import create_session
from tests.ptq import small_run

ROOT = Path(__file__).resolve().parents[2]
RANDOM = np.random.default_rng(5)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Two convs behind input x [n, 3, 16, 16]."""
    weights = {"a.w": (16, 3, 3, 3), "b.w": (16, 16, 3, 3), "head.w": (16, 16, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "a.w"], ["a_out"], name="a", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a_out"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "b.w"], ["b_out"], name="b", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b_out", "head.w"], ["y"], name="head"),
    ]
    stored = [numpy_helper.from_array(RANDOM.normal(0, 0.2, s).astype(np.float32), n) for n, s in weights.items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 16, 16])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def batches() -> list[np.ndarray]:
    return [RANDOM.normal(size=(4, 3, 16, 16)).astype(np.float32) for _ in range(3)]


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, quantbench\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'torch', 'pydantic', 'PIL', 'jinja2', 'typer', 'rich', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), 'quantize' in dir(quantbench))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] True"


def forms(batches: list[np.ndarray]) -> dict[str, object]:
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(np.concatenate(batches)), torch.zeros(12))
    return {
        "arrays": batches,
        "dicts": [{"x": batch} for batch in batches],
        "generator": iter(batches),
        "tensors": [torch.from_numpy(batch) for batch in batches],
        "loader": torch.utils.data.DataLoader(dataset, batch_size=4),
        "one array": np.concatenate(batches),
    }


def test_every_form_of_data_gives_one_result(model: onnx.ModelProto, batches: list[np.ndarray], tmp_path: Path) -> None:
    before = model.SerializeToString()
    results = {name: quantbench.quantize(model, data) for name, data in forms(batches).items()}
    np.save(tmp_path / "images.npy", np.concatenate(batches))
    results["folder"] = quantbench.quantize(model, tmp_path / "images.npy")
    assert model.SerializeToString() == before
    first = results.pop("arrays")
    assert {site.node for site in first.plan.weights} == {"a", "b"}
    for name, other in results.items():
        assert other.ranges == first.ranges, name
    x = np.concatenate(batches)
    expected, got = (create_session(m).run(None, {"x": x})[0] for m in (model, first.for_onnxruntime))
    assert 10 * np.log10((expected**2).sum() / ((expected - got) ** 2).sum()) > 30


def test_options_reach_the_plan(model: onnx.ModelProto, batches: list[np.ndarray]) -> None:
    kept = quantbench.quantize(model, batches, keep_float=["b"], bias_correction=False)
    assert set(kept.plan.kept_float) == {"b", "head"}
    whole = quantbench.quantize(model, batches, placement=quantbench.PlacementOptions(head_float=False))
    assert {site.node for site in whole.plan.weights} == {"a", "b", "head"}
    assert "<td>b</td>" in kept._repr_html_()
    assert "1 layers in INT8" in repr(kept)
    assert "CaskConvolution" in quantbench.predict(kept.model)._repr_html_()
    assert "findings" in quantbench.lint(kept.model)._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"data": 3}, "data: int is neither"),
        ({"data": "/nowhere"}, "data: /nowhere does not exist"),
        ({"data": []}, r"\(data\)"),
        ({"data": [{"z": np.zeros((1, 3, 16, 16))}]}, "lacks input 'x'"),
        ({"data": ["abc"]}, "no array of numbers"),
        ({"data": [np.zeros((1, 3, 9))]}, r"takes \[any, 3, 16, 16\], a batch has \[1, 3, 9\]"),
        ({"calibrator": "entrophy"}, "entrop"),
        ({"placement": "quick"}, "placement 'quick'"),
        ({"keep_float": ["nothing"]}, "nothing"),
    ],
)
def test_errors_name_the_argument(
    arguments: dict[str, object], told: str, model: onnx.ModelProto, batches: list[np.ndarray]
) -> None:
    with pytest.raises(quantbench.QuantbenchError, match=told) as caught:
        quantbench.quantize(model, **{"data": batches, **arguments})
    assert "--" not in str(caught.value)


def test_rooms_stay_packages_and_can_be_called(model: onnx.ModelProto) -> None:
    import quantbench.predict.simulate

    assert quantbench.predict.simulate.predict
    with pytest.raises(quantbench.QuantbenchError, match=r"quantbench\.quantize"):
        quantbench.predict(model)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = quantbench.nonsense


def finished(folder: Path) -> Path:
    """A run folder of `quantbench ptq`."""
    small_run.write_model(folder / "m.onnx")
    small_run.write_data(folder / "data")
    small_run.run(folder, folder / "run")
    return folder / "run"


def test_an_evaluation_and_a_report_show_themselves(
    model: onnx.ModelProto, batches: list[np.ndarray], tmp_path: Path
) -> None:
    onnx.save(model, tmp_path / "<b>.onnx")
    np.save(tmp_path / "images.npy", np.concatenate(batches))
    quantbench.quantize(model, batches).save(tmp_path / "out")
    pair = (tmp_path / "<b>.onnx", tmp_path / "out" / "model.ort.onnx")
    evaluation = quantbench.evaluate(*pair, data=tmp_path / "images.npy")
    page = evaluation._repr_html_()
    assert "2 models on 12 images" in page
    assert f"<td>SQNR y</td><td>{evaluation.models[1].sqnr.value:.1f} dB" in page
    assert "&lt;b&gt;" in page
    assert "<b>.onnx" not in page
    report = quantbench.report(finished(tmp_path))
    assert report.verdict.headline in report._repr_html_()
    assert "2 of 3 weighted layers quantized (minmax)" in report._repr_html_()
    assert report.verdict.headline in repr(report)
    with pytest.raises(quantbench.QuantbenchError, match=r"holds no run\.json"):
        quantbench.report(tmp_path)


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: onnx.ModelProto, batches: list[np.ndarray]
) -> dict[str, object]:
    """A folder with the files that the snippets name, and the variables."""
    monkeypatch.chdir(tmp_path)
    onnx.save(model, "model.onnx")
    np.save("images.npy", np.concatenate(batches))
    Path("calibration.cache").write_text("TRT-8601-MinMaxCalibration\nx: 3c010a14\ny: 3d010a14\n")
    finished(Path.cwd())
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3),
                                 torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3)).eval()  # fmt: skip
    images = torch.from_numpy(np.concatenate(batches))
    return {"quantbench": quantbench, "batches": batches, "module": module, "example": images[:1], "loader": [images]}


def test_snippets_of_the_page_run(place: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(snippets) == 7
    for snippet in snippets:
        assert len(snippet.splitlines()) == 3
        exec(compile(snippet.replace("*head*", "head*"), "docs/python.md", "exec"), place)
    assert Path("out/model.engine").exists()
    assert onnx.load("module.qdq.onnx").graph.node
    assert "tensorrt" in capsys.readouterr().out


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "quantize.ipynb").read_text(encoding="utf-8"))
    shared: dict[str, object] = {"__name__": "notebook"}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    for cell in cells:
        exec(compile(cell, "quantize.ipynb", "exec"), shared)
    assert (tmp_path / "run" / "report.html").exists()


def test_qat_refuses_in_one_line() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3))
    with pytest.raises(quantbench.QuantbenchError, match=r"call quantbench\.qat\.prepare"):
        quantbench.qat.calibrate(module, [])
    with pytest.raises(quantbench.QuantbenchError, match="no module 'nothing'"):
        quantbench.qat.prepare(module, torch.zeros(1, 3, 8, 8), keep_float=["nothing"])
