"""The layers of a fresh engine, and a file of them beside it, where `quantbench inspect` finds them."""

import json
from pathlib import Path

from quantbench.atomic import write_json
from quantbench.engines.base import BuildResult
from quantbench.engines.facts import ONNXRUNTIME, TENSORRT_RTX
from quantbench.inspection.layer_json import read_layer_info
from quantbench.inspection.logs.layer_line import read_rtx_layers
from quantbench.layers.layer import Layer


def layers_of(result: BuildResult) -> tuple[Layer, ...]:
    """What the engine consists of: TensorRT-RTX lists it in the build log, TensorRT tells it through its
    EngineInspector on the GPU that the engine was just built on; () for onnxruntime, which tells nothing.

    Raises QuantbenchError where the engine cannot be loaded, OSError where the log file is gone.
    """
    if result.backend == ONNXRUNTIME:
        return ()
    if result.backend == TENSORRT_RTX:
        return read_rtx_layers(result.log_lines())
    from quantbench.engines import tensorrt_load
    from quantbench.engines.device import open_device
    from quantbench.engines.tensorrt_layers import layer_information
    from quantbench.engines.tensorrt_session import LoadedEngine

    loaded = LoadedEngine(tensorrt_load.load(), result.engine, open_device(), plugins=result.plugins)
    return read_layer_info(json.loads(layer_information(loaded))).layers


def write_layers(result: BuildResult, path: Path) -> str | None:
    """Write the layers of the engine as JSON; returns the path, None where the backend tells of none."""
    layers = layers_of(result)
    if not layers:
        return None
    facts = {"backend": result.backend, "version": result.version, "targets": list(result.targets)}
    write_json(path, {**facts, "layers": [layer.to_json() for layer in layers]})
    return str(path)
