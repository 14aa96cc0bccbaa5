"""Each rule of each pass, on the smallest network that shows it; the rules are quoted from the docstrings."""

import pytest
from qdq_networks import Draft
from rules import QUOTED, quotes, rules

from quantbench.layers.layer import Layer
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict

SIZE = (1, 32, 8, 8)


def _run(d: Draft, *outputs: str, version: str = "10.9", gpu: str = "", fp16: bool = True) -> Prediction:
    inputs = tuple(name for name in ("x", "y") if name in d.tensors)
    return predict(d.view(inputs, outputs), version=version, gpu=gpu, scales=d.scales, fp16=fp16)


def _image(channels: int = 32) -> tuple[Draft, str]:
    d = Draft()
    return d, d.tensor("x", (1, channels, 8, 8))


def _float_conv(d: Draft, x: str, name: str, out: int = 32) -> str:
    weight = d.tensor(f"{name}.w", (out, d.shape(x)[1], 3, 3), constant=True)
    return d.node("Conv", [x, weight], (1, out, *d.shape(x)[2:]), name, kernel_shape=(3, 3))


def _conv(d: Draft, x: str, name: str, out: int = 32) -> str:
    """A conv whose input has its DQ already."""
    weights = d.weights(f"{name}.w", (out, d.shape(x)[1], 3, 3), f"{name}.Qw", f"{name}.DQw")
    return d.node("Conv", [x, weights], (1, out, *d.shape(x)[2:]), name, kernel_shape=(3, 3))


def _silu(d: Draft, x: str, name: str) -> str:
    return d.node("Mul", [x, d.node("Sigmoid", [x], d.shape(x), f"{name}.sigmoid")], d.shape(x), f"{name}.mul")


def _names(prediction: Prediction) -> list[str]:
    return [layer.name for layer in prediction.layers]


def _with(prediction: Prediction, node: str) -> Layer:
    return next(layer for layer in prediction.layers if node in layer.nodes)


def _dtypes(layer: Layer) -> tuple[list[str], list[str]]:
    return [t.dtype for t in layer.inputs], [t.dtype for t in layer.outputs]


@quotes("cleanup", 1, "an Identity or Dropout goes")
@quotes("cleanup", 2, "Dead layers go")
def test_identities_and_dead_layers_leave_nothing() -> None:
    d, x = _image()
    y = d.qconv(d.node("Identity", [x], SIZE, "identity"), "a", 32, 3)
    d.node("Softmax", [y], SIZE, "dead")
    prediction = _run(d, y)
    assert {"identity", "dead"}.isdisjoint(node for layer in prediction.layers for node in layer.nodes)


@quotes("cleanup", 3, "one that only reshapes, to the shape that was there, goes")
def test_shuffles_join_and_those_that_change_nothing_go() -> None:
    d, x = _image()
    y = d.node("Transpose", [d.node("Reshape", [x], (1, 32, 64), "r1")], (1, 64, 32), "t")
    out = d.node("Softmax", [y], (1, 64, 32), "softmax")
    assert _with(_run(d, out, version="8.5"), "r1").nodes == ("r1", "t")
    d, x = _image()
    y = d.node("Reshape", [d.node("Reshape", [d.qconv(x, "a", 32, 3)], (1, 1, 32, 8, 8), "r1")], SIZE, "r2")
    out = d.qconv(y, "b", 32, 3)
    prediction = _run(d, out)
    assert not any({"r1", "r2"} & set(layer.nodes) for layer in prediction.layers)
    assert not any(step.what == "swap" for step in prediction.steps)


@quotes("cleanup", 4, "known before the engine runs")
@quotes("cleanup", 6, "becomes a float constant")
def test_shape_arithmetic_and_dangling_dqs_are_no_layers() -> None:
    d, x = _image()
    shape = d.node("Shape", [x], (4,), "shape")
    d.tensors[shape] = type(d.tensors[shape])(shape, (4,), "int64")
    out = d.node("Add", [d.node("Reshape", [x, shape], SIZE, "r"), d.weights("bias", (32,), "Qb", "DQb")], SIZE, "add")
    prediction = _run(d, out, version="8.5")
    assert not any("shape" in layer.nodes for layer in prediction.layers)
    assert {f.name: f.status for f in prediction.fates}["DQb"] == "folded"


@quotes("cleanup", 5, "scales and zero points go into each Q and DQ")
def test_each_q_and_dq_takes_its_constants() -> None:
    d, x = _image()
    steps = [s for s in _run(d, d.qconv(x, "a", 32, 3)).steps if s.name == "ConstQDQInitializersFusion"]
    assert len(steps) == 4


def _attention() -> tuple[Draft, str]:
    """Conv, BatchNormalization, tokens, a Linear with Q/DQ, LayerNormalization, image again, Q, conv."""
    d, x = _image()
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
    prediction = _run(d, out)
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
    regions = [set(layer.nodes) for layer in _run(d, out, version=version).layers if layer.type == "Myelin"]
    if inside is None:
        assert regions == []
    else:
        assert len(regions) == 1
        assert {"turned", "scores", "softmax"} <= regions[0]
        assert ("q" in regions[0]) is inside


@quotes("myelin", 2, "without a seed they stay")
def test_pointwise_layers_between_convs_stay_outside() -> None:
    d, x = _image()
    y = d.node("Add", [_silu(d, d.qconv(x, "a", 32, 3), "s"), x], SIZE, "add")
    assert not any(layer.type == "Myelin" for layer in _run(d, d.qconv(y, "b", 32, 3)).layers)


@quotes("myelin", 3, "may not wrap around a layer outside that it feeds")
def test_a_stretch_is_cut_at_a_conv_that_it_feeds() -> None:
    d, out = _attention()
    y = d.node("MatMul", [d.node("Reshape", [out], (1, 32, 64), "r3"), d.tensor("w9", (64, 64), constant=True)],
               (1, 32, 64), "late")  # fmt: skip
    both = d.node("Add", [y, d.node("Reshape", ["norm_out"], (1, 32, 64), "early")], (1, 32, 64), "join")
    regions = [set(layer.nodes) for layer in _run(d, both).layers if layer.type == "Myelin"]
    assert len(regions) == 2
    assert {"norm"} < regions[0]
    assert {"late", "join"} < regions[1]


@quotes("fusions", 1, "goes into the Add, the BatchNormalization or the weighted layer that feeds it")
@quotes("fusions", 4, "Its name leaves no trace")
def test_relu_and_batchnormalization_go_into_the_conv() -> None:
    d, x = _image()
    y = d.node("Relu", [d.bn(d.qconv(x, "a", 32, 3), "bn")], SIZE, "relu")
    layer = _run(d, d.qconv(y, "b", 32, 3)).layers[1]
    assert {"bn", "relu"} <= set(layer.nodes)
    assert "bn" not in layer.name


@quotes("fusions", 2, "any other activation is a pointwise layer")
@quotes("fusions", 5, "if it reads nothing else and one layer reads it")
def test_an_activation_goes_into_the_conv_if_one_layer_reads_it() -> None:
    for readers in (1, 2):
        d, x = _image()
        y = _silu(d, d.qconv(x, "a", 32, 3), "s")
        outputs = [d.qconv(d.quantized(y, f"scale {i}"), f"r{i}", 32, 3) for i in range(readers)]
        layer = _with(_run(d, *outputs), "s.mul")
        assert (layer.type == "CaskConvolution") is (readers == 1)
        assert "PWN(s.sigmoid, s.mul)" in layer.name


@quotes("fusions", 3, "becomes `PWN(sigmoid, mul)`")
@quotes("quantize", 5, "a pointwise layer with a Q alone behind it writes INT8")
def test_two_silus_that_meet_are_one_pointwise_layer_that_writes_int8() -> None:
    """10.9 log, CSPRep blocks: PWN(PWN(a), PWN(PWN(b), Add)), b later in the network, and the Q behind it."""
    d, x = _image()
    x = d.quantized(x)
    first, second = (_silu(d, _conv(d, x, name), name) for name in "ab")
    out = d.qconv(d.node("Add", [first, second], SIZE, "add"), "c", 32, 3)
    layer = _with(_run(d, out), "add")
    assert layer.name == "PWN(PWN(a.sigmoid, a.mul), PWN(PWN(b.sigmoid, b.mul), add))"
    assert _dtypes(layer) == (["FP32", "FP32"], ["INT8"])
    assert _dtypes(_with(_run(d, out, version="8.6"), "add"))[1] == ["FP32"]


@quotes("fusions", 4, "A quantized ConvTranspose takes none before 10")
@quotes("quantize", 3, "A ConvTranspose leaves its Q")
@quotes("memory", 6, "an INT8 ConvTranspose writes linear FP32")
def test_a_quantized_convtranspose_leaves_batchnormalization_and_q() -> None:
    """8.6.0 fuser log."""
    d, x = _image()
    weights = d.weights("w", (32, 32, 2, 2), "Qw", "DQw")
    y = d.node("ConvTranspose", [d.quantized(x), weights], (1, 32, 16, 16), "up", kernel_shape=(2, 2))
    y = d.node("Relu", [d.bn(y, "bn")], (1, 32, 16, 16), "relu")
    names = _names(_run(d, y, version="8.6.0"))
    assert names[1:] == ["w + Qw + up", "Reformatting CopyNode for Input Tensor 0 to bn + relu", "bn + relu"]
    assert {"up", "bn", "relu"} <= set(_run(d, y, version="10.9").layers[1].nodes)
    d, x = _image()
    weights = d.weights("w", (32, 32, 2, 2), "Qw", "DQw")
    y = d.node("ConvTranspose", [d.quantized(x), weights], (1, 32, 16, 16), "up", kernel_shape=(2, 2))
    prediction = _run(d, d.qconv(y, "b", 32, 3))
    assert _dtypes(prediction.layers[1]) == (["INT8"], ["FP32"])


@quotes("motions", 1, "becomes one DQ a reader, `DQ_clone_0`, `DQ_clone_1` ... in network order")
def test_a_dq_is_split_over_its_readers() -> None:
    d, x = _image()
    shared = d.qdq(x, "Q", "DQ", "x")
    prediction = _run(d, _conv(d, shared, "a"), _conv(d, shared, "b", 64))
    into = {f.name: f.into for f in prediction.fates}
    assert (into["DQ_clone_0"], into["DQ_clone_1"]) == ("a", "b")


@quotes("motions", 2, "a DQ moves behind a layer that only moves data")
def test_a_dq_moves_behind_a_transpose_of_int8_weights() -> None:
    d = Draft()
    x = d.qdq(d.tensor("x", (4, 16)), "Q", "DQ", "x")
    weights = d.node("Transpose", [d.weights("w", (8, 16), "Qw", "DQw")], (16, 8), "t")
    layer = _with(_run(d, d.node("MatMul", [x, weights], (4, 8), "product"), version="8.6"), "product")
    assert layer.name == "w + Qw + t + product"
    assert layer.attributes["int8"]


@quotes("motions", 3, "a Q and an INT8 conv stand before it")
def test_q_and_dq_go_behind_the_relu_of_an_int8_conv() -> None:
    d, x = _image()
    y = d.node("Relu", [d.qdq(_conv(d, d.quantized(x), "a"), "Q", "DQ", "a")], SIZE, "relu")
    assert "relu" in _with(_run(d, y), "a").nodes
    assert _with(_run(d, y, version="8.5"), "relu").type == "PointWiseV2"


@quotes("motions", 4, "a clone never stays for a Q of the network")
@pytest.mark.parametrize(("version", "stays"), [("8.4", "Q1"), ("8.5.2", "Q2"), ("8.6.0", "Q1"), ("10.9", "Q1")])
def test_which_of_two_twin_qs_stays(version: str, stays: str) -> None:
    d, x = _image()
    outputs = [_conv(d, d.qdq(x, f"Q{i}", f"DQ{i}", "x"), f"c{i}", 32 * i) for i in (1, 2)]
    status = {f.name: f.status for f in _run(d, *outputs, version=version).fates}
    assert [name for name in ("Q1", "Q2") if status[name] != "merged"] == [stays]


@quotes("motions", 5, "cloned into each branch, `Q_clone_0`, `Q_clone_1` ...")
@quotes("motions", 6, "a Q moves before a layer that only moves data and that nothing else reads")
@quotes("memory", 2, 'where an input that is not the last ends inside a vector of 32 channels ("stomping hazard")')
def test_a_q_is_split_over_a_concat_moves_before_a_resize_and_needs_copies() -> None:
    d, x = _image()
    small = d.node("MaxPool", [x], (1, 32, 4, 4), "small")
    parts = [d.node("Resize", [d.qconv(small, "a", 32, 3)], SIZE, "up"), d.qconv(x, "b", 40, 3), d.qconv(x, "c", 8, 3)]
    y = d.node("Concat", parts, (1, 80, 8, 8), "cat", axis=1)
    prediction = _run(d, _conv(d, d.qdq(y, "Q", "DQ", "cat"), "d"))
    swaps = {(s.target, *s.others) for s in prediction.steps if s.what == "swap"}
    assert ("up", "Q_clone_0") in swaps
    copies = [layer.name for layer in prediction.layers if layer.name.endswith(" copy")]
    assert copies == [f"cat_{parts[0]}_clone_0 copy", f"cat_{parts[1]}_clone_1 copy"]
    assert prediction.in_place == {"concats": 1, "slices": 0, "copies": 2}


@quotes("memory", 2, "where another layer reads the input too")
def test_what_another_layer_reads_is_copied_into_a_concat() -> None:
    d, x = _image()
    a, b = d.qconv(x, "a", 32, 3), d.qconv(x, "b", 32, 3)
    y = d.qdq(d.node("Concat", [a, b], (1, 64, 8, 8), "cat", axis=1), "Q", "DQ", "cat")
    other = _conv(d, d.qdq(a, "Qa", "DQa", "cat"), "other")
    prediction = _run(d, _conv(d, y, "c"), other)
    assert prediction.in_place["copies"] == 1


@quotes("motions", 7, "a DQ and a Q of one scale that meet change nothing")
def test_a_dq_and_a_q_that_meet_go() -> None:
    d, x = _image()
    y = d.qdq(d.qdq(d.qconv(x, "a", 32, 3), "Q1", "DQ1", "s"), "Q2", "DQ2", "s")
    status = {f.name: f.status for f in _run(d, _conv(d, y, "b")).fates}
    assert (status["DQ1"], status["Q2"]) == ("removed", "removed")
    assert status["Q1"] == status["DQ2"] == "fused"


@quotes("quantize", 1, "become an INT8 constant, `W + Q`")
@quotes("quantize", 3, "INT8 in, float out")
@quotes("quantize", 6, "stands first in the layer's name")
@quotes("epilogue", 3, "a Reformat with `Origin: QDQ`")
def test_a_conv_takes_its_dqs_and_writes_float_where_two_qs_read_it() -> None:
    d, x = _image()
    y = _conv(d, d.qdq(x, "Q", "DQ", "x"), "a")
    outputs = [_conv(d, d.qdq(y, f"Q{i}", f"DQ{i}", f"s{i}"), f"c{i}", 64) for i in (1, 2)]
    prediction = _run(d, *outputs)
    assert prediction.layers[1].name == "a.w + a.Qw + a"
    assert _dtypes(prediction.layers[1]) == (["INT8"], ["FP32"])
    assert [layer.name for layer in prediction.layers if layer.origin == "QDQ"] == ["Q", "Q1", "Q2"]


@quotes("quantize", 2, "the Q moves before the Add and into the conv")
def test_a_residual_with_a_dq_makes_one_int8_layer() -> None:
    d, x = _image()
    x = d.node("Relu", [d.qconv(x, "a", 32, 3)], SIZE, "relu")
    y = d.node("Add", [d.qconv(x, "b", 32, 3), d.quantized(x)], SIZE, "add")
    prediction = _run(d, d.qconv(y, "c", 32, 3), version="8.6.0")
    layer = _with(prediction, "add")
    assert _dtypes(layer) == (["INT8", "INT8"], ["INT8"])
    assert any(s.name == "QuantizeConvWithResidualAdd" and s.what == "swap" for s in prediction.steps)


@quotes("quantize", 4, "a Q alone behind it takes both")
@quotes("memory", 3, "float poolings have no CHW32 kernel")
def test_an_average_pooling_between_dq_and_q_is_int8() -> None:
    for behind in (True, False):
        d, x = _image()
        y = d.qconv(x, "a", 32, 3)
        y = d.quantized(y) if behind else y
        y = d.node("AveragePool", [y], (1, 32, 4, 4), "pool")
        prediction = _run(d, d.qconv(y, "b", 32, 3))
        assert _dtypes(_with(prediction, "pool"))[0] == ["INT8" if behind else "FP32"]
        reformats = [layer.name for layer in prediction.layers if layer.origin == "REFORMAT"]
        assert reformats == ([] if behind else ["Reformatting CopyNode for Input Tensor 0 to pool"])


@quotes("epilogue", 1, "Of two convs the later one in network order takes it")
def test_the_later_of_two_convs_takes_a_float_add() -> None:
    d, x = _image()
    x = d.quantized(x)
    out = d.node("Add", [_conv(d, x, "a"), _conv(d, x, "b")], SIZE, "add")
    layer = _with(_run(d, out), "add")
    assert "b" in layer.nodes
    assert layer.attributes["residual"] == "a_out"


@quotes("epilogue", 2, "an INT8 stem (up to 4 input channels) with its Relu takes the MaxPool behind it")
def test_only_a_stem_takes_its_maxpool() -> None:
    for channels, fused in ((3, True), (32, False)):
        d, x = _image(channels)
        y = d.node("Relu", [d.qconv(x, "a", 32, 3)], SIZE, "relu")
        y = d.node("MaxPool", [y], (1, 32, 4, 4), "pool")
        assert ("relu" in _with(_run(d, d.qconv(y, "b", 32, 3)), "pool").nodes) is fused


@quotes("epilogue", 4, "a Gemm of N, C, 1, 1 becomes a 1x1 convolution")
def test_a_gemm_behind_a_global_pooling_is_a_conv_before_10() -> None:
    d, x = _image()
    y = d.node("GlobalAveragePool", [d.qconv(x, "a", 32, 3)], (1, 32, 1, 1), "pool")
    out = d.qgemm(d.node("Flatten", [y], (1, 32), "flat"), "fc", 10)
    assert _run(d, out, version="8.4").layers[-1].type == "CaskConvolution"
    assert "Myelin" in {layer.type for layer in _run(d, out, version="10.9").layers}


@quotes("epilogue", 5, "become one (`A || B`), eight at most")
def test_parallel_convs_merge_by_eights() -> None:
    d, x = _image()
    x = d.quantized(x)
    merged = [s for s in _run(d, *(_conv(d, x, f"c{i}") for i in range(20))).steps if s.name == "Merging layers"]
    assert [1 + len(step.others) for step in merged] == [8, 8, 4]


@quotes("memory", 1, 'needs a copy: "Replacing slice ... with copy"')
@quotes("memory", 5, "a reformat before it where an INT8 conv wrote CHW32")
def test_slices_are_views_but_before_a_softmax() -> None:
    """8.6.0 backbone log: Slice_851 before Softmax_852 is a copy, Slice_857 before Transpose_858 a view."""
    d, x = _image()
    y = d.qconv(x, "a", 64, 3)
    first, second = (d.node("Slice", [y], SIZE, f"slice{i}") for i in (1, 2))
    soft = d.node("Softmax", [first], SIZE, "softmax")
    turned = d.node("Transpose", [second], (1, 8, 8, 32), "transpose")
    prediction = _run(d, soft, turned, version="8.6.0")
    assert _with(prediction, "slice1").type == "Slice"
    assert not any("slice2" in layer.nodes for layer in prediction.layers)
    assert "Reformatting CopyNode for Input Tensor 0 to transpose" in _names(prediction)


@quotes("memory", 4, "a float conv reads and writes channels last")
def test_a_float_conv_between_an_int8_conv_and_the_output_is_reformatted_on_both_sides() -> None:
    d, x = _image()
    out = _float_conv(d, d.qconv(x, "a", 32, 3), "float")
    sides = ["Input Tensor 0", "Output Tensor 0"]
    for fp16 in (True, False):
        found = [name for name in _names(_run(d, out, fp16=fp16)) if name.startswith("Reformatting")]
        assert found == ([f"Reformatting CopyNode for {side} to float" for side in sides] if fp16 else [])


@quotes("memory", 7, "a reformat at each float input that a conv wrote")
def test_a_foreign_node_is_reformatted_at_its_float_ends() -> None:
    d, x = _image()
    y = d.node("Reshape", [d.qconv(x, "a", 32, 3)], (1, 32, 64), "tokens")
    out = d.node("MatMul", [y, d.tensor("w", (64, 64), constant=True)], (1, 32, 64), "linear")
    names = [name.partition(" to ")[0] for name in _names(_run(d, out)) if name.startswith("Reformatting")]
    assert names == [f"Reformatting CopyNode for {side} Tensor 0" for side in ("Input", "Output")]


@quotes("memory", 8, "does not read what a Reshape leaves linear")
@quotes("memory", 9, "is a view: a NoOp, no kernel")
def test_a_conv_behind_a_reshape_of_int8_is_reformatted() -> None:
    """8.6.0 backbone log: Reshape_778 is a NoOp, Conv_790 reads a reformat of it."""
    d = Draft()
    y = d.node("Reshape", [d.tensor("x", (1, 4, 8, 8, 8))], (4, 8, 8, 8), "reshape")
    prediction = _run(d, d.qconv(y, "a", 32, 3), version="8.6.0")
    assert not any("reshape" in layer.nodes for layer in prediction.layers)
    assert [layer.origin for layer in prediction.layers] == ["QDQ", "REFORMAT", ""]


@quotes("blackwell", 1, "but no residual Add and no SiLU")
@quotes("blackwell", 2, "each takes the DQs that only it reads, and the Q alone behind it")
@quotes("blackwell", 3, "There are no reformats between formats")
def test_on_blackwell_adds_and_silus_are_kernels_of_their_own() -> None:
    d, x = _image()
    x = d.node("Relu", [d.qconv(x, "a", 32, 3)], SIZE, "relu")
    y = d.node("Add", [_silu(d, d.qconv(x, "b", 32, 3), "s"), d.quantized(x)], SIZE, "add")
    y = d.node("AveragePool", [d.qconv(y, "c", 32, 3)], (1, 32, 4, 4), "pool")
    prediction = _run(d, y, gpu="sm120")
    add = _with(prediction, "add")
    assert (add.type, _dtypes(add)[1]) == ("kgen", ["INT8"])
    assert "b" not in add.nodes
    assert {layer.origin for layer in prediction.layers} == {"QDQ", ""}


def test_every_rule_is_quoted_by_a_test() -> None:
    assert set(rules()) == QUOTED
