"""Tensor names that broke other converters: those that look like a scale of another tensor, and those with ": "."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.cache.from_qdq import from_qdq
from quantbench.cache.tensorrt import parse, render
from quantbench.cache.to_qdq import to_qdq
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.graph.normalise import normalise
from quantbench.ort import create_session

# Every name that inserting Q/DQ at "x" and "w" would like to give, and the separator of the cache itself.
TENSORS = ["x", "x_scale", "x: y_zero_point", "x_zero_point", "x_quantized", "x_dequantized"]
WEIGHTS = ["w", "w_scale", "w_int8", "w_quantized"]


def chain() -> onnx.ModelProto:
    """Conv, Conv, Relu, Conv, Conv over tensors and weights of those names."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(0, 0.35, (8, 8, 1, 1)).astype(np.float32), name) for name in WEIGHTS]
    convs = iter(WEIGHTS)
    nodes = [
        helper.make_node("Relu", [a], [b], name=f"n{i}") if i == 2
        else helper.make_node("Conv", [a, next(convs)], [b], name=f"n{i}")
        for i, (a, b) in enumerate(pairwise(TENSORS))
    ]  # fmt: skip
    shape = [1, 8, 4, 4]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (TENSORS[0], TENSORS[-1])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return normalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize("int8_weights", [False, True])
def test_names_like_scales_and_separators_survive_the_whole_road(int8_weights: bool) -> None:
    model = chain()
    image = np.random.default_rng(1).normal(size=(1, 8, 4, 4)).astype(np.float32)
    expected = create_session(model, threads=1).run(None, {"x": image})[0]
    text = render(Ranges({name: TensorRange(4.0 + i) for i, name in enumerate(TENSORS)}))
    quantized = to_qdq(model, parse(text), int8_weights=int8_weights)
    assert {site.tensor for site in quantized.plan.activations} == {"x", "x_scale", "x_zero_point"}
    result = create_session(quantized.model, threads=1).run(None, {"x": image})[0]
    assert np.abs(result - expected).max() < 0.1 * np.abs(expected).max()
    scales = {n.input[0]: n.input[1] for n in quantized.model.graph.node if n.op_type == "QuantizeLinear"}
    constants = {t.name: numpy_helper.to_array(t) for t in quantized.model.graph.initializer}
    assert constants[scales["x_zero_point"]] == np.float32(7.0 / 127)
    assert from_qdq(quantized.model).cache_text == text
