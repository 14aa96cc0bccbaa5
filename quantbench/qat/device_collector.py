"""Calibration of an ONNX network on a torch device: one pass, counted where the activations are.

Histograms stay on the device until they are asked for; no layer makes the host wait. They are those of
`quantbench.calibration.collect` for the same activations, bit for bit; the activations themselves a GPU's kernels round
otherwise than a CPU's.
"""

from collections.abc import Sequence

import onnx
import torch

from quantbench.calibration.collect import Begin, Counts
from quantbench.calibration.histogram import Histogram
from quantbench.calibration.ort_outputs import Feed, images_of
from quantbench.calibration.parts import Parts
from quantbench.calibration.same_values import sources
from quantbench.qat.cards import room
from quantbench.qat.counter import TensorCounter
from quantbench.qat.device_tensors import DeviceTensors


class DeviceCollector:
    """A network and the histograms of its `tensors`; feed it batches, read `histograms` at any time."""

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[str], device: torch.device, *, threads: int = 0,
        compiled: bool = True,
    ) -> None:  # fmt: skip
        """`threads` of the session where `device` is the CPU. Without `compiled` torch's operators count, as they do
        where no kernel can be compiled for a card. Raises QuantbenchError, in one line, where onnxruntime cannot
        compute on `device`."""
        self._sources = sources(model, tensors)
        counted = self._sources.counted
        self._rows = {name: row for row, name in enumerate(counted)}
        self._tensors = DeviceTensors(model, counted, device, threads=threads)
        with self._tensors.in_stream():
            self._counter = TensorCounter(len(counted), device, compiled=compiled)
        self._parts = Parts(model, most=room(device))

    def add(self, feed: Feed) -> int:
        """Run one batch and count it; returns its images. A large batch is run in parts (`calibration.parts`)."""
        with self._tensors.in_stream():
            for part in self._parts.of(feed):
                found = self._tensors.run(part)
                self._parts.saw(part, sum(x.nbytes for _, x in found))
                self._counter.add_all([(self._rows[name], x) for name, x in found])
        return images_of(feed)

    def restart(self) -> None:
        """Forget what was counted."""
        with self._tensors.in_stream():
            self._counter.restart()

    def histograms(self) -> dict[str, Histogram]:
        """What was counted so far, in the order of the tensors; waits for the device, once."""
        with self._tensors.in_stream():
            counted = self._counter.histograms()
        return self._sources.all({name: counted[row] for name, row in self._rows.items()})


def torch_counter(device: torch.device, *, compiled: bool = True) -> Begin:
    """What begins a pass on `device`, for `calibration.collect`."""

    def begin(model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> Counts:
        return DeviceCollector(model, tensors, device, threads=threads, compiled=compiled)

    return begin
