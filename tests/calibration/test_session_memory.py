"""Sessions that compare models: what they hold after many batches is what one batch needs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.ort import create_session, run

_STATM = Path("/proc/self/statm")
_PAGE = 4096


def _convs(count: int, channels: int) -> onnx.ModelProto:
    weights, nodes, x = [], [], "x"
    for index in range(count):
        shape = (channels, channels if index else 3, 3, 3)
        weights.append(numpy_helper.from_array(np.full(shape, 0.01, np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [x, f"w{index}"], [f"c{index}"], pads=[1] * 4))
        nodes.append(helper.make_node("Sigmoid", [f"c{index}"], [f"s{index}"]))
        nodes.append(helper.make_node("Mul", [f"c{index}", f"s{index}"], [f"m{index}"]))
        x = f"m{index}"
    graph = helper.make_graph(
        nodes, "convs", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 256, 256])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.skipif(not _STATM.exists(), reason="resident memory is read from Linux's /proc")
def test_a_second_batch_takes_no_memory_of_its_own() -> None:
    """onnxruntime's memory pattern took as much again: eight pictures of ESRGAN x8 ended the process."""
    session = create_session(_convs(3, 16), threads=1)
    held = []
    for _ in range(3):
        run(session, None, {"x": np.zeros((4, 3, 256, 256), np.float32)})
        held.append(int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE)
    assert held[2] - held[0] < 4 * 16 * 256 * 256 * 4 * 2  # less than two of its six large tensors
