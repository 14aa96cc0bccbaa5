"""FP32 against INT8 on the same images."""

from quantbench.records.evaluation import BoxFacts, Outputs
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.figures import measured_on_calibration
from quantbench.report.words import behind, decibel, percent, pixels, points

_ROWS = (
    ("agreement", "Same argmax as FP32", percent),
    ("top1_float", "Top-1, FP32", percent),
    ("top1_int8", "Top-1, INT8", percent),
    ("top1_change", "Change of top-1", points),
    ("top5_float", "Top-5, FP32", percent),
    ("top5_int8", "Top-5, INT8", percent),
    ("top5_change", "Change of top-5", points),
    ("map_float", "mAP50-95, FP32", percent),
    ("map_int8", "mAP50-95, INT8", percent),
    ("map_change", "Change of mAP50-95", points),
    ("map50_float", "mAP50, FP32", percent),
    ("map50_int8", "mAP50, INT8", percent),
    ("map50_change", "Change of mAP50", points),
    ("miou_float", "mIoU, FP32", percent),
    ("miou_int8", "mIoU, INT8", percent),
    ("miou_change", "Change of mIoU", points),
    ("pixels_alike", "Pixels of the same class as FP32", percent),
    ("boxes_kept", "Boxes of FP32 that INT8 finds too", percent),
    ("boxes_shared", "Boxes of INT8 that FP32 finds too", percent),
    ("equal", "Equal integers", percent),
    ("point_error", "Mean distance of key points from FP32's", pixels),
)


_READ = {
    "yolo": "YOLO boxes: centre and size in pixels, {classes} class scores; they count from a score of {confidence:g}, "
    "after suppression at IoU {nms_iou:g}",
    "nms": "boxes after suppression; they count from a score of {confidence:g}",
    "efficientnms": "boxes after suppression (EfficientNMS); they count from a score of {confidence:g}",
    "suppressed": "boxes, with {classes} class scores beside them, that are suppressed here as the plugin does it, at "
    "IoU {nms_iou:g}; they count from a score of {confidence:g}",
    "detr-softmax": "boxes of queries, with logits of {classes} classes and of none; they count from {confidence:g}",
    "detr-sigmoid": "boxes of queries, with logits of {classes} classes; they count from {confidence:g}",
}


def section(run: PtqRun) -> Section:
    """A table of what was measured, each with its 95 % interval and the number of images."""
    result = run.evaluation
    outputs = result.outputs
    found = ((title, show, getattr(outputs, key)) for key, title, show in _ROWS)
    rows = tuple((title, show(value), behind(value)) for title, show, value in found if value is not None)
    rows += tuple((f"SQNR, {part.name}", decibel(part.sqnr), behind(part.sqnr)) for part in result.parts)
    blocks: list[Block] = [
        Text(f"Measured on {run.evaluated_on.images} images: {run.evaluated_on.what}. Both models ran in "
             f"onnxruntime; in brackets the 95 % interval.")
    ]  # fmt: skip
    if measured_on_calibration(run):
        blocks.append(Text("These images also set the ranges, so expect a little less on new ones.", "warning"))
    if result.boxes is not None:
        blocks += _boxes(result.boxes, outputs)
    blocks.append(Table(("Measure", "Value", "Measured on"), rows))
    return Section("Accuracy", tuple(blocks))


def _boxes(facts: BoxFacts, outputs: Outputs) -> list[Block]:
    shape = ", ".join(["N", *map(str, facts.shape[1:])])
    read = _READ[facts.format].format(**facts.model_dump())
    blocks: list[Block] = [
        Text(
            f"Output {facts.output} [{shape}] is taken as {read}; told from {facts.why}. Two boxes are the same if "
            f"they have one class and an IoU of at least {facts.same_iou:g}."
        )
    ]
    if outputs.boxes_kept is None:
        found = "but INT8 finds boxes where there should be none" if outputs.boxes_shared else "nor does INT8"
        blocks.append(
            Text(f"FP32 finds no box in these images, {found}: were they prepared as in training?", "warning")
        )
    elif outputs.boxes_shared is None:
        blocks.append(Text("INT8 finds no box in these images.", "warning"))
    if outputs.map_change is None:
        blocks.append(Text("For mAP, label the images with boxes: --eval-dir FOLDER --labels yolo.", "note"))
    return blocks
