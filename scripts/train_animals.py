"""Train the small labelled models of tests/data/models: ResNet-18- and MobileNetV2-shaped nets on animal silhouettes.

    python scripts/train_animals.py resnet18 tests/data/models --epochs 10 --seed 0

Data: `animal-mnist` (7,716 to train on, 2,000 to test, duplicates dropped before the split). The same seed, torch
version and thread count give the same weights. Needs torch, onnxscript and the package animal-mnist.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from quantbench.atomic import atomic_path
from quantbench.demo.tidy import tidy
from quantbench.images.open import open_dataset
from quantbench.images.preprocess import Preprocess
from quantbench.images.stream import batches

PREPROCESS = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
CLASSES = 10


class Residual(nn.Module):
    """torchvision's BasicBlock: two 3x3 convs with batch norm, and a skip connection."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, H, W] to [N, out, H / stride, W / stride]."""
        skip = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + skip)


class Inverted(nn.Module):
    """MobileNetV2's block: expand (1x1), depthwise (3x3), project (1x1, no activation)."""

    def __init__(self, into: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = into * expand
        self.skip = stride == 1 and into == out
        self.expand = nn.Sequential(nn.Conv2d(into, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, H, W] to [N, out, H / stride, W / stride]."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class Net(nn.Module):
    """Stem, blocks, global average pooling, linear layer. [N, 1, 28, 28] to logits [N, 10]."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], out: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(out, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1, 28, 28] to [N, 10]."""
        y: Tensor = self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))
        return y


def resnet18(widths: tuple[int, int, int, int] = (16, 32, 64, 96)) -> Net:
    """ResNet-18's four stages of two blocks behind a 3x3 stem, as is usual for images this small."""
    stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    blocks: list[nn.Module] = []
    into = widths[0]
    for stage, out in enumerate(widths):
        blocks += [Residual(into, out, 2 if stage else 1), Residual(out, out, 1)]
        into = out
    return Net(stem, blocks, into)


def mobilenetv2() -> Net:
    """A short MobileNetV2: (channels, stride, expansion) a block."""
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
    plan = [(16, 1, 1), (24, 2, 4), (24, 1, 4), (40, 2, 4), (40, 1, 4), (40, 1, 4), (64, 2, 4), (64, 1, 4)]
    blocks: list[nn.Module] = []
    into = 16
    for out, stride, expand in plan:
        blocks.append(Inverted(into, out, stride, expand))
        into = out
    blocks.append(nn.Sequential(nn.Conv2d(into, 192, 1, bias=False), nn.BatchNorm2d(192), nn.ReLU6()))
    return Net(stem, blocks, 192)


NETS = {"resnet18": resnet18, "mobilenetv2": mobilenetv2}


def load(split: str) -> tuple[Tensor, Tensor]:
    """Images float32 [N, 1, 28, 28] and labels int64 [N] of a split, through the same preprocessing as inference."""
    parts = list(batches(open_dataset("animal-mnist", PREPROCESS, {"split": split}), 512))
    images = torch.from_numpy(np.concatenate([batch.data for batch in parts]))
    return images, torch.tensor([label for batch in parts for label in batch.labels])


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images and shift all by up to two pixels (the background is the value at the corner)."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    down, right = (int(v) for v in torch.randint(-2, 3, (2,), generator=generator))
    padded = nn.functional.pad(images, (2, 2, 2, 2), value=float(images[0, 0, 0, 0]))
    return padded[:, :, 2 + down : 30 + down, 2 + right : 30 + right]


def train(net: Net, epochs: int, seed: int, batch: int = 64) -> None:
    """SGD with momentum and a one-cycle learning rate; prints loss and seconds an epoch."""
    images, labels = load("train")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    net.train()
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for first in range(0, len(order) - batch + 1, batch):
            chosen = order[first : first + batch]
            logits = net(augment(images[chosen], generator))
            loss = nn.functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item() * batch
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / len(order):.4f}, {time.perf_counter() - start:.1f} s",
            flush=True,
        )


def accuracy(net: Net, split: str) -> float:
    """Top-1 share of a split."""
    images, labels = load(split)
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(part).argmax(1) for part in torch.split(images, 256)])
    return float((guesses == labels).float().mean())


def export(net: Net, path: Path) -> None:
    """Write `net` as ONNX with dynamic batch, input `image`, output `logits`, batch norms folded."""
    net.eval()
    program = torch.onnx.export(
        net, (torch.zeros(2, 1, 28, 28),), dynamo=True, verbose=False, input_names=["image"],
        output_names=["logits"], dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, opset_version=18,
    )  # fmt: skip
    assert program is not None
    model = tidy(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


def main() -> None:
    """Train, test and export one net."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=sorted(NETS))
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, help="also save the state_dict here")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    net = NETS[arguments.net]()
    train(net, arguments.epochs, arguments.seed)
    print(f"top-1: train {accuracy(net, 'train'):.4f}, test {accuracy(net, 'test'):.4f}")
    export(net, arguments.out_dir / f"animals_{arguments.net}.onnx")
    if arguments.checkpoint:
        with atomic_path(arguments.checkpoint) as temporary:
            torch.save(net.state_dict(), temporary)


if __name__ == "__main__":
    main()
