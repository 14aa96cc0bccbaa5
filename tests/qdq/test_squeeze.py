"""Squeeze-and-excite blocks stay float; what only looks like one does not."""

import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place

REASON = "squeeze: works on a pooled vector that gates a tensor"


def node(op: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def conv(source: str, name: str, size: int = 3) -> onnx.NodeProto:
    return node("Conv", [source, f"w{size}"], name, pads=[size // 2] * 4, kernel_shape=[size, size])


def network(middle: list[onnx.NodeProto], last: str) -> GraphView:
    """conv, `middle`, two convs: nothing of `middle` is the head."""
    nodes = [conv("x", "first"), *middle, conv(last, "second"), conv("second", "third")]
    stored = [
        helper.make_tensor(f"w{s}", TensorProto.FLOAT, (16, 16, s, s), bytes(1024 * s * s), raw=True) for s in (1, 3)
    ]
    stored.append(helper.make_tensor("three", TensorProto.FLOAT, (), [3.0]))
    stored.append(helper.make_tensor("axes", TensorProto.INT64, (2,), [2, 3]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("third", TensorProto.FLOAT, [1, 16, 8, 8])], stored,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    return view_of(model)


POOLS = {
    "GlobalAveragePool": [node("GlobalAveragePool", ["first"], "pool")],
    "ReduceMean": [node("ReduceMean", ["first", "axes"], "pool", keepdims=1)],
    "behind an Identity": [node("GlobalAveragePool", ["first"], "mean"), node("Identity", ["mean"], "pool")],
}
SILU = [node("Sigmoid", ["squeeze"], "sigmoid"), node("Mul", ["squeeze", "sigmoid"], "act")]
HARD = [
    node("Add", ["excite", "three"], "shifted"),
    node("Clip", ["shifted"], "cut"),
    node("Div", ["cut", "three"], "gate"),
]


@pytest.mark.parametrize("pool", list(POOLS))
@pytest.mark.parametrize("activation", [[node("Relu", ["squeeze"], "act")], SILU], ids=["relu", "silu"])
@pytest.mark.parametrize("gate", [[node("Sigmoid", ["excite"], "gate")], HARD], ids=["sigmoid", "hard"])
def test_both_convs_of_a_block_stay_float(
    pool: str, activation: list[onnx.NodeProto], gate: list[onnx.NodeProto]
) -> None:
    middle = [*POOLS[pool], conv("pool", "squeeze", 1), *activation, conv("act", "excite", 1), *gate,
              node("Mul", ["first", "gate"], "gated")]  # fmt: skip
    view = network(middle, "gated")
    assert {n: why for n, why in place(view).kept_float.items() if why == REASON} == {
        "squeeze": REASON, "excite": REASON
    }  # fmt: skip
    switched = place(view, PlacementOptions(squeeze_float=False))
    assert {"squeeze", "excite"} <= {site.node for site in switched.weights}


@pytest.mark.parametrize(
    ("middle", "last"),
    [
        # A vector that is added, not multiplied, is a bias of each channel.
        ([*POOLS["GlobalAveragePool"], conv("pool", "squeeze", 1), node("Add", ["first", "squeeze"], "sum")], "sum"),
        # A pooling that leaves positions is no vector.
        (
            [node("AveragePool", ["first"], "pool", kernel_shape=[2, 2]), conv("pool", "squeeze", 1),
             node("Resize", ["squeeze", "", "", "size"], "up"), node("Mul", ["first", "up"], "gated")],
            "gated",
        ),
        # A vector that gates itself alone (SiLU) ends in no gate.
        ([*POOLS["GlobalAveragePool"], conv("pool", "squeeze", 1), *SILU, node("Add", ["first", "act"], "sum")], "sum"),
    ],
)  # fmt: skip
def test_what_is_no_block(middle: list[onnx.NodeProto], last: str) -> None:
    if any("size" in n.input for n in middle):
        middle = [node("Shape", ["first"], "size"), *middle]
    assert REASON not in place(network(middle, last)).kept_float.values()
