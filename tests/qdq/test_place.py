"""Placement rules on real and hand-made graphs: who is quantized, where, with whom a scale is shared."""

import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.demo import resnet18
from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place


@pytest.fixture(scope="module")
def resnet() -> GraphView:
    return view_of(resnet18.build(width=8, size=32, classes=10))


def network(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], outputs: list[str]) -> GraphView:
    """A graph with input x [1, 16, 8, 8]; weights are zeros of the given shapes."""
    stored = [helper.make_tensor(n, TensorProto.FLOAT, s, bytes(4 * _count(s)), raw=True) for n, s in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        stored,
    )
    return view_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for d in shape:
        count *= d
    return count


def conv(name: str, source: str, target: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, f"{name}.w"], [target], name=name, **attributes)


def test_every_conv_of_a_resnet_is_quantized_and_the_head_is_not(resnet: GraphView) -> None:
    plan = place(resnet)
    convs = [node.name for node in resnet.nodes if node.op == "Conv"]
    assert {site.node for site in plan.weights} == set(convs)
    assert {site.axis for site in plan.weights} == {0}
    gemm = next(node.name for node in resnet.nodes if node.op == "Gemm")
    assert plan.kept_float == {gemm: "head: last weighted op before an output"}
    quantized_head = place(resnet, PlacementOptions(head_float=False))
    assert gemm in {site.node for site in quantized_head.weights}


def test_residual_inputs_are_the_short_branches(resnet: GraphView) -> None:
    plan = place(resnet)
    residual = {site.node: site for site in plan.activations if site.rule == "residual"}
    adds = [node for node in resnet.nodes if node.op == "Add"]
    assert set(residual) == {add.name for add in adds}
    for add in adds:
        producer = resnet.producers[residual[add.name].tensor]
        # Either the block's input (a Relu or the stem's MaxPool) or the 1x1 downsampling conv, never the second 3x3.
        if producer.op == "Conv":
            weight = resnet.tensors[producer.inputs[1]].shape
            assert weight is not None
            assert weight[2:] == (1, 1)
        else:
            assert producer.op in ("Relu", "MaxPool")


def test_q_never_stands_between_a_conv_and_its_activation(resnet: GraphView) -> None:
    for site in place(resnet).activations:
        producer = resnet.producers.get(site.tensor)
        if producer is not None and producer.op == "Conv":
            assert {node.op for node, _ in resnet.readers(site.tensor)} == {"Add"}


def test_both_inputs_of_adds_for_onnxruntime(resnet: GraphView) -> None:
    plan = place(resnet, PlacementOptions(add_both=True))
    adds = [node.name for node in resnet.nodes if node.op == "Add"]
    assert sorted((s.node, s.index) for s in plan.activations if s.rule == "residual") == sorted(
        (name, index) for name in adds for index in (0, 1)
    )


def test_concat_and_movers_share_one_scale() -> None:
    view = network(
        [
            conv("a", "x", "a_out"),
            helper.make_node("Relu", ["a_out"], ["r"], name="r"),
            conv("b", "r", "b_out"),
            helper.make_node("Sigmoid", ["b_out"], ["s"], name="s"),
            helper.make_node("MaxPool", ["r"], ["m"], name="m", kernel_shape=[1, 1]),
            helper.make_node("Concat", ["m", "s"], ["c"], name="c", axis=1),
            conv("d", "c", "d_out"),
            conv("e", "d_out", "y"),
        ],
        {"a.w": (16, 16, 1, 1), "b.w": (16, 16, 1, 1), "d.w": (16, 32, 1, 1), "e.w": (16, 16, 1, 1)},
        ["y"],
    )
    groups = {site.tensor: site.group for site in place(view).activations}
    assert groups["c"] == groups["r"]  # r goes through the pooling into the concat
    assert groups["x"] != groups["r"]
    apart = {site.tensor: site.group for site in place(view, PlacementOptions(share_concat=False)).activations}
    assert apart["c"] != apart["r"]


def test_tiny_convs_and_named_nodes_stay_float() -> None:
    view = network(
        [conv("a", "x", "p"), conv("dfl", "p", "q"), conv("b", "p", "r"), conv("c", "r", "y")],
        {"a.w": (16, 16, 1, 1), "dfl.w": (1, 16, 1, 1), "b.w": (16, 16, 1, 1), "c.w": (16, 16, 1, 1)},
        ["y", "q"],
    )
    plan = place(view, PlacementOptions(keep_float=("b*",)))
    assert plan.kept_float["dfl"] == "tiny: 1 output channels"
    assert plan.kept_float["b"] == "keep_named: matches 'b*'"
    with pytest.raises(QuantbenchError, match="keep_float pattern 'nothing' matches no node"):
        place(view, PlacementOptions(keep_float=("nothing",)))


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "axis"),
    [
        ("Conv", (24, 16, 1, 1), {}, 0),
        ("ConvTranspose", (16, 24, 2, 2), {}, 1),
        ("Gemm", (24, 16), {"transB": 1}, 0),
        ("Gemm", (16, 24), {}, 1),
        ("MatMul", (8, 24), {}, 1),
    ],
)
def test_weight_axis_is_the_output_channel(op: str, shape: tuple[int, ...], attributes: dict, axis: int) -> None:
    nodes = [helper.make_node(op, ["x", "w"], ["h"], name="op", **attributes), conv("last", "h", "y")]
    view = network(nodes, {"w": shape, "last.w": (8, 24, 1, 1)}, ["y"])
    assert [site.axis for site in place(view).weights if site.node == "op"] == [axis]


def test_matmul_of_activations_is_a_switch() -> None:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["h"], name="mm"), conv("a", "h", "p"), conv("b", "p", "y")]
    view = network(nodes, {"a.w": (16, 16, 1, 1), "b.w": (16, 16, 1, 1)}, ["y"])
    assert place(view).kept_float["mm"] == "weighted: MatMul of two activations"
    sites = [site for site in place(view, PlacementOptions(matmul=True)).activations if site.node == "mm"]
    assert [site.index for site in sites] == [0, 1]
