"""Real builds with TensorRT-RTX: no GPU, no stand-ins."""

import importlib.util
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.demo import efficientnet_lite0, resnet18
from quantbench.engines import tensorrt_rtx
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.build import build_engine
from quantbench.engines.shapes import parse_profile
from quantbench.errors import QuantbenchError
from quantbench.graph.to_fp16 import to_fp16
from quantbench.inspection.logs.layer_line import read_rtx_layers
from tests.engines.models import conv_net, qdq_conv_net

SM = BuildOptions(targets=("sm86",))


def _save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("target", ["sm80", "sm86", "sm89", "sm120"])
def test_every_target_builds_a_plan(target: str, tmp_path: Path) -> None:
    result = tensorrt_rtx.build(_save(qdq_conv_net(), tmp_path / "m.onnx"), BuildOptions(targets=(target,)))
    assert result.engine[:4] == b"vtrt"
    assert (result.backend, result.targets) == ("tensorrt-rtx", (target,))
    convs = [layer for layer in read_rtx_layers(result.log_lines()) if any("conv" in node for node in layer.nodes)]
    assert any(tensor.dtype == "INT8" for layer in convs for tensor in layer.inputs)


def test_several_targets_make_one_larger_engine(tmp_path: Path) -> None:
    model = _save(conv_net(), tmp_path / "m.onnx")
    one = tensorrt_rtx.build(model, SM)
    two = tensorrt_rtx.build(model, BuildOptions(targets=("sm86", "sm120")))
    assert len(two.engine) > len(one.engine)


def test_half_precision_shows_in_the_layers(tmp_path: Path) -> None:
    floats = tensorrt_rtx.build(_save(conv_net(), tmp_path / "f.onnx"), SM)
    halves = tensorrt_rtx.build(_save(to_fp16(conv_net()), tmp_path / "h.onnx"), SM)

    def dtypes(result: BuildResult) -> set[str]:
        layers = read_rtx_layers(result.log_lines())
        return {t.dtype for layer in layers for t in layer.inputs if "conv" in " ".join(layer.nodes)}

    assert "FP16" not in dtypes(floats)
    assert "FP16" in dtypes(halves)


def test_precision_of_a_float_model_needs_scales(tmp_path: Path) -> None:
    model = _save(conv_net(), tmp_path / "m.onnx")
    with pytest.raises(QuantbenchError, match=r"m\.onnx has no Q/DQ and no ranges were given"):
        build_engine(model, BuildOptions(precisions=frozenset({"int8"})), "tensorrt-rtx")


def test_dynamic_batch_gets_a_profile_and_says_so(tmp_path: Path) -> None:
    model = _save(conv_net(batch="n"), tmp_path / "m.onnx")
    result = tensorrt_rtx.build(model, BuildOptions(default_batch=4))
    assert result.notes == ("input x has a dynamic batch: profile 1:4:4",)
    profiles = (parse_profile("x=1x3x16x16:2x3x16x16:4x3x16x16"), parse_profile("x=8x3x16x16"))
    assert tensorrt_rtx.build(model, BuildOptions(profiles=profiles)).notes == ()


def test_external_data_is_found_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(conv_net(), str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size > 1000
    assert tensorrt_rtx.build(path, SM).engine
    (tmp_path / "m.data").unlink()
    with pytest.raises(QuantbenchError, match="TensorRT-RTX 1"):
        tensorrt_rtx.build(path, SM)


def test_log_goes_to_a_file_and_reads_the_same(tmp_path: Path) -> None:
    model = _save(qdq_conv_net(), tmp_path / "m.onnx")
    kept = tensorrt_rtx.build(model, SM)
    filed = tensorrt_rtx.build(model, BuildOptions(targets=("sm86",), log_file=tmp_path / "logs" / "b.log"))
    assert filed.log == ""
    lines = list(filed.log_lines())
    assert lines[0].startswith("&&&& RUNNING quantbench.build [TensorRT-RTX v1")
    assert [layer.name for layer in read_rtx_layers(lines)] == [
        layer.name for layer in read_rtx_layers(kept.log_lines())
    ]


def test_unsupported_operator_is_one_line_with_node_and_op(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["r"], name="first"),
            helper.make_node("StringNormalizer", ["s"], ["t"], name="words"),
        ],
        "g", [value("x", TensorProto.FLOAT, [2]), value("s", TensorProto.STRING, [2])],
        [value("r", TensorProto.FLOAT, [2]), value("t", TensorProto.STRING, [2])],
    )  # fmt: skip
    strings = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(QuantbenchError) as caught:
        tensorrt_rtx.build(_save(strings, tmp_path / "s.onnx"), SM)
    assert "\n" not in str(caught.value)

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"], name="first"), helper.make_node("Det", ["r"], ["y"], name="area")],
        "g", [value("x", TensorProto.FLOAT, [1, 4, 4])], [value("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    det = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(QuantbenchError, match=r"node area \(Det\)") as caught:
        tensorrt_rtx.build(_save(det, tmp_path / "d.onnx"), SM)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BuildOptions(targets=("sm99",)), "has no target 'sm99'; it knows sm75, sm80"),
        (BuildOptions(pools={"swimming": 1}), "has no memory pool swimming; it has"),
        (BuildOptions(tactic_sources=("+CUDNN",)), "has no tactic source CUDNN"),
        (BuildOptions(tactic_sources=("CUDNN",)), r"write \+NAME or -NAME"),
        (BuildOptions(profiles=(parse_profile("z=1x2"),)), "--shapes names input 'z'"),
    ],
)
def test_names_that_rtx_lacks(options: BuildOptions, message: str, tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=message):
        tensorrt_rtx.build(_save(conv_net(), tmp_path / "m.onnx"), options)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("hello")  # protobuf takes it for an empty message
    with pytest.raises(QuantbenchError, match="is not an ONNX model") as caught:
        tensorrt_rtx.build(path, SM)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("half", [False, True])
def test_efficientnet_lite0(half: bool, tmp_path: Path) -> None:
    path = efficientnet_lite0.onnx_path()
    options = BuildOptions(precisions=frozenset({"fp16"} if half else ()), targets=("sm86",))
    result = build_engine(path, options, "tensorrt-rtx")
    weights = 4_652_008 * (2 if half else 4)
    assert 0.9 * weights < len(result.engine) < 2 * weights
    assert len(read_rtx_layers(result.log_lines())) > 40


def test_resnet18_at_the_batch_of_the_issue(tmp_path: Path) -> None:
    path = _save(resnet18.build(batch=8), tmp_path / "r18.onnx")
    result = build_engine(path, SM, "tensorrt-rtx")
    convs = [layer for layer in read_rtx_layers(result.log_lines()) if layer.type == "correlation"]
    assert len(convs) == 20


@pytest.mark.parametrize("name", ["yolov8n.yaml"] if importlib.util.find_spec("ultralytics") else [])
def test_yolov8n_with_a_dynamic_batch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    torch = importlib.import_module("torch")
    ultralytics = importlib.import_module("ultralytics")
    monkeypatch.chdir(tmp_path)
    network = ultralytics.YOLO(name).model.eval().fuse()
    network.model[-1].export, network.model[-1].format = True, "onnx"
    path = tmp_path / "yolov8n.onnx"
    torch.onnx.export(
        network, (torch.zeros(1, 3, 640, 640),), str(path), dynamo=False, opset_version=17,
        input_names=["images"], output_names=["boxes"], dynamic_axes={"images": {0: "n"}, "boxes": {0: "n"}},
    )  # fmt: skip
    result = build_engine(path, BuildOptions(precisions=frozenset({"fp16"}), default_batch=4), "tensorrt-rtx")
    assert result.notes[-1] == "input images has a dynamic batch: profile 1:4:4"
    convs = {node.name for node in onnx.load(str(path)).graph.node if node.op_type == "Conv"}
    assert len(convs) == 64
    layers = read_rtx_layers(result.log_lines())
    # One kernel a conv; RTX 1.7 leaves the conv's node out of the metadata of some 1x1 ones.
    assert sum(layer.type in ("correlation", "runtime_fusion") for layer in layers) == 64
    assert len(convs & {node for layer in layers for node in layer.nodes}) >= 55


def test_a_network_written_with_the_api_builds(cli, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import numpy as np\n"
        "def make(network, trt):\n"
        "    x = network.add_input('x', trt.float32, (-1, 3, 8, 8))\n"
        "    weights = np.ones((4, 3, 3, 3), np.float32)\n"
        "    conv = network.add_convolution_nd(x, 4, (3, 3), trt.Weights(weights), trt.Weights())\n"
        "    network.mark_output(conv.get_output(0))\n"
        "    return weights\n"
        "def empty(network):\n"
        "    pass\n"
    )
    code, _, err = cli("build", f"{file}:make", "--backend", "tensorrt-rtx", "--target", "sm86")
    assert code == 0, err
    assert (tmp_path / "net.make.engine").read_bytes()[:4] == b"vtrt"
    for words, message in (
        ([f"{file}:empty", "--backend", "tensorrt-rtx"], "marks no output"),
        ([f"{file}:none", "--backend", "tensorrt-rtx"], "has no 'none'"),
        ([f"{file}:make", "--backend", "onnxruntime"], "takes ONNX files alone"),
        ([f"{file}:make", "--backend", "tensorrt-rtx", "--precision", "fp16"], "takes types from the network"),
        ([f"{file}:make", "--calib-dir", tmp_path], "--calib-data wants an ONNX file"),
    ):
        code, _, err = cli("build", *words)
        assert (code, message in err, err.count("\n")) == (2, True, 1), err
