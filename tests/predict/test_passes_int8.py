"""The rules of Q and DQ, of INT8 layers and of memory, each on the smallest network that shows it."""

import pytest

from tests.predict.passes_kit import SIZE, conv, dtypes_of, float_conv, image, layer_with, names_of, predicted, silu
from tests.predict.qdq_networks import Draft
from tests.predict.rules import quotes


@quotes("motions", 1, "becomes one DQ a reader, `DQ_clone_0`, `DQ_clone_1` ... in network order")
def test_a_dq_is_split_over_its_readers() -> None:
    d, x = image()
    shared = d.qdq(x, "Q", "DQ", "x")
    prediction = predicted(d, conv(d, shared, "a"), conv(d, shared, "b", 64))
    into = {f.name: f.into for f in prediction.fates}
    assert (into["DQ_clone_0"], into["DQ_clone_1"]) == ("a", "b")


@quotes("motions", 2, "a DQ moves behind a layer that only moves data")
def test_a_dq_moves_behind_a_transpose_of_int8_weights() -> None:
    d = Draft()
    x = d.qdq(d.tensor("x", (4, 16)), "Q", "DQ", "x")
    weights = d.node("Transpose", [d.weights("w", (8, 16), "Qw", "DQw")], (16, 8), "t")
    layer = layer_with(predicted(d, d.node("MatMul", [x, weights], (4, 8), "product"), version="8.6"), "product")
    assert layer.name == "w + Qw + t + product"
    assert layer.attributes["int8"]


@quotes("motions", 3, "a Q and an INT8 conv stand before it")
def test_q_and_dq_go_behind_the_relu_of_an_int8_conv() -> None:
    d, x = image()
    y = d.node("Relu", [d.qdq(conv(d, d.quantized(x), "a"), "Q", "DQ", "a")], SIZE, "relu")
    assert "relu" in layer_with(predicted(d, y), "a").nodes
    assert layer_with(predicted(d, y, version="8.5"), "relu").type == "PointWiseV2"


@quotes("motions", 4, "a clone never stays for a Q of the network")
@pytest.mark.parametrize(("version", "stays"), [("8.4", "Q1"), ("8.5.2", "Q2"), ("8.6.0", "Q1"), ("10.9", "Q1")])
def test_which_of_two_twin_qs_stays(version: str, stays: str) -> None:
    d, x = image()
    outputs = [conv(d, d.qdq(x, f"Q{i}", f"DQ{i}", "x"), f"c{i}", 32 * i) for i in (1, 2)]
    status = {f.name: f.status for f in predicted(d, *outputs, version=version).fates}
    assert [name for name in ("Q1", "Q2") if status[name] != "merged"] == [stays]


@quotes("motions", 5, "cloned into each branch, `Q_clone_0`, `Q_clone_1` ...")
@quotes("motions", 6, "a Q moves before a layer that only moves data and that nothing else reads")
@quotes("memory", 2, 'where an input that is not the last ends inside a vector of 32 channels ("stomping hazard")')
def test_a_q_is_split_over_a_concat_moves_before_a_resize_and_needs_copies() -> None:
    d, x = image()
    small = d.node("MaxPool", [x], (1, 32, 4, 4), "small")
    parts = [d.node("Resize", [d.qconv(small, "a", 32, 3)], SIZE, "up"), d.qconv(x, "b", 40, 3), d.qconv(x, "c", 8, 3)]
    y = d.node("Concat", parts, (1, 80, 8, 8), "cat", axis=1)
    prediction = predicted(d, conv(d, d.qdq(y, "Q", "DQ", "cat"), "d"))
    swaps = {(s.target, *s.others) for s in prediction.steps if s.what == "swap"}
    assert ("up", "Q_clone_0") in swaps
    copies = [layer.name for layer in prediction.layers if layer.name.endswith(" copy")]
    assert copies == [f"cat_{parts[0]}_clone_0 copy", f"cat_{parts[1]}_clone_1 copy"]
    assert prediction.in_place == {"concats": 1, "slices": 0, "copies": 2}


@quotes("memory", 2, "where another layer reads the input too")
def test_what_another_layer_reads_is_copied_into_a_concat() -> None:
    d, x = image()
    a, b = d.qconv(x, "a", 32, 3), d.qconv(x, "b", 32, 3)
    y = d.qdq(d.node("Concat", [a, b], (1, 64, 8, 8), "cat", axis=1), "Q", "DQ", "cat")
    other = conv(d, d.qdq(a, "Qa", "DQa", "cat"), "other")
    prediction = predicted(d, conv(d, y, "c"), other)
    assert prediction.in_place["copies"] == 1


@quotes("motions", 7, "a DQ and a Q of one scale that meet change nothing")
def test_a_dq_and_a_q_that_meet_go() -> None:
    d, x = image()
    y = d.qdq(d.qdq(d.qconv(x, "a", 32, 3), "Q1", "DQ1", "s"), "Q2", "DQ2", "s")
    status = {f.name: f.status for f in predicted(d, conv(d, y, "b")).fates}
    assert (status["DQ1"], status["Q2"]) == ("removed", "removed")
    assert status["Q1"] == status["DQ2"] == "fused"


@quotes("quantize", 1, "become an INT8 constant, `W + Q`")
@quotes("quantize", 3, "INT8 in, float out")
@quotes("quantize", 6, "stands first in the layer's name")
@quotes("epilogue", 3, "a Reformat with `Origin: QDQ`")
def test_a_conv_takes_its_dqs_and_writes_float_where_two_qs_read_it() -> None:
    d, x = image()
    y = conv(d, d.qdq(x, "Q", "DQ", "x"), "a")
    outputs = [conv(d, d.qdq(y, f"Q{i}", f"DQ{i}", f"s{i}"), f"c{i}", 64) for i in (1, 2)]
    prediction = predicted(d, *outputs)
    assert prediction.layers[1].name == "a.w + a.Qw + a"
    assert dtypes_of(prediction.layers[1]) == (["INT8"], ["FP32"])
    assert [layer.name for layer in prediction.layers if layer.origin == "QDQ"] == ["Q", "Q1", "Q2"]


@quotes("quantize", 2, "the Q moves before the Add and into the conv")
def test_a_residual_with_a_dq_makes_one_int8_layer() -> None:
    d, x = image()
    x = d.node("Relu", [d.qconv(x, "a", 32, 3)], SIZE, "relu")
    y = d.node("Add", [d.qconv(x, "b", 32, 3), d.quantized(x)], SIZE, "add")
    prediction = predicted(d, d.qconv(y, "c", 32, 3), version="8.6.0")
    layer = layer_with(prediction, "add")
    assert dtypes_of(layer) == (["INT8", "INT8"], ["INT8"])
    assert any(s.name == "QuantizeConvWithResidualAdd" and s.what == "swap" for s in prediction.steps)


@quotes("quantize", 4, "a Q alone behind it takes both")
@quotes("memory", 3, "float poolings have no CHW32 kernel")
def test_an_average_pooling_between_dq_and_q_is_int8() -> None:
    for behind in (True, False):
        d, x = image()
        y = d.qconv(x, "a", 32, 3)
        y = d.quantized(y) if behind else y
        y = d.node("AveragePool", [y], (1, 32, 4, 4), "pool")
        prediction = predicted(d, d.qconv(y, "b", 32, 3))
        assert dtypes_of(layer_with(prediction, "pool"))[0] == ["INT8" if behind else "FP32"]
        reformats = [layer.name for layer in prediction.layers if layer.origin == "REFORMAT"]
        assert reformats == ([] if behind else ["Reformatting CopyNode for Input Tensor 0 to pool"])


@quotes("epilogue", 1, "Of two convs the later one in network order takes it")
def test_the_later_of_two_convs_takes_a_float_add() -> None:
    d, x = image()
    x = d.quantized(x)
    out = d.node("Add", [conv(d, x, "a"), conv(d, x, "b")], SIZE, "add")
    layer = layer_with(predicted(d, out), "add")
    assert "b" in layer.nodes
    assert layer.attributes["residual"] == "a_out"


@quotes("epilogue", 2, "an INT8 stem (up to 4 input channels) with its Relu takes the MaxPool behind it")
def test_only_a_stem_takes_its_maxpool() -> None:
    for channels, fused in ((3, True), (32, False)):
        d, x = image(channels)
        y = d.node("Relu", [d.qconv(x, "a", 32, 3)], SIZE, "relu")
        y = d.node("MaxPool", [y], (1, 32, 4, 4), "pool")
        assert ("relu" in layer_with(predicted(d, d.qconv(y, "b", 32, 3)), "pool").nodes) is fused


@quotes("epilogue", 4, "a Gemm of N, C, 1, 1 becomes a 1x1 convolution")
def test_a_gemm_behind_a_global_pooling_is_a_conv_before_10() -> None:
    d, x = image()
    y = d.node("GlobalAveragePool", [d.qconv(x, "a", 32, 3)], (1, 32, 1, 1), "pool")
    out = d.qgemm(d.node("Flatten", [y], (1, 32), "flat"), "fc", 10)
    assert predicted(d, out, version="8.4").layers[-1].type == "CaskConvolution"
    assert "Myelin" in {layer.type for layer in predicted(d, out, version="10.9").layers}


@quotes("epilogue", 5, "become one (`A || B`), eight at most")
def test_parallel_convs_merge_by_eights() -> None:
    d, x = image()
    x = d.quantized(x)
    merged = [s for s in predicted(d, *(conv(d, x, f"c{i}") for i in range(20))).steps if s.name == "Merging layers"]
    assert [1 + len(step.others) for step in merged] == [8, 8, 4]


@quotes("memory", 1, 'needs a copy: "Replacing slice ... with copy"')
@quotes("memory", 5, "a reformat before it where an INT8 conv wrote CHW32")
def test_slices_are_views_but_before_a_softmax() -> None:
    """8.6.0 backbone log: Slice_851 before Softmax_852 is a copy, Slice_857 before Transpose_858 a view."""
    d, x = image()
    y = d.qconv(x, "a", 64, 3)
    first, second = (d.node("Slice", [y], SIZE, f"slice{i}") for i in (1, 2))
    soft = d.node("Softmax", [first], SIZE, "softmax")
    turned = d.node("Transpose", [second], (1, 8, 8, 32), "transpose")
    prediction = predicted(d, soft, turned, version="8.6.0")
    assert layer_with(prediction, "slice1").type == "Slice"
    assert not any("slice2" in layer.nodes for layer in prediction.layers)
    assert "Reformatting CopyNode for Input Tensor 0 to transpose" in names_of(prediction)


@quotes("memory", 4, "a float conv reads and writes channels last")
def test_a_float_conv_between_an_int8_conv_and_the_output_is_reformatted_on_both_sides() -> None:
    d, x = image()
    out = float_conv(d, d.qconv(x, "a", 32, 3), "float")
    sides = ["Input Tensor 0", "Output Tensor 0"]
    for fp16 in (True, False):
        found = [name for name in names_of(predicted(d, out, fp16=fp16)) if name.startswith("Reformatting")]
        assert found == ([f"Reformatting CopyNode for {side} to float" for side in sides] if fp16 else [])


@quotes("memory", 7, "a reformat at each float input that a conv wrote")
def test_a_foreign_node_is_reformatted_at_its_float_ends() -> None:
    d, x = image()
    y = d.node("Reshape", [d.qconv(x, "a", 32, 3)], (1, 32, 64), "tokens")
    out = d.node("MatMul", [y, d.tensor("w", (64, 64), constant=True)], (1, 32, 64), "linear")
    names = [name.partition(" to ")[0] for name in names_of(predicted(d, out)) if name.startswith("Reformatting")]
    assert names == [f"Reformatting CopyNode for {side} Tensor 0" for side in ("Input", "Output")]


@quotes("memory", 8, "does not read what a Reshape leaves linear")
@quotes("memory", 9, "is a view: a NoOp, no kernel")
def test_a_conv_behind_a_reshape_of_int8_is_reformatted() -> None:
    """8.6.0 backbone log: Reshape_778 is a NoOp, Conv_790 reads a reformat of it."""
    d = Draft()
    y = d.node("Reshape", [d.tensor("x", (1, 4, 8, 8, 8))], (4, 8, 8, 8), "reshape")
    prediction = predicted(d, d.qconv(y, "a", 32, 3), version="8.6.0")
    assert not any("reshape" in layer.nodes for layer in prediction.layers)
    assert [layer.origin for layer in prediction.layers] == ["QDQ", "REFORMAT", ""]


@quotes("blackwell", 1, "but no residual Add and no SiLU")
@quotes("blackwell", 2, "each takes the DQs that only it reads, and the Q alone behind it")
@quotes("blackwell", 3, "There are no reformats between formats")
def test_on_blackwell_adds_and_silus_are_kernels_of_their_own() -> None:
    d, x = image()
    x = d.node("Relu", [d.qconv(x, "a", 32, 3)], SIZE, "relu")
    y = d.node("Add", [silu(d, d.qconv(x, "b", 32, 3), "s"), d.quantized(x)], SIZE, "add")
    y = d.node("AveragePool", [d.qconv(y, "c", 32, 3)], (1, 32, 4, 4), "pool")
    prediction = predicted(d, y, gpu="sm120")
    add = layer_with(prediction, "add")
    assert (add.type, dtypes_of(add)[1]) == ("kgen", ["INT8"])
    assert "b" not in add.nodes
    assert {layer.origin for layer in prediction.layers} == {"QDQ", ""}
