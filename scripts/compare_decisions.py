"""What one would ship: trained networks in FP32, FP16 and INT8 by four ways, each with its accuracy and its cost.

Run: python -m scripts.compare_decisions OUT [--only NAME …] [--images 32] [--assets DIR] [--models DIR], then with
--table for the Markdown of docs/decisions-compared.md. OUT gets one JSON a network, written after each variant: what is
there is not done again. Networks, data and peers are those of scripts/compare_models.py; --models keeps the models, and
takes those that are there. scripts/compare_traffic.py builds their engines.

`tuned` is `quantbench tune --effort full` with the goal of beating the better peer by half a decibel, calibrated and
judged on the calibration images. The accuracy columns are of held-out data. Predicted
times are of the engine (GPU compute, batch 1); onnxruntime's are medians of interleaved calls, one thread.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantbench.atomic import write_json
from quantbench.engines.bench_many import ManyRequest, bench_many
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.to_fp16 import to_fp16
from quantbench.latency.device_file import find_device
from quantbench.latency.network import network_of
from quantbench.predict.simulate import predict_model
from scripts.compare_models import by_modelopt, by_onnxruntime, by_quantbench, int8_layers, measured
from scripts.compared_networks import Case, asked_for, parser_of

DEVICES = ("a100", "orin")
VARIANTS = ("FP32", "FP16", "onnxruntime", "ModelOpt", "quantbench", "tuned")
# Below a network's folder.
TUNED = "tuned/model.qdq.onnx"
_TASK = ("agreement", "boxes_kept", "top1_change", "map_change")
# How far `tuned` has to be ahead of the better peer, in dB.
_AHEAD = 0.5


@dataclass(frozen=True, slots=True)
class Made:
    """A variant: `runs` is what onnxruntime runs, `built` what an engine is built of; `plain`: no Q/DQ in it; `found`:
    it was there."""

    runs: Path
    built: Path
    plain: bool = False
    found: bool = False


def make(variant: str, case: Case, folder: Path, peers: Mapping[str, float]) -> Made:
    """Quantize `case` in one way, or take what `folder` has. Raises RuntimeError with the tool's last words."""
    target = folder / (f"{variant}.onnx" if variant != "tuned" else TUNED)
    if variant == "FP32":
        return Made(case.path, case.path, plain=True)
    if target.exists():
        return Made(target, case.path if variant == "FP16" else target, plain=variant == "FP16", found=True)
    if variant == "FP16":
        onnx.save(to_fp16(load_model(case.path)), target)
        return Made(target, case.path, plain=True)
    if variant == "onnxruntime":
        by_onnxruntime(case.path, case.calibration, target)
    elif variant == "ModelOpt":
        by_modelopt(case.path, case.calibration, "max", target)
    elif variant == "quantbench":
        by_quantbench(case, target, method="mse")
    else:
        _tuned(case, folder, max(peers.values(), default=20.0) + _AHEAD)
    return Made(target, target)


def plain(case: Case, folder: Path) -> Case:
    """`case` with its weights in FP32, constants folded and all sizes but the batch fixed: what the peers need to find
    weights, and what the prediction needs to know sizes."""
    model = load_model(case.path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(list(dims)[1:], case.calibration.shape[1:], strict=True):
        dim.dim_value = size
    path = folder / "float.onnx"
    onnx.save(model, path)
    return replace(case, path=path)


@contextmanager
def kept_folder(models: Path | None, name: str) -> Iterator[Path]:
    """Folder of a network's models: below `models`, or one that goes away."""
    if models is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _tuned(case: Case, folder: Path, goal: float) -> None:
    data, out = folder / "calibration.npy", folder / "tuned"
    np.save(data, case.calibration)
    command = [
        sys.executable, "-m", "quantbench", "tune", str(case.path), "--data", str(data), "--min-sqnr", f"{goal:.2f}",
        "--effort", "full", "--threads", "1", "--out", str(out),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode not in (0, 3):  # 3: nothing meets the goal; the best found is there
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1][:200])


def accuracy(case: Case, made: Made) -> dict[str, Any]:
    """SQNR of the worst output in dB and the task's measures, with intervals, on held-out data.

    In a process of its own: onnxruntime 1.30 dies of some FP16 models on processors with AMX.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, case, made.runs).result()


def predicted(made: Made, precision: str) -> dict[str, float]:
    """Milliseconds on each device as the latency model has them."""
    model = load_model(made.built)
    view = view_of(model)
    network = network_of(view, predict_model(model, view=view, fp16=True))
    times = {name: network.on(find_device(name), 1, (precision,)).times[precision] for name in DEVICES}
    return {name: round(time.compute.ms, 4) for name, time in times.items()}


def figures(variant: str, case: Case, folder: Path, peers: Mapping[str, float]) -> tuple[dict[str, Any], Path]:
    """Everything that is known of a variant but onnxruntime's time, and the file to take that of."""
    start = time.monotonic()
    made = make(variant, case, folder, peers)
    seconds = time.monotonic() - start
    row: dict[str, Any] = {"ms": predicted(made, variant if made.plain else "INT8")}
    if not made.found:
        row["seconds"] = round(seconds, 1)
    if variant != "FP32":
        try:
            row |= accuracy(case, made)
        except BrokenProcessPool:
            row["accuracy_failed"] = "onnxruntime died"
    if not made.plain:
        row["int8"], row["weighted"] = int8_layers(made.built)
    return row, made.runs


def timed(files: Mapping[str, Path]) -> dict[str, float]:
    """Median milliseconds of a call in onnxruntime, batch 1, one thread, the models taking turns."""
    request = ManyRequest(batches=(1,), seconds=4.0, least_rounds=15, threads=1)
    return {c.model: round(c.median, 3) for c in bench_many(list(files.values()), list(files), request).contestants}


def compare(name: str, maker: Callable[[], Case], file: Path, models: Path | None) -> None:
    """Fill the JSON of one network with what it lacks; models are kept below `models` where that is given."""
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"variants": {}}
    rows = found["variants"]
    if set(VARIANTS) <= set(rows) and "ort_ms" in found:
        return
    given = maker()
    found |= {"calibrated_on": len(given.calibration), "held_out": len(given.held_out), "machine": platform.processor(),
              "date": time.strftime("%Y-%m-%d")}  # fmt: skip
    files: dict[str, Path] = {}
    with kept_folder(models, name) as folder:
        case = plain(given, folder)
        for variant in VARIANTS:
            peers = {
                p: rows[p]["sqnr_db"]["value"] for p in ("onnxruntime", "ModelOpt") if "sqnr_db" in rows.get(p, {})
            }
            try:
                rows[variant], files[variant] = figures(variant, case, folder, peers)
            except Exception as error:  # a tool that fails on a network is a result
                rows[variant] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            write_json(file, found)
            print(f"{name} {variant}: {_cell(rows[variant], None)}", flush=True)
        found["ort_ms"] = timed({name: path for name, path in files.items() if "accuracy_failed" not in rows[name]})
    write_json(file, found)


def table(out: Path) -> Iterator[str]:
    """Markdown: one network a row, one variant a column."""
    yield "| network | " + " | ".join(VARIANTS) + " |"
    yield "|---" * (len(VARIANTS) + 1) + "|"
    for file in sorted(out.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        cells = [
            _cell(found["variants"].get(v, {"failed": "not run"}), found.get("ort_ms", {}).get(v)) for v in VARIANTS
        ]
        yield f"| {file.stem} ({found['held_out']}) | " + " | ".join(cells) + " |"


def _cell(row: Mapping[str, Any], ort_ms: float | None) -> str:
    if "failed" in row:
        return f"fails: {row['failed'][:60]}"
    lines = []
    if "sqnr_db" in row:
        lines.append(f"**{row['sqnr_db']['value']:.1f} dB**")
    for key in _TASK:
        if key in row:
            measure = row[key]
            low, high = (100 * measure.get(k, measure["value"]) for k in ("low", "high"))
            unit = "%" if "change" not in key else "pt"
            lines.append(f"{100 * measure['value']:.1f} ({low:.1f} to {high:.1f}) {unit}")
    lines.append(" / ".join(f"{row['ms'][d]:.3g}" for d in DEVICES) + " ms")
    if ort_ms is not None:
        lines.append(f"{ort_ms:.1f} ms on the CPU")
    if "int8" in row:
        lines.append(f"{row['int8']} of {row['weighted']} INT8")
    if "seconds" in row:
        lines.append(f"{row['seconds'] / 60:.1f} min")
    return "<br>".join(lines)


def main() -> None:
    """See the module."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--models", type=Path, help="folder to keep the models in, and to take those from that are there"
    )
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.out)))
        return
    for name, maker, file in asked_for(given):
        try:
            compare(name, maker, file, given.models)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}", flush=True)


if __name__ == "__main__":
    main()
