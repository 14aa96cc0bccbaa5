"""Calibration of ONNX networks on a device: what it costs over the forward pass, and whether its counts are right.

Part `onnx` of bench_calibration_gpu.py. On the CPU, which needs no card, the same work says whether it runs at all.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import torch

from quantbench.calibration.collect import collect
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ort_outputs import Feed, static_batch
from quantbench.calibration.parts import Parts
from quantbench.calibration.same_values import representatives
from quantbench.calibration.sweep import Counter
from quantbench.demo import efficientnet_lite0, resnet18
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.to_fp16 import to_fp16
from quantbench.qat.cards import card, room
from quantbench.qat.device_collector import torch_counter
from quantbench.qat.device_tensors import DeviceTensors
from quantbench.qdq.place import place
from quantbench.qdq.tensors import calibrated_tensors

# Batches that are made; they are fed again and again.
_DISTINCT = 4
_ROUNDS = 5
_COMPARED = 2


def cases(images: int, batch: int, wanted: str) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Name and work of each network; `wanted`: cpu or cuda. Raises QuantbenchError where the card cannot be used."""
    device = card(0) if wanted == "cuda" else torch.device(wanted)
    networks: dict[str, Callable[[], onnx.ModelProto]] = {
        "resnet18": resnet18.build,
        "resnet18, FP16": lambda: to_fp16(resnet18.build()),
        "efficientnet-lite0": lambda: load_model(efficientnet_lite0.onnx_path()),
    }
    for name, build in networks.items():
        yield name, lambda build=build: one(build(), images, batch, device)  # type: ignore[misc]


def one(model: onnx.ModelProto, images: int, batch: int, device: torch.device) -> dict[str, Any]:
    """Medians of seconds over all images, rounds interleaved: `plain`, the outputs of the model alone; `floor`, all
    tensors as outputs, not counted; `quantbench`, session and all; `warm`, the same without making the session, as the
    first two are. And how many tensors have the CPU sweep's histogram of the same activations."""
    view = view_of(model)
    tensors = list(calibrated_tensors(view, place(view)))
    feeds = feeds_of(model, images, batch)
    outputs = [value.name for value in model.graph.output]
    runners = {"plain": DeviceTensors(model, outputs, device), "floor": DeviceTensors(model, tensors, device)}
    # Kept from round to round: the first image alone and what follows are shapes that a card is planned for anew.
    split = {name: Parts(model, most=room(device)) for name in runners}
    collector = torch_counter(device)(model, tensors, 0)

    def run(name: str) -> None:
        parts, runner = split[name], runners[name]
        with runner.in_stream():
            for feed in feeds:
                for part in parts.of(feed):
                    parts.saw(part, sum(x.nbytes for _, x in runner.run(part)))

    def warm() -> None:
        for feed in feeds:
            collector.add(feed)
        collector.histograms()

    works: dict[str, Callable[[], object]] = {
        "plain": lambda: run("plain"),
        "floor": lambda: run("floor"),
        "warm": warm,
        "quantbench": lambda: collect(model, feeds, tensors, begin=torch_counter(device)),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(_ROUNDS + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                times[name].append(time.perf_counter() - start)
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "tensors": len(tensors), "seconds": seconds, "warm_to_floor": seconds["warm"] / seconds["floor"],
        "warm_to_plain": seconds["warm"] / seconds["plain"], **same(model, tensors, feeds, device),
    }  # fmt: skip


def same(model: onnx.ModelProto, tensors: list[str], feeds: list[Feed], device: torch.device) -> dict[str, int]:
    """Histograms counted on the device, and by the CPU's sweep of the same activations, fetched from there."""
    names = tuple(dict.fromkeys(representatives(model, tensors).values()))
    runner, host = DeviceTensors(model, names, device), Counter(len(names))
    begun = {
        kind: torch_counter(device, compiled=kind == "kernel")(model, names, 0) for kind in ("kernel", "operators")
    }
    rows = {name: row for row, name in enumerate(names)}
    parts = Parts(model, most=room(device))
    for feed in feeds[:_COMPARED]:
        for counts in begun.values():
            counts.add(feed)
        with runner.in_stream():
            for part in parts.of(feed):
                found = runner.run(part)
                parts.saw(part, sum(x.nbytes for _, x in found))
                for name, x in found:
                    host.add_array(rows[name], x.cpu().numpy())
    result = {"compared": len(names)}
    for kind, counts in begun.items():
        got = counts.histograms()
        known = {name: host.histogram(row) for name, row in rows.items()}
        result[f"{kind}_same"] = sum(equal(got[name], right) for name, right in known.items())
    return result


def equal(one: Histogram, other: Histogram) -> bool:
    """Whether they are the same, every bit."""
    return np.array_equal(one.counts, other.counts) and (one.amax, one.exponent) == (other.amax, other.exponent)


def feeds_of(model: onnx.ModelProto, images: int, batch: int) -> list[Feed]:
    """Seeded noise over a smooth field, of the model's own input shape, few batches fed again and again."""
    value = model.graph.input[0]
    batch = static_batch(model) or batch
    channels, height, width = (dim.dim_value or 224 for dim in value.type.tensor_type.shape.dim[1:])
    rng = np.random.default_rng(0)
    made: list[Feed] = []
    for _ in range(min(_DISTINCT, -(-images // batch))):
        smooth = rng.normal(size=(batch, channels, -(-height // 16), -(-width // 16))).repeat(16, 2).repeat(16, 3)
        noisy = smooth[:, :, :height, :width] + rng.normal(scale=0.2, size=(batch, channels, height, width))
        made.append({value.name: noisy.astype(np.float32)})
    return [made[number % len(made)] for number in range(-(-images // batch))]
