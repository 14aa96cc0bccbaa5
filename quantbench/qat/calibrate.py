"""Ranges of a torch model's activation quantizers: two streaming passes, and the same numbers from one process or ten.

Pass one takes the largest |x| of each tensor, pass two counts |x| into 2048 bins up to it. Maxima merge by max and
histograms by adding integers, so nothing depends on the order of batches or on which process saw which batch.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.histogram import BINS, Histogram
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.errors import QuantbenchError
from quantbench.qat.quantizer import Mode, activation_quantizers, set_mode

# Yields the batches ([n, 3, h, w] float32, as the model wants them) of one pass; called once a pass.
Batches = Callable[[], Iterable[Tensor]]


def calibrate(model: nn.Module, batches: Batches, method: str = "entropy") -> Ranges:
    """Histograms over all batches, then the ranges of `method`, set in the model. Leaves the quantizers on.

    In a process group each process must yield its own share of whole batches; the result is that of one process that
    yields them all, bit for bit. Raises QuantbenchError where there are no batches or a tensor overflows.
    """
    ranges = ranges_of(collect(model, batches), method)
    apply_ranges(model, ranges)
    set_mode(model, Mode.QUANTIZE)
    return ranges


def ranges_of(histograms: Mapping[str, Histogram], method: str) -> Ranges:
    """Ranges by one threshold method of `quantbench.calibration.thresholds`."""
    return find_ranges(histograms, method, threshold_method(method))


def collect(model: nn.Module, batches: Batches) -> dict[str, Histogram]:
    """Histogram of each quantizer's tensor, merged over the process group if there is one."""
    names = list(activation_quantizers(model))
    if not names:
        raise QuantbenchError("the model has no quantizers; every layer was kept float")
    device = next(model.parameters()).device
    maxima = torch.zeros(len(names), device=device)
    index = {name: i for i, name in enumerate(names)}

    def see_maximum(name: str, x: Tensor) -> None:
        i = index[name]
        maxima[i] = torch.maximum(maxima[i], x.abs().amax().float())  # amax passes NaN on

    seen = torch.tensor([_run(model, batches, see_maximum)], device=device)
    _reduce(seen, dist.ReduceOp.SUM)
    _reduce(maxima, dist.ReduceOp.MAX)
    if int(seen) == 0:
        raise QuantbenchError("no calibration images; give a folder with images (--calib-dir)")
    limits = dict(zip(names, maxima.tolist(), strict=True))
    for name, limit in limits.items():
        if not np.isfinite(limit):
            raise QuantbenchError(f"tensor {name} reaches {limit}; the model overflows on a calibration image")
    counts = torch.zeros(len(names), BINS, dtype=torch.int64, device=device)

    def count(name: str, x: Tensor) -> None:
        counts[index[name]] += bins_of(x, limits[name])

    _run(model, batches, count)
    _reduce(counts, dist.ReduceOp.SUM)
    table = counts.cpu().numpy()
    return {name: Histogram(table[i], limits[name]) for name, i in index.items()}


def bins_of(x: Tensor, amax: float) -> Tensor:
    """Counts int64 [2048] of |x|: bin i holds floor(|x| * 2048 / amax) = i, as quantbench.calibration.histogram."""
    per_unit = np.float32(BINS / amax) if amax > 0 else np.float32(np.inf)
    if not np.isfinite(per_unit):
        only_zero = torch.zeros(BINS, dtype=torch.int64, device=x.device)
        only_zero[0] = x.numel()
        return only_zero
    scaled = (x.float().abs() * float(per_unit)).clamp_(max=BINS - 1)
    return torch.bincount(scaled.to(torch.int64).flatten(), minlength=BINS)


def apply_ranges(model: nn.Module, ranges: Ranges) -> None:
    """Set every activation range; quantizers that share one take the largest amax of theirs.

    Raises QuantbenchError for a tensor without a range.
    """
    quantizers = activation_quantizers(model)
    largest: dict[int, float] = {}
    for name, quantizer in quantizers.items():
        if name not in ranges:
            raise QuantbenchError(f"no range for tensor {name}; calibrate again")
        key = id(quantizer.range)
        largest[key] = max(largest.get(key, 0.0), ranges[name].amax)
    for quantizer in quantizers.values():
        quantizer.range.set_amax(largest[id(quantizer.range)])


def _run(model: nn.Module, batches: Batches, observer: Callable[[str, Tensor], None]) -> int:
    """Show all batches to `observer` in evaluation mode, float; returns the number of images."""
    device = next(model.parameters()).device
    images = 0
    with _observing(model, observer), torch.no_grad():
        for batch in batches():
            images += len(batch)
            model(batch.to(device))
    return images


@contextmanager
def _observing(model: nn.Module, observer: Callable[[str, Tensor], None]) -> Any:
    training = model.training
    model.eval()
    set_mode(model, Mode.OBSERVE, observer)
    try:
        yield
    finally:
        set_mode(model, Mode.OFF)
        model.train(training)


def _reduce(value: Tensor, operation: Any) -> None:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(value, operation)
