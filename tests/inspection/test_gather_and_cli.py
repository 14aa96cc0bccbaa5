"""The command: what it prints and writes, what it refuses, and that nothing real makes it fail."""

import json
import os
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.errors import QuantbenchError
from quantbench.inspection.circumstances import circumstances
from quantbench.inspection.export import to_json
from quantbench.inspection.gather import gather
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.layer_json import read_layer_info
from quantbench.inspection.logs.build_log import collect
from quantbench.inspection.logs.lexer import lex
from quantbench.inspection.page.render import page
from quantbench.inspection.story import tell
from quantbench.inspection.verdicts.judge import judge
from tests.ptq.small_run import run, write_data, write_model

ARTEFACTS = Path(__file__).parents[1] / "data" / "artefacts"
JSON, LOGS = ARTEFACTS / "json", ARTEFACTS / "logs"


@pytest.fixture(scope="module")
def cli() -> CliRunner:
    if not any(command.name == "inspect" for command in app.registered_commands):
        register_commands()
    return CliRunner()


def test_inspect_prints_and_writes(cli: CliRunner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli.invoke(app, ["inspect", str(LOGS / "trt852_qdq_yolo_verbose.log"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "TensorRT 8.5.2, 86 layers" in result.output
    assert "15 of 43 weighted layers take INT8 and give float" in result.output
    data = json.loads((out / "inspect.json").read_text())
    assert data["format"] == "quantbench-inspect-1"
    assert len(data["layers"]) == 86
    assert data["log"]["not_understood"] == 0
    assert data["story"]["stages"][0] == {"line": 4645, "stage": "Original", "layers": 730}
    html = (out / "inspect.html").read_text()
    assert html.startswith("<!doctype html>")
    assert "15 of 43 weighted layers" in html
    assert html.count('<tr id="layer') == 86


def test_two_engines_side_by_side(cli: CliRunner, tmp_path: Path) -> None:
    names = ("trex_pt_qat_resnet-qat", "trex_pt_qat-residual_resnet-qat-residual")
    files = [str(JSON / f"{name}.onnx.engine.graph.json") for name in names]
    result = cli.invoke(app, ["inspect", *files, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "33 % faster" in result.output
    assert json.loads((tmp_path / "inspect.json").read_text())["first"] == names[0]
    assert (tmp_path / f"{names[0]}.html").exists()


def test_json_goes_to_stdout_and_nothing_is_written(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli.invoke(app, ["inspect", str(JSON / "trex_pt_fp16_resnet.onnx.engine.graph.json"), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["summary"]["layers"] == 36
    assert list(tmp_path.iterdir()) == []


def test_run_folder_is_read_and_nothing_is_written_but_to_out(cli: CliRunner, tmp_path: Path) -> None:
    layers = gather([JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json"])[0].layers
    (tmp_path / "layers.json").write_text(json.dumps([layer.to_json() for layer in layers]))
    (tmp_path / "build.log").write_bytes((LOGS / "cookbook1016_05-Plugin_UseINT8-PTQ_log-main.py.log").read_bytes())
    before = sorted(tmp_path.iterdir())
    result = cli.invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.iterdir()) == before
    assert "wrote" not in result.output
    cli.invoke(app, ["inspect", str(tmp_path), "--out", str(tmp_path / "out")])
    data = json.loads((tmp_path / "out" / "inspect.json").read_text())
    assert [s["kind"] for s in data["sources"]] == ["own-layers", "log"]
    assert data["summary"]["layers"] == 37


def test_the_record_of_a_run_is_read_as_what_it_is(cli: CliRunner, tmp_path: Path) -> None:
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "data")
    record = run(tmp_path, tmp_path / "run")
    (found,) = gather([tmp_path / "run"])
    assert found.run == record
    told = circumstances(found)["run"]
    assert told["calibration"] == "minmax, 8 images"
    assert told["weighted layers with Q/DQ"] == "2 of 3"
    assert told["SQNR against FP32"].endswith(" dB")
    printed = json.loads(cli.invoke(app, ["inspect", str(tmp_path / "run"), "--json"]).stdout)
    assert printed["run"]["model"]["sha256"] == record.model.sha256
    text = (tmp_path / "run" / "run.json").read_text()
    for broken in (text.replace("quantbench-run-2", "quantbench-run-1"), text.replace('"sha256"', '"sha257"', 1)):
        (tmp_path / "run" / "run.json").write_text(broken)
        (found,) = gather([tmp_path / "run"])
        assert found.run is None
        assert any("run.json" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.log", None, "No such file"),
        ("empty.log", b"", "is empty"),
        ("x.json", b"{nonsense", "begins like JSON but is not"),
        ("x.json", b'{"a": 1}', "JSON of no kind that inspect knows"),
        ("x.json", b'[{"a": 1}]', "JSON list of no kind"),
        ("x.bin", b"abc\0def", "neither ONNX nor an engine"),
        ("x.engine", b"ftrt\0\0", "export"),
        ("x.onnx", b"not onnx at all", "no readable ONNX model"),
    ],
)
def test_faults_are_one_clear_line(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QuantbenchError, match=words) as error:
        gather([path])
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(QuantbenchError, match="write it to a file"):
        gather([tmp_path / "pipe"])


def test_text_that_is_no_log_gets_a_clear_word(cli: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("root:x:0:0\nnothing to see\n")
    result = cli.invoke(app, ["inspect", str(tmp_path / "x.txt"), "--out", str(tmp_path / "out")])
    assert "x.txt: text without a line of TensorRT" in result.output
    assert "None of its 2 lines looks like TensorRT's or trtexec's." in result.output


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"without run\.json"):
        gather([tmp_path])


def test_unknown_lines_are_listed_by_form_and_frequency(cli: CliRunner, tmp_path: Path) -> None:
    lines = [f"[V] [TRT] Blorbing quux_{i} sideways" for i in range(7)] + ["[V] [TRT] Zap!", "[V] [TRT] Removing a"]
    (tmp_path / "x.log").write_text("\n".join(lines) + "\n")
    result = cli.invoke(app, ["inspect", str(tmp_path / "x.log"), "--unknown"])
    assert [line.split()[:3] for line in result.output.split("\n")[2:4]] == [["7", "1", "Blorbing"], ["1", "8", "Zap!"]]
    assert "11.11 % understood" in result.output
    rows = json.loads(cli.invoke(app, ["inspect", str(tmp_path / "x.log"), "--unknown", "--json"]).stdout)
    assert [(row["count"], row["line"]) for row in rows] == [(7, 1), (1, 8)]
    no_log = cli.invoke(app, ["inspect", str(JSON / "trex_pt_fp16_resnet.onnx.engine.graph.json"), "--unknown"])
    assert "no file named here is one" in str(no_log.exception)


def test_three_engines_are_refused(cli: CliRunner) -> None:
    files = [str(p) for p in sorted(JSON.glob("trex_pt_*.graph.json"))]
    assert len(files) == 3
    result = cli.invoke(app, ["inspect", *files])
    assert isinstance(result.exception, QuantbenchError)
    assert "3 engines" in str(result.exception)


def test_a_build_that_the_log_lacks_is_refused() -> None:
    with pytest.raises(QuantbenchError, match=r"holds 2 build\(s\), not 3"):
        gather([LOGS / "trtrtx17_resnet18_fp32_then_qdq.log"], build=3)


def test_explain(cli: CliRunner) -> None:
    result = cli.invoke(app, ["explain", "QConvScaleFusion"])
    assert result.exit_code == 0
    assert "[int8 Conv] --> [BN + Relu]" in result.output
    assert "For INT8:" in result.output
    assert "QuantizeDoubleInputNodes" in cli.invoke(app, ["explain"]).output
    wrong = cli.invoke(app, ["explain", "QConvScaleFussion"])
    assert "did you mean QConvScaleFusion" in str(wrong.exception)


def test_q_dq_onnx_without_an_engine(tmp_path: Path) -> None:
    """x -> Q -> DQ -> Conv(W -> Q -> DQ) -> Relu -> Q -> DQ -> MatMul(float weight)."""
    make = helper.make_node
    scalar = [helper.make_tensor(n, TensorProto.FLOAT, [], [0.1]) for n in ("s",)]
    zero = helper.make_tensor("z", TensorProto.INT8, [], [0])
    weight = helper.make_tensor("W", TensorProto.FLOAT, [2, 1, 1, 1], [1.0, 2.0])
    dense = helper.make_tensor("M", TensorProto.FLOAT, [4, 3], [0.5] * 12)
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["xq"], name="xQ"),
        make("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="xDQ"),
        make("QuantizeLinear", ["W", "s", "z"], ["wq"], name="wQ"),
        make("DequantizeLinear", ["wq", "s", "z"], ["wd"], name="wDQ"),
        make("Conv", ["xd", "wd"], ["c"], name="conv"),
        make("Relu", ["c"], ["r"], name="relu"),
        make("QuantizeLinear", ["r", "s", "z"], ["rq"], name="rQ"),
        make("DequantizeLinear", ["rq", "s", "z"], ["rd"], name="rDQ"),
        make("MatMul", ["rd", "M"], ["y"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 3])], [*scalar, zero, weight, dense],
    )  # fmt: skip
    path = tmp_path / "model.qdq.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    inspection = gather([path])[0]
    assert inspection.model is not None
    assert [(n.name, n.op, n.weight) for n in inspection.model.nodes] == [
        ("xQ", "Q", False), ("xDQ", "DQ", False), ("wQ", "Q", True), ("wDQ", "DQ", True), ("rQ", "Q", False),
        ("rDQ", "DQ", False),
    ]  # fmt: skip
    conv, matmul = inspection.model.weighted
    assert (conv.input_quantized, conv.weight_quantized, conv.output_quantized, conv.weight) == (True, True, True, "W")
    assert (matmul.input_quantized, matmul.weight_quantized) == (True, False)
    verdict = next(v for v in judge(inspection) if v.rule == "qdq_model")
    assert verdict.title == "1 of 2 weighted nodes have Q/DQ on input and weights"
    assert [i.name for i in verdict.items] == ["dense"]
    assert "conv" not in page(inspection) or "dense" in page(inspection)


def _whole(lines: list[str]) -> None:
    """The whole way from lines to the page."""
    log = collect(lex(lines))
    build = log.build
    inspection = Inspection("t", (), layers=build.layers, log=log, build=build, story=tell(build))
    json.dumps(to_json(inspection), allow_nan=False)
    page(inspection)


def test_truncation_at_every_line_goes_the_whole_way() -> None:
    name = "cookbook1016_10-TensorRT-RTX_log-main.py-trtrtx-verbose.log"
    lines = (LOGS / name).read_text().split("\n")
    for cut in range(len(lines) + 1):
        _whole(lines[:cut])
        _whole(lines[cut:])


LINES = [
    line[:400]
    for path in sorted(LOGS.iterdir())
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[::97]
    if line.strip()
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=25), st.integers(0, 400))
def test_real_lines_in_any_order_and_cut_anywhere(lines: list[str], cut: int) -> None:
    _whole([*lines[:-1], lines[-1][:cut]] if lines else [])


SCALARS = st.none() | st.booleans() | st.integers(-3, 99) | st.text(max_size=8)
KEYS = st.sampled_from(
    [
        "Name",
        "LayerType",
        "Inputs",
        "Outputs",
        "Constants",
        "Dimensions",
        "Weights",
        "Type",
        "Count",
        "Metadata",
        "TacticName",
        "Format/Datatype",
    ]
)


@settings(max_examples=40, deadline=None)
@given(st.recursive(SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=5), max_leaves=12))
def test_any_json_under_layers_is_kept(value: object) -> None:
    entries = value if isinstance(value, list) else [value]
    info = read_layer_info({"Layers": entries})
    assert len(info.layers) == len(entries)
    page(Inspection("t", (), layers=info.layers))


def test_infinite_scales_and_broken_numbers_are_kept_not_fatal() -> None:
    lines = [
        "[V] [TRT] INT8 Inference Tensor scales and zero-points: a scale and zero-point "
        "Quantization(scale: {inf,nan,1.0,}, zero-point: {0,})",
        "[V] [TRT] Layer(NoOp): a, Tactic: 0, x (Float[--1,2]) -> y (Int8[1,64:x,5])",
        "[V] [TRT] Original: " + "9" * 5000 + " layers",
        "[I] === Profile (3 iterations ) ===",
        "[I] a 1.2.3 4..5 6 7",
        "[V] [TRT] Tactic: 0x1 Time: nan",
    ]
    _whole(lines)
    build = collect(lex(lines)).build
    data = to_json(Inspection("t", (), log=collect(lex(lines)), build=build))
    assert data["build"]["scales"] == {"a": ["inf", "nan", 1.0]}
    assert build.layers[0].inputs[0].dims == (2,)


NINES = "9" * 5001


@pytest.mark.parametrize("text", [
    json.dumps({"Layers": [{"Name": "a", "LayerType": "Reformat", "Inputs": [
        {"Name": "x", "Dimensions": [1, 3, 8, 8],
         "Format/Datatype": f"Channel major FP16 format where channel % {NINES} == 0"}], "Outputs": []}]}),
    json.dumps({"Layers": [{"Name": "a", "LayerType": "Reformat", "Inputs": [
        {"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": f"x (DLA_A{NINES})"}], "Outputs": [],
        "TacticName": f"sm80_tilesize{NINES}x{NINES}"}]}),
    f"[I] Total Weights Memory: {NINES} bytes\n[I] Total Activation Memory: {NINES}\n",
    f"[I] ==== TensorRT Engine ====\n    Layer {NINES}    | a [Op: Reformat]\n",
    "[V] Engine Layer Information:\n"
    f"[V] Layer(Reformat): a, Tactic: 0x0, x[Half({NINES},{NINES}:{NINES})] -> y[Half(1)]\n",
])  # fmt: skip
def test_numbers_longer_than_python_reads_are_no_fault(text: str, tmp_path: Path, cli: CliRunner) -> None:
    """int() refuses over 4,300 digits (found by fuzzing)."""
    path = tmp_path / ("a.json" if text.startswith("{") else "a.log")
    path.write_text(text, encoding="utf-8")
    for command in (["inspect"], ["device", "learn", "--out", str(tmp_path / "d.yaml"), "--gpu", "A100"]):
        result = cli.invoke(app, [*command, str(path)])
        assert isinstance(result.exception, QuantbenchError | SystemExit | None), result.exception
