"""Milliseconds on a device for what the predictor says of a model. The one place that knows the latency model."""

from typing import Any

import onnx

from quantbench.decide.tune import Timing
from quantbench.latency.device import Device
from quantbench.latency.device_file import device_names, find_device
from quantbench.latency.network import network_of
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict_model
from quantbench.report.decision import PredictedTimes, Times
from quantbench.report.figures import Latency

# Of those that ship, what a page offers where no device is named: one of a data centre and one of a robot.
_OFFERED = ("a100", "orin")


def times_of(device: str, batch: int = 1) -> Times:
    """How to time a model on `device`, or on some that ship where "" is given. Raises QuantbenchError for an unknown
    device."""
    known = device_names()
    devices = [find_device(name) for name in ([device] if device else [name for name in _OFFERED if name in known])]

    def times(model: onnx.ModelProto, prediction: Prediction) -> PredictedTimes:
        network = network_of(model, prediction)
        latencies: list[Latency] = []
        layers: dict[str, list[float]] = {}
        for one in devices:
            found = network.on(one, batch).times
            if any(time.compute.ms <= 0 for time in found.values()):  # no size is known of what the layers read
                continue
            latencies += [
                Latency(_label(one), precision, time.compute.ms, time.compute.low, time.compute.high, "predicted")
                for precision, time in found.items()
            ]
            by_name = {layer.name: layer.us / 1e3 for layer in found["INT8"].layers}
            layers[_label(one)] = [by_name.get(layer.name, 0.0) for layer in prediction.layers]
        return PredictedTimes(tuple(latencies), layers)

    return times


def timing_of(device: str, batch: int = 1) -> Timing | None:
    """Milliseconds of a Q/DQ model and of its FP16 twin on `device`; None where no device is named."""
    if not device:
        return None
    chosen = find_device(device)

    def timing(quantized: Any) -> tuple[float, float]:
        found = network_of(quantized, predict_model(quantized)).on(chosen, batch, ("INT8", "FP16")).times
        return found["INT8"].compute.ms, found["FP16"].compute.ms

    return timing


def _label(device: Device) -> str:
    return f"{device.name} (a guess)" if device.guess else device.name
