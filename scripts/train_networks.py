"""Train the networks of scripts/networks.py on what the installed packages hold: digits, silhouettes, digit scenes.

    python scripts/train_networks.py OUT --only detector detr --seconds 400

Each network trains for its share of wall-clock time (the learning rate follows a cosine over it), so a GPU of another
speed gives another number of steps. Writes OUT/NAME.pth (FP16 state) and OUT/NAME.json (steps, seconds, result).
`--data FILE.npz` holds digits, photos and silhouettes where the packages are not installed (`--collect FILE.npz`).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets import scenes
from scripts.networks import BINS, STRIDES, Conv1dTransformer, DigitDetector, SmallConvNeXt, SmallDetr, SmallViT

MOST = 8  # boxes a scene, at most
CROP = scenes.SceneOptions(size=64, most_digits=1, smallest=26, largest=56)
Step = Callable[[Tensor], Tensor]


def collect(path: Path) -> None:
    """Write what training needs of the installed packages into one file."""
    from datasets.animal_mnist import pictures

    data: dict[str, Any] = {}
    for split in ("train", "test"):
        data[f"digits_{split}"], data[f"labels_{split}"] = scenes.digits_of(split)
        for i, photo in enumerate(scenes.photos_of(split)):
            data[f"photo_{split}_{i}"] = photo
        drawn = pictures(split)
        data[f"animals_{split}"] = np.stack([np.asarray(drawn.picture(i)) for i in range(len(drawn))])
        data[f"animal_labels_{split}"] = np.asarray([drawn.label(i) for i in range(len(drawn))], np.int64)
    np.savez_compressed(path, **data)


def provide(path: Path) -> dict[str, Any]:
    """The file's arrays; `datasets.scenes` draws from them from now on."""
    data = dict(np.load(path))
    names = vars(scenes)
    names["digits_of"] = lambda split: (data[f"digits_{split}"], data[f"labels_{split}"])
    names["photos_of"] = lambda split: tuple(data[k] for k in sorted(data) if k.startswith(f"photo_{split}_"))
    return data


_PROVIDED: list[Path] = []


def _draw(data: Path, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    if data not in _PROVIDED:
        _PROVIDED.append(data)
        provide(data)
    scene = scenes.draw_scene(0, split, index)
    boxes, classes = np.zeros((MOST, 4), np.float32), np.full(MOST, -1, np.int64)
    boxes[: len(scene.boxes)], classes[: len(scene.boxes)] = scene.boxes, scene.classes
    return scene.image, boxes, classes


def drawn(data: Path, split: str, count: int, workers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images uint8 [n, 3, 320, 320], boxes [n, 8, 4] and classes [n, 8] (-1: none)."""
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(partial(_draw, data, split), range(count), chunksize=64))
    images, boxes, classes = (np.stack(column) for column in zip(*parts, strict=True))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(boxes), torch.from_numpy(classes)


def train(model: nn.Module, count: int, batch: int, seconds: float, rate: float, decay: float, loss: Step,
          device: torch.device) -> dict[str, Any]:  # fmt: skip
    """AdamW for `seconds`; `loss` maps indices of a batch to the loss. An average of the weights is what stays."""
    model.train()
    wanted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in wanted if p.dim() > 1], "weight_decay": decay},
         {"params": [p for p in wanted if p.dim() <= 1], "weight_decay": 0.0}], lr=rate)  # fmt: skip
    average = {k: v.detach().clone().float() for k, v in model.state_dict().items()}
    start, steps, last = time.perf_counter(), 0, 0.0
    while (share := (time.perf_counter() - start) / seconds) < 1:
        order = torch.randperm(count, device=device)
        for first in range(0, count - batch + 1, batch):
            share = min((time.perf_counter() - start) / seconds, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, steps / 200) * (0.5 + 0.5 * math.cos(math.pi * share) + 0.002)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                value = loss(order[first : first + batch])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            nn.utils.clip_grad_norm_(wanted, 5.0)
            optimizer.step()
            steps += 1
            keep = min(0.999, steps / (steps + 10))
            with torch.no_grad():
                for key, tensor in model.state_dict().items():
                    if tensor.is_floating_point():
                        average[key].lerp_(tensor.float(), 1 - keep)
                    else:
                        average[key] = tensor.clone()
            if share >= 1:
                break
        last = float(value.detach())
        if steps < 5000 or steps % 10 == 0:
            print(type(model).__name__, steps, round(last, 4), flush=True)
    model.load_state_dict(average)
    model.eval()
    return {"steps": steps, "batch": batch, "seconds": round(time.perf_counter() - start, 1), "loss": last}


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (arXiv:1902.09630) of boxes [..., 4] as corners."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b)]
    union = areas[0] + areas[1] - shared + 1e-6
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1) + 1e-6
    return shared / union, shared / union - (hull - union) / hull


def detector_loss(model: DigitDetector, images: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Quality focal loss on classes, GIoU and distribution focal loss on boxes, over the cells of each box's centre."""
    distances, logits = model(images)
    distances, logits = distances.float(), logits.float()
    anchors, strides = model.anchors.T, model.strides  # [A, 2], [A]
    with torch.no_grad():
        sides = (boxes[..., 2:] - boxes[..., :2]).amax(-1)  # [N, M]
        level = (sides >= 56)[:, :, None] == (strides == STRIDES[1])[None, None]
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        near = ((anchors[None, None] - centre[:, :, None]).abs().amax(-1) < 1.5 * strides) & level
        inside = (anchors[None, None] > boxes[:, :, None, :2]).all(-1) & (
            anchors[None, None] < boxes[:, :, None, 2:]
        ).all(-1)
        fits = near & inside & (classes >= 0)[:, :, None]
        area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)[:, :, None].expand_as(fits)
        cost = torch.where(fits, area, torch.full_like(area, 1e9))
        least, which = cost.min(1)  # [N, A]
        positive = least < 1e9
        target = boxes.gather(1, which[..., None].expand(-1, -1, 4))[positive]
        label = classes.gather(1, which)[positive]
    at = anchors[None].expand(len(images), -1, -1)[positive]
    step = strides[None].expand(len(images), -1)[positive]
    raw = distances.transpose(1, 2)[positive].view(-1, 4, BINS)
    found = (raw.softmax(-1) @ torch.arange(BINS, device=raw.device, dtype=raw.dtype)) * step[:, None]
    iou, general = giou(torch.cat([at - found[:, :2], at + found[:, 2:]], 1), target)
    quality = torch.zeros_like(logits)
    rows, columns = positive.nonzero(as_tuple=True)
    quality[rows, label, columns] = iou.detach().clamp(0.01, 1)
    focus = (logits.sigmoid().detach() - quality).abs() ** 2
    weight = iou.detach().clamp(min=0.1)
    total = quality.sum().clamp(min=1)
    classify = (F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * focus).sum() / total
    wanted = (torch.cat([at - target[:, :2], target[:, 2:] - at], 1) / step[:, None]).clamp(0, BINS - 1.01)
    low = wanted.floor()
    share = wanted - low
    logs = raw.log_softmax(-1)
    distribution = -(logs.gather(-1, low.long()[..., None])[..., 0] * (1 - share)
                     + logs.gather(-1, low.long()[..., None] + 1)[..., 0] * share).mean(1)  # fmt: skip
    loss: Tensor = classify + 2 * ((1 - general) * weight).sum() / total + 0.25 * (distribution * weight).sum() / total
    return loss


def detr_loss(model: SmallDetr, images: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Hungarian matching; focal loss on classes, L1 and GIoU on boxes, at every decoder layer."""
    from scipy.optimize import linear_sum_assignment

    found, logits = (value.float() for value in model(images))
    n = len(classes)
    corners = torch.cat([found[..., :2] - found[..., 2:] / 2, found[..., :2] + found[..., 2:] / 2], -1)
    truth = boxes / model.size
    centred = torch.cat([(truth[..., :2] + truth[..., 2:]) / 2, truth[..., 2:] - truth[..., :2]], -1)
    with torch.no_grad():
        p = logits.sigmoid()
        gain = (0.25 * (1 - p) ** 2 * -(p + 1e-8).log()) - (0.75 * p**2 * -(1 - p + 1e-8).log())
        index = classes.clamp(min=0)[None, :, None].expand(len(found), -1, found.shape[2], -1)
        cost = 2 * gain.gather(-1, index)
        cost = cost + 5 * (found[:, :, :, None] - centred[None, :, None]).abs().sum(-1)
        cost = (cost - 2 * giou(corners[:, :, :, None], truth[None, :, None])[1]).cpu().numpy()
        real = (classes >= 0).sum(1).tolist()
        picks = [[linear_sum_assignment(cost[k, i, :, : real[i]]) for i in range(n)] for k in range(len(found))]
    layer = torch.cat([torch.full((len(q),), k) for k, row in enumerate(picks) for q, _ in row]).to(images.device)
    image = torch.cat([torch.full((len(q),), i) for row in picks for i, (q, _) in enumerate(row)]).to(images.device)
    query = torch.from_numpy(np.concatenate([q for row in picks for q, _ in row])).to(images.device)
    box = torch.from_numpy(np.concatenate([b for row in picks for _, b in row])).to(images.device)
    target = torch.zeros_like(logits)
    target[layer, image, query, classes[image, box]] = 1
    focus = (logits.sigmoid() - target).abs() ** 2 * torch.where(target > 0, 0.25, 0.75)
    count = max(sum(real), 1)
    classify = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus).sum() / count
    offset = (found[layer, image, query] - centred[image, box]).abs().sum() / count
    overlap = (1 - giou(corners[layer, image, query], truth[image, box])[1]).sum() / count
    loss: Tensor = 2 * classify + 5 * offset + 2 * overlap
    return loss


def detector(name: str, model: nn.Module, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train a detector on scenes; the mirror image of a digit is none, so colours alone are varied."""
    images, boxes, classes = (t.to(device) for t in drawn(given.data, "train", given.scenes, given.workers))
    model = model.to(device)
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    cost: Any = detector_loss if name == "detector" else detr_loss

    def loss(which: Tensor) -> Tensor:
        x = images[which].to(memory_format=torch.channels_last).float() / 255
        gain = torch.empty(len(x), 3, 1, 1, device=device).uniform_(0.8, 1.2)
        x = (x * gain + torch.empty_like(gain).uniform_(-0.1, 0.1)).clamp(0, 1)
        value: Tensor = cost(model, x, boxes[which], classes[which])
        return value

    return train(
        model, len(images), given.batch, given.seconds, 2e-3 if name == "detector" else 6e-4, 0.02, loss, device
    )


def classifier(name: str, model: nn.Module, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train a classifier: silhouettes for vit and convnext, single digits for conv1d, digit crops for the others."""
    data = provide(given.data)
    if name in ("vit", "convnext"):
        arrays = [data["animals_train"], data["animal_labels_train"], data["animals_test"], data["animal_labels_test"]]
    elif name == "conv1d":
        arrays = [data["digits_train"], data["labels_train"], data["digits_test"], data["labels_test"]]
    else:
        arrays = [*scenes.draw_crops(0, "train", given.crops, CROP), *scenes.draw_crops(0, "test", 2000, CROP)]
    x, y, test_x, test_y = (torch.from_numpy(np.asarray(a)).to(device) for a in arrays)
    model = model.to(device)
    gray = x.dim() == 3

    def ready(images: Tensor) -> Tensor:
        images = (images.float() - 127.5) / 127.5
        if name == "conv1d":
            return images
        return images[:, None] if gray else images.permute(0, 3, 1, 2)

    def loss(which: Tensor) -> Tensor:
        images = x[which]
        if gray:  # a shift of up to two pixels, another one for each part of the batch
            images = torch.cat([
                torch.roll(part, tuple(int(v) for v in torch.randint(-2, 3, (2,))), (1, 2)) for part in images.chunk(16)
            ])  # fmt: skip
        return F.cross_entropy(model(ready(images)).float(), y[which], label_smoothing=0.05)

    facts = train(model, len(x), 256, given.seconds, 1e-3, 0.05, loss, device)
    with torch.no_grad():
        right = torch.cat([model(ready(test_x[i : i + 500])).argmax(1) for i in range(0, len(test_x), 500)]) == test_y
    return {**facts, "top1": round(float(right.float().mean()), 4), "test_images": len(test_y)}


def build(name: str) -> nn.Module:
    """A network by its name, with seeded weights."""
    torch.manual_seed(0)
    if name == "swin":
        from torchvision.models.swin_transformer import SwinTransformer

        swin: nn.Module = SwinTransformer(
            [2, 2], 48, [2, 2, 4], [3, 6, 12], [4, 4], stochastic_depth_prob=0.05, num_classes=10
        )
        return swin
    makers: dict[str, Callable[[], nn.Module]] = {
        "detector": DigitDetector, "detr": SmallDetr, "vit": SmallViT, "convnext": SmallConvNeXt,
        "conv1d": Conv1dTransformer, "vit_tiny": lambda: SmallViT(64, 8, 3, 192, 12, 3),
    }  # fmt: skip
    return makers[name]()


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--only", nargs="+", default=["detector", "detr", "vit", "convnext", "conv1d", "vit_tiny", "swin"]
    )
    parser.add_argument("--collect", action="store_true", help="write OUT (an .npz) and stop")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--crops", type=int, default=30000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args()
    if given.collect:
        collect(given.out)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in given.only:
        model = build(name)
        facts = (detector if name in ("detector", "detr") else classifier)(name, model, given, device)
        torch.save({k: v.cpu().half() if v.is_floating_point() else v.cpu() for k, v in model.state_dict().items()},
                   given.out / f"{name}.pth")  # fmt: skip
        where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
        facts |= {"torch": torch.__version__, "device": where,
                  "parameters": sum(p.numel() for p in model.parameters())}  # fmt: skip
        (given.out / f"{name}.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        print(name, facts, flush=True)


if __name__ == "__main__":
    main()
