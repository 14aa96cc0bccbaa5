"""onnxruntime latency of the encodings of one INT8 model: FP32, S8S8 Q/DQ, U8S8, and U8S8 with integer activations.

Run: python scripts/bench_latency.py    ResNet-18 (random weights), batch 1, 224x224, interleaved, two placements.
"""

from collections.abc import Callable

import numpy as np
import onnx

from quantbench.calibration.collect import collect_maxima
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.demo import resnet18
from quantbench.evaluate.latency import interleaved
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.ptq.quantize import for_onnxruntime
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.reencode import to_u8_activations

THREADS = 2


def call(model: onnx.ModelProto, image: np.ndarray) -> Callable[[], object]:
    """One inference of `model` as a function."""
    session = create_session(model, threads=THREADS)
    return lambda: session.run(None, {resnet18.INPUT: image})


def main() -> None:
    """Print a table."""
    model = resnet18.build()
    images = np.random.default_rng(0).normal(size=(8, 3, 224, 224)).astype(np.float32)
    variants = {"FP32": model}
    for name, options in (
        ("TensorRT placement", PlacementOptions()),
        ("onnxruntime placement", PlacementOptions(add_both=True)),
    ):
        plan = place(view_of(model), options)
        maxima = collect_maxima(model, [{resnet18.INPUT: images}], plan.tensors)
        signed = insert_qdq(model, plan, Ranges({tensor: TensorRange(amax) for tensor, amax in maxima.items()}))
        variants[f"{name}, S8S8 Q/DQ"] = signed
        variants[f"{name}, U8S8 Q/DQ"] = to_u8_activations(signed)
        variants[f"{name}, U8S8, integer activations"] = for_onnxruntime(signed)
    found = interleaved(
        {name: call(variant, images[:1]) for name, variant in variants.items()},
        batch=1, threads=THREADS, seconds=60,
    )  # fmt: skip
    print("| model | median ms | p90 | p99 | times FP32 |\n|---|---|---|---|---|")
    base = found["FP32"].median_ms
    for name, t in found.items():
        print(f"| {name} | {t.median_ms:.2f} | {t.p90_ms:.2f} | {t.p99_ms:.2f} | {base / t.median_ms:.2f} |")


if __name__ == "__main__":
    main()
