"""Ranges of a torch model's activation quantizers: one streaming pass, and the same numbers from one process or ten.

Histograms lie on grids that nest (`quantbench.calibration.histogram`), so nothing depends on the order of batches or
on which process saw which batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ranges import Ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.errors import QuantbenchError
from quantbench.qat.counter import TensorCounter, reduce_over_group
from quantbench.qat.quantizer import Mode, activation_quantizers, set_mode
from quantbench.qat.replay import Replay

# Yields the batches ([n, 3, h, w] float32, as the model wants them); called once.
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
    device = next(model.parameters()).device
    images = 0
    with observing(model, device) as counter, torch.no_grad():
        run = Replay(model, counter)
        for batch in batches():
            images += len(batch)
            run(batch.to(device, non_blocking=True))
    seen = torch.tensor([images], device=device)
    reduce_over_group(seen, "sum")
    if int(seen) == 0:
        raise QuantbenchError("no calibration images; give a folder with images (--calib-dir)")
    found = dict(zip(activation_quantizers(model), counter.histograms(), strict=True))
    unseen = [name for name, histogram in found.items() if not histogram.total and not histogram.broken]
    if unseen:
        raise QuantbenchError(
            f"{len(unseen)} of {len(found)} quantizers saw nothing, first that of {unseen[0]}: in evaluation mode the "
            f"model does not pass there; keep what reads it in float (--keep-float)"
        )
    return found


@contextmanager
def observing(model: nn.Module, device: torch.device) -> Iterator[TensorCounter]:
    """The model in evaluation mode, float, each activation quantizer counting into its row of the counter.

    Raises QuantbenchError where there are no quantizers.
    """
    names = list(activation_quantizers(model))
    if not names:
        raise QuantbenchError("the model has no quantizers; every layer was kept float")
    rows = {name: row for row, name in enumerate(names)}
    counter = TensorCounter(len(names), device)
    training = model.training
    model.eval()
    set_mode(model, Mode.OBSERVE, lambda name, x: counter.add(rows[name], x))
    try:
        yield counter
    finally:
        set_mode(model, Mode.OFF)
        model.train(training)


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
