"""The two passes of calibration: absolute maxima first, then histograms up to those maxima.

Because the range of every histogram is final before counting starts, the result depends neither on the order of the
images nor on how they are split among processes: maxima merge by max, histograms by addition of integers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx

from quantbench.calibration.histogram import Histogram, add, empty, merge
from quantbench.calibration.ort_outputs import Feed, InnerTensors
from quantbench.errors import QuantbenchError

# Called after each batch with the number of images in it.
OnBatch = Callable[[int], None]


def collect_maxima(
    model: onnx.ModelProto,
    feeds: Iterable[Feed],
    tensors: Sequence[str],
    *,
    threads: int = 0,
    on_batch: OnBatch | None = None,
) -> dict[str, float]:
    """Pass one: largest |x| of each tensor over all `feeds` (float32 values as floats).

    Raises QuantbenchError where there is no batch at all, or a tensor overflows to infinity or NaN.
    """
    runner = InnerTensors(model, tensors, maxima=True, threads=threads)
    maxima = dict.fromkeys(tensors, 0.0)
    seen = False
    for feed in feeds:
        seen = True
        for name, value in runner.run(feed):
            maxima[name] = _larger(maxima[name], float(value), name)
        if on_batch:
            on_batch(_count(feed))
    if not seen:
        raise QuantbenchError("no calibration images; give a folder with images (--calib-dir)")
    return maxima


def collect_histograms(
    model: onnx.ModelProto,
    feeds: Iterable[Feed],
    maxima: Mapping[str, float],
    *,
    threads: int = 0,
    on_batch: OnBatch | None = None,
) -> dict[str, Histogram]:
    """Pass two: histogram of |x| of each tensor of `maxima`. One batch of activations is alive at a time.

    Raises QuantbenchError where a tensor holds NaN.
    """
    runner = InnerTensors(model, tuple(maxima), threads=threads)
    histograms = {name: empty(amax) for name, amax in maxima.items()}
    for feed in feeds:
        for name, values in runner.run(feed):
            add(histograms[name], np.asarray(values, np.float32), name)
        if on_batch:
            on_batch(_count(feed))
    return histograms


def merge_maxima(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Maxima of two parts of the images."""
    return {name: max(value, second[name]) for name, value in first.items()}


def merge_histograms(first: Mapping[str, Histogram], second: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """Histograms of two parts of the images, collected with the same maxima; bit-exact in any order."""
    return {name: merge(histogram, second[name]) for name, histogram in first.items()}


def _larger(known: float, value: float, name: str) -> float:
    if not np.isfinite(value):
        raise QuantbenchError(f"tensor {name} reaches {value}; the model overflows on a calibration image")
    return max(known, value)


def _count(feed: Feed) -> int:
    return int(next(iter(feed.values())).shape[0])
