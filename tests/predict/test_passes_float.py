"""The rules of tidying, of Myelin and of the layers that join a conv, each on the smallest network that shows it."""

import pytest

from tests.predict.passes_kit import SIZE, conv, dtypes_of, image, layer_with, names_of, predicted, silu
from tests.predict.qdq_networks import Draft
from tests.predict.rules import quotes


@quotes("cleanup", 1, "an Identity or Dropout goes")
@quotes("cleanup", 2, "Dead layers go")
def test_identities_and_dead_layers_leave_nothing() -> None:
    d, x = image()
    y = d.qconv(d.node("Identity", [x], SIZE, "identity"), "a", 32, 3)
    d.node("Softmax", [y], SIZE, "dead")
    prediction = predicted(d, y)
    assert {"identity", "dead"}.isdisjoint(node for layer in prediction.layers for node in layer.nodes)


@quotes("cleanup", 3, "one that only reshapes, to the shape that was there, goes")
def test_shuffles_join_and_those_that_change_nothing_go() -> None:
    d, x = image()
    y = d.node("Transpose", [d.node("Reshape", [x], (1, 32, 64), "r1")], (1, 64, 32), "t")
    out = d.node("Softmax", [y], (1, 64, 32), "softmax")
    assert layer_with(predicted(d, out, version="8.5"), "r1").nodes == ("r1", "t")
    d, x = image()
    y = d.node("Reshape", [d.node("Reshape", [d.qconv(x, "a", 32, 3)], (1, 1, 32, 8, 8), "r1")], SIZE, "r2")
    out = d.qconv(y, "b", 32, 3)
    prediction = predicted(d, out)
    assert not any({"r1", "r2"} & set(layer.nodes) for layer in prediction.layers)
    assert not any(step.what == "swap" for step in prediction.steps)


@quotes("cleanup", 4, "known before the engine runs")
@quotes("cleanup", 6, "becomes a float constant")
def test_shape_arithmetic_and_dangling_dqs_are_no_layers() -> None:
    d, x = image()
    shape = d.node("Shape", [x], (4,), "shape")
    d.tensors[shape] = type(d.tensors[shape])(shape, (4,), "int64")
    out = d.node("Add", [d.node("Reshape", [x, shape], SIZE, "r"), d.weights("bias", (32,), "Qb", "DQb")], SIZE, "add")
    prediction = predicted(d, out, version="8.5")
    assert not any("shape" in layer.nodes for layer in prediction.layers)
    assert {f.name: f.status for f in prediction.fates}["DQb"] == "folded"


@quotes("cleanup", 5, "scales and zero points go into each Q and DQ")
def test_each_q_and_dq_takes_its_constants() -> None:
    d, x = image()
    steps = [s for s in predicted(d, d.qconv(x, "a", 32, 3)).steps if s.name == "ConstQDQInitializersFusion"]
    assert len(steps) == 4


def _attention() -> tuple[Draft, str]:
    """Conv, BatchNormalization, tokens, a Linear with Q/DQ, LayerNormalization, image again, Q, conv."""
    d, x = image()
    y = d.bn(d.qconv(x, "a", 32, 3), "bn")
    y = d.node("Transpose", [d.node("Reshape", [y], (1, 32, 64), "tokens")], (1, 64, 32), "t1")
    y = d.qdq(y, "Qlinear", "DQlinear", "linear")
    y = d.node("MatMul", [y, d.weights("lw", (32, 32), "Qlw", "DQlw")], (1, 64, 32), "linear")
    y = d.node("LayerNormalization", [y, d.tensor("ln", (32,), constant=True)], (1, 64, 32), "norm")
    y = d.node("Reshape", [d.node("Transpose", [y], (1, 32, 64), "t2")], SIZE, "image")
    return d, d.qconv(y, "b", 32, 3)


@quotes("myelin", 1, "so do a Q and a DQ between such a layer and the next")
@quotes("myelin", 2, "every MatMul and Gemm from 10")
@quotes("myelin", 4, "A Q that a stretch feeds and a conv reads stays outside")
@quotes("myelin", 5, "how many there are is estimated")
def test_a_transformer_between_convs_is_one_foreign_node() -> None:
    d, out = _attention()
    prediction = predicted(d, out)
    myelin = next(layer for layer in prediction.layers if layer.type == "Myelin")
    inside = {"bn", "tokens", "t1", "Qlinear", "DQlinear", "Qlw", "DQlw", "linear", "norm", "t2", "image"}
    assert set(myelin.nodes) == inside
    assert myelin.name.endswith("...t2 + image]}")
    assert myelin.attributes["int8_inside"] == 1
    assert myelin.attributes["kernels_estimated"] >= 1
    behind = prediction.layers[prediction.layers.index(myelin) + 1]
    assert behind.origin == "QDQ"
    assert {f.into for f in prediction.fates if f.name == "Qlinear"} == {myelin.name}


@quotes("myelin", 2, "attention (a MatMul of two activations) in 8.6")
@pytest.mark.parametrize(("version", "inside"), [("8.4", None), ("8.6.0", False), ("10.9", True)])
def test_attention_goes_to_myelin_from_8_6_on_and_int8_products_from_10_on(version: str, inside: bool | None) -> None:
    d = Draft()
    x = d.qdq(d.tensor("x", (1, 64, 32)), "Q", "DQ", "x")
    q, k = (d.node("MatMul", [x, d.weights(n, (32, 32), f"{n}Q", f"{n}DQ")], (1, 64, 32), n) for n in "qk")
    k = d.node("Transpose", [k], (1, 32, 64), "turned")
    out = d.node("Softmax", [d.node("MatMul", [q, k], (1, 64, 64), "scores")], (1, 64, 64), "softmax")
    regions = [set(layer.nodes) for layer in predicted(d, out, version=version).layers if layer.type == "Myelin"]
    if inside is None:
        assert regions == []
    else:
        assert len(regions) == 1
        assert {"turned", "scores", "softmax"} <= regions[0]
        assert ("q" in regions[0]) is inside


@quotes("myelin", 2, "without a seed they stay")
def test_pointwise_layers_between_convs_stay_outside() -> None:
    d, x = image()
    y = d.node("Add", [silu(d, d.qconv(x, "a", 32, 3), "s"), x], SIZE, "add")
    assert not any(layer.type == "Myelin" for layer in predicted(d, d.qconv(y, "b", 32, 3)).layers)


@quotes("myelin", 3, "may not wrap around a layer outside that it feeds")
def test_a_stretch_is_cut_at_a_conv_that_it_feeds() -> None:
    d, out = _attention()
    y = d.node("MatMul", [d.node("Reshape", [out], (1, 32, 64), "r3"), d.tensor("w9", (64, 64), constant=True)],
               (1, 32, 64), "late")  # fmt: skip
    both = d.node("Add", [y, d.node("Reshape", ["norm_out"], (1, 32, 64), "early")], (1, 32, 64), "join")
    regions = [set(layer.nodes) for layer in predicted(d, both).layers if layer.type == "Myelin"]
    assert len(regions) == 2
    assert {"norm"} < regions[0]
    assert {"late", "join"} < regions[1]


@quotes("fusions", 1, "goes into the Add, the BatchNormalization or the weighted layer that feeds it")
@quotes("fusions", 4, "Its name leaves no trace")
def test_relu_and_batchnormalization_go_into_the_conv() -> None:
    d, x = image()
    y = d.node("Relu", [d.bn(d.qconv(x, "a", 32, 3), "bn")], SIZE, "relu")
    layer = predicted(d, d.qconv(y, "b", 32, 3)).layers[1]
    assert {"bn", "relu"} <= set(layer.nodes)
    assert "bn" not in layer.name


@quotes("fusions", 2, "any other activation is a pointwise layer")
@quotes("fusions", 5, "if it reads nothing else and one layer reads it")
def test_an_activation_goes_into_the_conv_if_one_layer_reads_it() -> None:
    for readers in (1, 2):
        d, x = image()
        y = silu(d, d.qconv(x, "a", 32, 3), "s")
        outputs = [d.qconv(d.quantized(y, f"scale {i}"), f"r{i}", 32, 3) for i in range(readers)]
        layer = layer_with(predicted(d, *outputs), "s.mul")
        assert (layer.type == "CaskConvolution") is (readers == 1)
        assert "PWN(s.sigmoid, s.mul)" in layer.name


@quotes("fusions", 3, "becomes `PWN(sigmoid, mul)`")
@quotes("quantize", 5, "a pointwise layer with a Q alone behind it writes INT8")
def test_two_silus_that_meet_are_one_pointwise_layer_that_writes_int8() -> None:
    """10.9 log, CSPRep blocks: PWN(PWN(a), PWN(PWN(b), Add)), b later in the network, and the Q behind it."""
    d, x = image()
    x = d.quantized(x)
    first, second = (silu(d, conv(d, x, name), name) for name in "ab")
    out = d.qconv(d.node("Add", [first, second], SIZE, "add"), "c", 32, 3)
    layer = layer_with(predicted(d, out), "add")
    assert layer.name == "PWN(PWN(a.sigmoid, a.mul), PWN(PWN(b.sigmoid, b.mul), add))"
    assert dtypes_of(layer) == (["FP32", "FP32"], ["INT8"])
    assert dtypes_of(layer_with(predicted(d, out, version="8.6"), "add"))[1] == ["FP32"]


@quotes("fusions", 4, "A quantized ConvTranspose takes none before 10")
@quotes("quantize", 3, "A ConvTranspose leaves its Q")
@quotes("memory", 6, "an INT8 ConvTranspose writes linear FP32")
def test_a_quantized_convtranspose_leaves_batchnormalization_and_q() -> None:
    """8.6.0 fuser log."""
    d, x = image()
    weights = d.weights("w", (32, 32, 2, 2), "Qw", "DQw")
    y = d.node("ConvTranspose", [d.quantized(x), weights], (1, 32, 16, 16), "up", kernel_shape=(2, 2))
    y = d.node("Relu", [d.bn(y, "bn")], (1, 32, 16, 16), "relu")
    names = names_of(predicted(d, y, version="8.6.0"))
    assert names[1:] == ["w + Qw + up", "Reformatting CopyNode for Input Tensor 0 to bn + relu", "bn + relu"]
    assert {"up", "bn", "relu"} <= set(predicted(d, y, version="10.9").layers[1].nodes)
    d, x = image()
    weights = d.weights("w", (32, 32, 2, 2), "Qw", "DQw")
    y = d.node("ConvTranspose", [d.quantized(x), weights], (1, 32, 16, 16), "up", kernel_shape=(2, 2))
    prediction = predicted(d, d.qconv(y, "b", 32, 3))
    assert dtypes_of(prediction.layers[1]) == (["INT8"], ["FP32"])
