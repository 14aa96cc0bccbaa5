"""Time one training step of YOLOv8n on a GPU: float, quantbench's fake quantization, and ModelOpt's, in one run.

    python scripts/qat_step_time.py OUT --batch 128 --size 320

All take the same batch, AMP (bf16), channels-last layout, loss (ultralytics') and optimizer; rounds are interleaved
and the median of the steps is reported. Batch norms: "train" as in float training, "frozen" as quantbench trains.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import calibrate
from quantbench.qat.quantizer import activation_quantizers
from quantbench.qat.safe_load import load_checkpoint, quiet_ultralytics
from quantbench.qat.trace import trace
from quantbench.qat.training_state import hold_batch_norms
from quantbench.qat.vision import import_torchvision
from quantbench.qat.yolo import exporting, float_modules, yolo_model
from quantbench.qdq.options import PlacementOptions


def targets(batch: int, size: int, device: torch.device) -> dict[str, Tensor]:
    """A batch as ultralytics' loss wants it: random pixels, four boxes an image."""
    g = torch.Generator().manual_seed(0)
    count = 4 * batch
    data = {
        "img": torch.rand(batch, 3, size, size, generator=g),
        "cls": torch.randint(0, 10, (count, 1), generator=g).float(),
        "bboxes": torch.rand(count, 4, generator=g) * 0.3 + 0.2,
        "batch_idx": torch.arange(batch).repeat_interleave(4).float(),
    }
    data["img"] = data["img"].contiguous(memory_format=torch.channels_last)
    return {k: v.to(device) for k, v in data.items()}


def ours(model: nn.Module, size: int, learned: bool) -> nn.Module:
    """quantbench's quantizers by the Plan, calibrated."""
    example = torch.rand(8, 3, size, size, device=next(model.parameters()).device)
    with exporting(model):
        traced = trace(model, example)
    insert(model, traced, plan_for(traced, PlacementOptions(), float_modules(model)), learned=learned)
    calibrate(model, lambda: [example], "minmax")
    return model


def modelopt(model: nn.Module, size: int, head_float: bool) -> nn.Module:
    """ModelOpt's INT8 default, calibrated (maximum)."""
    import modelopt.torch.quantization as mtq

    example = torch.rand(8, 3, size, size, device=next(model.parameters()).device)
    config: dict[str, Any] = copy.deepcopy(mtq.INT8_DEFAULT_CFG)
    if head_float:
        name = f"*{float_modules(model)[0]}.*"
        if isinstance(config["quant_cfg"], list):
            config["quant_cfg"].append({"quantizer_name": name, "enable": False})
        else:
            config["quant_cfg"][name] = {"enable": False}
    quantized: nn.Module = mtq.quantize(model, config, lambda m: m(example))
    return quantized


def stepper(model: nn.Module, data: dict[str, Tensor], frozen: bool) -> Callable[[], None]:
    """One training step."""
    loose: Any = model
    loose.to(memory_format=torch.channels_last)
    loose.criterion = None
    model.train()
    if frozen:
        hold_batch_norms(model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6, momentum=0.9)
    kind = data["img"].device.type

    def step() -> None:
        with torch.autocast(kind, torch.bfloat16):
            loss, _ = model(data)
        torch.autograd.backward(loss.sum())
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(variants: dict[str, Callable[[], None]], rounds: int, steps: int, cuda: bool) -> dict[str, list[float]]:
    """Milliseconds of every step of every variant, rounds interleaved."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for step in variants.values():
        for _ in range(min(steps, 5)):
            step()
    for _ in range(rounds):
        for name, step in variants.items():
            step()
            for _ in range(steps):
                if cuda:
                    torch.cuda.synchronize()
                start = time.perf_counter()
                step()
                if cuda:
                    torch.cuda.synchronize()
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--no-modelopt", action="store_true")
    given = parser.parse_args()
    quiet_ultralytics(trust=False)
    import_torchvision()
    from ultralytics.utils import DEFAULT_CFG

    cuda = torch.cuda.is_available()
    device = torch.device("cuda:0" if cuda else "cpu")
    torch.backends.cudnn.benchmark = True
    base = yolo_model(load_checkpoint(given.weights)).to(device)
    loose: Any = base
    loose.args = DEFAULT_CFG
    data = targets(given.batch, given.size, device)
    models: dict[str, tuple[nn.Module, bool]] = {"float, norms train": (copy.deepcopy(base), False)}
    models["float, norms frozen"] = (copy.deepcopy(base), True)
    # What quantbench does besides: an in-place SiLU copies its input in training.
    apart = copy.deepcopy(base)
    for module in apart.modules():
        if isinstance(module, nn.SiLU):
            module.inplace = False
    models["float, norms train, SiLU not in place"] = (apart, False)
    quantized = ours(copy.deepcopy(base), given.size, False)
    models["quantbench, norms train"] = (copy.deepcopy(quantized), False)
    models["quantbench, norms frozen"] = (quantized, True)
    models["quantbench LSQ, norms frozen"] = (ours(copy.deepcopy(base), given.size, True), True)
    if not given.no_modelopt:
        models["modelopt head float, norms train"] = (modelopt(copy.deepcopy(base), given.size, True), False)
        models["modelopt head float, norms frozen"] = (modelopt(copy.deepcopy(base), given.size, True), True)
        models["modelopt default, norms train"] = (modelopt(copy.deepcopy(base), given.size, False), False)
    steps = {name: stepper(model, data, frozen) for name, (model, frozen) in models.items()}
    times = measure(steps, given.rounds, given.steps, cuda)
    medians = {name: statistics.median(values) for name, values in times.items()}
    baseline = medians["float, norms train"]
    report = {
        "device": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__, "batch": given.batch,
        "size": given.size, "amp": "bf16", "steps": given.rounds * given.steps,
        "quantizers": len(activation_quantizers(quantized)),
        "median_ms": medians, "to_float": {name: value / baseline for name, value in medians.items()},
        "quartiles_ms": {n: statistics.quantiles(v, n=4) for n, v in times.items()},
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"step-time-{given.batch}x{given.size}.json").write_text(
        json.dumps(report, indent=2), encoding="utf-8"
    )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
