"""`quantbench ptq` on a model of over 2 GB, which one protobuf message cannot hold: end to end, with time and memory.

    python scripts/check_big_model.py FOLDER [--kind table|gemm] [--gigabytes 2.1]

`table`: two convs, a pooling, and a table of weights that the answers look up a row of; `gemm`: a Gemm of that size
behind them, which is quantized. Checks that the Q/DQ model loads, runs in onnxruntime, and agrees with the float one.
FOLDER needs four times the size; what is written there is removed.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_ROOT = Path(__file__).resolve().parents[1]
_ROW = 16_384


def big_model(folder: Path, kind: str, weight_bytes: int) -> Path:
    """model.onnx with external data in `folder`; the large weight is written row by row, never whole in memory."""
    rng = np.random.default_rng(0)
    rows = weight_bytes // (4 * _ROW)
    small = {"w1": (32, 3, 3, 3), "w2": (64, 32, 3, 3)}
    stored = [numpy_helper.from_array(rng.normal(0, 0.1, shape).astype(np.float32), n) for n, shape in small.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "conv2", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
    ]
    if kind == "gemm":
        # [n, 64, 16, 16] is exactly a row; the transposed weight [rows, 16384] is the bulk.
        stored.append(numpy_helper.from_array(rng.normal(0, 0.1, (rows, 10)).astype(np.float32), "w4"))
        nodes += [
            helper.make_node("Flatten", ["d"], ["e"], "flat"),
            helper.make_node("Gemm", ["e", "bulk"], ["f"], "big", transB=1),
            helper.make_node("Relu", ["f"], ["g"], "relu3"),
            helper.make_node("Gemm", ["g", "w4"], ["y"], "head"),
        ]
        width = 10
    else:
        nodes += [
            helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
            helper.make_node("Flatten", ["e"], ["f"], "flat"),
            helper.make_node("ArgMax", ["f"], ["g"], "argmax", axis=1, keepdims=0),
            helper.make_node("Gather", ["bulk", "g"], ["h"], "lookup"),
            helper.make_node("ReduceMean", ["f"], ["i"], "mean", axes=[1], keepdims=1),
            helper.make_node("Mul", ["h", "i"], ["y"], "scale"),
        ]
        width = _ROW
    bulk = TensorProto(name="bulk", data_type=TensorProto.FLOAT, dims=[rows, _ROW])
    bulk.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "bulk.bin"), ("offset", "0"), ("length", str(rows * _ROW * 4))):
        bulk.external_data.add(key=key, value=value)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "bulk.bin").open("wb") as stream:
        row: NDArray[np.float32] = rng.normal(0, 0.01, _ROW).astype(np.float32)
        for index in range(rows):
            stream.write((row * np.float32(1 + index / rows)).tobytes())
    graph = helper.make_graph(
        nodes, "big", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])], [*stored, bulk],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("table", "gemm"), default="table")
    parser.add_argument("--gigabytes", type=float, default=2.1)
    given = parser.parse_args()
    home = given.folder / f"big-{given.kind}"
    model = big_model(home, given.kind, int(given.gigabytes * 1e9))
    np.save(home / "images.npy", np.random.default_rng(1).normal(size=(4, 3, 64, 64)).astype(np.float32))
    command = [sys.executable, "-m", "quantbench", "ptq", str(model), "--calib-data", str(home / "images.npy"),
               "--out", str(home / "run"), "--no-compile", "--batch-size", "2", "--calibrator", "minmax"]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, cwd=_ROOT, check=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    if done.returncode:
        sys.exit(f"quantbench ptq ended with {done.returncode} after {seconds:.0f} s, {peak:.1f} GB at most")
    again = time.perf_counter()
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    again = time.perf_counter() - again
    record = json.loads((home / "run" / "run.json").read_text(encoding="utf-8"))
    written = sum(path.stat().st_size for path in (home / "run").rglob("*") if path.is_file())
    onnx.checker.check_model(str(home / "run" / "model.qdq.onnx"))
    print(json.dumps({
        "kind": given.kind, "model_gb": round((home / "bulk.bin").stat().st_size / 1e9, 2),
        "seconds": round(seconds, 1), "second_call_seconds": round(again, 1), "peak_gb": round(peak, 2),
        "run_folder_gb": round(written / 1e9, 2), "quantized": record["placement"]["quantized"],
        "sqnr_db": record["evaluation"]["outputs"]["sqnr_db"],
    }, indent=2))  # fmt: skip
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
