"""FP32 against INT8 on the same images."""

from quantbench.records.evaluation import BoxFacts, Outputs
from quantbench.records.run import PtqRun
from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.words import behind, decibel, percent, points

_ROWS = (
    ("agreement", "Same argmax as FP32", percent),
    ("top1_float", "Top-1, FP32", percent),
    ("top1_int8", "Top-1, INT8", percent),
    ("top1_change", "Change of top-1", points),
    ("top5_float", "Top-5, FP32", percent),
    ("top5_int8", "Top-5, INT8", percent),
    ("map_float", "mAP50-95, FP32", percent),
    ("map_int8", "mAP50-95, INT8", percent),
    ("map_change", "Change of mAP50-95", points),
    ("map50_float", "mAP50, FP32", percent),
    ("map50_int8", "mAP50, INT8", percent),
    ("map50_change", "Change of mAP50", points),
    ("boxes_kept", "Boxes of FP32 that INT8 finds too", percent),
    ("boxes_shared", "Boxes of INT8 that FP32 finds too", percent),
    ("sqnr_db", "SQNR of the outputs", decibel),
)


def section(run: PtqRun) -> Section:
    """A table of what was measured, each with its 95 % interval and the number of images."""
    result = run.evaluation
    outputs = result.outputs
    found = ((title, show, getattr(outputs, key)) for key, title, show in _ROWS)
    rows = tuple((title, show(value), behind(value)) for title, show, value in found if value is not None)
    blocks: list[Block] = [
        Text(f"Measured on {run.evaluated_on.images} images: {run.evaluated_on.what}. Both models ran in "
             f"onnxruntime; in brackets the 95 % interval.")
    ]  # fmt: skip
    if "calibration images themselves" in run.evaluated_on.what:
        blocks.append(Text("These images also set the ranges, so expect a little less on new ones.", "warning"))
    if result.boxes is not None:
        blocks += _boxes(result.boxes, outputs)
    blocks.append(Table(("Measure", "Value", "Measured on"), rows))
    return Section("Accuracy", tuple(blocks))


def _boxes(facts: BoxFacts, outputs: Outputs) -> list[Block]:
    shape = ", ".join(["N", *map(str, facts.shape[1:])])
    blocks: list[Block] = [
        Text(
            f"Output {facts.output} [{shape}] is taken as YOLO boxes: centre and size in pixels, "
            f"{facts.classes} class scores. Boxes count from a score of {facts.confidence:g}, after suppression "
            f"at IoU {facts.nms_iou:g}; two are the same if they have one class and an IoU of at least "
            f"{facts.same_iou:g}."
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
