"""Small models in the forms that real files come in."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)
Model = onnx.ModelProto


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    elem: int = TensorProto.FLOAT,
    opset: int = 17,
    inputs: dict[str, list[int | str]] | None = None,
    outputs: tuple[str, ...] = ("y",),
) -> Model:
    """A model with input x [1, 3, 8, 8] unless others are given."""
    given = inputs or {"x": [1, 3, 8, 8]}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, elem, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(name, elem, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def weights(dtype: type = np.float32) -> dict[str, np.ndarray]:
    """Of three convs: a [16, 3, 3, 3], b and c [16, 16, 3, 3], with biases."""
    random = np.random.default_rng(1)
    shapes = {"a": (16, 3, 3, 3), "b": (16, 16, 3, 3), "c": (16, 16, 3, 3)}
    found = {f"{name}.w": random.normal(0, 0.1, shape).astype(dtype) for name, shape in shapes.items()}
    return found | {f"{name}.b": random.normal(0, 0.1, 16).astype(dtype) for name in shapes}


def conv(name: str, x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, f"{name}.w", f"{name}.b"], [y], name=name, pads=[1, 1, 1, 1])


def chain(x: str = "x", y: str = "y") -> list[onnx.NodeProto]:
    """conv a, Relu, conv b, Relu, conv c (the head)."""
    return [
        conv("a", x, "a_out"), helper.make_node("Relu", ["a_out"], ["ra"], name="relu_a"),
        conv("b", "ra", "b_out"), helper.make_node("Relu", ["b_out"], ["rb"], name="relu_b"),
        conv("c", "rb", y),
    ]  # fmt: skip


def plain() -> Model:
    return model_of(chain(), weights())


def half(opset: int = 17, elem: int = TensorProto.FLOAT16) -> Model:
    """As `model.half()` exports it: everything half, inputs and outputs too."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem)).type
    return model_of(chain(), weights(dtype), elem=elem, opset=opset)


def half_inside() -> Model:
    """FP16 between casts, FP32 inputs and outputs: onnxconverter-common with keep_io_types."""
    nodes = [
        helper.make_node("Cast", ["x"], ["x_half"], name="cast_in", to=TensorProto.FLOAT16),
        *chain("x_half", "y_half"),
        helper.make_node("Cast", ["y_half"], ["y"], name="cast_out", to=TensorProto.FLOAT),
    ]
    return model_of(nodes, weights(np.float16))


def half_with_float_part() -> Model:
    """One conv kept in FP32 between casts: an op_block_list."""
    nodes = [
        conv("a", "x", "a_out"),
        helper.make_node("Cast", ["a_out"], ["a_float"], name="up", to=TensorProto.FLOAT),
        conv("b", "a_float", "b_float"),
        helper.make_node("Cast", ["b_float"], ["b_out"], name="down", to=TensorProto.FLOAT16),
        helper.make_node("Relu", ["b_out"], ["rb"], name="relu_b"),
        conv("c", "rb", "y"),
    ]
    values = weights(np.float16)
    values |= {name: array.astype(np.float32) for name, array in values.items() if name.startswith("b.")}
    return model_of(nodes, values, elem=TensorProto.FLOAT16)


def half_constants() -> Model:
    """Weights in Constant nodes."""
    held = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))
            for name, array in weights(np.float16).items()]  # fmt: skip
    return model_of([*held, *chain()], {}, elem=TensorProto.FLOAT16)


def half_resized() -> Model:
    """Resize takes its scales in FP32, Clip its bounds in FP16."""
    nodes = [
        *chain()[:4],
        helper.make_node("Resize", ["rb", "", "scales"], ["up"], name="resize", mode="nearest"),
        helper.make_node("Clip", ["up", "low", "high"], ["clipped"], name="clip"),
        conv("c", "clipped", "y"),
    ]
    extra = {"scales": np.asarray([1, 1, 2, 2], np.float32), "low": np.float16(0), "high": np.float16(6)}
    return model_of(nodes, weights(np.float16) | {k: np.asarray(v) for k, v in extra.items()}, elem=TensorProto.FLOAT16)


def half_shapes() -> Model:
    """A reshape computed from shapes, ConstantOfShape and a Cast to half."""
    zero = helper.make_tensor("zero", TensorProto.FLOAT16, [1], np.zeros(1, np.float16).tobytes(), raw=True)
    nodes = [
        *chain(y="c_out"),
        helper.make_node("Shape", ["c_out"], ["size"], name="shape"),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"], name="zeros", value=zero),
        helper.make_node("Add", ["c_out", "zeros"], ["y"], name="add"),
    ]
    return model_of(nodes, weights(np.float16), elem=TensorProto.FLOAT16)


HALF: dict[str, Callable[[], Model]] = {
    "half": half, "half_opset_13": lambda: half(13), "bfloat16": lambda: half(22, TensorProto.BFLOAT16),
    "half_inside": half_inside, "half_with_float_part": half_with_float_part, "half_constants": half_constants,
    "half_resized": half_resized, "half_shapes": half_shapes,
}  # fmt: skip


def stored_in_half(elem: int) -> Model:
    """FP32 throughout, weights kept in half behind Casts: halves the file."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem)).type
    nodes = chain()
    casts = []
    for node in nodes:
        if node.op_type == "Conv":
            casts.append(helper.make_node("Cast", [node.input[1]], [f"{node.input[1]}.float"], to=TensorProto.FLOAT))
            node.input[1] = f"{node.input[1]}.float"
    values = weights()
    return model_of([*casts, *nodes], values | {n: w.astype(dtype) for n, w in values.items() if n.endswith(".w")})
