"""Which tensor an entry means, after renames of several kinds, and which follow from others."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.cache.activations import activations, superseded
from quantbench.cache.check import check
from quantbench.cache.implicit import meaning
from quantbench.cache.match import match
from quantbench.cache.tensorrt import parse, render
from quantbench.cache.to_qdq import to_qdq
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import view_of


def renamed(ranges: Ranges, rename) -> str:
    return render(Ranges({rename(i, name): r for i, (name, r) in enumerate(ranges.tensors.items())}))


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], output: str) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in inputs.items()]
    out = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "g", values, [out], [weight]), ir_version=8,
                              opset_imports=[helper.make_opsetid("", 17)])  # fmt: skip
    return normalise(model)


def known(**amax: float) -> dict[str, TensorRange]:
    return {name: TensorRange(value) for name, value in amax.items()}


@pytest.mark.parametrize(
    ("how", "rename"),
    [
        ("same", lambda i, name: name),
        ("spelling", lambda i, name: f"{name}:0"),
        ("spelling", lambda i, name: name.strip("/").replace("/", "_")),
        ("spelling", lambda i, name: name.removesuffix("_output_0") + "__output"),
        ("position", lambda i, name: name if i % 7 == 0 else str(200 + i)),
        ("position", lambda i, name: f"onnx::x_{i}"),
    ],
)
def test_renamed_tensors_are_found_and_reported(case, how: str, rename) -> None:
    cache = parse(renamed(case.ranges, rename))
    matching = match(cache, case.view)
    tensors = list(case.ranges)
    assert {m.entry: m.tensor for m in matching.matches} == {rename(i, n): n for i, n in enumerate(tensors)}
    assert {m.entry for m in matching.renamed} == {rename(i, n) for i, n in enumerate(tensors) if rename(i, n) != n}
    assert how in {m.how for m in matching.matches}
    # The Q/DQ model is the same as from the cache with the right names.
    there, here = to_qdq(case.model, cache), to_qdq(case.model, parse(render(case.ranges)))
    assert there.plan == here.plan
    assert {t.name: t.raw_data for t in there.model.graph.initializer} == {
        t.name: t.raw_data for t in here.model.graph.initializer
    }


def test_position_is_refused_where_the_counts_differ(resnet_case) -> None:
    fewer = Ranges(dict(list(resnet_case.ranges.tensors.items())[:-3]))
    cache = parse(renamed(fewer, lambda i, name: f"t{i}"))
    assert match(cache, resnet_case.view).matches == ()


def test_position_is_refused_where_names_speak_of_other_operators(resnet_case) -> None:
    names = list(resnet_case.ranges)
    wrong = {names.index("/conv1/Conv_output_0"): "my MaxPool"}
    cache = parse(renamed(resnet_case.ranges, lambda i, name: wrong.get(i, f"t{i}")))
    assert match(cache, resnet_case.view).matches == ()


def test_position_is_refused_where_a_pooling_would_change_the_range(resnet_case) -> None:
    ranges = Ranges({**resnet_case.ranges.tensors, "/maxpool/MaxPool_output_0": TensorRange(12345.0)})
    cache = parse(renamed(ranges, lambda i, name: f"t{i}"))
    assert match(cache, resnet_case.view).matches == ()


def test_position_needs_the_order_of_the_network(resnet_case) -> None:
    items = list(resnet_case.ranges.tensors.items())
    items[3], items[9] = items[9], items[3]
    kept = {items[3][0], items[9][0]}
    cache = parse(renamed(Ranges(dict(items)), lambda i, name: name if name in kept else f"t{i}"))
    assert {m.how for m in match(cache, resnet_case.view).matches} == {"same"}


def test_entries_that_mean_nothing_get_a_reason(resnet_case) -> None:
    text = render(resnet_case.ranges) + "(Unnamed Layer* 3) [Shuffle]_output: 3c010204\nfc.weight: 3c010204\nghost: 1\n"
    unmatched = match(parse(text), resnet_case.view).unmatched
    assert list(unmatched) == ["(Unnamed Layer* 3) [Shuffle]_output", "fc.weight", "ghost"]
    assert ["unnamed" in why or "constant" in why or "no tensor" in why for why in unmatched.values()] == [True] * 3


def test_fused_tensors_are_superseded_by_the_layers_output(resnet_case, yolo_case) -> None:
    fused = superseded(resnet_case.view)
    assert fused["/conv1/Conv_output_0"] == "/relu/Relu_output_0"
    # The second conv of a block takes the Add and its ReLU along; the shortcut is read from memory.
    assert fused["/layer2/0/conv2/Conv_output_0"] == "/layer2/0/relu_1/Relu_output_0"
    assert fused["/layer2/0/Add_output_0"] == "/layer2/0/relu_1/Relu_output_0"
    assert "/layer2/0/downsample/Conv_output_0" not in fused
    assert "/relu/Relu_output_0" not in fused
    fused = superseded(yolo_case.view)
    assert fused["m0/Conv_output_0"] == fused["m0/act/Sigmoid_output_0"] == "m0/act/Mul_output_0"
    # SiLU ends the fusion: what the Add reads is in memory.
    assert "m2/m/cv2/act/Mul_output_0" not in fused


def test_a_tensor_that_others_read_is_not_superseded() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Add", ["c", "r"], ["y"], name="add"),
    ]
    assert superseded(view_of(graph(nodes, {"x": [1, 8, 4, 4]}, "y"))) == {}


def test_superseded_ranges_do_not_reach_the_qdq_model(resnet_case) -> None:
    fused = superseded(resnet_case.view)
    wild = {n: TensorRange(r.amax * 1000 if n in fused else r.amax) for n, r in resnet_case.ranges.tensors.items()}
    plain = to_qdq(resnet_case.model, parse(render(resnet_case.ranges))).model
    changed = to_qdq(resnet_case.model, parse(render(Ranges(wild)))).model
    assert {t.name: t.raw_data for t in changed.graph.initializer} == {
        t.name: t.raw_data for t in plain.graph.initializer
    }


def test_pooling_and_concat_share() -> None:
    nodes = [
        helper.make_node("MaxPool", ["a"], ["p"], name="pool", kernel_shape=[1, 1]),
        helper.make_node("Concat", ["p", "b"], ["c"], name="concat", axis=1),
        helper.make_node("GlobalAveragePool", ["c"], ["g"], name="gap"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
    ]
    view = view_of(graph(nodes, {"a": [1, 8, 4, 4], "b": [1, 8, 4, 4]}, "f"))
    # From the concat's output down to its inputs and through the pooling, and on to what averages it.
    result = meaning(view, known(c=3.0))
    assert {n: r.amax for n, r in result.ranges.tensors.items()} == dict.fromkeys(["a", "b", "p", "c", "g", "f"], 3.0)
    assert {(d.tensor, d.source, d.through) for d in result.derived} == {
        ("p", "c", "concat"), ("b", "c", "concat"), ("a", "p", "pool"), ("g", "c", "gap"), ("f", "g", "flatten"),
    }  # fmt: skip
    # From all inputs up: the widest. From one of two: nothing, for the other may be wider.
    assert meaning(view, known(a=2.0, b=5.0)).ranges["c"].amax == 5.0
    partial = meaning(view, known(a=2.0))
    assert partial.missing == ("b", "c", "g", "f")
    # An average says nothing about its input.
    assert meaning(view, known(g=1.0)).missing == ("a", "b", "p", "c")


def test_own_ranges_are_never_replaced() -> None:
    nodes = [helper.make_node("MaxPool", ["a"], ["p"], name="pool", kernel_shape=[1, 1])]
    view = view_of(graph(nodes, {"a": [1, 8, 4, 4]}, "p"))
    assert {n: r.amax for n, r in meaning(view, known(a=2.0, p=3.0)).ranges.tensors.items()} == {"a": 2.0, "p": 3.0}


def test_check_names_what_would_run_in_float(resnet_case) -> None:
    gone = "/layer1/0/relu/Relu_output_0"
    cache = parse(render(Ranges({n: r for n, r in resnet_case.ranges.tensors.items() if n != gone})))
    result = check(cache, resnet_case.view)
    assert result.meaning.missing == (gone,)
    assert {(f.node, f.side) for f in result.float_layers} == {
        ("/layer1/0/conv1/Conv", "output"), ("/layer1/0/conv2/Conv", "input"),
    }  # fmt: skip


def test_full_cache_leaves_nothing_missing(case) -> None:
    result = check(parse(render(case.ranges)), case.view)
    assert (result.meaning.missing, result.float_layers, result.matching.unmatched) == ((), (), {})
    assert result.tensors == len(activations(case.view))
