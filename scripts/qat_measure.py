"""Measure PTQ and QAT on a GPU: mAP of YOLOv8n on held-out digit scenes, top-1 of a classifier on held-out crops.

    python scripts/qat_measure.py OUT --weights DIR [--parts yolo classifier]

DIR holds what scripts/qat_float_models.py wrote. Writes OUT/measured.json and the fine-tuned states.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.scenes import SPLITS, SceneOptions, draw_crops, write_scenes
from quantbench.evaluate.boxes import decode
from quantbench.evaluate.mean_ap import intervals, match
from quantbench.evaluate.statistics import paired_difference, share
from quantbench.images.truth import Truth
from quantbench.qat import distributed
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import apply_ranges, collect, ranges_of
from quantbench.qat.options import TrainOptions
from quantbench.qat.quantizer import Mode, set_mode
from quantbench.qat.safe_load import load_checkpoint, quiet_ultralytics
from quantbench.qat.trace import trace
from quantbench.qat.train_classifier import finetune_classifier, shares
from quantbench.qat.train_yolo import YoloScenes, finetune_yolo
from quantbench.qat.training_state import Checkpoints
from quantbench.qat.vision import import_torchvision
from quantbench.qat.yolo import exporting, float_modules, yolo_model
from quantbench.qdq.options import PlacementOptions
from scripts.qat_float_models import CROP, to_batch

METHODS = ("minmax", "entropy", "percentile", "mse", "legacy")


def scene_batches(folder: Path, count: int, batch: int) -> Iterator[Tensor]:
    """The first `count` scenes of a split, float32 [n, 3, size, size] in 0..1."""
    files = sorted(folder.glob("*.jpg"))[:count]
    for first in range(0, len(files), batch):
        pixels = np.stack([np.asarray(Image.open(f)) for f in files[first : first + batch]])
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def read_coco(path: Path) -> tuple[list[str], list[Truth]]:
    """File names and truth of a COCO annotation file; classes are positions in category order."""
    data = json.loads(path.read_text(encoding="utf-8"))
    position = {c["id"]: i for i, c in enumerate(data["categories"])}
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    truths = []
    for own in by_image.values():
        boxes = np.asarray([a["bbox"] for a in own], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        truths.append(Truth(boxes, np.asarray([position[a["category_id"]] for a in own], np.int64)))
    return [i["file_name"] for i in data["images"]], truths


def detections(model: nn.Module, images: list[Tensor]) -> list[Any]:
    """Detections of all images of a list of batches."""
    device = next(model.parameters()).device
    model.eval()
    found: list[Any] = []
    with torch.no_grad(), exporting(model):
        for batch in images:
            found += decode(model(batch.to(device)).float().cpu().numpy())
    return found


def measure_yolo(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """FP32, PTQ with each threshold method, and QAT: mAP50-95 on the test split with paired intervals."""
    model = yolo_model(load_checkpoint(given.weights / "yolov8n-scenes.pt")).to(device)
    teacher = copy.deepcopy(model)
    names, truths = read_coco(given.scenes / "annotations/instances_test.json")
    tests = list(scene_batches(given.scenes / "images/test", len(names), 100))
    calibration = list(scene_batches(given.scenes / "images/train", given.calibration, 32))
    matches = {"fp32": match(detections(model, tests), truths, 10)}
    with exporting(model):
        traced = trace(model, calibration[0][:1].to(device))
    plan = plan_for(traced, PlacementOptions(), float_modules(model))
    insert(model, traced, plan, learned=given.learned)
    start = time.perf_counter()
    histograms = collect(model, lambda: calibration)
    report: dict[str, Any] = {
        "images": len(names), "calibration_images": given.calibration, "sites": len(plan.activations),
        "calibration_seconds": time.perf_counter() - start,
    }  # fmt: skip
    set_mode(model, Mode.QUANTIZE)
    for method in METHODS:
        apply_ranges(model, ranges_of(histograms, method))
        matches[f"ptq {method}"] = match(detections(model, tests), truths, 10)
        print(method, intervals({"a": matches[f"ptq {method}"]}, "a", 2)["a"]["map"].value, flush=True)
    apply_ranges(model, ranges_of(histograms, given.start))
    options = TrainOptions(epochs=given.epochs, batch=given.batch, rate=given.rate, workers=given.workers,
                           distill=given.distill, learned_scales=given.learned)  # fmt: skip
    start = time.perf_counter()
    extra = {"fliplr": 0.0, **({"cache": "ram"} if device.type == "cuda" else {})}
    scenes, where = YoloScenes(given.scenes / "data.yaml", 320, extra), distributed.ultralytics_device(device)
    trained = finetune_yolo(model, scenes, Checkpoints(given.out / "qat-yolo"), options, teacher=teacher, device=where)
    report["training"] = {
        **trained.model_dump(mode="json"),
        "start": given.start,
        "seconds": time.perf_counter() - start,
    }
    if given.control:
        # Fine-tuning alone can help a float model too; the same epochs without quantizers show how much.
        control = copy.deepcopy(teacher)
        again = finetune_yolo(control, scenes, Checkpoints(given.out / "control"), options, device=where)
        report["control"] = again.model_dump(mode="json")
        matches["fp32 fine-tuned"] = match(detections(control.to(device), tests), truths, 10)
    model = model.to(device)
    matches["qat"] = match(detections(model, tests), truths, 10)
    torch.save({k: v.cpu() for k, v in model.state_dict().items()}, given.out / "yolov8n-scenes-qat-state.pt")
    found = intervals(matches, "fp32", given.resamples)
    best = max((n for n in matches if n.startswith("ptq")), key=lambda n: found[n]["map"].value)
    report["qat_minus_best_ptq"] = {
        best: intervals({k: matches[k] for k in ("qat", best)}, best, given.resamples)["qat"]["difference"]
    }
    report["map50_95"] = {name: {k: asdict(v) for k, v in entry.items()} for name, entry in found.items()}
    return report


def measure_classifier(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The same for MobileNetV2 on digit crops: top-1 on held-out crops."""
    models = import_torchvision().models
    model: nn.Module = models.mobilenet_v2(num_classes=10, width_mult=0.5)
    model.load_state_dict(load_checkpoint(given.weights / "mobilenetv2-digits.pth"))
    model = model.to(device).eval()
    teacher = copy.deepcopy(model)
    x, y = draw_crops(0, "train", given.crops, CROP, given.workers)
    val_x, val_y = draw_crops(0, "val", 4000 if given.crops > 4000 else 64, CROP, given.workers)
    test_x, test_y = draw_crops(0, "test", given.crops // 4, CROP, given.workers)

    def right(network: nn.Module, images: Any, labels: Any) -> Any:
        network.eval()
        with torch.no_grad():
            parts = [network(to_batch(images[i : i + 500], device)).argmax(1).cpu().numpy()
                     for i in range(0, len(images), 500)]  # fmt: skip
        return np.concatenate(parts) == labels

    answers = {"fp32": right(model, test_x, test_y)}
    traced = trace(model, to_batch(x[:1], device))
    insert(model, traced, plan_for(traced, PlacementOptions()), learned=given.learned)
    histograms = collect(model, lambda: [to_batch(x[i : i + 64], device) for i in range(0, min(1024, len(x)), 64)])
    set_mode(model, Mode.QUANTIZE)
    for method in METHODS:
        apply_ranges(model, ranges_of(histograms, method))
        answers[f"ptq {method}"] = right(model, test_x, test_y)
    apply_ranges(model, ranges_of(histograms, given.start))
    batch = min(256, len(x))
    options = TrainOptions(epochs=given.crop_epochs, batch=batch, rate=given.crop_rate, distill=given.crop_distill)

    def batches(epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        for which in shares(len(x), batch, epoch, 0):
            yield to_batch(x[which], device), torch.from_numpy(y[which])

    start = time.perf_counter()
    trained = finetune_classifier(
        model, batches, len(x) // batch, lambda m: float(right(m, val_x, val_y).mean()),
        Checkpoints(given.out / "qat-crops"), options, teacher=teacher,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    answers["qat"] = right(model, test_x, test_y)
    torch.save({k: v.cpu() for k, v in model.state_dict().items()}, given.out / "mobilenetv2-digits-qat-state.pt")
    return {
        "images": len(test_y),
        "training": {**trained.model_dump(mode="json"), "seconds": seconds, "start": given.start},
        "top1": {name: asdict(share(int(a.sum()), len(a))) for name, a in answers.items()},
        "minus_fp32": {n: asdict(paired_difference(answers["fp32"], a)) for n, a in answers.items()},
    }  # fmt: skip


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, default=Path("/tmp/scenes"))
    parser.add_argument("--images", type=int, nargs=3, default=(8000, 1000, 2000))
    parser.add_argument("--parts", nargs="+", default=("yolo", "classifier"))
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--start", default="mse")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--distill", type=float, default=0.0)
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--learned", action="store_true")
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--crops", type=int, default=40000)
    parser.add_argument("--crop-epochs", type=int, default=8)
    parser.add_argument("--crop-rate", type=float, default=5e-3)
    parser.add_argument("--crop-distill", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=14)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    quiet_ultralytics(trust=False)
    import_torchvision()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    report: dict[str, Any] = {"torch": torch.__version__, "device": name}
    if "yolo" in given.parts:
        if not (given.scenes / "data.yaml").exists():
            write_scenes(given.scenes, dict(zip(SPLITS, given.images, strict=True)), 0, SceneOptions(), given.workers)
        report["yolo"] = measure_yolo(given, device)
    if "classifier" in given.parts:
        report["classifier"] = measure_classifier(given, device)
    (given.out / "measured.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
