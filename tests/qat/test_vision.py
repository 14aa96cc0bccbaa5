"""torchvision beside CPU torch: it imports, and its nms is right."""

import torch

from quantbench.qat.vision import import_torchvision, nms


def test_models_import() -> None:
    models = import_torchvision().models
    assert sum(p.numel() for p in models.resnet18().parameters()) == 11_689_512


def test_nms_keeps_the_best_of_each_cluster() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 9]])
    scores = torch.tensor([0.5, 0.9, 0.3, 0.7])
    assert nms(boxes, scores, 0.5).tolist() == [1, 2]
    assert nms(boxes, scores, 0.95).tolist() == [1, 3, 0, 2]
    assert nms(boxes[:0], scores[:0], 0.5).tolist() == []
    ops = import_torchvision().ops
    assert ops.nms(boxes, scores, 0.5).tolist() == [1, 2]
