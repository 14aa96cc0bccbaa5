"""What holds for any Q/DQ network, on random ones; and small networks whose outcome is known."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo import resnet18
from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict, predict_model
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from tests.predict.qdq_networks import Draft

_PLAIN = {"relu": "Relu", "maxpool": "MaxPool", "leaky": "LeakyRelu", "resize": "Resize", "reshape": "Reshape"}
_OPS = ("conv", "qconv", "silu", "add", "concat", "slice", "quantize", "bn", *_PLAIN)
# Ops that leave no layer of their own: written or read in place, erased.
_IN_PLACE = {"Concat", "Slice", "Reshape", "Transpose", "Flatten", "Identity"}


@st.composite
def networks(draw: st.DrawFn) -> tuple[GraphView, dict[str, str]]:
    """A random network of convs, movers, Adds and Concats with Q/DQ anywhere; all tensors are [1, C, 8, 8]."""
    d = Draft()
    pool = [d.tensor("x", (1, 8, 8, 8))]
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(_OPS))
        x = draw(st.sampled_from(pool))
        shape = d.shape(x)
        if kind == "qconv":
            y = d.qconv(x, f"w{d.count}", 8, 3)
        elif kind == "conv":
            weight = d.tensor(f"w{d.count}", (8, shape[1], 3, 3), constant=True)
            y = d.node("Conv", [x, weight], (1, 8, *shape[2:]), kernel_shape=(3, 3))
        elif kind == "silu":
            y = d.node("Mul", [x, d.node("Sigmoid", [x], shape)], shape)
        elif kind == "add":
            same = [t for t in pool if d.shape(t) == shape]
            y = d.node("Add", [x, draw(st.sampled_from(same))], shape)
        elif kind == "concat":
            other = draw(st.sampled_from([t for t in pool if d.shape(t)[2:] == shape[2:]]))
            y = d.node("Concat", [x, other], (1, shape[1] + d.shape(other)[1], *shape[2:]), axis=1)
        elif kind == "slice":
            y = d.node("Slice", [x], (1, max(1, shape[1] // 2), *shape[2:]))
        elif kind == "quantize":
            y = d.quantized(x, draw(st.sampled_from(("", "common"))))
        elif kind == "bn":
            y = d.bn(x)
        else:
            y = d.node(_PLAIN[kind], [x], shape)
        pool.append(y)
    read = {t for n in d.nodes for t in n.inputs}
    outputs = tuple(n.outputs[0] for n in d.nodes if n.outputs[0] not in read)
    return d.view(("x",), outputs), d.scales


@settings(max_examples=300, deadline=None)
@given(networks(), st.sampled_from(("8.4", "8.5", "10")))
def test_every_node_ends_in_exactly_one_place(network: tuple[GraphView, dict[str, str]], version: str) -> None:
    view, scales = network
    prediction = predict(view, version=version, scales=scales)
    assert prediction == predict(view, version=version, scales=scales)
    home = Counter(node for layer in prediction.layers if layer.origin != "QDQ" for node in set(layer.nodes))
    fates = {fate.name: fate for fate in prediction.fates}
    for node in view.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            assert node.name in fates
        elif node.op not in _IN_PLACE:
            assert home[node.name] == 1, node
    made = {t.name for layer in prediction.layers for t in layer.outputs}
    for layer in prediction.layers:
        for tensor in layer.inputs:
            assert tensor.name in made | {"x"}, layer
    for fate in prediction.leftover:
        assert any(layer.name == fate.name and layer.origin == "QDQ" for layer in prediction.layers)


@settings(max_examples=150, deadline=None)
@given(networks())
def test_int8_never_meets_a_float_layer(network: tuple[GraphView, dict[str, str]]) -> None:
    """Only INT8 layers, reformats and data movement may read INT8: the network must compute what it says."""
    view, scales = network
    for layer in predict(view, scales=scales).layers:
        if layer.type in ("PointWiseV2", "Scale", "ElementWise") and "guess" not in layer.attributes:
            assert all(t.dtype != "INT8" for t in layer.inputs), layer
        if layer.type == "CaskConvolution" and not layer.attributes.get("int8"):
            assert layer.inputs[0].dtype != "INT8", layer


def _one_block(quantize_both: bool, activation: str) -> tuple[GraphView, dict[str, str]]:
    """conv (+ activation) + Add with a quantized skip input, then a quantized conv."""
    d = Draft()
    x = d.node("Relu", [d.qconv(d.tensor("x", (1, 32, 8, 8)), "a", 32, 3)], (1, 32, 8, 8))
    y = d.qconv(x, "b", 32, 3)
    if activation:
        y = d.node(activation, [y], (1, 32, 8, 8))
    if quantize_both:
        y = d.quantized(y)
    y = d.node("Add", [y, d.quantized(x)], (1, 32, 8, 8))
    y = d.qconv(y, "c", 32, 3)
    return d.view(("x",), (y,)), d.scales


def test_an_activation_before_the_add_keeps_it_apart_unless_both_inputs_are_quantized() -> None:
    plain = _predict(_one_block(False, ""))
    assert [f.name for f in plain.leftover] == ["QuantizeLinear_2"]
    assert any(layer.attributes.get("residual") and layer.outputs[0].dtype == "INT8" for layer in plain.layers)
    apart = _predict(_one_block(False, "LeakyRelu"))
    assert len(apart.leftover) > 1
    assert apart.float_bytes > 0
    both = _predict(_one_block(True, "LeakyRelu"))
    assert len(both.leftover) == 1
    assert both.float_bytes == 0
    assert "elementwise" in next(iter(both.guesses.values()))


def _predict(network: tuple[GraphView, dict[str, str]]) -> Prediction:
    view, scales = network
    return predict(view, scales=scales)


def test_float_layers_come_with_reason_and_mend() -> None:
    d = Draft()
    x = d.qconv(d.tensor("x", (1, 32, 8, 8)), "a", 32, 3)
    weight = d.tensor("plain", (32, 32, 3, 3), constant=True)
    y = d.node("Conv", [x, weight], (1, 32, 8, 8), "plain_conv")
    z = d.qconv(y, "b", 32, 3)
    found = predict(d.view(("x",), (z,)), scales=d.scales).float_weighted
    assert [(f.node, f.reason) for f in found] == [("plain_conv", "neither its input nor its weights have Q/DQ")]
    assert found[0].mend == f"quantize {x} and plain"


def test_int8_weights_behind_a_dq_alone_are_taken_too() -> None:
    d = Draft()
    x = d.quantized(d.tensor("x", (1, 32, 8, 8)))
    stored = d.tensor("w_int8", (32, 32, 3, 3), constant=True)
    d.tensor("w_scale", (32,), constant=True)
    w = d.node("DequantizeLinear", [stored, "w_scale"], (32, 32, 3, 3), "w_DQ")
    d.tensor(w, (32, 32, 3, 3), constant=True)
    y = d.node("Conv", [x, w], (1, 32, 8, 8), "conv")
    prediction = predict(d.view(("x",), (y,)), scales=d.scales)
    assert prediction.int8_layers == 1
    assert {f.name: f.status for f in prediction.fates}["w_DQ"] == "fused"


def test_a_depthwise_conv_does_not_take_silu() -> None:
    d = Draft()
    y = d.qconv(d.tensor("x", (1, 32, 8, 8)), "a", 32, 3, group=32)
    y = d.node("Mul", [y, d.node("Sigmoid", [y], (1, 32, 8, 8))], (1, 32, 8, 8))
    z = d.qconv(y, "b", 32, 3)
    layers = predict(d.view(("x",), (z,)), scales=d.scales).layers
    depthwise = next(layer for layer in layers if layer.type == "CudaDepthwiseConvolution")
    assert depthwise.outputs[0].dtype == "FP32"
    assert any(layer.type == "PointWiseV2" for layer in layers)


def test_q_moves_before_a_pad_of_height_and_width_but_not_of_other_dimensions() -> None:
    for channels, past in ((32, True), (40, False)):
        d = Draft()
        y = d.qconv(d.tensor("x", (1, 32, 8, 8)), "a", 32, 3)
        y = d.node("Pad", [y], (1, channels, 10, 10))
        z = d.qconv(y, "b", 32, 3)
        layers = predict(d.view(("x",), (z,)), scales=d.scales).layers
        pad = next(layer for layer in layers if layer.type == "Pad")
        assert (pad.outputs[0].dtype == "INT8") is past


def test_a_mul_by_one_value_a_channel_goes_into_the_conv_but_a_mul_by_a_map_does_not() -> None:
    for shape, inside in (((1, 32, 1, 1), True), ((), True), ((1, 1, 8, 8), False)):
        d = Draft()
        y = d.qconv(d.tensor("x", (1, 32, 8, 8)), "a", 32, 3)
        y = d.node("Mul", [d.tensor("factor", shape, constant=True), y], (1, 32, 8, 8))
        z = d.qconv(y, "b", 32, 3)
        first = predict(d.view(("x",), (z,)), scales=d.scales).layers[1]
        assert (first.outputs[0].dtype == "INT8") is inside


def test_a_residual_add_of_unknown_sizes_is_taken_in() -> None:
    """Dynamic height and width give each tensor sizes of its own name; only known sizes that differ part them."""
    predicted = {}
    for dynamic in (False, True):
        model = resnet18.build(width=8, size=64, classes=10)
        for name, dim in zip("hw", model.graph.input[0].type.tensor_type.shape.dim[2:], strict=True):
            if dynamic:
                dim.dim_param = name
        plan = place(view_of(model))
        quantized = insert_qdq(model, plan, Ranges({name: TensorRange(4.0) for name in plan.tensors}))
        del quantized.graph.value_info[:]
        predicted[dynamic] = predict_model(quantized)
    assert [layer.nodes for layer in predicted[True].layers] == [layer.nodes for layer in predicted[False].layers]
    assert sum("Add" in layer.name for layer in predicted[True].layers if layer.type == "CaskConvolution") == 8
