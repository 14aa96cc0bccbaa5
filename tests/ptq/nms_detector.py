"""The shipped detector with ONNX's NonMaxSuppression in its graph, as exporters append it."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS = 50


def with_plugin(model: onnx.ModelProto, op: str = "EfficientNMS_TRT") -> onnx.ModelProto:
    """`model`, changed in place, with the same suppression by a plugin of TensorRT behind its boxes and scores."""
    graph, node = model.graph, helper.make_node
    stored = {"nms_split": np.asarray([4, 10])}
    nodes = [node("Transpose", ["boxes"], ["nms_rows"], "/nms/Rows", perm=[0, 2, 1]),
             node("Split", ["nms_rows", "nms_split"], ["nms_boxes", "nms_scores"], "/nms/Split", axis=2)]  # fmt: skip
    boxes = "nms_boxes"
    said = {"score_threshold": 0.25, "iou_threshold": 0.7, "max_output_boxes": ROWS, "background_class": -1,
            "score_activation": 0, "box_coding": 1}  # fmt: skip
    if op == "BatchedNMS_TRT":  # boxes [N, A, 1, 4] of corners, here shares of the image
        said = {"scoreThreshold": 0.25, "iouThreshold": 0.7, "keepTopK": ROWS, "topK": 2000, "backgroundLabelId": -1,
                "shareLocation": 1, "numClasses": 10, "isNormalized": 1}  # fmt: skip
        corners = np.block([[np.eye(2), np.eye(2)], [-np.eye(2) / 2, np.eye(2) / 2]]) / 320
        stored |= {"nms_corners_of": corners.astype(np.float32), "nms_axis": np.asarray([2])}
        nodes += [node("MatMul", ["nms_boxes", "nms_corners_of"], ["nms_corners"], "/nms/Corners"),
                  node("Unsqueeze", ["nms_corners", "nms_axis"], ["nms_shared"], "/nms/Shared")]  # fmt: skip
        boxes = "nms_shared"
    outputs = ["num_dets", "det_boxes", "det_scores", "det_classes"]
    graph.node.extend([*nodes, node(op, [boxes, "nms_scores"], outputs, "nms", **said)])
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in stored.items())
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return model


def with_suppression(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, changed in place, for one image: `boxes` [1, 4 + 10, 2000] becomes `detections` [1, ROWS, 6] (corners,
    score, class; the best first, zeros behind the last)."""
    graph = model.graph
    stored = {
        "nms_split": np.asarray([4, 10]), "nms_most": np.asarray([ROWS]), "nms_iou": np.float32([0.7]),
        "nms_score": np.float32([0.25]), "nms_half": np.float32(0.5), "nms_one": np.asarray([1]),
        "nms_two": np.asarray([2]), "nms_three": np.asarray([3]), "nms_last": np.asarray([-1]),
        "nms_rows": np.asarray([ROWS]), "nms_zero": np.asarray([0]), "nms_pads": np.asarray([0, 0, ROWS, 0]),
    }  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items())
    node = helper.make_node
    graph.node.extend(
        [
            node("Split", ["boxes", "nms_split"], ["nms_cxcywh", "nms_scores"], "/nms/Split", axis=1),
            node("Transpose", ["nms_cxcywh"], ["nms_boxes"], "/nms/Transpose", perm=[0, 2, 1]),
            node(
                "NonMaxSuppression", ["nms_boxes", "nms_scores", "nms_most", "nms_iou", "nms_score"], ["nms_chosen"],
                "/nms/NonMaxSuppression", center_point_box=1,
            ),
            node("Slice", ["nms_chosen", "nms_two", "nms_three", "nms_one"], ["nms_anchor"], "/nms/Anchors"),
            node("Slice", ["nms_chosen", "nms_one", "nms_two", "nms_one"], ["nms_class"], "/nms/Classes"),
            node("Squeeze", ["nms_boxes", "nms_zero"], ["nms_rows_of_boxes"], "/nms/Boxes"),
            node("GatherND", ["nms_rows_of_boxes", "nms_anchor"], ["nms_kept"], "/nms/GatherBoxes"),
            node("Squeeze", ["nms_scores", "nms_zero"], ["nms_table"], "/nms/Scores"),
            node("Concat", ["nms_class", "nms_anchor"], ["nms_place"], "/nms/Places", axis=1),
            node("GatherND", ["nms_table", "nms_place"], ["nms_flat"], "/nms/GatherScores"),
            node("Unsqueeze", ["nms_flat", "nms_one"], ["nms_score_column"], "/nms/ScoreColumn"),
            node("Cast", ["nms_class"], ["nms_class_column"], "/nms/ClassColumn", to=TensorProto.FLOAT),
            node("Split", ["nms_kept", "nms_halves"], ["nms_centre", "nms_side"], "/nms/Sides", axis=1),
            node("Mul", ["nms_side", "nms_half"], ["nms_reach"], "/nms/Reach"),
            node("Sub", ["nms_centre", "nms_reach"], ["nms_first"], "/nms/First"),
            node("Add", ["nms_centre", "nms_reach"], ["nms_second"], "/nms/Second"),
            node(
                "Concat", ["nms_first", "nms_second", "nms_score_column", "nms_class_column"], ["nms_found"],
                "/nms/Concat", axis=1,
            ),
            node("TopK", ["nms_flat", "nms_count"], ["nms_sorted", "nms_order"], "/nms/TopK", axis=0),
            node("Gather", ["nms_found", "nms_order"], ["nms_best"], "/nms/Sort", axis=0),
            node("Shape", ["nms_flat"], ["nms_count"], "/nms/Shape"),
            node("Pad", ["nms_best", "nms_pads"], ["nms_padded"], "/nms/Pad"),
            node("Slice", ["nms_padded", "nms_zero", "nms_rows", "nms_zero"], ["nms_cut"], "/nms/Cut"),
            node("Unsqueeze", ["nms_cut", "nms_zero"], ["detections"], "/nms/Unsqueeze"),
        ]
    )  # fmt: skip
    graph.initializer.append(numpy_helper.from_array(np.asarray([2, 2]), "nms_halves"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("detections", TensorProto.FLOAT, [1, ROWS, 6]))
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return model
