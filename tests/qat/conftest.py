"""Shared by the QAT tests: a random YOLOv8n checkpoint of the real format, made once."""

from pathlib import Path

import pytest
import torch

from quantbench.qat.safe_load import quiet_ultralytics


@pytest.fixture(scope="session")
def yolo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`YOLO('yolov8n.yaml').save(...)`: random weights, half precision, a pickle of the whole model."""
    quiet_ultralytics(trust=False)
    from ultralytics import YOLO

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("yolo") / "yolov8.pt"
    YOLO("yolov8n.yaml").save(path)
    return path
