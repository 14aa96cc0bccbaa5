"""What the processes of test_processes.py do (started by torchrun, or alone)."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from quantbench.compilation.request import CompileRequest
from quantbench.progress import Progress
from quantbench.ptq.pipeline import run_ptq
from quantbench.ptq.ranks import group
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.ptq.share import count_share
from quantbench.qat import distributed
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import calibrate
from quantbench.qat.options import TrainOptions
from quantbench.qat.pipeline import run_qat_export
from quantbench.qat.trace import trace
from quantbench.qat.train_classifier import finetune_classifier, shares
from quantbench.qat.training_state import Checkpoints
from quantbench.qdq.options import PlacementOptions
from tests.qat import networks, small_run


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(96) % 10
    x = torch.rand(96, 3, 32, 32, generator=generator) * 0.3
    x[torch.arange(96), y % 3, 3 * (y // 3)] += 0.7  # the class shows as a bright line
    return x, y


def _calibrated() -> tuple[nn.Module, dict[str, object]]:
    model = networks.residual()
    x, _ = _data()
    traced = trace(model, x[:1])
    insert(model, traced, plan_for(traced, PlacementOptions()))
    batches = [x[i : i + 16] for i in range(0, 96, 16)]
    if dist.is_initialized():
        batches = batches[dist.get_rank() :: dist.get_world_size()]
    return model, calibrate(model, lambda: batches, "entropy").to_json()


def _train(out: Path, epochs: int, resume: bool) -> dict[str, object]:
    model, _ = _calibrated()
    x, y = _data()

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        time.sleep(float(os.environ.get("QAT_SLOW", "0")))
        for which in shares(96, 32, epoch, 0):
            yield x[which], y[which]

    def accuracy(module: nn.Module) -> float:
        with torch.no_grad():
            return float((module(x).argmax(1) == y).float().mean())

    options = TrainOptions(epochs=epochs, batch=32, rate=0.01, patience=99)
    result = finetune_classifier(model, batches, 3, accuracy, Checkpoints(out / "training", resume=resume), options)
    checksum = sum(float(p.detach().double().sum()) for p in model.parameters())
    return {**result.model_dump(), "checksum": checksum}


def ranges(path: Path) -> None:
    """Write the ranges that all processes of the group find together."""
    found = _calibrated()[1]
    if distributed.is_first():
        path.write_text(json.dumps(found), encoding="utf-8")


def train(folder: Path, epochs: int, *, resume: bool = False) -> None:
    """Train with the processes of the group; each writes what it comes to."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    (folder / f"rank{rank}.json").write_text(json.dumps(_train(folder, epochs, resume)), encoding="utf-8")


def ptq(folder: Path) -> None:
    """What `quantbench ptq` does in a process of torchrun's: the first makes the run, the others count their share."""
    own = group()
    assert own is not None
    request = PtqRequest(
        ModelChoice(str(folder / "m.onnx")), DataChoice(folder / "data"), calibrator="minmax", batch_size=1, threads=1,
        compile=CompileRequest("none"), latency=False, out=folder / "run",
    )  # fmt: skip
    if own.rank:
        count_share(request, own, Progress("lines"), overwrite=False, refresh=False)
    else:
        run_ptq(request, Progress("none"))


def main() -> None:
    """train FOLDER EPOCHS, or all FOLDER, which holds the data of a run in home, and of one of ptq in ptq: ranges, a
    training, a whole run of each."""
    torch.set_num_threads(1)
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "train":
        train(folder, int(sys.argv[3]))
        return
    with distributed.process_group():
        ranges(folder / "ranges.json")
        train(folder, 2)
        run_qat_export(small_run.request(folder / "home", folder / "run"), Progress("none"))
    ptq(folder / "ptq")


if __name__ == "__main__":
    main()
