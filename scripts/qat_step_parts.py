"""What a training step of YOLOv8n is made of: its time, the card's and the host's share, float against quantized.

    python scripts/qat_step_parts.py OUT [--weights yolov8n.pt] [--against CHECKOUT] [--sizes 64x640 128x320]

Float, fake quantization and LSQ (norms held), bf16, channels-last, steps of `qat_step_time.py`; with `--against` those
of another checkout of quantbench too, in a process of its own on the same card, in turns. `wall`: median of a step;
`host`: until its last launch; `card`: sum of its kernels' time (torch.profiler). Without `--weights` they are random.
First it is checked, on a card, that the kernels' numbers are those of torch's operators.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

# The version to time: that of this script, or in a process of its own another one.
sys.path.insert(0, os.environ.get("QUANTBENCH_TIMED") or str(Path(__file__).resolve().parent.parent))

from quantbench.qat.safe_load import load_checkpoint, quiet_ultralytics
from quantbench.qat.vision import import_torchvision
from quantbench.qat.yolo import yolo_model
from scripts.qat_step_time import ours, stepper, targets

VARIANTS = ("float", "fake", "lsq")


def base_model(weights: str) -> nn.Module:
    """YOLOv8n on the device, from a checkpoint or with random weights."""
    quiet_ultralytics(trust=False)
    import_torchvision()
    try:
        import cv2  # noqa: F401
    except ImportError:
        # ultralytics imports it to read pictures, of which there are none here.
        empty: Any = ModuleType("cv2")
        empty.__getattr__ = lambda name: (lambda *given: None) if name.islower() or name.startswith("set") else 0
        empty.__version__ = "0"
        sys.modules["cv2"] = empty
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import DEFAULT_CFG

    torch.manual_seed(0)
    if weights:
        model = yolo_model(load_checkpoint(Path(weights)))
    else:
        model = DetectionModel("yolov8n.yaml", verbose=False).float()
    loose: Any = model.to("cuda" if torch.cuda.is_available() else "cpu")
    loose.args = DEFAULT_CFG
    return model


class Worker:
    """The variants of one version, in this process."""

    def __init__(self, weights: str) -> None:
        torch.backends.cudnn.benchmark = True
        torch.set_num_threads(int(os.environ.get("THREADS", "4")))
        self.weights = weights
        self.steps: dict[str, Callable[[], None]] = {}
        self.cuda = torch.cuda.is_available()

    def load(self, batch: int, size: int) -> None:
        """Make the models anew for batches of this size, and warm them up."""
        self.steps.clear()
        if self.cuda:
            torch.cuda.empty_cache()
        data = targets(batch, size, torch.device("cuda:0" if self.cuda else "cpu"))
        for name in VARIANTS:
            model = base_model(self.weights)
            if name != "float":
                model = ours(model, size, name == "lsq")
            self.steps[name] = stepper(model, data, name != "float")
        for step in self.steps.values():
            for _ in range(4):
                step()
            self._leave()

    def time(self, name: str, steps: int) -> list[tuple[float, float]]:
        """(wall, host) milliseconds of each of `steps` steps."""
        step, found = self.steps[name], []
        for _ in range(2):
            step()
        for _ in range(steps):
            self._wait()
            start = time.perf_counter()
            step()
            launched = time.perf_counter()
            self._wait()
            found.append(((time.perf_counter() - start) * 1e3, (launched - start) * 1e3))
        self._leave()
        return found

    def profile(self, name: str) -> dict[str, Any]:
        """Milliseconds of the card a step, kernels and waits a step, the longest kernels, and operators a step."""
        from torch.profiler import ProfilerActivity, profile

        steps, step = 3, self.steps[name]
        step()
        self._wait()
        with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.cuda else [])]) as found:
            for _ in range(steps):
                step()
            self._wait()
        self._leave()
        events = list(found.key_averages())
        kernels = [(e.self_device_time_total / 1e3 / steps, e.count / steps, e.key) for e in events
                   if str(e.device_type).endswith("CUDA")]  # fmt: skip
        kernels = [k for k in kernels if k[0] > 0 and not k[2].startswith(("aten::", "ProfilerStep"))]
        counts = {e.key: e.count / steps for e in events}
        waits = sum(n for key, n in counts.items() if key in ("cudaStreamSynchronize", "cudaDeviceSynchronize"))
        return {
            "card_ms": sum(k[0] for k in kernels), "kernels": sum(k[1] for k in kernels), "waits": waits,
            "operators": sum(n for key, n in counts.items() if key.startswith("aten::")),
            "items": counts.get("aten::item", 0),
            "nodes": sum(n for key, n in counts.items() if key.startswith("autograd::engine")),
            "longest": [(round(ms, 3), n, key[:110]) for ms, n, key in sorted(kernels, reverse=True)[:15]],
        }  # fmt: skip

    def _leave(self) -> None:
        """Give memory back: the card is shared with the other version's process."""
        if self.cuda:
            torch.cuda.empty_cache()

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def serve(weights: str) -> None:
    """Do what comes in line by line: [method, arguments]; answer in a line each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    worker = Worker(weights)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        answers.write(json.dumps(getattr(worker, method)(*arguments)) + "\n")
        answers.flush()


class Process:
    """A worker in a process of its own, of the package at `root`."""

    def __init__(self, root: Path, weights: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, __file__, "-", "--serve", "--weights", weights], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, "QUANTBENCH_TIMED": str(root)},
        )  # fmt: skip

    def ask(self, *request: Any) -> Any:
        """Have `request` done and return its answer."""
        self.send(*request)
        return self.answer()

    def send(self, *request: Any) -> None:
        """Ask without waiting."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()

    def answer(self) -> Any:
        """The answer to the last request."""
        assert self.child.stdout is not None
        return json.loads(self.child.stdout.readline())


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["64x640", "128x320", "2x64"])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    if given.serve:
        serve(given.weights)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parent.parent
    processes = {"now": Process(root, given.weights)}
    if given.against:
        processes["before"] = Process(given.against.resolve(), given.weights)
    if torch.cuda.is_available():
        from scripts.qat_kernel_check import check

        check()
    for size in given.sizes:
        batch, side = map(int, size.split("x"))
        for process in processes.values():
            process.ask("load", batch, side)
        report(size, processes, given.rounds, given.steps, given.out)


def report(size: str, processes: dict[str, Process], rounds: int, steps: int, out: Path) -> None:
    """Time, profile, print and keep one size."""
    which = [(version, name) for name in VARIANTS for version in processes]
    times: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in which}
    for turn in range(rounds):
        for version, name in which if turn % 2 == 0 else which[::-1]:
            times[version, name] += processes[version].ask("time", name, steps)
    found: dict[str, Any] = {}
    floor = statistics.median(wall for wall, _ in times["now", "float"])
    print(
        f"\n{size}, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'}, torch {torch.__version__}"
    )
    for version, name in which:
        walls, hosts = zip(*times[version, name], strict=True)
        profiled = processes[version].ask("profile", name)
        wall, quartiles = statistics.median(walls), statistics.quantiles(walls, n=4)
        found[f"{name}, {version}"] = {
            "wall_ms": wall, "quartiles": quartiles, "host_ms": statistics.median(hosts), "to_float": wall / floor,
            **profiled,
        }  # fmt: skip
        print(
            f"{name:6}{version:7} wall {wall:6.1f} ms ({quartiles[0]:.1f} to {quartiles[2]:.1f})  "
            f"{wall / floor:.2f} x  host {statistics.median(hosts):6.1f}  card {profiled['card_ms']:6.1f}  kernels "
            f"{profiled['kernels']:5.0f}  waits {profiled['waits']:4.0f}  items {profiled['items']:4.0f}  operators "
            f"{profiled['operators']:6.0f}  nodes {profiled['nodes']:5.0f}"
        )
    for name in VARIANTS:
        print(f"  longest, {name}:", *(f"{ms:7.3f} ms {n:5.1f} x {key}" for ms, n, key in
              found[f"{name}, now"]["longest"][: 15 if size != "2x64" else 5]), sep="\n    ")  # fmt: skip
    (out / f"step-parts-{size}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
