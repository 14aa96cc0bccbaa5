"""What TensorRT-RTX makes of the exported model, with no GPU: built, its layers read and counted."""

import json
from pathlib import Path
from typing import Any

import onnx

from quantbench.atomic import write_bytes, write_json, write_text
from quantbench.engines import tensorrt_rtx
from quantbench.engines.base import BuildOptions
from quantbench.engines.shapes import Profile
from quantbench.errors import QuantbenchError
from quantbench.graph.to_fp16 import to_fp16
from quantbench.progress import Progress
from quantbench.ptq.compile_check import ENGINE, LAYERS, LOG, real_layers
from quantbench.ptq.quantize import save
from quantbench.ptq.traffic import compile_summary
from quantbench.qat.models import TorchModel
from quantbench.recipe import Compile


def compile_model(
    model: onnx.ModelProto, quantized: tuple[str, ...], weighted: tuple[str, ...], folder: Path, wanted: Compile,
    source: TorchModel, progress: Progress, *, required: bool,
) -> dict[str, Any] | None:  # fmt: skip
    """Build `model` for `wanted.target`; write engine, log and layers into `folder`; returns plain data.

    None, with a note, where TensorRT-RTX is not installed and not `required`. Raises QuantbenchError where it
    refuses the model.
    """
    try:
        tensorrt_rtx.load()
    except QuantbenchError as error:
        if required:
            raise
        progress.note(f"No compiler check: {error}")
        return None
    progress.note(f"Compiling with TensorRT-RTX for {wanted.target}")
    shape = (wanted.batch, *source.example.shape[1:])
    dynamic = isinstance(_batch(model), str)
    profiles = (Profile({source.input_name: (shape, shape, shape)}),) if dynamic else ()
    scratch = folder / ".quantbench" / "compile.onnx"
    save(to_fp16(model) if wanted.precision == "fp16" else model, scratch)
    built = tensorrt_rtx.build(scratch, BuildOptions(targets=(wanted.target,), profiles=profiles))
    scratch.unlink()
    layers = real_layers(built.log)
    write_text(folder / LOG, built.log)
    write_bytes(folder / ENGINE, built.engine)
    facts = {
        "backend": built.backend, "version": built.version, "target": wanted.target, "precision": wanted.precision,
        "seconds": round(built.seconds, 1), "engine_bytes": len(built.engine),
        "int8": compile_summary(layers, quantized, weighted),
    }  # fmt: skip
    write_json(folder / LAYERS, {**facts, "layers": [layer.to_json() for layer in layers]})
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _batch(model: onnx.ModelProto) -> int | str:
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    return first.dim_param if first.HasField("dim_param") else first.dim_value
