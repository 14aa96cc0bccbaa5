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
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets import scenes
from scripts.attention_networks import DigitDetr, DigitSwin
from scripts.networks import BINS, STRIDES, Conv1dTransformer, DigitDetector, SmallConvNeXt, SmallViT

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
    kept = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    average = [v.detach().clone() for v in kept.values()]
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
                torch._foreach_lerp_(average, list(kept.values()), 1 - keep)
            if share >= 1:
                break
        last = float(value.detach())
        if steps < 5000 or steps % 10 == 0:
            print(type(model).__name__, steps, round(last, 4), flush=True)
    model.load_state_dict(dict(zip(kept, average, strict=True)), strict=False)
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


Chosen = tuple[Tensor, Tensor, Tensor]  # image, query and box of each pair, [n] each


def one_to_one(cost: Tensor, real: list[int]) -> list[Chosen]:
    """The pairs of least cost [L, N, Q, M] by the Hungarian method, of each of L layers; image i has real[i] boxes."""
    from scipy.optimize import linear_sum_assignment

    found = []
    for layer in cost.cpu().numpy():
        picks = [linear_sum_assignment(layer[i, :, :count]) for i, count in enumerate(real)]
        image = np.repeat(np.arange(len(real)), [len(q) for q, _ in picks])
        arrays = (image, *(np.concatenate(part) for part in zip(*picks, strict=True)))
        query: Any = [torch.from_numpy(a).to(cost.device) for a in arrays]
        found.append((query[0], query[1], query[2]))
    return found


def one_to_many(cost: Tensor, classes: Tensor, each: int = 4) -> Chosen:
    """The `each` cheapest tokens of each box, cost [N, T, M]; a token that several want goes to the cheapest."""
    value, token = cost.topk(each, 1, largest=False)  # [N, each, M]
    taken = torch.full_like(cost, 1e9).scatter_(1, token, value)
    best, box = taken.masked_fill((classes < 0)[:, None], 1e9).min(2)
    image, token = (best < 1e8).nonzero(as_tuple=True)
    return image, token, box[image, token]


def detr_loss(model: DigitDetr, images: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Focal loss on classes, L1 and GIoU on boxes: of every decoder layer one query a box (Hungarian matching), of the
    encoder's tokens the four best a box."""
    layers = [(box.float(), logits.float()) for box, logits in model(images)]
    truth = boxes / images.shape[-1]
    centred = torch.cat([(truth[..., :2] + truth[..., 2:]) / 2, truth[..., 2:] - truth[..., :2]], -1)
    real = (classes >= 0).sum(1)
    with torch.no_grad():
        costs = [pair_costs(box, logits, truth, centred, classes) for box, logits in layers]
        chosen = one_to_one(torch.stack(costs[:-1]), real.tolist())
        chosen.append(one_to_many(costs[-1], classes))
    losses = []
    for (box, logits), (image, query, which) in zip(layers, chosen, strict=True):
        count = max(len(image), 1)
        target = torch.zeros_like(logits)
        target[image, query, classes[image, which]] = 1
        focus = (logits.sigmoid() - target).abs() ** 2 * torch.where(target > 0, 0.25, 0.75)
        classify = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus).sum() / count
        own = box[image, query]
        offset = (own - centred[image, which]).abs().sum() / count
        overlap = (1 - giou(corners(own), truth[image, which])[1]).sum() / count
        losses.append(2 * classify + 5 * offset + 2 * overlap)
    return torch.stack(losses).sum()


def corners(box: Tensor) -> Tensor:
    """Centre and sides [..., 4] to corners."""
    return torch.cat([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def pair_costs(box: Tensor, logits: Tensor, truth: Tensor, centred: Tensor, classes: Tensor) -> Tensor:
    """What each query would cost for each box, [N, Q, M], by the weights of the loss."""
    p = logits.sigmoid()
    gain = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log() - 0.75 * p**2 * -(1 - p + 1e-8).log()
    cost = 2 * gain.gather(-1, classes.clamp(min=0)[:, None].expand(-1, box.shape[1], -1))
    cost = cost + 5 * (box[:, :, None] - centred[:, None]).abs().sum(-1)
    return cost - 2 * giou(corners(box)[:, :, None], truth[:, None])[1]


def moved(images: Tensor, boxes: Tensor, classes: Tensor, most: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """A batch moved by up to `most` pixels, its edges repeated; a box of which under 70 % stays is none."""
    right, down = (int(v) for v in torch.randint(-most, most + 1, (2,)))
    size = images.shape[-1]
    wide = F.pad(images, (most,) * 4, mode="replicate")
    images = wide[..., most - down : most - down + size, most - right : most - right + size]
    offset = torch.tensor([right, down, right, down], device=boxes.device, dtype=boxes.dtype)
    there = (boxes + offset).clamp(0, size)
    areas = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (there, boxes)]
    return images, there, torch.where(areas[0] > 0.7 * areas[1], classes, -torch.ones_like(classes))


def detector(name: str, model: nn.Module, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train a detector on scenes; the mirror image of a digit is none, so colours alone are varied."""
    images, boxes, classes = (t.to(device) for t in drawn(given.data, "train", given.scenes, given.workers))
    model = model.to(device)
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)

    def loss(which: Tensor) -> Tensor:
        x = images[which].to(memory_format=torch.channels_last).float() / 255
        gain = torch.empty(len(x), 3, 1, 1, device=device).uniform_(0.8, 1.2)
        x = (x * gain + torch.empty_like(gain).uniform_(-0.1, 0.1)).clamp(0, 1)
        own = (boxes[which], classes[which])
        if name == "detector":
            value: Tensor = detector_loss(cast(DigitDetector, model), x, *own)
            return value
        x = x[:, torch.randperm(3, device=device)]
        return detr_loss(cast(DigitDetr, model), *moved(x, *own))

    rate = 2e-3 if name == "detector" else 1e-3
    facts = train(model, len(images), given.batch, given.seconds, rate, 0.02, loss, device)
    return facts | ({} if name == "detector" else detr_scores(cast(DigitDetr, model), given, device))


def detr_scores(model: DigitDetr, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """mAP50-95 on the first 256 test scenes."""
    from quantbench.evaluate.boxes import detections
    from quantbench.evaluate.mean_ap import match, mean_ap
    from quantbench.evaluate.task import Task
    from quantbench.images.truth import Truth

    images, boxes, classes = drawn(given.data, "test", 256, given.workers)
    outputs = []
    with torch.no_grad():
        for part in torch.split(images, 32):
            outputs.append([value.float().cpu().numpy() for value in model(part.to(device).float() / 255)])
    task = Task("boxes", "detr-sigmoid", (0, 1), 10)
    found = [box for output in outputs for box in detections(output, task, (320, 320))]
    truths = [Truth(b[c >= 0].double().numpy(), c[c >= 0].numpy()) for b, c in zip(boxes, classes, strict=True)]
    return {"map50_95": round(mean_ap(match(found, truths, 10)), 4), "test_images": len(truths)}


def classifier(name: str, model: nn.Module, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train a classifier: silhouettes for vit and convnext, single digits for conv1d, digit crops for the others."""
    data = provide(given.data)
    if name in ("vit", "convnext"):
        arrays = [data["animals_train"], data["animal_labels_train"], data["animals_test"], data["animal_labels_test"]]
    elif name == "conv1d":
        arrays = [data["digits_train"], data["labels_train"], data["digits_test"], data["labels_test"]]
    else:
        arrays = [array for split, count in (("train", given.crops), ("test", 2000))
                  for array in scenes.draw_crops(0, split, count, CROP, given.workers)]  # fmt: skip
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
    makers: dict[str, Callable[[], nn.Module]] = {
        "detector": DigitDetector, "detr": DigitDetr, "vit": SmallViT, "convnext": SmallConvNeXt,
        "conv1d": Conv1dTransformer, "swin": DigitSwin,
    }  # fmt: skip
    return makers[name]()


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=["detector", "detr", "vit", "convnext", "conv1d", "swin"])
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
