"""ONNX files that parse and are wrong, or that nobody can run: each with one fault."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_F = TensorProto.FLOAT


def _value(name: str, shape: list[int | str] | None = None, kind: int = _F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [1, 3, 8, 8] if shape is None else shape)


def _model(
    nodes: list[NodeProto], inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None, weights: dict[str, np.ndarray] | None = None, opset: int = 17,
) -> ModelProto:  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [_value("x")] if inputs is None else inputs, [_value("y", ["n"])] if outputs is None else outputs,
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _conv(**more: object) -> NodeProto:
    return helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1], **more)


_W = {"w": np.ones((4, 3, 3, 3), np.float32)}
_Y = [_value("y", [1, 4, 8, 8])]
_SCALE = {"s": np.float32(0.1), "z": np.int8(0)}


def _cycle() -> ModelProto:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], "one"), helper.make_node("Relu", ["a"], ["b"], "two"),
             helper.make_node("Relu", ["b"], ["y"], "three")]  # fmt: skip
    return _model(nodes)


def _own_quantizer() -> ModelProto:
    nodes = [helper.make_node("QuantizeLinear", ["d", "s", "z"], ["q"], "q"),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
             helper.make_node("Relu", ["d"], ["y"], "act")]  # fmt: skip
    return _model(nodes, weights=_SCALE)


def _external(location: str) -> ModelProto:
    model = _model([_conv()], outputs=_Y, weights=_W)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model


def _cut() -> ModelProto:
    model = _model([_conv()], outputs=_Y, weights=_W)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:10]
    return model


def _huge() -> ModelProto:
    model = _model([_conv()], outputs=_Y, weights=_W)
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    return model


def _negative() -> ModelProto:
    model = _model([_conv()], outputs=_Y, weights=_W)
    model.graph.initializer[0].dims[:] = [-4, 3, 3, 3]
    return model


def _no_type() -> ModelProto:
    model = _model([_conv()], outputs=_Y, weights=_W)
    model.graph.input[0].ClearField("type")
    return model


def _sequence() -> ModelProto:
    value = helper.make_tensor_sequence_value_info("x", _F, [1])
    index = _value("i", [], TensorProto.INT64)
    return _model([helper.make_node("SequenceAt", ["x", "i"], ["y"], "at")], [value, index])


def _many_nodes() -> ModelProto:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], f"r{i}") for i in range(3000)]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    return _model(nodes)


def _deep_subgraphs() -> ModelProto:
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "b", [], [_value("o")])
    for level in range(24):
        branches = {"then_branch": body} if level else {"then_branch": body, "else_branch": body}
        node = helper.make_node("If", ["c"], ["o"], f"if{level}", **branches)
        body = helper.make_graph([node], "b", [], [_value("o")])
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=body, else_branch=body)
    return _model([node], [_value("x"), _value("c", [], TensorProto.BOOL)])


def _nan(value: float) -> ModelProto:
    weights = {"w": _W["w"].copy()}
    weights["w"][1, 1, 1, 1] = value
    return _model([_conv()], outputs=_Y, weights=weights)


MODELS: dict[str, Callable[[], ModelProto]] = {
    "cycle": _cycle,
    "own-quantizer": _own_quantizer,
    "no-nodes": lambda: _model([]),
    "no-outputs": lambda: _model([_conv()], outputs=[], weights=_W),
    "no-inputs": lambda: _model([helper.make_node("Relu", ["w"], ["y"], "r")], inputs=[], weights=_W),
    "no-producer": lambda: _model([helper.make_node("Relu", ["nobody"], ["y"], "r")]),
    "no-such-output": lambda: _model([helper.make_node("Relu", ["x"], ["other"], "r")]),
    "twice": lambda: _model([helper.make_node("Relu", ["x"], ["y"], "r"), helper.make_node("Abs", ["x"], ["y"], "r")]),
    "unknown-op": lambda: _model([helper.make_node("Frobnicate", ["x"], ["y"], "f")]),
    "no-op": lambda: _model([helper.make_node("", ["x"], ["y"], "f")]),
    "no-arguments": lambda: _model([helper.make_node("Conv", [], ["y"], "c")]),
    "too-many": lambda: _model([helper.make_node("Relu", ["x"] * 20, ["y"], "r")]),
    "wrong-rank": lambda: _model([_conv()], weights={"w": np.ones((4, 3), np.float32)}),
    "wrong-channels": lambda: _model([_conv()], weights={"w": np.ones((4, 5, 3, 3), np.float32)}),
    "wrong-group": lambda: _model([_conv(group=7)], outputs=_Y, weights=_W),
    "wrong-kernel": lambda: _model([_conv(kernel_shape=[9, 9, 9])], outputs=_Y, weights=_W),
    "zero-group": lambda: _model([_conv(group=0)], outputs=_Y, weights=_W),
    "string-attribute": lambda: _model([_conv(strides="two")], outputs=_Y, weights=_W),
    "empty-weight": lambda: _model([_conv()], outputs=_Y, weights={"w": np.ones((0, 3, 3, 3), np.float32)}),
    "double-weight": lambda: _model([_conv()], outputs=_Y, weights={"w": np.ones((4, 3, 3, 3), np.float64)}),
    "opset-0": lambda: _model([_conv()], outputs=_Y, weights=_W, opset=0),
    "opset-9999": lambda: _model([_conv()], outputs=_Y, weights=_W, opset=9999),
    "external-missing": lambda: _external("nowhere.bin"),
    "external-above": lambda: _external("../../../../../../etc/passwd"),
    "external-absolute": lambda: _external("/etc/passwd"),
    "external-empty": lambda: _external(""),
    "cut-weight": _cut,
    "huge-weight": _huge,
    "negative-weight": _negative,
    "no-type": _no_type,
    "sequence": _sequence,
    "string-input": lambda: _model([helper.make_node("Identity", ["x"], ["y"], "i")],
                                   [_value("x", [1], TensorProto.STRING)], [_value("y", [1], TensorProto.STRING)]),
    "huge-input": lambda: _model([_conv()], [_value("x", [1, 3, 1 << 40, 1 << 40])], _Y, _W),
    "zero-input": lambda: _model([_conv()], [_value("x", [0, 3, 8, 8])], _Y, _W),
    "negative-input": lambda: _model([_conv()], [_value("x", [-5, 3, 8, 8])], _Y, _W),
    "nan-weight": lambda: _nan(float("nan")),
    "inf-weight": lambda: _nan(float("inf")),
    "deep-subgraphs": _deep_subgraphs,
    "many-nodes": _many_nodes,
}  # fmt: skip


def write_models(folder: Path) -> None:
    """Every model as `folder`/NAME.onnx."""
    folder.mkdir(exist_ok=True)
    for name, make in MODELS.items():
        (folder / f"{name}.onnx").write_bytes(make().SerializeToString())
