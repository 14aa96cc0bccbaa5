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
from tests.qdq.golden import parse
from tests.qdq.networks import DENSE_BLOCKS


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


def test_every_conv_of_a_resnet_and_its_classifier_are_quantized(resnet: GraphView) -> None:
    plan = place(resnet)
    weighted = [node.name for node in resnet.nodes if node.op in ("Conv", "Gemm")]
    assert len(weighted) == 21
    assert {site.node for site in plan.weights} == set(weighted)
    assert {site.axis for site in plan.weights} == {0}
    assert plan.kept_float == {}


DFL = "tiny: 1 output channels, decodes what a softmax gives"
HEAD = "head: last weighted op before an output"


@pytest.mark.parametrize(
    ("nodes", "shape", "kept"),
    [
        (["GlobalAveragePool", "Flatten", "Gemm"], (16, 10), False),
        (["GlobalAveragePool", "Flatten", "Dropout", "Gemm"], (16, 10), False),
        (["GlobalAveragePool", "Flatten", "MatMul"], (16, 10), False),
        (["GlobalAveragePool", "Flatten", "Gemm"], (16, 4), True),  # a box, a pose, a depth
        (["GlobalAveragePool", "Flatten", "Sigmoid", "Gemm"], (16, 10), True),
        (["GlobalMaxPool", "Flatten", "Gemm"], (16, 10), True),
        (["Flatten", "Gemm"], (1024, 10), True),
    ],
)
def test_only_a_classifier_behind_a_global_average_is_no_float_head(
    nodes: list[str], shape: tuple[int, int], kept: bool
) -> None:
    chain = [conv("a", "x", "a_out")]
    for op in nodes:
        inputs = [chain[-1].output[0], *(["w"] if op in ("Gemm", "MatMul") else [])]
        chain.append(helper.make_node(op, inputs, [f"{op}_out"], name=op))
    view = network(chain, {"a.w": (16, 16, 1, 1), "w": shape}, [chain[-1].output[0]])
    assert place(view).kept_float == ({nodes[-1]: HEAD} if kept else {})
    pooled = {site.node for site in place(view).activations if site.rule == "pooling"}
    assert pooled == (set() if kept else {"GlobalAveragePool"})


def test_convs_before_an_output_stay_float() -> None:
    nodes = [conv("a", "x", "p"), conv("boxes", "p", "y"), conv("classes", "p", "z")]
    view = network(nodes, {f"{n}.w": (16, 16, 1, 1) for n in ("a", "boxes", "classes")}, ["y", "z"])
    assert place(view).kept_float == {"boxes": HEAD, "classes": HEAD}
    assert place(view, PlacementOptions(head_float=False)).kept_float == {}
    # A head that the user names is the head: the convs before it are quantized.
    named = place(view, PlacementOptions(keep_float=("boxes", "classes")))
    assert named.kept_float == {n: f"keep_named: matches {n!r}" for n in ("boxes", "classes")}
    # A tiny conv behind a softmax (a DFL) is no head of its own, but a part of decoding; any other is a head.
    weights = {"a.w": (16, 16, 1, 1), "boxes.w": (16, 16, 1, 1), "tiny.w": (1, 16, 1, 1)}
    softmax = [helper.make_node("Softmax", ["q"], ["s"], name="softmax"),
               helper.make_node("Transpose", ["s"], ["t"], name="turn")]  # fmt: skip
    view = network([conv("a", "x", "p"), conv("boxes", "p", "q"), *softmax, conv("tiny", "t", "y")], weights, ["y"])
    assert place(view).kept_float == {"tiny": DFL, "boxes": HEAD}
    assert place(view, PlacementOptions(tiny_anywhere=True)).kept_float == {"tiny": DFL, "boxes": HEAD}
    view = network([conv("a", "x", "p"), conv("boxes", "p", "q"), conv("tiny", "q", "y")], weights, ["y"])
    assert place(view).kept_float == {"tiny": HEAD}
    kept = place(view, PlacementOptions(head_float=False)).kept_float
    assert kept == {"tiny": "tiny: 1 output channels, before an output"}


def test_blocks_that_reach_an_output_through_skip_connections_are_no_head() -> None:
    """A backbone whose features are the output (embeddings, or behind tiny heads, as in BlazeFace)."""
    nodes, last = [], "x"
    for block in range(4):
        nodes += [conv(f"c{block}", last, f"c{block}_out"),
                  helper.make_node("Add", [f"c{block}_out", last], [f"sum{block}"], name=f"sum{block}"),
                  helper.make_node("Relu", [f"sum{block}"], [f"r{block}"], name=f"r{block}")]  # fmt: skip
        last = f"r{block}"
    view = network(nodes, {f"c{block}.w": (16, 16, 1, 1) for block in range(4)}, [last])
    assert place(view).kept_float == {"c3": HEAD}
    # An output of its own, halfway, is read by nobody else: its conv is a head too, though others come after it.
    side = conv("side", "r1", "side_out")
    back = helper.make_node("Add", ["side_out", "r1"], ["mixed"], name="mixed")
    rest = [conv("c2", "mixed", "y")]
    view = network([*nodes[:6], side, back, *rest], {f"{n}.w": (16, 16, 1, 1) for n in ("c0", "c1", "side", "c2")},
                   ["y", "side_out"])  # fmt: skip
    assert place(view).kept_float == {"side": HEAD, "c2": HEAD}


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


def skip(activation: list[onnx.NodeProto], end: str, behind: list[onnx.NodeProto]) -> GraphView:
    """conv a, Relu r; conv b on it, `activation` from b_out to `end`; Add of both; `behind` from s; conv last to y."""
    nodes = [
        conv("a", "x", "a_out"),
        helper.make_node("Relu", ["a_out"], ["r"], name="relu"),
        conv("b", "r", "b_out"),
        *activation,
        helper.make_node("Add", ["r", end], ["s"], name="add"),
        *behind,
        conv("last", "d", "y"),
    ]
    weights = {f"{n}.w": (16, 16, 1, 1) for n in ("a", "b", "c", "last")}
    weights.update(dict.fromkeys(("bn.scale", "bn.bias", "bn.mean", "bn.var"), (16,)))
    return network(nodes, weights, ["y"])


SILU = [
    helper.make_node("Sigmoid", ["b_out"], ["b_sig"], name="sigmoid"),
    helper.make_node("Mul", ["b_out", "b_sig"], ["b_act"], name="mul"),
]
LEAKY = [helper.make_node("LeakyRelu", ["b_out"], ["b_act"], name="leaky")]
NORM = [helper.make_node("BatchNormalization", ["b_out", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["b_act"])]
CONV = [conv("c", "s", "d")]
SPLIT = [helper.make_node("Concat", ["s", "r"], ["cat"], name="cat", axis=0), conv("c", "cat", "d")]
FLOAT = [helper.make_node("Softmax", ["s"], ["d"], name="softmax", axis=1)]
MIXED = [*CONV, helper.make_node("Softmax", ["s"], ["side"], name="softmax", axis=1)]
PREACTIVATION = [
    helper.make_node("BatchNormalization", ["s", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["n"], name="behind"),
    helper.make_node("Relu", ["n"], ["nr"], name="relu2"), conv("c", "nr", "d"),
]  # fmt: skip
SILU_BEHIND = [
    helper.make_node("Sigmoid", ["s"], ["s_sig"], name="sigmoid2"),
    helper.make_node("Mul", ["s", "s_sig"], ["s_act"], name="mul2"), conv("c", "s_act", "d"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("activation", "end", "behind", "inputs"),
    [
        ([], "b_out", CONV, {0}),  # the conv takes the Add in
        (NORM, "b_act", CONV, {0}),  # and its batch norm
        ([], "b_out", FLOAT, set()),  # no Q behind it that the conv could take in with it
        ([], "b_out", MIXED, set()),
        ([], "b_out", PREACTIVATION, set()),
        ([], "b_out", SILU_BEHIND, set()),
        (SILU, "b_act", CONV, {0, 1}),  # no conv takes it in: an INT8 elementwise layer
        (LEAKY, "b_act", CONV, {0, 1}),
        (SILU, "b_act", SPLIT, {0, 1}),
        (SILU, "b_act", FLOAT, set()),  # INT8 in wants INT8 out
    ],
)
def test_inputs_of_an_add_that_are_quantized(
    activation: list[onnx.NodeProto], end: str, behind: list[onnx.NodeProto], inputs: set[int]
) -> None:
    plan = place(skip(activation, end, behind))
    assert {site.index for site in plan.activations if site.node == "add"} == inputs


def convnext(norm: str) -> GraphView:
    """Two blocks, conv - norm - conv - Add, and a norm and a conv behind; `norm` whole, in parts, or as RMS norm."""
    weights = {f"{n}.w": (16, 16, 1, 1) for n in ("stem", "a0", "b0", "a1", "b1", "last")}
    weights.update({"ln.w": (16,), "ln.b": (16,), "two": (1,), "one": (1,)})
    nodes, last = [conv("stem", "x", "t0")], "t0"

    def normalise(source: str, end: str) -> list[onnx.NodeProto]:
        if norm == "whole":
            return [helper.make_node("LayerNormalization", [source, "ln.w", "ln.b"], [end], name=f"{end}/ln")]
        if norm == "parts":
            return [helper.make_node("ReduceMean", [source], [f"{end}m"], name=f"{end}/mean", axes=[1]),
                    helper.make_node("Sub", [source, f"{end}m"], [f"{end}c"], name=f"{end}/sub"),
                    helper.make_node("Mul", [f"{end}c", "ln.w"], [end], name=f"{end}/scale")]  # fmt: skip
        return [helper.make_node("Pow", [source, "two"], [f"{end}p"], name=f"{end}/pow"),
                helper.make_node("ReduceMean", [f"{end}p"], [f"{end}m"], name=f"{end}/mean", axes=[1]),
                helper.make_node("Div", [source, f"{end}m"], [end], name=f"{end}/div")]  # fmt: skip

    for i in range(2):
        nodes += [conv(f"a{i}", last, f"p{i}"), *normalise(f"p{i}", f"n{i}"), conv(f"b{i}", f"n{i}", f"q{i}"),
                  helper.make_node("Add", [last, f"q{i}"], [f"s{i}"], name=f"add{i}")]  # fmt: skip
        last = f"s{i}"
    nodes += [helper.make_node("Transpose", [last], ["turned"], name="turn", perm=[0, 1, 2, 3]),
              *normalise("turned", "n"), conv("last", "n", "y")]  # fmt: skip
    return network(nodes, weights, ["y"])


@pytest.mark.parametrize("norm", ["whole", "parts", "rms"])
@pytest.mark.parametrize("add_both", [False, True])
def test_streams_that_feed_a_layer_norm_stay_float(norm: str, add_both: bool) -> None:
    """A conv reads each sum in INT8, and yet: the stream holds the outlier channels that the norm takes away."""
    plan = place(convnext(norm), PlacementOptions(add_both=add_both))
    assert {site.node for site in plan.activations} == {"stem", "a0", "b0", "a1", "b1"}


def test_a_float_add_at_the_end_of_many_blocks_leaves_those_before_it_in_int8() -> None:
    nodes = [conv("c", "x", "t0")]
    for i in range(400):
        nodes += [
            conv(f"c{i}", f"t{i}", f"b{i}"),
            helper.make_node("LeakyRelu", [f"b{i}"], [f"l{i}"], name=f"leaky{i}"),
            helper.make_node("Add", [f"t{i}", f"l{i}"], [f"t{i + 1}"], name=f"add{i}"),
        ]
    nodes.append(conv("last", "t400", "y"))
    weights = {node.input[1]: (16, 16, 1, 1) for node in nodes if node.op_type == "Conv"}
    view = network(nodes, weights, ["y"])
    for head_float, count in ((True, 399), (False, 400)):
        residual = [s for s in place(view, PlacementOptions(head_float=head_float)).activations if s.rule == "residual"]
        assert [(s.node, s.index) for s in residual] == [(f"add{i}", k) for i in range(count) for k in (0, 1)]


def test_the_branch_that_ends_in_a_conv_takes_the_add_whichever_is_longer() -> None:
    nodes = [
        conv("a", "x", "p"),
        conv("short", "p", "s"),
        conv("b", "p", "b_out"),
        *SILU,
        conv("c", "b_act", "c_out"),
        helper.make_node("LeakyRelu", ["c_out"], ["long"], name="leaky"),
        helper.make_node("Add", ["s", "long"], ["t"], name="add"),
        conv("d", "t", "d_out"),
        conv("last", "d_out", "y"),
    ]
    view = network(nodes, {f"{n}.w": (16, 16, 1, 1) for n in ("a", "short", "b", "c", "d", "last")}, ["y"])
    assert [site.tensor for site in place(view).activations if site.node == "add"] == ["long"]


def test_a_pooling_stays_float_where_something_reads_it_or_its_input_in_float() -> None:
    pool = helper.make_node("GlobalAveragePool", ["p"], ["g"], name="pool")
    squeeze = [
        conv("a", "x", "p"),
        pool,
        conv("s", "g", "s_out"),
        helper.make_node("Sigmoid", ["s_out"], ["e"], name="sigmoid"),
        helper.make_node("Mul", ["p", "e"], ["m"], name="mul"),
        conv("b", "m", "q"),
        conv("last", "q", "y"),
    ]
    weights = {f"{n}.w": (16, 16, 1, 1) for n in ("a", "s", "b", "last")}
    assert not [s for s in place(network(squeeze, weights, ["y"])).activations if s.node == "pool"]
    alone = [conv("a", "x", "p"), pool, conv("s", "g", "s_out"), conv("last", "s_out", "y")]
    assert [s.tensor for s in place(network(alone, weights, ["y"])).activations if s.node == "pool"] == ["p"]
    kept = PlacementOptions(keep_float=("s",))
    assert not [s for s in place(network(alone, weights, ["y"]), kept).activations if s.node == "pool"]


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


def test_tiny_convs_between_int8_layers_are_quantized_along() -> None:
    """But no skip connection for their sake: sum1 is read by one of them alone and by what goes on with it."""
    view = view_of(parse(DENSE_BLOCKS)[0])
    plan = place(view)
    assert {"grown1", "grown2"} <= {site.node for site in plan.weights}
    assert plan.kept_float == {"image": HEAD}
    skips = {site.node for site in plan.activations if site.rule == "residual"}
    assert skips == {"sum2"}
    anywhere = place(view, PlacementOptions(tiny_anywhere=True))
    assert {site.node for site in anywhere.activations if site.rule == "residual"} == {"sum1", "sum2"}
    assert anywhere.weights == plan.weights


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (("joined*", "up"), "and no INT8 layer reads what it writes"),
        (("stem", "first", "joined*"), "and no INT8 layer feeds it"),
    ],
)
def test_a_tiny_conv_among_float_layers_stays_float(kept: tuple[str, ...], reason: str) -> None:
    plan = place(view_of(parse(DENSE_BLOCKS)[0]), PlacementOptions(keep_float=kept))
    assert plan.kept_float["grown1"] == f"tiny: 4 output channels, {reason}"
    assert plan.kept_float["grown2"].startswith("tiny: 4 output channels, and no INT8 layer")


def test_a_tiny_conv_whose_input_is_wanted_in_float_stays_float() -> None:
    """Its Q would be left over."""
    nodes = [conv("a", "x", "p"), conv("few", "p", "q"), conv("b", "q", "r"), conv("c", "r", "y")]
    nodes.insert(1, helper.make_node("Softmax", ["p"], ["shares"], name="softmax", axis=1))
    weights = {"a.w": (16, 16, 1, 1), "few.w": (4, 16, 1, 1), "b.w": (16, 4, 1, 1), "c.w": (16, 16, 1, 1)}
    assert place(network(nodes, weights, ["y", "shares"])).kept_float["few"].endswith("and no INT8 layer feeds it")
    assert "few" not in place(network([nodes[0], *nodes[2:]], weights, ["y"])).kept_float


def test_tiny_convs_and_named_nodes_stay_float() -> None:
    view = network(
        [conv("a", "x", "p"), conv("few", "p", "q"), conv("b", "p", "r"), conv("c", "r", "y")],
        {"a.w": (16, 16, 1, 1), "few.w": (1, 16, 1, 1), "b.w": (16, 16, 1, 1), "c.w": (16, 16, 1, 1)},
        ["y", "q"],
    )
    plan = place(view, PlacementOptions(keep_float=("b*",)))
    assert plan.kept_float["few"] == HEAD
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
    assert place(view).kept_float["mm"] == "attention: MatMul of two activations"
    # No tensor core sums over 8 columns in INT8; golden/attention.txt has those that take Q/DQ.
    assert place(view, PlacementOptions(matmul=True)).kept_float["mm"] == (
        "attention: sums over 8 columns, fewer than 16"
    )


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_scale_or_bias_by_a_constant_does_not_part_the_conv_from_the_add(op: str) -> None:
    """Paddle writes a conv's bias as an Add of its own, and an Identity behind it."""
    nodes = [
        conv("a", "x", "a_out"),
        conv("b", "a_out", "b_out"),
        helper.make_node(op, ["b_out", "bias"], ["biased"], name="bias"),
        helper.make_node("Identity", ["biased"], ["branch"], name="same"),
        helper.make_node("Add", ["a_out", "branch"], ["sum"], name="sum"),
        conv("c", "sum", "c_out"),
        conv("d", "c_out", "y"),
    ]
    view = network(nodes, {**{f"{n}.w": (16, 16, 1, 1) for n in "abcd"}, "bias": (16, 1, 1)}, ["y"])
    residual = [(site.node, site.tensor) for site in place(view).activations if site.rule == "residual"]
    assert residual == [("sum", "a_out")]
