"""Lint on what other tools make of transformers: softmax ranges, norms that FP16 cannot square, attention in INT8."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.graph.load import prepared_model
from quantbench.graph.onnx_view import view_of
from quantbench.lint.run import fix, lint
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import ActivationSite

FOLDER = Path(__file__).parents[1] / "data" / "transformers"


def network(name: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString(gzip.decompress((FOLDER / f"{name}.onnx.gz").read_bytes()))
    return prepared_model(model, name)


def quantized(model: onnx.ModelProto, amax: float, *ops: str) -> onnx.ModelProto:
    """All that the rules quantize, attention too, and the first input of each node of `ops`, with ranges of `amax`."""
    view = view_of(model)
    plan = place(view, PlacementOptions(matmul=True))
    taken = {(site.node, site.index) for site in plan.activations}
    more = tuple(
        ActivationSite(n.inputs[i], n.name, i, n.inputs[i], "foreign")
        for n in view.nodes
        if n.op in ops
        for i in ((0, 1) if n.op == "MatMul" else (0,))
        if (n.name, i) not in taken and not view.is_constant(n.inputs[i])
    )
    plan = replace(plan, activations=(*plan.activations, *more))
    return insert_qdq(model, plan, Ranges({name: TensorRange(amax) for name in plan.tensors}))


def findings(model: onnx.ModelProto, rule: str) -> list[str]:
    return [found.message for found in lint(model) if found.rule == rule]


def test_a_softmax_with_a_range_over_one_is_found_and_mended() -> None:
    model = quantized(network("timm-vit.legacy"), 4.0)
    assert len(findings(model, "softmax-range")) == 2
    assert "range 4" in findings(model, "softmax-range")[0]
    mended, counts = fix(model)
    assert counts["softmax-range"] == 2
    assert not findings(mended, "softmax-range")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in mended.graph.initializer}
    made = {out: node for node in mended.graph.node for out in node.output}
    qs = [n for n in mended.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in made]
    behind = [q for q in qs if made[q.input[0]].op_type == "Softmax"]
    assert [stored[q.input[1]] for q in behind] == [np.float32(1 / 127)] * 2
    # Nothing else has changed its scale, where it shared one.
    assert sum(stored[q.input[1]] == np.float32(4 / 127) for q in qs) == len(qs) - 2
    assert not findings(quantized(network("timm-vit.legacy"), 1.0), "softmax-range")


@pytest.mark.parametrize(("amax", "count"), [(300.0, 5), (200.0, 0)])
def test_a_norm_in_parts_overflows_where_its_range_says_so(amax: float, count: int) -> None:
    """RMS norms in parts: two of each block and the last one."""
    model = quantized(network("llama.legacy"), amax, "Pow")
    assert len(findings(model, "norm-overflow")) == count


def test_a_fused_norm_and_one_of_unknown_range_are_no_finding() -> None:
    assert not findings(quantized(network("llama.legacy"), 300.0), "norm-overflow")
    assert not findings(quantized(network("timm-vit.dynamo"), 300.0, "LayerNormalization"), "norm-overflow")


def test_a_layer_norm_in_parts_is_told_by_the_range_of_what_it_centres() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("ReduceMean", ["c"], ["m"], "mean", axes=[1]),
        helper.make_node("Sub", ["c", "m"], ["d"], "sub"),
        helper.make_node("Pow", ["d", "two"], ["p"], "pow"),
        helper.make_node("ReduceMean", ["p"], ["y"], "variance", axes=[1]),
    ]
    values = {"w": np.ones((16, 16, 1, 1), np.float32), "two": np.float32(2)}
    graph = helper.make_graph(
        nodes, "norm", [helper.make_tensor_value_info("x", 1, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (message,) = findings(quantized(model, 300.0, "Sub"), "norm-overflow")
    assert "squares c" in message
    assert "reaches 300" in message


def test_attention_outside_of_what_tensorrt_takes() -> None:
    """Heads of 8 in the detector, heads of 16 in the others."""
    (first, *rest) = findings(quantized(network("detr.legacy"), 1.0, "MatMul"), "attention-envelope")
    assert "head size 8 is none of 16, 32, 64" in first
    assert len(rest) == 2
    assert not findings(quantized(network("timm-vit.legacy"), 1.0, "MatMul"), "attention-envelope")
