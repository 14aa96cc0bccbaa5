"""Drive a Calibrator on the CPU as TensorRT 10 and older would on the GPU: cache first, else all its batches."""

from collections.abc import Sequence

import onnx

from quantbench.cache.tensorrt import parse, render
from quantbench.calibration.collect import Begin, collect, on_cpu
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibrator import CACHE_ALGORITHMS, Calibrator, feeds, threshold_of
from quantbench.errors import QuantbenchError


def calibrate_with(
    model: onnx.ModelProto, calibrator: Calibrator, tensors: Sequence[str], *, threads: int = 0, begin: Begin = on_cpu
) -> Ranges:
    """Ranges of `tensors` by `calibrator`, which gets the cache to write afterwards; `begin`: where they are counted.

    A cache that the calibrator reads replaces calibration, as in TensorRT; it must then hold all of `tensors`. Raises
    QuantbenchError for one that does not, one that is no cache, and batches that do not fit the model.
    """
    method = type(calibrator).__name__
    known = calibrator.read_calibration_cache()
    if known:
        return _from_cache(known, tensors, method)
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in constants]
    histograms = collect(model, feeds(calibrator, names), tensors, threads=threads, begin=begin)
    ranges = find_ranges(histograms, method, threshold_of(calibrator))
    text = render(ranges, algorithm=CACHE_ALGORITHMS[calibrator.get_algorithm()])
    calibrator.write_calibration_cache(text.encode("utf-8"))
    return ranges


def _from_cache(data: bytes, tensors: Sequence[str], method: str) -> Ranges:
    try:
        cache = parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise QuantbenchError(f"the calibration cache that {method} reads is not text: {error}") from error
    found = {entry.name: entry.amax for entry in cache.entries}
    missing = [name for name in tensors if name not in found]
    if missing:
        raise QuantbenchError(
            f"the calibration cache that {method} reads lacks {len(missing)} of {len(tensors)} tensors, first "
            f"{missing[0]!r}; it belongs to another model or an older export: delete it to calibrate anew"
        )
    return Ranges({name: TensorRange(found[name], f"cache of {method}") for name in tensors})
