"""`quantbench ptq` on large models, end to end, with time and memory.

    python scripts/check_big_model.py FOLDER [--kind table|gemm|vit] [--gigabytes 2.1] [--images 64]

`table`: over 2 GB, which one protobuf message cannot hold: two convs, a pooling, and a table of weights that the
answers look up a row of; `gemm`: a Gemm of that size behind them, which is quantized; `vit`: the shape of ViT-B/16 with
random weights at 224 pixels, by default settings (wants torch). Checks that the Q/DQ model loads, runs in onnxruntime,
and agrees with the float one. FOLDER needs four times the size; what is written there is removed.
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
sys.path.insert(0, str(_ROOT))
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


def vit(folder: Path) -> Path:
    """model.onnx of a ViT-B/16 with random weights in `folder`: 86 million parameters, 343 MB."""
    import torch

    from scripts.networks import SmallViT

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = SmallViT(224, 16, channels=3, width=768, depth=12, heads=12, hidden=3072).eval()
    path = folder / "model.onnx"
    torch.onnx.export(
        network, (torch.randn(1, 3, 224, 224),), str(path), dynamo=False, opset_version=17, input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )  # fmt: skip
    return path


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("table", "gemm", "vit"), default="table")
    parser.add_argument("--gigabytes", type=float, default=2.1)
    parser.add_argument("--images", type=int, default=0, help="4, or 64 of the ViT")
    given = parser.parse_args()
    home, is_vit = given.folder / f"big-{given.kind}", given.kind == "vit"
    model = vit(home) if is_vit else big_model(home, given.kind, int(given.gigabytes * 1e9))
    shape = (given.images or (64 if is_vit else 4), 3, *((224, 224) if is_vit else (64, 64)))
    np.save(home / "images.npy", np.random.default_rng(1).normal(size=shape).astype(np.float32))
    command = [sys.executable, "-m", "quantbench", "ptq", str(model), "--calib-data", str(home / "images.npy"),
               "--out", str(home / "run"), "--no-compile"]  # fmt: skip
    if not is_vit:
        command += ["--batch-size", "2", "--calibrator", "minmax"]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=_ROOT, check=False)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss * 1024 / 1e9
    if done.returncode:
        sys.exit(f"quantbench ptq ended with {done.returncode} after {seconds:.0f} s, {peak:.1f} GB at most")
    again = time.perf_counter()
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    again = time.perf_counter() - again
    record = json.loads((home / "run" / "run.json").read_text(encoding="utf-8"))
    written = sum(path.stat().st_size for path in (home / "run").rglob("*") if path.is_file())
    onnx.checker.check_model(str(home / "run" / "model.qdq.onnx"))
    print(json.dumps({
        "kind": given.kind, "images": shape[0],
        "model_gb": round((model if is_vit else home / "bulk.bin").stat().st_size / 1e9, 2),
        "seconds": round(seconds, 1), "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "second_call_seconds": round(again, 1), "peak_gb": round(peak, 2),
        "run_folder_gb": round(written / 1e9, 2), "quantized": len(record["placement"]["quantized"]),
        "sqnr_db": record["evaluation"]["outputs"]["sqnr_db"],
    }, indent=2))  # fmt: skip
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
