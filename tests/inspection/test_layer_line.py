"""Layer lines of real logs, and of names made to break the parser."""

import string
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from quantbench.inspection.logs.layer_line import parse_classic_line, parse_layer_line, read_rtx_layers
from quantbench.layers.layer import BYTES_PER_ELEMENT


def _independent_count(path: Path, first: int) -> int:
    """Layer lines from line `first` (1-based) on, up to the first that is none (splitlines would split at U+001E)."""
    count = 0
    for line in path.read_text(errors="replace").split("\n")[first - 1 :]:
        if not ("LayerType: " in line or line.startswith("Layer(")):
            break
        count += 1
    return count


def test_rtx_log_yields_the_last_dump(artefacts: Path) -> None:
    path = artefacts / "logs" / "trtrtx17_resnet18_fp32_then_qdq.log"
    with path.open() as lines:
        layers = read_rtx_layers(lines)
    assert len(layers) == _independent_count(path, 5924) == 52
    conv = layers[1]
    assert (conv.name, conv.type) == ("/stem/stem.0/Conv_myl0_1", "correlation")
    assert [(t.dtype, t.format, t.dims) for t in conv.inputs] == [("INT8", "NHWC", (8, 4, 224, 224))]
    assert [t.dtype for t in conv.outputs] == ["FP32"]
    assert [t.dtype for t in conv.constants] == ["INT8", "FP32", "FP32"]
    assert conv.nodes == ("/stem/stem.0/Conv", "x_DequantizeLinear", "onnx::Conv_192_DequantizeLinear")
    assert all(t.dtype in BYTES_PER_ELEMENT for layer in layers for t in (*layer.inputs, *layer.outputs))


def test_classic_dump_of_8_5(artefacts: Path) -> None:
    path = artefacts / "logs" / "trt852_qdq_yolo_verbose.log"
    with path.open(errors="replace") as lines:
        layers = read_rtx_layers(lines)
    assert len(layers) == _independent_count(path, 12745) == 86
    quantize = layers[1]
    assert quantize.type == "Reformat"
    assert (quantize.inputs[0].dtype, quantize.outputs[0].dtype) == ("FP32", "INT8")
    assert (quantize.outputs[0].dims, quantize.outputs[0].format) == ((1, 3, 2208, 3872), "CHW4")
    assert layers[0].inputs == layers[0].outputs == ()


def test_classic_line_of_8_4_and_older() -> None:
    layer = parse_classic_line(
        "Layer(CaskConvolution): a, b -> c[0] + d || e: f, Tactic: -9153228964338181824, "
        "in, put -> x[Half(-2,32,14,14)], s[Int8(1,2)] -> out[Float(-2,64,14,14)]"
    )
    assert layer is not None
    assert layer.name == "a, b -> c[0] + d || e: f"
    assert layer.tactic == "-9153228964338181824"
    assert [t.name for t in layer.inputs] == ["in, put -> x", "s"]
    assert [t.dtype for t in layer.inputs] == ["FP16", "INT8"]
    assert layer.outputs[0].dims == (-2, 64, 14, 14)


def test_mlp_of_tensorrt_7_with_an_arrow_in_its_name() -> None:
    layer = parse_classic_line(
        "Layer(cudaFusedBlockLocalMLP): 2-layer MLP: (Unnamed Layer* 8) [Fully Connected] + (Unnamed Layer* 9) "
        "[Activation] -> (Unnamed Layer* 10) [Fully Connected], Tactic: 0, (Unnamed Layer* 7) [Activation]_output"
        "[Float(120,1,1)] -> (Unnamed Layer* 10) [Fully Connected]_output[Float(10,1,1)]"
    )
    assert layer is not None
    assert layer.name.endswith("-> (Unnamed Layer* 10) [Fully Connected]")
    assert [t.name for t in layer.inputs] == ["(Unnamed Layer* 7) [Activation]_output"]


NAMES = st.text(alphabet=string.ascii_letters + "0123456789/_.:,+|->[]() ", min_size=1, max_size=40).map(str.strip)
DIMS = st.lists(st.integers(-1, 4096), min_size=1, max_size=5)


def _usable(name: str) -> bool:
    return bool(name) and not name.endswith((",", "->")) and ", Tactic: " not in name and not name.startswith(", ")


@given(NAMES.filter(_usable), st.lists(st.tuples(NAMES.filter(_usable), DIMS), min_size=1, max_size=3), DIMS)
def test_classic_line_finds_type_and_name_back(name: str, inputs: list[tuple[str, list[int]]], dims: list[int]) -> None:
    sides = ", ".join(f"{n} (Int8[{','.join(map(str, d))}])" for n, d in inputs)
    layer = parse_classic_line(f"Layer(Conv): {name}, Tactic: 0xabc, {sides} -> y (Float[{','.join(map(str, dims))}])")
    assert layer is not None
    assert layer.name == name
    assert layer.outputs[-1].dims == tuple(dims)
    assert [t.dims for t in layer.inputs] == [tuple(d) for _, d in inputs]


def test_every_truncation_of_a_real_line_is_a_layer_or_none(artefacts: Path) -> None:
    lines = (artefacts / "logs" / "trtrtx17_resnet18_fp32_then_qdq.log").read_text().split("\n")
    for line in (lines[5923], lines[5930]):
        names = {line.split(", LayerType")[0].removeprefix("Name: ")}
        for cut in range(len(line)):
            layer = parse_layer_line(line[:cut])
            assert layer is None or layer.name in names
