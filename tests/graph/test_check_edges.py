"""What a node reads is checked on loading: written by something, and of a kind that its operator takes.

Each of the first was a traceback in lint, place or an evaluator once (scripts/fuzz.py, "models by field").
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.inspection.qdq_onnx import read_qdq_onnx
from quantbench.qdq.place import place

_TENSORS = {
    "w": np.ones((3, 3, 1, 1), np.float32), "flat": np.ones((3, 3), np.float32), "scale": np.array(0.1, np.float32),
    "zero": np.array(0, np.int8), "vector": np.ones(3, np.float32), "words": np.array(["a"], object),
    "i": np.array([0], np.int64), "half": np.array(0.1, np.float16), "yes": np.array(True), "fp8": None,
}  # fmt: skip


def write(folder: Path, body: str, opset: int = 17) -> Path:
    opsets = f'["": {opset}, "own": 1, "com.microsoft": 1]'
    text = f"<ir_version: 8, opset_import: {opsets}> g (float[1,3,8,8] x) => (float y) {{ {body} }}"
    model = parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    used |= {n for node in model.graph.node for a in node.attribute for inner in a.g.node for n in inner.input}
    for name, array in _TENSORS.items():
        if name in used:
            fp8 = helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
            model.graph.initializer.append(fp8 if array is None else numpy_helper.from_array(array, name))
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("y = Relu(nobody)", r"\(Relu\) reads 'nobody', which no node writes"),
        ("y = Conv(x, flat)", r"\(Conv\) cannot take 'flat', of 2 dimensions"),
        ("y = Conv(x, zero)", r"\(Conv\) cannot take integers, which its input 'zero' holds"),
        ("y = Add(x, words)", r"\(Add\) cannot take strings"),
        ("y = Clip(x, vector)", r"\(Clip\) cannot take 'vector', of 3 values in place of one"),
        ("q = QuantizeLinear(x, scale, w) y = DequantizeLinear(q, scale, zero)", r"Linear\) cannot take floats"),
        ("q = QuantizeLinear(x, zero, zero) y = DequantizeLinear(q, scale, zero)", r"Linear\) cannot take integers"),
        ("r = own.Relu() y = Add(r, x)", r"own::Relu\) has 0 inputs"),
        ("s = com.microsoft.Sub(x) y = Relu(s)", r"\(Sub\) has 1 inputs"),
        ("y = com.microsoft.Conv<pads=\"no\">(x, w)", r"\(Conv\) has the attribute pads in another type"),
        ("q = own.QuantizeLinear(x) y = Add(q, x)", r"own::QuantizeLinear\) has 1 inputs"),
        ("t = Transpose<perm=[0,2,1,3]>(i) y = Add(x, t)", r"\(Transpose\) cannot be computed of its constants"),
        ("y = If(yes) <then_branch = t () => (float o) { o = Neg(nobody) }, "
         "else_branch = e () => (float p) { p = Neg(x) }>", r"\(Neg\) reads 'nobody'"),
    ],
)  # fmt: skip
def test_a_bad_edge_is_named(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(QuantbenchError, match=said):
        load_model(write(tmp_path, body))


@pytest.mark.parametrize(
    "body",
    [
        "y = Conv(x, w)",
        "y = Clip(x, scale)",
        # Compilers are laxer than the standard about precisions, and plugins are their owners' matter.
        "q = QuantizeLinear(x, half, zero) y = DequantizeLinear(q, half, zero)",
        "q = QuantizeLinear(x, scale, fp8) y = DequantizeLinear(q, scale, fp8)",
        "c = own.Conv(x, words) y = Add(c, x)",
        "y = If(yes) <then_branch = t () => (float o) { o = Neg(x) }, else_branch = e () => (float p) { p = Abs(x) }>",
    ],
)
def test_what_compilers_take_is_loaded(tmp_path: Path, body: str) -> None:
    assert load_model(write(tmp_path, body)).graph.node


def test_strings_that_are_not_there_and_opsets_that_never_come(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path, "y = Add(x, words)"))
    del model.graph.initializer[0].string_data[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(QuantbenchError, match="holds 0 strings in place of 1"):
        load_model(tmp_path / "m.onnx")
    model.graph.initializer[0].string_data[:] = [b"a"]
    model.opset_import[0].version = 1 << 40
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(QuantbenchError, match="which ONNX will never have"):
        load_model(tmp_path / "m.onnx")


def test_a_model_whose_output_is_its_input_is_refused(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path, "y = Relu(x)"))
    model.graph.output[0].name = "x"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(QuantbenchError, match="no node leads to an output"):
        load_model(tmp_path / "m.onnx")


def test_a_node_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path, "a = own.Print(x) y = Relu(x)"))
    del model.graph.node[0].output[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(QuantbenchError, match=r"\(own::Print\) writes nothing"):
        load_model(tmp_path / "m.onnx")


def test_inspect_shows_what_it_can_of_a_node_that_writes_nothing(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path, "a = Conv(x, w) y = Conv(x, w)"))
    del model.graph.node[0].output[:]
    onnx.save(model, tmp_path / "m.onnx")
    assert len(read_qdq_onnx(tmp_path / "m.onnx").weighted) == 1


def test_a_conv_whose_weight_is_flat_only_after_inference_is_placed(tmp_path: Path) -> None:
    body = "q = QuantizeLinear(vector, scale, zero) k = DequantizeLinear(q, scale, zero) y = Conv(x, k)"
    assert not place(view_of(load_model(write(tmp_path, body)))).weights
