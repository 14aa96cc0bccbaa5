"""Our INT8 arithmetic: against onnxruntime on random graphs, of which scripts/check_int8_reference.py runs 2,000."""

import numpy as np
import onnx
import pytest
from onnx import helper, parser

from quantbench.errors import QuantbenchError
from quantbench.evaluate import int8_reference
from quantbench.evaluate.int8_agreement import int8_agreement
from quantbench.evaluate.int8_arithmetic import conv, conv_transpose
from quantbench.evaluate.int8_reference import Int8Reference
from scripts.check_int8_reference import integer_kernels
from tests.evaluate.random_qdq import random_model

SEEDS = range(100)


Graphs = list[tuple[onnx.ModelProto, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def graphs() -> Graphs:
    return [random_model(seed) for seed in SEEDS]


@pytest.mark.parametrize("optimize", [False, True])
def test_onnxruntime_agrees_to_one_step_on_random_graphs(graphs: Graphs, optimize: bool) -> None:
    found = {seed: int8_agreement(model, [feed], optimize=optimize, threads=1)
             for seed, (model, feed) in zip(SEEDS, graphs, strict=True)}  # fmt: skip
    assert {seed: one for seed, one in found.items() if one.worst > 1} == {}
    values, differing = (sum(getattr(one, key) for one in found.values()) for key in ("values", "differing"))
    assert values > 50_000
    assert differing < 0.01 * values


def test_the_graphs_are_many_kinds_and_run_in_integers(graphs: Graphs) -> None:
    ops = {node.op_type for model, _ in graphs for node in model.graph.node}
    assert ops >= {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Resize", "Softmax", "Clip"}
    sums = [model for model, _ in graphs if any(node.op_type == "Add" for node in model.graph.node)]
    kernels = {kernel for model in (*sums, *(model for model, _ in graphs[:20])) for kernel in integer_kernels(model)}
    assert kernels >= {"QLinearConv", "QGemm", "QLinearAdd"}


def test_a_wrong_scale_is_seen(graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    real = int8_reference._scale
    monkeypatch.setattr(int8_reference, "_scale", lambda *given: None if (s := real(*given)) is None else s * 1.05)
    assert max(int8_agreement(model, [feed], threads=1).worst for model, feed in graphs[:10]) > 1


def test_sums_are_those_of_integers() -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-128, 128, shape).astype(np.float64) for shape in ((1, 4, 5, 6), (6, 2, 3, 2)))
    found = conv(x, w, strides=[2, 1], pads=[1, 0, 1, 1], dilations=[1, 2], group=2)
    wide = np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 1)]).astype(np.int64)
    for m in range(6):
        for i in range(found.shape[2]):
            for j in range(found.shape[3]):
                part = wide[0, 2 * (m // 3) : 2 * (m // 3) + 2, 2 * i : 2 * i + 3, j : j + 3 : 2]
                assert found[0, m, i, j] == int((part * w[m].astype(np.int64)).sum())


def test_a_transposed_conv_is_the_gradient_of_a_conv() -> None:
    rng = np.random.default_rng(0)
    how = {"strides": [2, 3], "pads": [1, 0, 0, 1], "dilations": [2, 1], "group": 2}
    big, w = rng.normal(size=(1, 4, 8, 9)), rng.normal(size=(6, 2, 3, 2))
    small = conv(big, w, **how)
    other = rng.normal(size=small.shape)
    more = [(size + pad - reach) % step
            for size, pad, reach, step in zip((8, 9), (1, 1), (5, 2), (2, 3), strict=True)]  # fmt: skip
    back = conv_transpose(other, w, **how, output_padding=more)
    assert back.shape == big.shape
    assert np.vdot(small, other) == pytest.approx(np.vdot(big, back))


def test_half_goes_to_even_and_ends_saturate() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[8] x) => (float y) {{ {} }}'.format(
        "s = Constant<value_float=1.0>() q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    )
    model = parser.parse_model(text)
    model.graph.initializer.append(helper.make_tensor("z", onnx.TensorProto.INT8, [], [0]))
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 300, -300], np.float32)
    integers, outputs = Int8Reference(model).run({"x": x})
    assert integers["q"].tolist() == [0, 2, 2, 0, -2, 127, 127, -128]
    assert outputs["y"].dtype == np.float32


def test_what_is_not_read_is_named() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[8] x) => (float y) { y = Relu(x) }'
    with pytest.raises(QuantbenchError, match="quantizes no activation"):
        int8_agreement(parser.parse_model(text), [])
    foreign = parser.parse_model(text.replace('"": 17', '"": 17, "own": 1').replace("Relu", "own.Frob"))
    with pytest.raises(QuantbenchError, match="does not know Frob"):
        Int8Reference(foreign).run({"x": np.zeros(8, np.float32)})
