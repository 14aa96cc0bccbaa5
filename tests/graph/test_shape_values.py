"""Shapes behind torch's shape arithmetic, against what onnxruntime makes of the same models."""

import io
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from quantbench.graph.normalise import normalise
from quantbench.graph.onnx_view import infer_shapes, view_of


class Halves(nn.Module):
    """YOLO's C2f in small: split in halves, work on one, join."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            left, right = x.chunk(2, 1)
            x = torch.cat([left, self.conv(right)], 1)
        return x.reshape(x.shape[0], x.shape[1] * 2, x.shape[2] // 2, x.shape[3])


class Grid(nn.Module):
    """Sizes from sizes: floor division, halves of rows, a flattened view."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x[:, :, : h // 2, w - 4 :]
        return y.reshape(n, c // 2, -1, 4).flatten(1, 2)


def _export(model: nn.Module, batch: str = "") -> onnx.ModelProto:
    file = io.BytesIO()
    axes = {"x": {0: batch}} if batch else None
    torch.onnx.export(model.eval(), (torch.zeros(1, 8, 6, 10),), file, dynamo=False, opset_version=17,
                      input_names=["x"], output_names=["y"], dynamic_axes=axes)  # fmt: skip
    return normalise(onnx.load_from_string(file.getvalue()))


@pytest.mark.parametrize("build", [Halves, Grid])
@pytest.mark.filterwarnings("ignore")
def test_shapes_are_those_that_onnxruntime_computes(build: Callable[[], nn.Module]) -> None:
    model = _export(build())
    view = view_of(model)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [o for node in model.graph.node for o in node.output if o]
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    real = dict(zip(names, session.run(None, {"x": np.zeros((1, 8, 6, 10), np.float32)}), strict=True))
    assert len(real) > 5
    assert {name: view.tensors[name].shape for name in names} == {name: value.shape for name, value in real.items()}


@pytest.mark.filterwarnings("ignore")
def test_an_unknown_batch_stays_unknown_and_the_rest_is_known() -> None:
    view = view_of(_export(Halves(), batch="n"))
    convs = [view.tensors[node.outputs[0]].shape for node in view.nodes if node.op == "Conv"]
    assert len(convs) == 3
    assert all(shape is not None and shape[1:] == (4, 6, 10) for shape in convs)
    assert not any(isinstance(shape[0], int) for shape in convs if shape is not None)


def test_nodes_and_outputs_stay_whatever_is_computed() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"], name="shape"), helper.make_node("Relu", ["x"], ["y"], name="relu")]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [2, 3])],
                              [value("s", TensorProto.INT64, [2]), value("y", TensorProto.FLOAT, [2, 3])])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    inferred = infer_shapes(model)
    assert [node.name for node in inferred.graph.node] == ["shape", "relu"]
    assert [output.name for output in inferred.graph.output] == ["s", "y"]
