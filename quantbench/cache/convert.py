"""Ranges to the bytes of any dialect that can be written."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quantbench.cache import (
    aimet,
    modelopt,
    onnxruntime_flatbuffers,
    onnxruntime_json,
    onnxruntime_text,
    quantbench_json,
    tensorrt,
)
from quantbench.cache.match import match, module_inputs
from quantbench.cache.model import CalibrationCache
from quantbench.cache.read import encode
from quantbench.calibration.ranges import INT8_MAX, Ranges, TensorRange
from quantbench.errors import QuantbenchError
from quantbench.graph.view import GraphView

_WRITERS: Mapping[str, Callable[[Ranges], bytes]] = {
    onnxruntime_json.DIALECT: lambda ranges: onnxruntime_json.render(ranges).encode(),
    onnxruntime_flatbuffers.DIALECT: onnxruntime_flatbuffers.render,
    onnxruntime_text.DIALECT: lambda ranges: onnxruntime_text.render(ranges).encode(),
    aimet.DIALECT: lambda ranges: aimet.render(ranges).encode(),
    modelopt.DIALECT: modelopt.render,
    quantbench_json.DIALECT: lambda ranges: quantbench_json.render(ranges).encode(),
}
WRITABLE = (tensorrt.DIALECT, *_WRITERS)


@dataclass(frozen=True, slots=True)
class Converted:
    """The bytes of the new file, and what of the old one is not in it: name to reason."""

    data: bytes
    written: int
    dropped: Mapping[str, str]


def convert(
    cache: CalibrationCache,
    to: str,
    *,
    view: GraphView | None = None,
    version: str = "",
    algorithm: str = "",
    drop_bad: bool = False,
    invert: bool = False,
) -> Converted:
    """Write `cache` in dialect `to`.

    With `view` names become those of the model's tensors (or, for ModelOpt, of its modules). `invert` turns 127/amax
    into amax/127. Without `drop_bad` a range that is negative, NaN or infinite is a QuantbenchError, as are ModelOpt
    without `view` and an unknown dialect.
    """
    if to not in WRITABLE:
        raise QuantbenchError(f"cannot write dialect {to!r}; known: {', '.join(WRITABLE)}")
    amax = {name: entry.amax for name, entry in cache.by_name.items()}
    if invert:
        amax = {name: INT8_MAX**2 / value if value else math.inf for name, value in amax.items()}
    dropped: dict[str, str] = {}
    if drop_bad:
        dropped = {n: f"amax {v}" for n, v in amax.items() if not math.isfinite(v) or v < 0}
        amax = {name: value for name, value in amax.items() if name not in dropped}
    if view is not None:
        amax = _renamed(cache, amax, view, dropped)
    elif to == modelopt.DIALECT and cache.dialect != modelopt.DIALECT:
        raise QuantbenchError("ModelOpt names torch modules: give the ONNX model that was exported from it (--model)")
    if to == modelopt.DIALECT and view is not None:
        amax = _to_modules(amax, view, dropped)
    _refuse_bad(amax)
    ranges = Ranges({name: TensorRange(value, cache.algorithm) for name, value in amax.items()})
    native = cache.dialect == tensorrt.DIALECT
    named = native or cache.algorithm in tensorrt.ALGORITHMS
    if to == tensorrt.DIALECT:
        text = tensorrt.render(
            ranges,
            version=version or (cache.version if native else tensorrt.DEFAULT_VERSION),
            algorithm=algorithm or (cache.algorithm if named else tensorrt.DEFAULT_ALGORITHM),
        )
        return Converted(encode(text), len(ranges), dropped)
    return Converted(_WRITERS[to](ranges), len(ranges), dropped)


def _renamed(
    cache: CalibrationCache, amax: Mapping[str, float], view: GraphView, dropped: dict[str, str]
) -> dict[str, float]:
    matching = match(cache, view)
    dropped.update({name: why for name, why in matching.unmatched.items() if name in amax})
    found: dict[str, float] = {}
    for pair in matching.matches:
        if pair.entry in amax:
            found[pair.tensor] = max(amax[pair.entry], found.get(pair.tensor, 0.0))
    return found


def _to_modules(amax: Mapping[str, float], view: GraphView, dropped: dict[str, str]) -> dict[str, float]:
    inputs = module_inputs(view)
    read = set(inputs.values())
    dropped.update({name: "no torch module reads this tensor" for name in amax if name not in read})
    return {f"{module}{modelopt.INPUT_QUANTIZER}": amax[t] for module, t in inputs.items() if t in amax}


def _refuse_bad(amax: Mapping[str, float]) -> None:
    bad = [name for name, value in amax.items() if not math.isfinite(value) or value < 0]
    if bad:
        raise QuantbenchError(
            f"{len(bad)} ranges are negative, NaN or infinite, the first is {bad[0]!r}; --drop-bad leaves them out "
            f"(those tensors then stay float)"
        )
