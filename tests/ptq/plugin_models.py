"""Small networks with plugins, as exporters for TensorRT leave them: suppression at the end, a plugin in the middle."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, where: str, *, half: bool = False, domain: str = "") -> Path:
    """`where`: end (EfficientNMS_TRT behind decoded boxes and scores), middle (a plugin between convs, as deformable
    convolutions are), two (another behind it), first, contrib (onnxruntime's QuickGelu in the middle), or none. `half`:
    FP16 throughout."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": (16, 3, 3, 3),
        "w2": (16, 16, 3, 3),
        "wb": (4, 16, 1, 1),
        "ws": (8, 16, 1, 1),
        "w3": (16, 16, 3, 3),
    }
    stored = [
        numpy_helper.from_array((rng.normal(size=s) / np.sqrt(np.prod(s[1:]))).astype(np.float32), n)
        for n, s in weights.items()
    ]
    first, nodes = "x", []
    if where == "first":
        nodes.append(helper.make_node("Normalise", ["x"], ["p"], "prepare", domain=domain))
        first = "p"
    nodes += [
        helper.make_node("Conv", [first, "w1"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "conv2", pads=[1, 1, 1, 1]),
    ]
    last = "c"
    if where in ("middle", "two"):
        nodes.append(helper.make_node("DCNv2_TRT", ["c", "b"], ["d"], "deform", domain=domain, stride=[1, 1]))
        last = "d"
    if where == "two":
        nodes.append(helper.make_node("Align_TRT", ["d"], ["d2"], "second", domain=domain))
        last = "d2"
    if where == "contrib":
        nodes.append(helper.make_node("QuickGelu", ["c"], ["d"], "gelu", domain="com.microsoft", alpha=1.7))
        last = "d"
    nodes += [
        helper.make_node("Conv", [last, "w3"], ["e"], "conv3", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["e"], ["f"], "relu3"),
        helper.make_node("Conv", ["f", "wb"], ["g"], "boxes_conv"),
        helper.make_node("Conv", ["f", "ws"], ["h"], "scores_conv"),
    ]
    shapes = {"boxes": (4, "boxes"), "scores": (8, "scores")}
    for name, source in (("boxes", "g"), ("scores", "h")):
        stored.append(numpy_helper.from_array(np.asarray([0, shapes[name][0], -1], np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Reshape", [source, f"{name}_shape"], [f"{name}_flat"], f"{name}_reshape"))
        nodes.append(helper.make_node("Transpose", [f"{name}_flat"], [f"{name}_t"], f"{name}_turn", perm=[0, 2, 1]))
    nodes.append(helper.make_node("Sigmoid", ["scores_t"], ["scores"], "sigmoid"))
    nodes.append(helper.make_node("Identity", ["boxes_t"], ["boxes"], "same"))
    outputs = [("boxes", TensorProto.FLOAT, ["n", 256, 4]), ("scores", TensorProto.FLOAT, ["n", 256, 8])]
    if where == "end":
        outputs = [
            ("num_dets", TensorProto.INT32, ["n", 1]),
            ("det_boxes", TensorProto.FLOAT, ["n", 20, 4]),
            ("det_scores", TensorProto.FLOAT, ["n", 20]),
            ("det_classes", TensorProto.INT32, ["n", 20]),
        ]
        nodes.append(
            helper.make_node(
                "EfficientNMS_TRT", ["boxes", "scores"], [name for name, *_ in outputs], "nms", domain=domain,
                background_class=-1, max_output_boxes=20, score_threshold=0.25, iou_threshold=0.45, plugin_version="1",
            )
        )  # fmt: skip
    graph = helper.make_graph(
        nodes, "plugins", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info(*output) for output in outputs], stored,
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports + ([helper.make_opsetid(domain, 1)] if domain else []),
                              ir_version=8)  # fmt: skip
    onnx.save(_halved(model) if half else model, path)
    return path


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model
