"""New weights for a refittable engine: weights, biases and Q/DQ scales of the same network, without a rebuild."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantbench.engines.refuse_broken import refuse_broken_file
from quantbench.engines.tensorrt_session import LoadedEngine
from quantbench.errors import QuantbenchError


@dataclass(frozen=True, slots=True)
class Refitted:
    """What came of it: names of weights that were set, that the model lacks, and of constants that the engine does not
    let go (folded at build time, or not refittable)."""

    engine: bytes
    refitted: tuple[str, ...]
    missing: tuple[str, ...]
    kept: tuple[str, ...]


def refit(loaded: LoadedEngine, model: Path) -> Refitted:
    """Put the constants of `model` into `loaded` under their ONNX names, and serialize it.

    TensorRT 10 and newer read the ONNX with their own parser, which also finds the weights that it made up itself
    (transposed, of BatchNormalization); version 8 gets them by name. Raises QuantbenchError where the engine is not
    refittable, has other constants, or refuses.
    """
    trt = loaded.trt
    if not loaded.engine.refittable:
        raise QuantbenchError("the engine is not refittable; build it with quantbench build --refittable")
    refitter = trt.Refitter(loaded.engine, loaded.logger)
    refuse_broken_file(model)
    names = [name for name in refitter.get_all_weights() if name]
    constants = constants_of(model)
    if not set(names) & set(constants):
        raise QuantbenchError(
            f"none of the engine's {len(names)} refittable weights is in {model}: it is another network, or was "
            f"exported "
            "with other names"
        )
    if hasattr(trt, "OnnxParserRefitter"):
        parser = trt.OnnxParserRefitter(refitter, loaded.logger)
        if not parser.refit_from_file(str(model)):
            raise QuantbenchError(f"{loaded.title} cannot refit from {model}: {_parser_says(parser, loaded)}")
    else:
        for name in names:
            if name in constants and not refitter.set_named_weights(name, trt.Weights(_plain(constants[name]))):
                raise QuantbenchError(f"{loaded.title} refuses {name}: {loaded.reason()}")
    missing = tuple(name for name in refitter.get_missing_weights() if name)
    if missing:
        some = ", ".join(missing[:5])
        raise QuantbenchError(
            f"{model} lacks {len(missing)} weights that the engine wants together with others: {some}"
        )
    if not refitter.refit_cuda_engine():
        raise QuantbenchError(f"{loaded.title} could not refit the engine: {loaded.reason()}")
    done = tuple(name for name in names if name in constants)
    return Refitted(
        engine=bytes(memoryview(loaded.engine.serialize())),
        refitted=done,
        missing=tuple(name for name in names if name not in constants),
        kept=tuple(name for name in constants if name not in set(names)),
    )


def constants_of(model: Path) -> Mapping[str, NDArray[Any]]:
    """Initializers and Constant nodes of the ONNX file by name. Raises QuantbenchError where it cannot be read."""
    from quantbench.graph.load import read_model

    loaded: onnx.ModelProto = read_model(model)
    folder = str(model.parent)
    found = {t.name: numpy_helper.to_array(t, folder) for t in loaded.graph.initializer}
    for node in loaded.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is not None and node.output:
            found[node.output[0]] = numpy_helper.to_array(value, folder)
    return found


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Contiguous, and in a type that TensorRT takes weights in."""
    return np.ascontiguousarray(array.astype(np.float32) if array.dtype == np.float64 else array)


def _parser_says(parser: Any, loaded: LoadedEngine) -> str:
    errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    return " ".join(errors[0].split()) if errors else loaded.reason()
