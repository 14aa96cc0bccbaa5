"""Small networks that take more than a picture: audio, CT, points, a table, token ids, stereo, image and vector, and an
encoder with its decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(11)
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "float16": TensorProto.FLOAT16}


@dataclass(frozen=True)
class Network:
    """A model, and a maker of one sample's arrays without the batch axis."""

    model: onnx.ModelProto
    shapes: dict[str, tuple[int | str, ...]]
    dtypes: dict[str, str]

    def samples(self, count: int) -> dict[str, NDArray[Any]]:
        """`count` samples an input: [count, …]."""
        return {
            name: (
                RNG.integers(0, 32, (count, *shape))
                if self.dtypes[name] == "int64"
                else RNG.normal(size=(count, *shape)).astype(self.dtypes[name])
            )
            for name, shape in self.shapes.items()
        }


def weight(*shape: int) -> NDArray[np.float32]:
    return np.asarray(RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:])), np.float32)


def network(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int | str, ...]],
    constants: dict[str, NDArray[Any]],
    dtypes: dict[str, str] | None = None,
) -> Network:
    """A model with a dynamic batch whose last node writes `y`."""
    kinds = {name: (dtypes or {}).get(name, "float32") for name in inputs}
    given = [helper.make_tensor_value_info(name, _TYPES[kinds[name]], ["n", *shape]) for name, shape in inputs.items()]
    graph = helper.make_graph(
        list(nodes),
        "g",
        given,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Network(onnx.shape_inference.infer_shapes(model), inputs, kinds)


def convolutions(dims: int, channels: int, size: int) -> Network:
    """Conv, Relu, Conv, Relu, mean over space, Gemm: audio with `dims` 1, CT with 3."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", pads=[1] * 2 * dims),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "conv2", pads=[1] * 2 * dims),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("ReduceMean", ["d"], ["e"], "mean", axes=list(range(2, dims + 2)), keepdims=0),
        helper.make_node("Gemm", ["e", "w3"], ["y"], "head"),
    ]
    shape = (3,) * dims
    constants = {"w1": weight(16, channels, *shape), "w2": weight(16, 16, *shape), "w3": weight(16, 10)}
    return network(nodes, {"x": (channels, *[size] * dims)}, constants)


def table() -> Network:
    """A multilayer perceptron on rows of 12 numbers."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Gemm", ["b", "w2"], ["y"], "second"),
    ]
    return network(nodes, {"x": (12,)}, {"w1": weight(12, 32), "w2": weight(32, 8)})


def points() -> Network:
    """PointNet in small: a Linear on each of 64 points, their maximum, a Linear."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "each"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("ReduceMax", ["b"], ["c"], "max", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["c", "w2"], ["y"], "head"),
    ]
    return network(nodes, {"x": (64, 4)}, {"w1": weight(4, 32), "w2": weight(32, 8)})


def tokens() -> Network:
    """Token ids and a mask: embedding, masked, a Linear, mean, a Linear."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embedding"),
        helper.make_node("Unsqueeze", ["mask", "last"], ["m"], "unsqueeze"),
        helper.make_node("Mul", ["e", "m"], ["f"], "masked"),
        helper.make_node("MatMul", ["f", "w1"], ["g"], "linear"),
        helper.make_node("Relu", ["g"], ["h"], "relu"),
        helper.make_node("ReduceMean", ["h"], ["i"], "mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["i", "w2"], ["y"], "head"),
    ]
    constants = {"table": weight(32, 16), "last": np.array([-1]), "w1": weight(16, 32), "w2": weight(32, 8)}
    return network(nodes, {"ids": (20,), "mask": (20,)}, constants, {"ids": "int64"})


def stereo() -> Network:
    """Two pictures through convs of their own, joined."""
    nodes = [
        helper.make_node("Conv", ["left", "w1"], ["a"], "left_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["right", "w2"], ["b"], "right_conv", pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["a", "b"], ["c"], "join", axis=1),
        helper.make_node("Relu", ["c"], ["d"], "relu"),
        helper.make_node("Conv", ["d", "w3"], ["y"], "disparity"),
    ]
    constants = {"w1": weight(8, 3, 3, 3), "w2": weight(8, 3, 3, 3), "w3": weight(16, 16, 1, 1)}
    return network(nodes, {"left": (3, 32, 32), "right": (3, 32, 32)}, constants)


def image_and_vector() -> Network:
    """A picture and a vector of the vehicle's state, joined behind a conv."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "conv"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "pool"),
        helper.make_node("Flatten", ["c"], ["d"], "flatten"),
        helper.make_node("Concat", ["d", "state"], ["e"], "join", axis=1),
        helper.make_node("Gemm", ["e", "w2"], ["y"], "head"),
    ]
    return network(nodes, {"image": (3, 32, 32), "state": (6,)}, {"w1": weight(16, 3, 3, 3), "w2": weight(22, 8)})


def encoder() -> Network:
    """A picture to 64 tokens of 16 numbers."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "patches", strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "mix", pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "flat"], ["d"], "flatten"),
        helper.make_node("Transpose", ["d"], ["y"], "tokens", perm=[0, 2, 1]),
    ]
    constants = {"w1": weight(16, 3, 4, 4), "w2": weight(16, 16, 3, 3), "flat": np.array([0, 16, -1])}
    return network(nodes, {"image": (3, 32, 32)}, constants)


def decoder() -> Network:
    """Token ids of any length, [n, t], and the encoder's tokens to logits of the next one, [n, t, 32]."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embedding"),
        helper.make_node("MatMul", ["e", "w1"], ["q"], "query"),
        helper.make_node("Transpose", ["memory"], ["k"], "keys", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["s"], "scores"),
        helper.make_node("Softmax", ["s"], ["p"], "shares", axis=-1),
        helper.make_node("MatMul", ["p", "memory"], ["v"], "seen"),
        helper.make_node("Add", ["e", "v"], ["f"], "stream"),
        helper.make_node("MatMul", ["f", "w2"], ["g"], "wide"),
        helper.make_node("Relu", ["g"], ["h"], "relu"),
        helper.make_node("MatMul", ["h", "w3"], ["y"], "head"),
    ]
    constants = {"table": weight(32, 16), "w1": weight(16, 16), "w2": weight(16, 48), "w3": weight(48, 32)}
    return network(nodes, {"ids": ("t",), "memory": (64, 16)}, constants, {"ids": "int64"})


NETWORKS = {
    "audio": lambda: convolutions(1, 2, 64),
    "ct": lambda: convolutions(3, 1, 12),
    "points": points,
    "table": table,
    "tokens": tokens,
    "stereo": stereo,
    "image and vector": image_and_vector,
}
