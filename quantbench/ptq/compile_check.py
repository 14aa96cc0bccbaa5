"""The compiler stage: what TensorRT-RTX makes of the Q/DQ model, layer by layer, and of the float model beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from quantbench.atomic import write_bytes, write_json, write_text
from quantbench.engines import tensorrt_rtx
from quantbench.engines.base import BuildOptions
from quantbench.engines.shapes import Profile
from quantbench.graph.to_fp16 import to_fp16
from quantbench.inspection.layer import Layer
from quantbench.inspection.logs.layer_line import read_rtx_layers
from quantbench.ptq.quantize import QDQ_MODEL, save
from quantbench.ptq.traffic import compile_summary

LAYERS = "layers.json"
LOG = "build.log"
ENGINE = "model.engine"


def compile_check(
    model: onnx.ModelProto,
    quantized: tuple[str, ...],
    weighted: tuple[str, ...],
    folder: Path,
    *,
    target: str,
    precision: str,
    batch: int,
    input_name: str,
    input_shape: tuple[int, ...],
) -> dict[str, Any]:
    """Build model.qdq.onnx and, for comparison, the float `model`; write layers.json and build.log into `folder`.

    `quantized` and `weighted` are node names; `input_shape` without the batch axis. `precision`: "fp16" casts what
    stays float (and the whole float model) to FP16. Raises QuantbenchError where the compiler refuses the model.
    """
    shape = (batch, *input_shape)
    options = BuildOptions(targets=(target,), profiles=(Profile({input_name: (shape, shape, shape)}),))
    cast: Callable[[onnx.ModelProto], onnx.ModelProto] = to_fp16 if precision == "fp16" else lambda given: given
    scratch = folder / ".quantbench" / "compile.onnx"
    save(cast(onnx.load(str(folder / QDQ_MODEL))), scratch)
    built = tensorrt_rtx.build(scratch, options)
    layers = real_layers(built.log)
    save(cast(model), scratch)
    float_build = tensorrt_rtx.build(scratch, options)
    scratch.unlink()
    float_layers = real_layers(float_build.log)

    write_text(folder / LOG, built.log)
    write_bytes(folder / ENGINE, built.engine)
    result = {
        "backend": built.backend,
        "version": built.version,
        "target": target,
        "precision": precision,
        "shape": list(shape),
        "int8": compile_summary(layers, quantized, weighted) | {"engine_bytes": len(built.engine)},
        "float": compile_summary(float_layers, (), weighted) | {"engine_bytes": len(float_build.engine)},
    }
    write_json(folder / LAYERS, {**result, "layers": [layer.to_json() for layer in layers]})
    return result


def real_layers(log: str) -> tuple[Layer, ...]:
    """Layers of a build log that do work: without signal and wait."""
    return tuple(layer for layer in read_rtx_layers(log.split("\n")) if layer.type not in ("signal", "wait"))
