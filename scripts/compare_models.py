"""Trained networks in INT8 by quantbench, onnxruntime and ModelOpt, on held-out data.

Run: python scripts/compare_models.py OUT [--only NAME …] [--images 32] [--assets DIR], then the same with --table for
the Markdown of docs/accuracy.md. OUT gets one JSON a network, written after each tool: what is there is not done again.
Needs nvidia-modelopt (base install) for its rows; what is missing is left out and said.

All models run in sessions of `quantbench.ort`, ours and the peers': without VNNI onnxruntime would else saturate.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

import quantbench
from quantbench.atomic import write_json
from quantbench.calibration.ort_outputs import runner, static_batch
from quantbench.evaluate.evaluator import Evaluation
from quantbench.evaluate.outputs import compare_outputs, measures_of
from quantbench.evaluate.task import facts_of
from quantbench.graph.load import load_model
from quantbench.graph.ops import WEIGHTED
from quantbench.ort import create_session
from scripts.compared_networks import Case, Images, asked_for, made, parser_of

OURS = ("auto", "minmax", "mse", "mse-scaled")
PEERS = ("onnxruntime", "modelopt-max", "modelopt-entropy")
_SHOWN = ("agreement", "boxes_kept", "top1_change", "map_change")
_MODELOPT = """
import sys, numpy, modelopt.onnx.quantization as moq
source, data, method, target = sys.argv[1:]
moq.quantize(source, quantize_mode="int8", calibration_data=numpy.load(data), calibration_method=method,
             calibration_eps=["cpu"], high_precision_dtype="fp32", output_path=target)
"""


class _Reader:
    def __init__(self, name: str, images: Images) -> None:
        self._rest = [{name: image[None]} for image in images[::-1]]

    def get_next(self) -> dict[str, Images] | None:
        """Next image, None at the end."""
        return self._rest.pop() if self._rest else None


def by_onnxruntime(source: Path, images: Images, target: Path) -> None:
    """S8S8 Q/DQ, weights per channel, symmetric, with the options of onnxruntime's own TensorRT example."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        source, target, _Reader(onnx.load(source).graph.input[0].name, images), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                       "DedicatedQDQPair": True, "AddQDQPairToWeight": True},
    )  # fmt: skip


def by_modelopt(source: Path, images: Images, method: str, target: Path) -> None:
    """In a process of its own: ModelOpt changes global state."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "images.npy"
        np.save(data, images)
        command = [sys.executable, "-c", _MODELOPT, str(source), str(data), method, str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode < 0:
        raise RuntimeError(f"ended by signal {-done.returncode}{', for memory it seems' * (done.returncode == -9)}")
    if done.returncode or not target.exists():
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1][:200])


def by_quantbench(case: Case, target: Path, *, method: str) -> str:
    """The public function; what auto took. `-scaled`: with equalization and SmoothQuant where they help, as the default
    has them."""
    method, _, scaled = method.partition("-")
    channels: Literal["auto", "off"] = "auto" if scaled or method == "auto" else "off"
    batches = batches_of(case, load_model(case.path))
    found = quantbench.quantize(case.path, batches, calibrator=method, equalize=channels, smooth=channels, threads=1)
    # As the peers' models are: explicit S8 Q/DQ.
    onnx.save(found.model, target)
    folded = " and ".join(found.folded.taken) if found.folded is not None else ""
    if scaled:
        return folded or "as it is"
    return " and ".join(filter(None, (found.judged.taken if found.judged is not None else method, folded)))


def int8_layers(path: Path) -> tuple[int, int]:
    """Weighted layers whose activation and weight come out of DQ, and all of them."""
    graph = load_model(path).graph
    dequantized: set[str] = set()
    for node in graph.node:  # a model of FP16 weights has a Cast behind their DQ
        if node.op_type == "DequantizeLinear" or (node.op_type == "Cast" and node.input[0] in dequantized):
            dequantized.update(node.output)
    weighted = [node for node in graph.node if node.op_type in WEIGHTED]
    return sum(set(node.input[:2]) <= dequantized for node in weighted), len(weighted)


def batches_of(case: Case, model: onnx.ModelProto) -> list[dict[str, Images]]:
    """Calibration data of `case` as `model` takes them."""
    name, size = model.graph.input[0].name, static_batch(model) or case.batch
    return [{name: case.calibration[i : i + size]} for i in range(0, len(case.calibration), size)]


def compared(case: Case, other: Path | onnx.ModelProto, *, threads: int = 1) -> Evaluation:
    """`other` against the float model on the held-out data."""
    model = load_model(case.path)
    fixed, name = static_batch(model), model.graph.input[0].name
    size = fixed or case.batch
    labels = list(case.labels) if case.labels is not None else [None] * len(case.held_out)
    batches = (({name: case.held_out[i : i + size]}, labels[i : i + size]) for i in range(0, len(labels), size))
    outputs = [value.name for value in model.graph.output]
    run = [runner(create_session(m, threads=threads), fixed) for m in (model, other)]
    return compare_outputs(run[0], run[1], batches, facts=facts_of(model), outputs=outputs)


def measured(case: Case, path: Path) -> dict[str, Any]:
    """SQNR of the worst output and the task's measures of the model at `path` against the float one."""
    return {key: asdict(value) for key, value in measures_of(compared(case, path)).items()}


def rows(case: Case, folder: Path, known: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(tool, what it came to) of each tool that is not `known`."""
    plain = folder / "float.onnx"  # its weights in FP32 and constants folded, which the peers need to find them
    onnx.save(load_model(case.path), plain)
    tools: dict[str, Callable[[Path], str | None]] = {name: partial(by_quantbench, case, method=name) for name in OURS}
    tools["onnxruntime"] = partial(by_onnxruntime, plain, case.calibration)
    for method in ("max", "entropy"):
        tools[f"modelopt-{method}"] = partial(by_modelopt, plain, case.calibration, method)
    for tool, make in tools.items():
        if tool in known:
            continue
        target, start, used = folder / f"{tool}.onnx", time.monotonic(), time.process_time()
        try:
            taken = make(target)
            seconds, processor = time.monotonic() - start, time.process_time() - used
            int8, weighted = int8_layers(target)
            yield tool, {
                "int8": int8, "weighted": weighted, "seconds": round(seconds, 1),
                "processor_seconds": round(processor, 1), "taken": taken, **measured(case, target),
            }  # fmt: skip
        except Exception as error:  # a tool that fails on a network is a result
            yield tool, {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def table(out: Path) -> Iterator[str]:
    """The Markdown rows of all networks that are measured."""
    yield ("| network | held out | auto (takes) | minmax | mse | mse, scaled (takes) | onnxruntime S8 | ModelOpt max | "
           "ModelOpt entropy |")  # fmt: skip
    yield "|---|---|---|---|---|---|---|---|---|"
    for file in sorted(out.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        cells = [_cell(found["tools"].get(tool, {"failed": "not run"}), tool) for tool in (*OURS, *PEERS)]
        yield f"| {file.stem} | {found['held_out']} | {' | '.join(cells)} |"


def _cell(row: Mapping[str, Any], tool: str) -> str:
    if "failed" in row:
        return f"fails: {row['failed'][:40]}"
    sqnr = f"{row['sqnr_db']['value']:.1f}" if "sqnr_db" in row else "-"
    task = [f"{100 * row[key]['value']:.1f} %" if "change" not in key else f"{100 * row[key]['value']:+.1f} pt"
            for key in _SHOWN if key in row]  # fmt: skip
    taken = f" {row['taken']}" if tool in ("auto", "mse-scaled") else ""
    return f"{sqnr} ({row['int8']}/{row['weighted']}){taken}{', ' if task else ''}{', '.join(task)}"


def main() -> None:
    """See the module."""
    parser = parser_of(__doc__)
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.out)))
        return
    for name, make, file in asked_for(given):
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"tools": {}}
        if {*OURS, *PEERS} <= set(found["tools"]):
            continue
        case = made(name, make)
        if case is None:
            continue
        found |= {"images": len(case.calibration), "held_out": len(case.held_out), "machine": platform.processor(),
                  "date": time.strftime("%Y-%m-%d"), "onnxruntime": __import__("onnxruntime").__version__}  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            for tool, row in rows(case, Path(folder), found["tools"]):
                found["tools"][tool] = row
                write_json(file, found)
                print(f"{name} {tool}: {row.get('failed') or _cell(row, tool)}", flush=True)


if __name__ == "__main__":
    main()
