"""How well the weighted nodes of an ONNX model are covered by Q and DQ."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantbench.inspection.qdq_onnx import read_qdq_onnx


def test_a_q_behind_silu_concat_and_moves_is_a_q_behind_the_conv(tmp_path: Path) -> None:
    nodes = []
    for name, source in (("a", "x"), ("b", "cat_d"), ("c", "cat_d")):
        nodes += [helper.make_node("QuantizeLinear", ["W", "s", "z"], [f"{name}_wq"], name=f"{name}_wq"),
                  helper.make_node("DequantizeLinear", [f"{name}_wq", "s", "z"], [f"{name}_wd"], name=f"{name}_wd"),
                  helper.make_node("Conv", [source, f"{name}_wd"], [f"{name}_out"], name=name)]  # fmt: skip
        if name == "a":
            nodes += [helper.make_node("Sigmoid", ["a_out"], ["sig"], name="sig"),
                      helper.make_node("Mul", ["a_out", "sig"], ["silu"], name="mul"),
                      helper.make_node("Concat", ["silu", "silu"], ["cat"], name="cat", axis=0),
                      helper.make_node("QuantizeLinear", ["cat", "s", "z"], ["cat_q"], name="cat_q"),
                      helper.make_node("DequantizeLinear", ["cat_q", "s", "z"], ["cat_d"], name="cat_d")]  # fmt: skip
    nodes.append(helper.make_node("Softmax", ["c_out"], ["y"], name="softmax"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("b_out", "y")],
        [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "W"),
         numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    model = read_qdq_onnx(tmp_path / "m.onnx")
    assert {n.name: n.output_quantized for n in model.weighted} == {"a": True, "b": False, "c": False}
