"""Two processes against one: calibrated ranges bit for bit, and training that is killed and goes on.

    torchrun --nproc-per-node 2 scripts/qat_two_gpus.py ranges OUT --weights FILE
    python scripts/qat_two_gpus.py kill OUT --weights FILE --processes 2

NCCL with GPUs, gloo without. `kill` starts a training under torchrun, kills it (SIGKILL, the whole group) after its
first whole epoch, resumes it, and reports at which epoch it went on.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.scenes import SPLITS, SceneOptions, write_scenes
from quantbench.calibration.histogram import Histogram
from quantbench.qat import distributed
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import apply_ranges, collect, ranges_of
from quantbench.qat.options import TrainOptions
from quantbench.qat.quantizer import Mode, set_mode
from quantbench.qat.safe_load import load_checkpoint, quiet_ultralytics
from quantbench.qat.trace import trace
from quantbench.qat.train_yolo import YoloScenes, finetune_yolo
from quantbench.qat.training_state import LAST, Checkpoints
from quantbench.qat.vision import import_torchvision
from quantbench.qat.yolo import exporting, float_modules, yolo_model
from quantbench.qdq.options import PlacementOptions
from scripts.qat_measure import scene_batches


def quantized(weights: Path, device: torch.device) -> nn.Module:
    """The checkpoint's model with quantizers, uncalibrated."""
    model = yolo_model(load_checkpoint(weights)).to(device)
    with exporting(model):
        traced = trace(model, torch.rand(1, 3, 320, 320, device=device))
    insert(model, traced, plan_for(traced, PlacementOptions(), float_modules(model)))
    return model


def share_of(batches: list[Tensor]) -> list[Tensor]:
    """This process's whole batches."""
    return batches[dist.get_rank() :: dist.get_world_size()]


def compare_ranges(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Histograms and ranges of the group against those of this process alone over all batches."""
    torch.backends.cudnn.deterministic = True
    batches = list(scene_batches(given.scenes / "images/train", given.calibration, 16))
    model = quantized(given.weights, device)
    together = collect(model, lambda: share_of(batches))
    world = dist.get_world_size()
    dist.barrier()
    dist.destroy_process_group()
    alone = collect(model, lambda: batches)
    methods = ("minmax", "entropy", "percentile", "mse")
    return {
        "processes": world, "backend": "nccl" if device.type == "cuda" else "gloo", "tensors": len(alone),
        "batches": len(batches), "histograms_equal": _equal(together, alone),
        "ranges_equal": all(ranges_of(together, m).to_json() == ranges_of(alone, m).to_json() for m in methods),
    }  # fmt: skip


def _equal(a: dict[str, Histogram], b: dict[str, Histogram]) -> bool:
    return all(a[n].amax == b[n].amax and (a[n].counts == b[n].counts).all() for n in b)


def train(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Calibrate (in the group) and fine-tune."""
    model = quantized(given.weights, device)
    batches = list(scene_batches(given.scenes / "images/train", given.calibration, 16))
    apply_ranges(
        model, ranges_of(collect(model, lambda: share_of(batches) if dist.is_initialized() else batches), "mse")
    )
    set_mode(model, Mode.QUANTIZE)
    options = TrainOptions(epochs=given.epochs, batch=given.batch, rate=2e-3, workers=given.workers)
    reached = finetune_yolo(
        model, YoloScenes(given.scenes / "data.yaml", 320, {"fliplr": 0.0}),
        Checkpoints(given.out / "training", resume=given.resume), options,
        device=distributed.ultralytics_device(device),
    )  # fmt: skip
    return reached.model_dump(mode="json")


def kill_and_resume(given: argparse.Namespace) -> dict[str, Any]:
    """See the module's first lines."""
    state = given.out / "training" / LAST
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(given.processes)]
    if given.processes == 1:
        launch = [sys.executable]
    command = [*launch, __file__, "train", str(given.out), "--weights", str(given.weights), "--scenes",
               str(given.scenes), "--epochs", str(given.epochs), "--batch", str(given.batch), "--workers",
               str(given.workers), "--calibration", str(given.calibration)]  # fmt: skip
    first = subprocess.Popen(command)
    while not state.exists() and first.poll() is None:
        time.sleep(0.2)
    time.sleep(given.delay)
    # torchrun gives every worker a session of its own, so each process is killed by its number.
    psutil: Any = importlib.import_module("psutil")
    launcher = psutil.Process(first.pid)
    for process in (launcher, *launcher.children(recursive=True)):
        process.kill()
    first.wait()
    time.sleep(2.0)
    saved = torch.load(state, weights_only=True, map_location="cpu")["epoch"] + 1
    subprocess.run([*command, "--resume"], check=True)
    finished = json.loads((given.out / "train.json").read_text(encoding="utf-8"))
    return {"processes": given.processes, "epochs": given.epochs, "whole_epochs_at_kill": saved,
            "resumed_at_epoch": finished["started_at"] + 1, "history": finished["history"]}  # fmt: skip


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("ranges", "train", "kill"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, default=Path("/tmp/scenes"))
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--delay", type=float, default=1.0)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    quiet_ultralytics(trust=False)
    import_torchvision()
    given.out.mkdir(parents=True, exist_ok=True)
    first = distributed.is_first()
    if first and not (given.scenes / "data.yaml").exists():
        write_scenes(given.scenes, dict(zip(SPLITS, (2000, 500, 100), strict=True)), 0, SceneOptions(), 8)
    if given.what == "kill":
        report = kill_and_resume(given)
    else:
        with distributed.process_group():
            if dist.is_initialized():
                dist.barrier()
            device = distributed.device("")
            report = (compare_ranges if given.what == "ranges" else train)(given, device)
    if first:
        (given.out / f"{given.what}.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
