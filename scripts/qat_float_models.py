"""Train the float models that the QAT measurements start from: YOLOv8n on digit scenes, MobileNetV2 on digit crops.

    python scripts/qat_float_models.py OUT --scenes /tmp/scenes --epochs 40

Writes OUT/yolov8n-scenes.pt (ultralytics' form), OUT/mobilenetv2-digits.pth (state dict) and OUT/float.json.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.scenes import SPLITS, SceneOptions, draw_crops, write_scenes
from quantbench.qat.safe_load import quiet_ultralytics
from quantbench.qat.vision import import_torchvision

CROP = SceneOptions(size=64, most_digits=1, smallest=26, largest=56)


def train_yolo(out: Path, scenes: Path, epochs: int, batch: int, device: str, workers: int) -> dict[str, Any]:
    """Train YOLOv8n from random weights with ultralytics' own trainer; mAP of the best epoch on the val split."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    start = time.perf_counter()
    trainer = DetectionTrainer(
        overrides={
            "model": "yolov8n.yaml", "data": str(scenes / "data.yaml"), "imgsz": 320, "epochs": epochs, "batch": batch,
            "device": device, "verbose": False, "amp": False if device == "cpu" else "bf16",
            "workers": workers, "fliplr": 0.0, "plots": False, "seed": 0, "cache": "ram",
            "project": str(out / "runs"), "name": "yolo", "exist_ok": True,
        }
    )  # fmt: skip
    trainer.read_results_csv = dict  # it copies its own CSV into the checkpoint through polars, a 54 MB package
    trainer.train()
    Path(trainer.best).replace(out / "yolov8n-scenes.pt")
    found = {k: float(v) for k, v in trainer.metrics.items() if "mAP" in k}
    return {"epochs": epochs, "batch": batch, "seconds": time.perf_counter() - start, **found}


def to_batch(images: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """uint8 [n, h, w, 3] to float32 [n, 3, h, w] in -1..1."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)


def train_classifier(out: Path, epochs: int, count: int, device: torch.device, workers: int) -> dict[str, Any]:
    """Train MobileNetV2 (width 0.5) from random weights on digit crops; top-1 on held-out digits and photos."""
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    start = time.perf_counter()
    x, y = draw_crops(0, "train", count, CROP, workers)
    test_x, test_y = draw_crops(0, "test", count // 4, CROP, workers)
    drawn = time.perf_counter() - start
    model = mobilenet_v2(num_classes=10, width_mult=0.5).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    batch = 256
    steps = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=epochs * steps)
    order = np.random.default_rng(0)
    model.train()
    for _ in range(epochs):
        shuffled = order.permutation(len(x))
        for step in range(steps):
            which = shuffled[step * batch : (step + 1) * batch]
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = nn.functional.cross_entropy(
                    model(to_batch(x[which], device)), torch.from_numpy(y[which]).to(device), label_smoothing=0.05
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for first in range(0, len(test_x), 500):
            predicted = model(to_batch(test_x[first : first + 500], device)).argmax(1).cpu().numpy()
            right += int((predicted == test_y[first : first + 500]).sum())
    torch.save({k: v.cpu() for k, v in model.state_dict().items()}, out / "mobilenetv2-digits.pth")
    return {"top1": right / len(test_x), "test_images": len(test_x), "epochs": epochs, "train_images": len(x),
            "draw_seconds": drawn, "seconds": time.perf_counter() - start}  # fmt: skip


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=Path, default=Path("/tmp/scenes"))
    parser.add_argument("--images", type=int, nargs=3, default=(8000, 1000, 2000))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--crops", type=int, default=40000)
    parser.add_argument("--crop-epochs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=14)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    quiet_ultralytics(trust=True)
    import_torchvision()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    start = time.perf_counter()
    write_scenes(given.scenes, dict(zip(SPLITS, given.images, strict=True)), 0, SceneOptions(), given.workers)
    report: dict[str, Any] = {"scenes_seconds": time.perf_counter() - start, "torch": torch.__version__,
                              "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}  # fmt: skip
    if given.crop_epochs:
        report["classifier"] = train_classifier(given.out, given.crop_epochs, given.crops, device, given.workers)
        print(json.dumps(report["classifier"]), flush=True)
    if given.epochs:
        name = "0" if device.type == "cuda" else "cpu"
        report["yolo"] = train_yolo(given.out, given.scenes, given.epochs, given.batch, name, given.workers)
    (given.out / "float.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
