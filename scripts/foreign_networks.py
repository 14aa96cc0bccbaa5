"""Trained networks that packages carry in forms other than ONNX, written as ONNX.

ESRGAN (upscalerjs's esrgan-slim, a Keras network in the files of TensorFlow.js) and MTCNN (facenet-pytorch's state
dicts). For `scripts/compared_networks.py`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]


def esrgan(description: Path, size: int) -> onnx.ModelProto:
    """The network of a `model.json` of layers: Conv2D, Activation, Concatenate, Add, UpSampling2D; [n, 3, size, size].

    Raises ValueError for a layer of another kind.
    """
    stored = json.loads(description.read_text(encoding="utf-8"))
    weights = _weights(description.parent, stored["weightsManifest"])
    graph = _Graph({"LR": "x"})
    layers = stored["modelTopology"]["model_config"]["config"]["layers"]
    for layer in layers:
        name, kind, config = layer["config"]["name"], layer["class_name"], layer["config"]
        read = [graph.made[entry[0]] for node in layer["inbound_nodes"] for entry in node]
        if kind == "Conv2D":
            kernel = weights[f"{name}/kernel"].transpose(3, 2, 0, 1)  # HWIO to OIHW
            pads = [side // 2 if config["padding"] == "same" else 0 for side in kernel.shape[2:]] * 2
            graph.weighted("Conv", name, read[0], kernel, weights.get(f"{name}/bias"), pads=pads)
        elif kind == "Activation" and config["activation"] == "relu":
            graph.add("Relu", name, read)
        elif kind == "Concatenate":
            graph.add("Concat", name, read, axis=1)
        elif kind == "Add":
            graph.add("Add", name, read)
        elif kind == "UpSampling2D" and config["interpolation"] == "nearest":
            scales = graph.constant(f"{name}.scales", np.asarray([1, 1, *config["size"]], np.float32))
            graph.add("Resize", name, [read[0], "", scales], mode="nearest", nearest_mode="floor",
                      coordinate_transformation_mode="asymmetric")  # fmt: skip
        elif kind != "InputLayer":
            raise ValueError(f"{description}: layer {name} is a {kind}, which is not written")
    return graph.model(["n", 3, size, size], [layers[-1]["config"]["name"]])


def mtcnn(state: Path, size: int) -> onnx.ModelProto:
    """P-Net, R-Net or O-Net by the state dict of facenet-pytorch: convs, PReLU and poolings, dense layers, heads.

    Outputs as there: the box, key points where the network has some, and the softmax of face or none.
    """
    import torch

    found = {key: value.numpy() for key, value in torch.load(state, weights_only=True).items()}
    graph = _Graph({"x": "x"})
    x, flat = "x", False
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in found))
    heads = [name for name in names if "_" in name]
    pools = {"pnet": {"conv1": (2, 2)}, "rnet": {"conv1": (3, 2), "conv2": (3, 2)},
             "onet": {"conv1": (3, 2), "conv2": (3, 2), "conv3": (2, 2)}}[state.stem]  # fmt: skip
    for name in names:
        weight = found[f"{name}.weight"]
        if name in heads:
            continue
        if name.startswith("prelu"):
            x = graph.add("PRelu", name, [x, graph.constant(f"{name}.slope", weight.reshape(-1, *[1, 1][flat * 2 :]))])
            kernel, stride = pools.get(name.replace("prelu", "conv"), (0, 0))
            if kernel:
                x = graph.add("MaxPool", name.replace("prelu", "pool"), [x], kernel_shape=[kernel] * 2,
                              strides=[stride] * 2, ceil_mode=1)  # fmt: skip
        elif name.startswith("conv"):
            x = graph.weighted("Conv", name, x, weight, found[f"{name}.bias"])
        else:
            if not flat:
                x = graph.add("Flatten", "flat", [graph.add("Transpose", "turn", [x], perm=[0, 3, 2, 1])])
            flat = True
            x = graph.weighted("Gemm", name, x, weight, found[f"{name}.bias"], transB=1)
    made = [graph.weighted("Gemm" if flat else "Conv", name, x, found[f"{name}.weight"], found[f"{name}.bias"],
                           **({"transB": 1} if flat else {})) for name in heads]  # fmt: skip
    graph.add("Softmax", "face", [made[0]], axis=1)
    return graph.model(["n", 3, size, size], [*heads[1:], "face"])


def _weights(folder: Path, manifest: list[Mapping[str, Any]]) -> dict[str, Floats]:
    """Weights of TensorFlow.js by name: float32 in the order of the manifest, in files that follow one another."""
    found: dict[str, Floats] = {}
    for group in manifest:
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        values, start = np.frombuffer(data, "<f4"), 0
        for entry in group["weights"]:
            count = int(np.prod(entry["shape"]))
            found[entry["name"]] = values[start : start + count].reshape(entry["shape"])
            start += count
    return found


class _Graph:
    """Nodes in order; each is named after its layer, as is what it writes. `made`: tensor of a layer."""

    def __init__(self, made: Mapping[str, str]) -> None:
        self.made = dict(made)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.made[name] = name
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weighted(self, op: str, name: str, x: str, weight: Floats, bias: Floats | None, **attributes: Any) -> str:
        read = [x, self.constant(f"{name}.weight", weight)]
        read += [self.constant(f"{name}.bias", bias)] if bias is not None else []
        return self.add(op, name, read, **attributes)

    def model(self, shape: list[Any], outputs: list[str]) -> onnx.ModelProto:
        """The model with input x of `shape`; shapes of outputs are inferred."""
        graph = helper.make_graph(
            self.nodes, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs], self.constants,
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made, strict_mode=True)
