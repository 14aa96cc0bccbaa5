"""Placed and encoded for onnxruntime on a CPU: which kernels run, by the graph that its optimizer leaves, and SQNR
beside onnxruntime's own quantizer on the same data."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

import quantbench
from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.quantize import for_onnxruntime
from quantbench.decide.regions import part_of
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session, session_options
from quantbench.qdq.affine import affine_activations
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.explain_node import explained, find_node
from quantbench.qdq.insert import activation_scales
from quantbench.qdq.layouts import layouts_for
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place

MODELS = Path(__file__).parents[1] / "data" / "models"
PLACED = PlacementOptions(for_onnxruntime=True)
Images = NDArray[np.float32]


def kernels(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators of the graph as onnxruntime's optimizer leaves it."""
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def sqnr(model: onnx.ModelProto, other: onnx.ModelProto, x: Images) -> float:
    """Of the worst output, in dB."""
    name = model.graph.input[0].name
    runs = [create_session(m, threads=1).run(None, {name: x}) for m in (model, other)]
    return min(float(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum())) for a, b in zip(*runs, strict=True))


def smooth(shape: tuple[int, ...], seed: int) -> Images:
    """Fields of 4x4 pixels with noise, as pictures are rather than noise alone."""
    rng = np.random.default_rng(seed)
    small = rng.normal(size=(*shape[:2], -(-shape[2] // 4), -(-shape[3] // 4)))
    field = small.repeat(4, 2).repeat(4, 3)[:, :, : shape[2], : shape[3]]
    return (field + rng.normal(scale=0.2, size=shape)).astype(np.float32)


class Reader:
    """Calibration data of onnxruntime."""

    def __init__(self, name: str, x: Images) -> None:
        self._rest = [{name: image[None]} for image in x]

    def get_next(self) -> dict[str, Images] | None:
        return self._rest.pop() if self._rest else None


@pytest.mark.parametrize(
    ("name", "shape", "integer", "left"),
    [
        ("animals_resnet18", (1, 28, 28), {"QLinearConv": 20, "QLinearAdd": 8, "QGemm": 1}, {}),
        ("mobilenetv2-digits", (3, 64, 64), {"QLinearConv": 52, "QLinearAdd": 10, "QGemm": 1}, {}),
        # Scores are float behind the heads.
        ("digit-detector", (3, 320, 320), {"QLinearConv": 26, "QLinearSigmoid": 21, "QLinearMul": 21,
                                           "QLinearSoftmax": 1}, {"Sigmoid": 1}),
        # What a layer norm reads, and four of the depthwise convs that write to one, stay float.
        ("convnext-animals", (1, 28, 28), {"QLinearConv": 4, "MatMulIntegerToFloat": 16, "QGemm": 1}, {"Conv": 7}),
    ],
)  # fmt: skip
def test_real_networks_run_on_integer_kernels_and_beat_onnxruntimes_own(
    name: str, shape: tuple[int, ...], integer: dict[str, int], left: dict[str, int], tmp_path: Path
) -> None:
    """Before: convs that a SiLU reads, heads and batch norms computed in float, between Q and DQ."""
    model = load_model(MODELS / f"{name}.onnx")
    count = 4 if shape[1] > 100 else 16
    x, held = smooth((count, *shape), 0), smooth((count, *shape), 1)
    key = model.graph.input[0].name
    made = quantbench.quantize(model, [{key: x}], placement=PLACED, calibrator="mse", threads=1)
    found = kernels(made.for_onnxruntime, tmp_path)
    assert {op: found[op] for op in integer} == integer
    floats = ("Conv", "FusedConv", "Gemm", "MatMul", "Sigmoid", "QuickGelu", "Relu", "Clip", "BatchNormalization")
    assert {op: found[op] for op in floats if found[op]} == left
    quantize_static(
        str(MODELS / f"{name}.onnx"), str(tmp_path / "theirs.onnx"), Reader(key, x), quant_format=QuantFormat.QDQ,
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    theirs = onnx.load(tmp_path / "theirs.onnx")
    assert sqnr(model, made.for_onnxruntime, held) > sqnr(model, theirs, held)


def network(body: str, *, output: str = "A, B, C, D", **weights: tuple[int, ...]) -> onnx.ModelProto:
    """x [N, 8, 12, 12] to y by `body`, with seeded weights."""
    text = f"<ir_version: 8, opset_import: ['': 17]> g (float[N, 8, 12, 12] x) => (float[{output}] y) {{ {body} }}"
    model = onnx.parser.parse_model(text.replace("'", '"'))
    rng = np.random.default_rng(5)
    for name, shape in weights.items():
        values = rng.normal(size=shape) / max(np.sqrt(np.prod(shape[1:])), 1.0)
        if name.startswith("one"):
            values = np.abs(values) + 0.5
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


CONV = "<pads = [1, 1, 1, 1]>"
SCALAR = "{0} = Constant <value = float {{{1}}}> ()"
ENDS = {"w": (8, 8, 3, 3), "v": (8, 8, 3, 3)}


@pytest.mark.parametrize(
    ("body", "weights", "expected"),
    [
        ("h = HardSwish(a)", {}, {"QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 1}),
        ("s = HardSigmoid <alpha = 0.1666667> (a) h = Mul(a, s)", {},
         {"QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 1}),
        # As Paddle writes it.
        (f"{SCALAR.format('three', 3)} {SCALAR.format('six', 6)} {SCALAR.format('zero', 0)} s = Add(a, three) "
         "c = Clip(s, zero, six) m = Mul(a, c) h = Div(m, six)", {},
         {"QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 1}),
        ("b = BatchNormalization(a, one_g, k, m, one_v) h = Relu(b)",
         {"one_g": (8,), "k": (8,), "m": (8,), "one_v": (8,)}, {"QLinearConv": 2}),
        (f"{SCALAR.format('root', 1.4142135)} {SCALAR.format('one', 1)} {SCALAR.format('half', 0.5)} d = Div(a, root) "
         "e = Erf(d) p = Add(e, one) m = Mul(a, p) h = Mul(m, half)", {},
         {"QLinearConv": 2, "Gelu": 1, "QuantizeLinear": 2, "DequantizeLinear": 2}),
        ("r = Relu(a) z = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}> () h = Pad(r, z)", {},
         {"QLinearConv": 2}),
        # A ReLU that is joined with what is signed was a Clip of its own.
        (f"r = Relu(a) b = Conv {CONV} (r, u) j = Concat <axis = 1> (b, r) h = Conv {CONV} (j, t)",
         {"u": (8, 8, 3, 3), "t": (8, 16, 3, 3)}, {"QLinearConv": 4, "QLinearConcat": 1}),
        ("g = Sigmoid(a) h = Mul(a, g)", {}, {"QLinearConv": 2, "QLinearSigmoid": 1, "QLinearMul": 1}),
    ],
)  # fmt: skip
def test_operators_without_an_integer_kernel_get_one(
    body: str, weights: dict[str, tuple[int, ...]], expected: dict[str, int], tmp_path: Path
) -> None:
    model = network(f"a = Conv {CONV} (x, w) {body} y = Conv {CONV} (h, v)", **ENDS, **weights)
    x = (3 * np.random.default_rng(0).normal(size=(8, 8, 12, 12))).astype(np.float32)
    made = quantbench.quantize(model, [{"x": x}], placement=PLACED, calibrator="minmax", threads=1)
    found = kernels(made.for_onnxruntime, tmp_path)
    assert found == {"QuantizeLinear": 1, "DequantizeLinear": 1, **expected}
    assert made.for_onnxruntime.graph.output[0].name == "y"
    assert sqnr(model, made.for_onnxruntime, x) > 30


def test_a_mean_over_positions_and_a_matmul_with_a_bias_are_integer(tmp_path: Path) -> None:
    body = f"a = Conv {CONV} (x, w) r = Relu(a) p = ReduceMean <axes = [2, 3], keepdims = 0> (r) l = MatMul(p, f) "
    model = network(f"{body} y = Add(l, k)", output="A, B", w=(8, 8, 3, 3), f=(8, 4), k=(4,))
    x = np.random.default_rng(0).normal(size=(8, 8, 12, 12)).astype(np.float32)
    made = quantbench.quantize(model, [{"x": x}], placement=PLACED, calibrator="minmax", threads=1)
    expected = {"QuantizeLinear": 1, "QLinearConv": 1, "QLinearGlobalAveragePool": 1, "Reshape": 1, "QGemm": 1}
    assert kernels(made.for_onnxruntime, tmp_path) == expected
    assert sqnr(model, made.for_onnxruntime, x) > 30


def test_ranges_end_where_values_do() -> None:
    """SiLU's input at -8, its output at -0.28; an input that is never negative has all levels for what it is."""
    model = network(f"a = Conv {CONV} (x, w) g = Sigmoid(a) h = Mul(a, g) y = Conv {CONV} (h, v)", **ENDS)
    x = np.abs(20 * np.random.default_rng(0).normal(size=(8, 8, 12, 12))).astype(np.float32)
    made = quantbench.quantize(model, [{"x": x}], placement=PLACED, calibrator="minmax", threads=1)
    affine = affine_activations(made.model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in affine.graph.initializer}
    low = {
        node.input[0]: -float(stored[node.input[1]]) * int(stored[node.input[2]])
        for node in affine.graph.node
        if node.op_type == "QuantizeLinear" and stored[node.input[2]].dtype == np.uint8
    }
    assert low["x"] == 0
    assert low["a"] == pytest.approx(-8, abs=0.6)
    assert low["a"] <= -8
    assert low["h"] == pytest.approx(-0.2785, abs=0.2)


def test_biases_are_right_for_the_levels_that_run() -> None:
    """They were corrected for symmetric ones: PP-OCR's classifier had 10 dB, and 23 without a correction."""
    model = network(
        f"a = Conv {CONV} (x, w) h = HardSwish(a) p = GlobalAveragePool(h) y = Conv (p, v)",
        w=(8, 8, 3, 3), v=(8, 8, 1, 1),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x, held = (rng.normal(size=(64, 8, 12, 12)).astype(np.float32) for _ in range(2))
    run = {on: quantbench.quantize(model, [{"x": x}], placement=PLACED, calibrator="minmax", bias_correction=on,
                                   threads=1).for_onnxruntime for on in (True, False)}  # fmt: skip
    means = {}
    for key, one in {"float": model, **run}.items():
        means[key] = create_session(one, threads=1).run(None, {"x": held})[0].mean(axis=0)
    error = {on: np.abs(means[on] - means["float"]).sum() for on in run}
    assert error[True] < error[False]


def test_the_model_for_tensorrt_is_legal_still() -> None:
    """Symmetric INT8, and the same plan in both; `for_onnxruntime` tells by the model how it was placed."""
    model = load_model(MODELS / "animals_resnet18.onnx")
    x = smooth((4, 1, 28, 28), 0)
    made = quantbench.quantize(model, [{"image": x}], placement=PLACED, calibrator="minmax", threads=1)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    zeros = [stored[node.input[2]] for node in made.model.graph.node if node.op_type == "QuantizeLinear"]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert for_onnxruntime(made.model) == made.for_onnxruntime != for_onnxruntime(made.model, affine=False)
    assert place(view_of(model), PLACED).for_onnxruntime
    assert not place(view_of(model)).for_onnxruntime


def test_what_is_folded_is_explained_and_stays_so_in_a_part_of_the_plan() -> None:
    stored = {"one_g": (8,), "k": (8,), "m": (8,), "one_v": (8,)}
    body = f"a = Conv {CONV} (x, w) b = BatchNormalization(a, one_g, k, m, one_v) r = Relu(b) y = Conv {CONV} (r, v)"
    view = view_of(network(body, **ENDS, **stored))
    plan = place(view, PLACED)
    lines = list(explained(view, plan, find_node(view, "BatchNormalization_1")))
    assert "goes into the conv before it (fold)" in lines
    assert any(line.startswith("fold 1: a batch norm behind a conv") for line in lines)
    assert part_of(plan, lambda name: name == "Conv_0").folded == plan.folded == ("BatchNormalization_1",)


def test_thresholds_are_searched_for_the_levels_that_run() -> None:
    """Before: for 127 on either side of zero, which clips more than 255 from zero on need."""
    model = load_model(MODELS / "animals_resnet18.onnx")
    x, held = smooth((16, 1, 28, 28), 0), smooth((16, 1, 28, 28), 1)
    made = quantbench.quantize(model, [{"image": x}], placement=PLACED, calibrator="mse", threads=1)
    histograms = collect(model, [{"image": x}], made.plan.tensors, threads=1)
    layouts = layouts_for(model, made.plan, histograms, Correction(lambda: [{"image": x}], len(x), 1))
    affine = affine_activations(made.model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in affine.graph.initializer}
    told = 0
    for node in affine.graph.node:
        if node.op_type == "QuantizeLinear" and stored[node.input[2]].dtype == np.uint8:
            layout = layouts[node.input[0]]
            high = np.asarray(127 * activation_scales(made.plan, made.ranges)[node.input[0]])
            # Least values were seen once more, with all thresholds in place.
            assert stored[node.input[1]] == pytest.approx(float(layout.steps(high)), rel=0.02)
            assert abs(int(stored[node.input[2]]) - int(layout.zero_points(high))) <= 3
            told += 1
    assert told > 18
    search = threshold_method("mse")
    found = {name: search(each, layouts[name]) for name, each in histograms.items()}
    assert {name: made.ranges[name].amax for name in found} == found
    before = find_ranges(histograms, "mse", search)
    assert all(found[name] >= each.amax for name, each in before.tensors.items())
    correction = Correction(lambda: [{"image": x}], len(x), 1)
    other = for_onnxruntime(carry_out(model, made.plan, before, correction).model)
    assert sqnr(model, made.for_onnxruntime, held) > sqnr(model, other, held) + 0.3
