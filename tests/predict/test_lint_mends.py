"""What lint finds beyond the plain cases, and which mend it names."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from typer.testing import CliRunner

from quantbench.cache.strip import strip_qdq
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.cli.main import app, register_commands
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.surgery import copied
from quantbench.lint.finding import size
from quantbench.lint.run import chosen, fix, lint
from quantbench.predict.simulate import predict_model
from quantbench.qdq.carry_out import carry_out
from quantbench.qdq.place import place
from quantbench.qdq.record import forget
from tests.predict.lint_models import X, conv, pair, run, small, sqnr
from tests.predict.misplaced import LAYERS, misplaced

MODELS = Path(__file__).parents[1] / "data" / "models"


def _branching() -> onnx.ModelProto:
    """A quantized conv whose output only the bodies of an If read, one of them through a Q of its own."""
    weights: dict[str, NDArray[Any]] = {}
    before, d = pair("x", "before", 0.05, weights)
    inside, e = pair("p", "inside", 0.1, weights)
    layer = conv(d, "a", "p", 8, weights)
    value = helper.make_tensor_value_info
    then = helper.make_graph(inside, "then", [], [value(e, TensorProto.FLOAT, [1, 8, 16, 16])])
    other = helper.make_graph([helper.make_node("Relu", ["p"], ["r"], name="relu")], "other", [],
                              [value("r", TensorProto.FLOAT, [1, 8, 16, 16])])  # fmt: skip
    choose = helper.make_node("If", ["which"], ["y"], name="choose", then_branch=then, else_branch=other)
    weights["which"] = np.asarray(True)
    return small([*before, layer, choose], {k: np.asarray(v) for k, v in weights.items()}, "y")


def test_what_bodies_of_an_if_read_stays_in_the_network() -> None:
    model = _branching()
    prediction = predict_model(model)
    assert [layer.nodes for layer in prediction.layers][-2:] == [("a",), ("choose",)]
    mended, counts = fix(model)
    assert not any(counts.values())
    np.testing.assert_array_equal(run(model, X), run(mended, X))


@pytest.mark.parametrize(
    ("zero", "said"),
    [(np.uint8(128), "UINT8 levels"), (np.int8(3), "a zero point that is not zero"), (None, "the network computes")],
)
def test_what_is_not_symmetric_int8_is_named_by_lint_and_predict(
    zero: np.generic | None, said: str, tmp_path: Path
) -> None:
    weights: dict[str, NDArray[Any]] = {}
    nodes, d = pair("x", "q", 0.05, weights)
    layer = conv(d, "a", "y", 8, weights)
    values = {k: np.asarray(v) for k, v in weights.items()}
    if zero is None:
        values["q_raw"] = values.pop("q_s")
        nodes = [helper.make_node("Abs", ["q_raw"], ["q_s"], name="scale"), *nodes]
    else:
        values["q_z"] = np.asarray(zero)
    model = small([*nodes, layer], values, "y")
    assert said in next(f for f in lint(model) if f.rule == "not-symmetric-int8").message
    file = tmp_path / "m.onnx"
    onnx.save(model, file)
    if not app.registered_commands:
        register_commands()
    assert said in CliRunner().invoke(app, ["predict", str(file)]).stdout


def test_twin_qs_with_different_zero_points_are_left_alone() -> None:
    weights: dict[str, NDArray[Any]] = {}
    one, a = pair("p", "one", 0.04, weights)
    two, b = pair("p", "two", 0.05, weights)
    values = {k: np.asarray(v) for k, v in weights.items()} | {"two_z": np.asarray(np.int8(-90))}
    nodes = [conv("x", "a", "p", 8, values), *one, *two, helper.make_node("Add", [a, b], ["y"], name="add")]
    model = small(nodes, values, "y")
    assert not [f for f in lint(model) if f.rule == "duplicate-q"]
    np.testing.assert_array_equal(run(model, X), run(fix(model)[0], X))


def test_mends_name_the_change_that_helps() -> None:
    """Q and DQ between conv and Relu: the left-over DQ and the left-over Q behind the Relu have one cause."""
    weights: dict[str, NDArray[Any]] = {}
    between, d = pair("p", "between", 0.02, weights)
    behind, e = pair("q", "behind", 0.02, weights)
    model = small(
        [conv("x", "a", "p", 8, weights), *between, helper.make_node("Relu", [d], ["q"], name="relu"), *behind,
         conv(e, "b", "y", 8, weights)], {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    mends = {f.node: f.mend for f in lint(model) if f.rule == "left-over"}
    assert mends["between_DQ"] == "move Q and DQ behind relu"
    assert mends["behind_Q"] == "take out the Q and DQ before relu"


def test_costs_read_well_at_every_size() -> None:
    assert [size(n) for n in (512, 12_345, 4_560_000)] == ["512 B", "12.3 kB", "4.56 MB"]


def test_a_pooling_between_two_scales_is_told_as_such() -> None:
    """DQ, MaxPool, Q with another scale: neither can move past the pooling and meet its twin."""
    weights: dict[str, NDArray[Any]] = {}
    before, d = pair("p", "before", 0.02, weights)
    behind, e = pair("q", "behind", 0.03, weights)
    pool = helper.make_node("MaxPool", [d], ["q"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    model = small([conv("x", "a", "p", 8, weights), *before, pool, *behind, conv(e, "b", "y", 8, weights)],
                   {k: np.asarray(v) for k, v in weights.items()}, "y")  # fmt: skip
    mends = {f.node: f.mend for f in lint(model) if f.rule == "left-over"}
    assert mends["before_DQ"] == "give it and behind_Q one scale"
    assert mends["behind_Q"] == "give it and the inputs of pool one scale"


def test_a_mend_names_what_computes_and_not_the_identity_behind_it() -> None:
    """Paddle writes an Identity behind every node."""
    weights: dict[str, NDArray[Any]] = {}
    nodes = [conv("x", "a", "p", 8, weights), helper.make_node("Tanh", ["p"], ["t"], name="tanh"),
             helper.make_node("Identity", ["t"], ["i"], name="nothing")]  # fmt: skip
    behind, e = pair("i", "behind", 0.02, weights)
    model = small([*nodes, *behind, conv(e, "b", "y", 8, weights)], {k: np.asarray(v) for k, v in weights.items()}, "y")
    mend = {f.node: f.mend for f in lint(model) if f.rule == "left-over"}["behind_Q"]
    assert "tanh" in mend
    assert "nothing" not in mend


def test_a_q_of_an_output_that_nothing_computes_on_is_to_be_left_out() -> None:
    weights: dict[str, NDArray[Any]] = {}
    layer = conv("x", "a", "p", 8, weights)
    last, _ = pair("p", "last", 0.05, weights)
    last[1].output[0] = "y"
    model = small([layer, *last], {k: np.asarray(v) for k, v in weights.items()}, "y")
    mends = {f.node: f.mend for f in lint(model) if f.rule == "left-over"}
    assert mends["last_Q"] == "leave it out: nothing computes on it"


def test_fixes_keep_the_order_of_nodes_whatever_it_was() -> None:
    """The Add stands before the Q of its skip input in the file: reading the DQ, it must move behind it."""
    weights: dict[str, NDArray[Any]] = {}
    first, d = pair("x", "first", 0.05, weights)
    w, v = pair("a.w", "weights", 0.005, weights)
    skip, s = pair("p", "skip", 0.05, weights)
    layer = conv(d, "a", "q", 8, weights)
    layer.input[1] = v
    relu = helper.make_node("Relu", ["x"], ["p"], name="relu")
    nodes = [relu, *first, *w, layer, helper.make_node("Add", ["q", "p"], ["y"], name="add"), *skip,
             conv(s, "b", "z", 8, weights)]  # fmt: skip
    model = small(nodes, {k: np.asarray(v) for k, v in weights.items()}, "y")
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 8, 16, 16]))
    mended, counts = fix(model)
    assert counts["residual-float"] == 1
    order = [n.name for n in mended.graph.node]
    assert order.index("skip_Q") < order.index("skip_DQ") < order.index("add")
    assert sqnr(run(model, X), run(mended, X)) > 25


def _twice(second: np.generic) -> onnx.ModelProto:
    """Two Qs of one tensor, each with a conv behind: one with an INT8 zero point, one with `second`."""
    weights: dict[str, NDArray[Any]] = {}
    one, a = pair("p", "one", 0.04, weights)
    two, b = pair("p", "two", 0.05, weights)
    nodes = [conv("x", "a", "p", 8, weights), *one, *two, conv(a, "b", "q", 8, weights), conv(b, "c", "r", 8, weights),
             helper.make_node("Add", ["q", "r"], ["y"], name="add")]  # fmt: skip
    return small(nodes, {k: np.asarray(v) for k, v in weights.items()} | {"two_z": np.asarray(second)}, "y")


def test_qs_of_different_types_are_never_merged() -> None:
    """A zero point of 0 has the same bytes in INT8 and UINT8, and a DQ reads one type."""
    model = _twice(np.uint8(0))
    assert not [f for f in lint(model) if f.rule == "duplicate-q"]
    mended, counts = fix(model)
    assert counts["duplicate-q"] == 0
    np.testing.assert_array_equal(run(model, X), run(mended, X))
    assert fix(_twice(np.int8(0)))[1]["duplicate-q"] == 1


@pytest.mark.parametrize("name", ["convnext-animals", "digit-detector", "vit-animals", "animals_resnet18"])
def test_what_ptq_wrote_has_no_findings(name: str, tmp_path: Path, cli) -> None:
    """The head, the DFL, norms' streams: left so on purpose, and recorded in the model."""
    model = load_model(MODELS / f"{name}.onnx")
    plan = place(view_of(model))
    ranges = Ranges({tensor: TensorRange(4.0) for tensor in plan.tensors})
    quantized = carry_out(model, plan, ranges).model
    assert lint(quantized) == ()
    assert not any(fix(quantized)[1].values())
    onnx.save(quantized, tmp_path / "m.onnx")
    code, out, error = cli("lint", tmp_path / "m.onnx")
    assert (code, out) == (0, "")
    weighed = chosen(quantized)
    assert (f"{len(weighed)} more that the placement rules chose on purpose" in error) is bool(weighed)
    # Without the record the same things are findings, and what somebody adds is one with it.
    bare = copied(quantized)
    forget(bare)
    assert {f.node for f in lint(bare)} == {f.node for f in weighed}
    assert (name == "animals_resnet18") or weighed
    q = next(node for node in quantized.graph.node if node.op_type == "QuantizeLinear")
    twin = onnx.NodeProto.FromString(q.SerializeToString())
    twin.name, twin.output[0] = "twin", "twin"
    quantized.graph.node.append(twin)
    quantized.graph.output.append(helper.make_tensor_value_info("twin", TensorProto.INT8, None))
    assert "twin" in {f.node for f in lint(quantized)} or q.input[0] in {i.name for i in quantized.graph.input}


def _residual(norm: str) -> onnx.ModelProto:
    """conv + skip, both inputs of the Add quantized as ModelOpt does it, the sum read by `norm`, a conv behind. One
    channel of the skip is a hundred times larger than the others."""
    weights: dict[str, NDArray[Any]] = {}
    skip, s = pair("p", "skip", 1.0, weights)
    before, d = pair("p", "before", 0.05, weights)
    branch, b = pair("c", "branch", 0.02, weights)
    behind, e = pair("n", "behind", 0.05, weights)
    weights["gain"] = np.asarray([100.0] + [1.0] * 7, np.float32).reshape(8, 1, 1)
    weights["one"], weights["zero"] = np.ones(8, np.float32), np.zeros(8, np.float32)
    norms = {
        "GroupNormalization": helper.make_node("InstanceNormalization", ["a", "one", "zero"], ["n"], name="norm"),
        "BatchNormalization": helper.make_node("BatchNormalization", ["a", "one", "zero", "zero", "one"], ["n"],
                                               name="norm"),
        "SiLU": helper.make_node("Sigmoid", ["a"], ["n"], name="norm"),
        "Relu": helper.make_node("Relu", ["a"], ["n"], name="norm"),
    }  # fmt: skip
    nodes = [helper.make_node("Mul", ["x", "gain"], ["p"], name="gains"), *before, conv(d, "conv", "c", 8, weights),
             *branch, *skip, helper.make_node("Add", [b, s], ["a"], name="add"), norms[norm], *behind,
             conv(e, "last", "y", 8, weights)]  # fmt: skip
    return small(nodes, {k: np.asarray(v) for k, v in weights.items()}, "y")


@pytest.mark.parametrize("norm", ["GroupNormalization", "BatchNormalization", "SiLU"])
def test_a_quantized_residual_stream_of_a_foreign_model_is_told_with_range_and_step(norm: str) -> None:
    model = _residual(norm)
    found = {f.message.split(" is ")[0]: f for f in lint(model) if f.rule == "quantized-stream"}
    skip = found["its skip input p"]
    assert skip.node == "add"
    assert "is quantized, to ±127 in steps of 1, and " in skip.message
    mended, counts = fix(model)
    assert counts["quantized-stream"] == 2
    assert not [f for f in lint(mended) if f.rule in ("quantized-stream", "residual-float")]
    exact = copied(model)
    names = {node.name: node for node in exact.graph.node}
    names["add"].input[:] = ["c", "p"]
    assert sqnr(run(exact, X), run(mended, X)) > sqnr(run(exact, X), run(model, X)) + 10


def test_a_sum_that_is_read_in_int8_may_have_a_quantized_skip() -> None:
    assert not [f for f in lint(_residual("Relu")) if f.rule == "quantized-stream"]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", ["animals_resnet18", "convnext-animals", "digit-detector"])
def test_mends_name_tensors_and_nodes_that_are_there_and_not_quantized_yet(name: str, behind: bool) -> None:
    """ "quantize T at N": N is a node that reads T, reads values (no Shape), and T does not come out of a DQ."""
    model = load_model(MODELS / f"{name}.onnx")
    every = frozenset(node.op_type for node in model.graph.node)
    checked = 0
    for seed, ops in ((0, LAYERS), (1, every)):
        placed = misplaced(model, seed, ops, behind=behind)
        nodes = {node.name: node for node in placed.graph.node}
        makers = {out: node for node in placed.graph.node for out in node.output}
        tensors = {*makers, *(v.name for v in placed.graph.input), *(t.name for t in placed.graph.initializer)}
        for finding in lint(placed):
            mend = finding.mend
            for tensor, node in re.findall(r"quantize (\S+) at (\S+?)(?: with|, or|$)", mend):
                if (tensor, node) == ("what", node) or "all that it reads" in mend or node == "the":
                    continue
                assert tensor in nodes[node].input, finding.line()
                assert nodes[node].op_type not in ("Shape", "Size")
                checked += 1
            for first, second in re.findall(r"^quantize ([^\s,]+)(?: and ([^\s,]+))?$", mend):
                for tensor in filter(None, (first, second)):
                    assert tensor in tensors, finding.line()
                    assert tensor not in makers or makers[tensor].op_type != "DequantizeLinear", finding.line()
                    checked += 1
            for node in re.findall(
                r"(?:give it and|move Q and DQ behind|leave the input of|output of) (\S+?)(?:,| |:|$)", mend
            ):
                assert node in nodes or node == "the", finding.line()
                checked += 1
    assert checked > 5


def test_weights_whose_q_states_no_axis() -> None:
    """ONNX's default is axis 1, which of a [8, 8, 3, 3] weight is as long as axis 0."""
    weights: dict[str, NDArray[Any]] = {}
    before, d = pair("x", "before", 0.05, weights)
    layer = conv(d, "a", "y", 8, weights)
    weights["ws"], weights["wz"] = np.full(8, 0.005, np.float32), np.zeros(8, np.int8)
    nodes = [
        *before,
        helper.make_node("QuantizeLinear", ["a.w", "ws", "wz"], ["wq"], "weights_Q"),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "weights_DQ"),
        layer,
    ]
    layer.input[1] = "wd"
    model = small(nodes, {k: np.asarray(v) for k, v in weights.items()}, "y")
    assert lint(model) == ()
    assert predict_model(model).int8_layers == 1
    assert strip_qdq(model).scales["x"] == np.float32(0.05)
