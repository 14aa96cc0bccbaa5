"""Speed and memory of calibration: ours at 64 and 512 images, and onnxruntime's own calibrator at 16 and 64.

Run: python scripts/bench_calibration.py            (each case in a process of its own; about 5 minutes)
Peak RSS is that of the process, read from the kernel (ru_maxrss). EfficientNet-Lite0, 224x224, batch 8.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from quantbench.data.sources import dataset_source, feeds
from quantbench.demo import efficientnet_lite0
from quantbench.images.source import Source

BATCH = 8


def images(count: int) -> Source:
    """`count` seeded crops of the demo photos."""
    return dataset_source(f"photos?split=calibration&crops={count}", efficientnet_lite0.PREPROCESS)


def ours(count: int, method: str) -> int:
    """Two passes and the threshold search; returns the number of tensors."""
    from quantbench.calibration.collect import collect
    from quantbench.calibration.find_ranges import find_ranges
    from quantbench.calibration.thresholds import threshold_method
    from quantbench.graph.load import load_model
    from quantbench.graph.onnx_view import view_of
    from quantbench.qdq.place import place

    model = load_model(efficientnet_lite0.onnx_path())
    tensors = place(view_of(model)).tensors
    source = images(count)
    histograms = collect(model, feeds(source, efficientnet_lite0.INPUT, BATCH), tensors)
    return len(find_ranges(histograms, method, threshold_method(method)))


def theirs(count: int, method: str) -> int:
    """onnxruntime.quantization's calibrator on the same tensors."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    class Reader:
        def __init__(self) -> None:
            self.batches = iter(feeds(images(count), efficientnet_lite0.INPUT, BATCH))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.batches, None)

    kind = CalibrationMethod.Entropy if method == "entropy" else CalibrationMethod.MinMax
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            efficientnet_lite0.onnx_path(), None, str(Path(folder) / "augmented.onnx"), calibrate_method=kind
        )
        calibrator.collect_data(Reader())
        return len(calibrator.compute_data().data)


def main() -> None:
    """Run every case in its own process and print a table."""
    if len(sys.argv) > 1:
        who, count, method = sys.argv[1], int(sys.argv[2]), sys.argv[3]
        start = time.perf_counter()
        tensors = {"ours": ours, "theirs": theirs}[who](count, method)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.perf_counter() - start, "tensors": tensors, "peak_mb": peak}))
        return
    efficientnet_lite0.onnx_path()
    print("| who | method | images | tensors | seconds | images/s | peak RSS MB |\n|---|---|---|---|---|---|---|")
    cases = [("ours", 64), ("ours", 512), ("theirs", 16), ("theirs", 64)]
    for method in ("entropy", "minmax"):
        for who, count in cases:
            done = subprocess.run(
                [sys.executable, __file__, who, str(count), method], capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"| {who} | {method} | {count} | failed: exit {done.returncode} | | | |", flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            rate = count / found["seconds"]
            print(f"| {who} | {method} | {count} | {found['tensors']} | {found['seconds']:.1f} | {rate:.1f} | "
                  f"{found['peak_mb']:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
