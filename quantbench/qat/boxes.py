"""Boxes out of YOLO's exported output, and the truth of a COCO file."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantbench.qat.mean_ap import Truth
from quantbench.qat.vision import import_torchvision

CONFIDENCE = 0.001
NMS_IOU = 0.7
MOST_BOXES = 300
_MOST_CANDIDATES = 3000


def decode(output: Tensor, confidence: float = CONFIDENCE, iou: float = NMS_IOU) -> list[NDArray[np.float64]]:
    """Detections of each image, float64 [k, 6] as x0, y0, x1, y1, score, class, by falling score.

    `output` is [n, 4 + classes, anchors]: centre, size (pixels) and class scores 0..1, as ultralytics exports it. An
    anchor may give several classes; suppression is within a class (thresholds: ultralytics' validator).
    """
    nms = import_torchvision().ops.nms
    found = []
    for image in output.float().transpose(1, 2):
        scores = image[:, 4:]
        anchor, label = torch.nonzero(scores > confidence, as_tuple=True)
        score, order = scores[anchor, label].sort(descending=True, stable=True)
        score, order = score[:_MOST_CANDIDATES], order[:_MOST_CANDIDATES]
        anchor, label = anchor[order], label[order]
        centre, half = image[anchor, :2], image[anchor, 2:4] / 2
        boxes = torch.cat([centre - half, centre + half], dim=1)
        kept = nms(boxes + label[:, None] * 7680.0, score, iou)[:MOST_BOXES]
        rows = torch.cat([boxes, score[:, None], label[:, None].to(boxes.dtype)], dim=1)[kept]
        found.append(rows.double().cpu().numpy())
    return found


def read_coco(path: Path, order: Sequence[str] | None = None) -> tuple[list[str], list[Truth], list[str]]:
    """File names, truth and category names of a COCO annotation file; classes are positions in category order."""
    data = json.loads(path.read_text(encoding="utf-8"))
    position = {c["id"]: i for i, c in enumerate(data["categories"])}
    by_image: dict[int, list[dict[str, object]]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    truths = []
    for image in data["images"]:
        own = by_image[image["id"]]
        boxes = np.asarray([a["bbox"] for a in own], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        truths.append(Truth(boxes, np.asarray([position[a["category_id"]] for a in own], np.int64)))
    return [i["file_name"] for i in data["images"]], truths, [c["name"] for c in data["categories"]]
