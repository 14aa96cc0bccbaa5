"""Our INT8 reference beside onnxruntime on random Q/DQ graphs: every integer of every quantized tensor, in steps.

    nice -n 10 python scripts/check_int8_reference.py --graphs 2000 --out docs/measured/reliability/int8_reference.json

Each graph runs twice in onnxruntime: as it stands, and with its graph optimizations, whose integer kernels are counted.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnx

from quantbench.evaluate.int8_agreement import int8_agreement
from quantbench.ort import session_options
from tests.evaluate.random_qdq import random_model


def main() -> None:
    """Counts by mode; exit code 1 where a tensor is off by more than one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.monotonic()
    found = {mode: Counter[str]() for mode in ("as it stands", "optimized")}
    kernels: Counter[str] = Counter()
    worst: list[str] = []
    for seed in range(given.seed, given.seed + given.graphs):
        model, feed = random_model(seed)
        kernels.update(integer_kernels(model))
        for mode, counts in found.items():
            agreement = int8_agreement(model, [feed], optimize=mode == "optimized", threads=1)
            counts.update(
                graphs=1, tensors=agreement.tensors, values=agreement.values, differing=agreement.differing,
                beyond_one_step=int(agreement.worst > 1),
            )  # fmt: skip
            if agreement.worst > 1:
                worst.append(f"seed {seed}, {mode}: {agreement.where} is off by {agreement.worst}")
    import onnxruntime

    data = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(time.monotonic() - start),
        "seed": given.seed, "python": platform.python_version(), "onnxruntime": onnxruntime.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **{mode: dict(counts) for mode, counts in found.items()},
        "integer kernels": dict(kernels.most_common()), "worst": worst,
    }  # fmt: skip
    print(json.dumps(data, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(worst))


def integer_kernels(model: onnx.ModelProto) -> Counter[str]:
    """How many nodes of each integer operator onnxruntime makes of `model`."""
    import onnxruntime

    options = session_options()
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/m.onnx"
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = onnx.load(options.optimized_model_filepath)
    found = (node.op_type for node in made.graph.node)
    return Counter(op for op in found if op.startswith("QLinear") or op in ("QGemm", "MatMulInteger"))


if __name__ == "__main__":
    main()
