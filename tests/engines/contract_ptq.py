"""The compiler stage of `ptq` on TensorRT 10 and 11, against the real bindings: explicit and implicit.

Runs in a process that `tests.bindings` starts; prints what was called and what came out as JSON. Native objects are
replicas (tests/engines/replica.py), device memory is host memory, and the engine's inspector answers with the layers
of a real engine. What the adapter is given, the parser's file among it, is real.
"""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import onnx
import tensorrt

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.cli.requests import compile_request
from quantbench.compilation import compile_check as stage
from quantbench.compilation.compile_check import Subject, compile_check, order_of
from quantbench.compilation.request import check_request
from quantbench.demo import resnet18
from quantbench.engines import bench_model, build, device, load_engine, tensorrt_load
from quantbench.graph.onnx_view import view_of
from quantbench.progress import Progress
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from quantbench.recipe import Compile
from tests.engines.host_device import HostDevice
from tests.engines.replica import Contract

MAJOR = int(tensorrt.__version__.partition(".")[0])


class Given:
    """Names and modes in the order in which an engine is asked for them, again and again."""

    def __init__(self, *values: Any) -> None:
        self.values, self.at = values, -1

    def __call__(self) -> Any:
        self.at += 1
        return self.values[self.at % len(self.values)]


def contract(layers: str, seen: list[dict[str, int]]) -> Contract:
    def parse() -> bool:
        path = found.calls[-1][1][0]
        ops = [node.op_type for node in onnx.load(path).graph.node]
        seen.append({op: ops.count(op) for op in ("Conv", "QuantizeLinear", "Cast")})
        return True

    def layer_type() -> Any:
        return tensorrt.LayerType.QUANTIZE if seen[-1]["QuantizeLinear"] else tensorrt.LayerType.CONVOLUTION

    mode = tensorrt.TensorIOMode
    found = Contract(
        tensorrt,
        {
            "ITensor.name": "image", "ITensor.shape": (-1, 3, 64, 64), "ITensor.dtype": tensorrt.DataType.FLOAT,
            "ILayer.name": "conv0", "ILayer.type": layer_type,
            "IBuilderConfig.add_optimization_profile": 0, "Builder.build_serialized_network": b"engine",
            "ITimingCache.serialize": b"timings", "OnnxParser.parse_from_file": parse,
            "ICudaEngine.num_io_tensors": 2, "ICudaEngine.get_tensor_name": Given("image", "logits"),
            "ICudaEngine.get_tensor_mode": Given(mode.INPUT, mode.OUTPUT),
            "ICudaEngine.get_tensor_dtype": tensorrt.DataType.FLOAT, "ICudaEngine.get_tensor_shape": (-1, 2),
            "ICudaEngine.get_tensor_profile_shape": [(4, 2), (4, 2), (4, 2)],
            "IExecutionContext.get_tensor_shape": (4, 2), "IExecutionContext.active_optimization_profile": 0,
            "EngineInspector.get_engine_information": layers,
        },
    )  # fmt: skip
    return found


def run(folder: Path, layers: str, section: Compile) -> dict[str, Any]:
    seen: list[dict[str, int]] = []
    made = contract(layers, seen)
    tensorrt_load.load = lambda runtime="full": made.module()
    for module in (build, bench_model, load_engine):
        if hasattr(module, "gpu_present"):
            module.gpu_present = lambda: True
    build.builds_apart = lambda family, options: False  # the replicas are in this process
    device.open_device = HostDevice
    stage.BenchRequest = functools.partial(bench_model.BenchRequest, seconds=0.05, warm_up_seconds=0.0)
    plain = resnet18.build(width=8, size=64, classes=10)
    view = view_of(plain)
    plan = place(view)
    ranges = Ranges({name: TensorRange(4.0) for name in plan.tensors})
    weighted = tuple(site.node for site in plan.weights)
    subject = Subject(insert_qdq(plain, plan, ranges), plain, weighted, weighted, (("image", (-1, 3, 64, 64)),), ranges)
    wanted = compile_request(section)
    chosen = check_request(wanted)
    assert chosen is not None
    facts = compile_check(subject, folder, wanted, order_of(subject, wanted, chosen), Progress("none"))
    return {"facts": facts.model_dump(mode="json"), "calls": made.calls, "seen": seen, "ranges": len(ranges.tensors),
            "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())}  # fmt: skip


if __name__ == "__main__":
    out, layers_file = Path(sys.argv[1]), Path(sys.argv[2])
    text = layers_file.read_text()
    common = {"backend": "tensorrt", "precision": "fp16", "batch": 4, "timing_cache": out / "timings"}
    print(
        json.dumps(
            {
                "version": tensorrt.__version__,
                "explicit": run(out / "explicit", text, Compile(**common)),
                "implicit": run(out / "implicit", text, Compile(quantization="implicit", **common)),
            }
        )
    )
