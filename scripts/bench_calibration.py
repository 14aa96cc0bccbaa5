"""What calibration costs on this CPU, against the forward pass it needs and against the peers, in one run.

    python scripts/bench_calibration.py OUT [--models resnet18 …] [--who floor …] [--images 64 512] [--threads 1 2]

Each figure is a process of its own, rounds interleaved, batches made beforehand (decoding is in no figure). Wall time
says what a user waits, CPU time holds on a machine that others use too. `floor` is one pass with the needed tensors as
outputs of a session that is made and warmed up beforehand; `pass` the same as quantbench runs it, with nothing counted
(in parts, in blocks of channels, without what follows from other tensors). Peers that are not installed are named.
Writes OUT/calibration-cpu.json.
"""

import argparse
import functools
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

WHO = (
    "plain", "floor", "pass", "quantbench", "quantbench-numpy", "ort-minmax", "ort-entropy",
    "modelopt-max", "modelopt-entropy",
)  # fmt: skip
MODELS = ("resnet18", "mobilenetv2", "lite0", "yolov8n")
# Batches that differ; more images repeat them, so that decoded images do not fill the memory that is measured.
DISTINCT = 8
BATCH = 8
# Batches after which onnxruntime takes no more memory: it lays it out anew after the first one of each shape.
WARMING = 4
Feeds = list[dict[str, Any]]


def build(name: str, folder: Path) -> Path:
    """The ONNX file of a model, made once. `yolov8n` is ultralytics' own export of the untrained network at 640."""
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    if name == "resnet18":
        from quantbench.demo import resnet18

        onnx.save(resnet18.build(), path)
    elif name == "lite0":
        from quantbench.demo import efficientnet_lite0

        onnx.save(onnx.load(efficientnet_lite0.onnx_path()), path)
    elif name == "mobilenetv2":
        import torch

        from quantbench.qat.vision import import_torchvision

        torch.onnx.export(
            import_torchvision().models.mobilenet_v2(weights=None).eval(), (torch.zeros(1, 3, 224, 224),), str(path),
            dynamo=False, opset_version=17, input_names=["image"], dynamic_axes={"image": {0: "batch"}},
        )  # fmt: skip
    elif name == "yolov8n":
        import torch

        from quantbench.qat.vision import import_torchvision

        import_torchvision()
        from ultralytics.nn.tasks import DetectionModel

        network: Any = DetectionModel("yolov8n.yaml", verbose=False).eval()
        network.fuse()
        network.model[-1].export = True
        torch.onnx.export(
            network, (torch.zeros(1, 3, 640, 640),), str(path), dynamo=False, opset_version=17,
            input_names=["images"], dynamic_axes={"images": {0: "batch"}},
        )  # fmt: skip
    else:
        path = Path(name)
    return path


def feeds_of(model: onnx.ModelProto, images: int) -> Feeds:
    """Seeded noise over a smooth field, in the model's own input shape."""
    value = model.graph.input[0]
    shape = [d.dim_value or 224 for d in value.type.tensor_type.shape.dim[1:]]
    rng = np.random.default_rng(0)
    found = []
    for start in range(0, min(images, BATCH * DISTINCT), BATCH):
        count = min(BATCH, images - start)
        smooth = rng.normal(size=(count, shape[0], -(-shape[1] // 16), -(-shape[2] // 16))).repeat(16, 2).repeat(16, 3)
        noisy = smooth[:, :, : shape[1], : shape[2]] + rng.normal(scale=0.2, size=(count, *shape))
        found.append({value.name: noisy.astype(np.float32)})
    return [found[number % len(found)] for number in range(-(-images // BATCH))]


def tensors_of(model: onnx.ModelProto) -> list[str]:
    """What quantbench calibrates: the plan's tensors and those of a TensorRT cache."""
    from quantbench.graph.onnx_view import view_of
    from quantbench.qdq.place import place
    from quantbench.qdq.tensors import calibrated_tensors

    view = view_of(model)
    return list(calibrated_tensors(view, place(view)))


def forward(path: Path, threads: int, who: str) -> Callable[[Feeds], Any]:
    """One pass over feeds; but for `plain` the needed tensors leave the session, as every calibration has them."""
    from quantbench.calibration.ort_outputs import InnerTensors
    from quantbench.calibration.parts import Parts
    from quantbench.calibration.same_values import sources
    from quantbench.ort import create_session

    model = onnx.load(path)
    if who == "plain":
        session = create_session(model, threads=threads)
        return lambda feeds: [session.run(None, feed) for feed in feeds]
    if who == "floor":
        runner = InnerTensors(model, tensors_of(model), threads=threads)
        return lambda feeds: [sum(1 for _ in runner.run(feed)) for feed in feeds]
    counted = sources(model, tensors_of(model)).counted
    ours, parts = InnerTensors(model, counted, threads=threads, free=counted), Parts(model, 1, threads)

    def run(feeds: Feeds) -> None:
        for part in (part for feed in feeds for part in parts.of(feed)):
            with ours.bound(part) as blocks:
                parts.saw(part, sum(block.nbytes for _, block, _ in blocks))

    return run


def quantbench(path: Path, feeds: Feeds, threads: int) -> Callable[[], Any]:
    """The one pass and the entropy search of every tensor."""
    from quantbench.calibration.collect import collect
    from quantbench.calibration.find_ranges import find_ranges
    from quantbench.calibration.thresholds import threshold_method

    model = onnx.load(path)
    tensors = tensors_of(model)
    entropy = threshold_method("entropy")

    def work() -> Any:
        counted = collect(model, feeds, tensors, threads=threads)
        return find_ranges(counted, "entropy", entropy)

    return work


class Reader:
    """A CalibrationDataReader of onnxruntime."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch."""
        return next(self._feeds, None)


def onnxruntime(path: Path, feeds: Feeds, method: str) -> Callable[[], Any]:
    """onnxruntime's own calibrators, over all operators, as its quantize_static does."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    kind = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy}[method]

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            calibrator = create_calibrator(path, None, str(Path(folder) / "augmented.onnx"), calibrate_method=kind)
            calibrator.collect_data(Reader(feeds))
            calibrator.compute_data()

    return work


def modelopt(path: Path, feeds: Feeds, method: str) -> Callable[[], Any]:
    """ModelOpt's ONNX quantization with its max or entropy calibrator; it places and writes Q/DQ besides."""
    from modelopt.onnx.quantization import quantize

    name = next(iter(feeds[0]))
    data = {name: np.concatenate([feed[name] for feed in feeds])}

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            quantize(
                str(path), calibration_data=data, calibration_method=method, calibration_eps=["cpu"],
                output_path=str(Path(folder) / "q.onnx"), high_precision_dtype="fp32",
            )  # fmt: skip

    return work


def one(who: str, path: Path, images: int, threads: int) -> dict[str, float]:
    """One figure, in this process."""
    feeds = feeds_of(onnx.load(path, load_external_data=False), images)
    work: Callable[[], Any]
    if who in ("plain", "floor", "pass"):
        run = forward(path, threads, who)
        run(feeds[:WARMING])
        work = functools.partial(run, feeds)
    elif who.startswith("quantbench"):
        work = quantbench(path, feeds, threads)
    elif who.startswith("ort-"):
        work = onnxruntime(path, feeds, who.removeprefix("ort-"))
    else:
        work = modelopt(path, feeds, who.removeprefix("modelopt-"))
    before, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - before,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def child(who: str, path: Path, images: int, threads: int, given: argparse.Namespace) -> dict[str, float] | str:
    """The same in a fresh process; the last line of its error where it fails."""
    command = [sys.executable, __file__, str(given.out), "--one", who, "--path", str(path),
               "--images", str(images), "--threads", str(threads)]  # fmt: skip
    environment = {**os.environ, "QUANTBENCH_NATIVE": "0" if who == "quantbench-numpy" else "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=given.timeout)
    except subprocess.TimeoutExpired:
        return f"over {given.timeout} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no output"])[-1]
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def summary(rounds: list[dict[str, float] | str], floor: dict[str, Any] | None) -> dict[str, Any] | str:
    """Medians over the rounds, and their ratio to the floor's."""
    good = [r for r in rounds if isinstance(r, dict)]
    if not good:
        return rounds[0] if isinstance(rounds[0], str) else "nothing"
    found: dict[str, Any] = {key: round(median(r[key] for r in good), 3) for key in good[0]}
    if floor:
        for key in ("seconds", "cpu_seconds", "peak_mb"):
            found[f"{key}_to_floor"] = round(found[key] / floor[key], 3)
    return found


def versions() -> dict[str, str]:
    """Of everything that is measured."""
    found = {}
    for name in ("quantbench", "numpy", "onnx", "onnxruntime", "nvidia-modelopt", "ultralytics"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "python": platform.python_version()}


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--who", nargs="+", choices=WHO, default=list(WHO))
    parser.add_argument("--images", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--threads", nargs="+", type=int, default=[0], help="0: as many as there are cores")
    parser.add_argument("--folder", type=Path, help="where models are made and kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one figure")
    parser.add_argument("--one", choices=WHO, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.path, given.images[0], given.threads[0])))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    flags = next((line for line in info.splitlines() if line.startswith("flags")), "").split()
    report: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]), "date": time.strftime("%Y-%m-%d"), "versions": versions(),
        "cpu": next((line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), ""),
        "cpu_flags": sorted(f for f in flags if f.startswith(("avx", "f16c", "amx"))), "cores": os.cpu_count(),
        "load_before": os.getloadavg(), "batch": BATCH, "models": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.models:
            path, found = build(name, folder), report["models"].setdefault(Path(name).stem, {})
            for images, threads in itertools.product(given.images, given.threads):
                found[f"{images} images, {threads} threads"] = table(path, images, threads, given)
                report["load_after"] = os.getloadavg()
                (given.out / "calibration-cpu.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
            print(name, json.dumps(found, indent=1), flush=True)


def table(path: Path, images: int, threads: int, given: argparse.Namespace) -> dict[str, Any]:
    """Everyone's medians on one model, rounds interleaved."""
    rounds: dict[str, list[dict[str, float] | str]] = {who: [] for who in given.who}
    for number in range(given.rounds):
        for who in given.who:
            # Peers are an order of magnitude slower: once is enough to see it.
            if number == 0 or not who.startswith(("ort", "modelopt")):
                rounds[who].append(child(who, path, images, threads, given))
    floor = summary(rounds.get("floor", ["not measured"]), None)
    known = floor if isinstance(floor, dict) else None
    return {who: summary(results, known) for who, results in rounds.items()}


if __name__ == "__main__":
    main()
