"""Milliseconds on a device for what the predictor says of a model. The one place that knows the latency model."""

from collections.abc import Sequence
from typing import Any

import onnx

from quantbench.decide.sensitivity import Savings
from quantbench.decide.tune import Timing
from quantbench.graph.onnx_view import view_of
from quantbench.graph.ops import WEIGHTED
from quantbench.latency.device import Device
from quantbench.latency.device_file import device_names, find_device
from quantbench.latency.engine_time import EngineTime
from quantbench.latency.network import Network, network_of
from quantbench.layers.layer import Layer
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
        network = network_of(view_of(model), prediction)
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
        found = _network(quantized).on(chosen, batch, ("INT8", "FP16")).times
        return found["INT8"].compute.ms, found["FP16"].compute.ms

    return timing


def savings_of(device: str, batch: int = 1) -> Savings | None:
    """Milliseconds that INT8 saves on `device` at each weighted node of a Q/DQ model, by the device's label; None where
    no device is named. Kernels alone: what a float region costs in reformats at its borders depends on its neighbours.

    A kernel that holds several weighted nodes counts for each in equal parts.
    """
    if not device:
        return None
    chosen = find_device(device)

    def savings(quantized: onnx.ModelProto) -> tuple[str, dict[str, float]]:
        network = _network(quantized)
        found = network.on(chosen, batch, ("INT8", "FP16")).times
        weighted = {node.name for node in quantized.graph.node if node.op_type in WEIGHTED}
        int8, fp16 = (_by_node(layers, found[name], weighted)
                      for layers, name in ((network.int8.layers, "INT8"), (network.plain, "FP16")))  # fmt: skip
        return _label(chosen), {node: ms - int8[node] for node, ms in fp16.items() if node in int8}

    return savings


def _network(model: onnx.ModelProto) -> Network:
    view = view_of(model)
    return network_of(view, predict_model(model, view=view))


def _by_node(layers: Sequence[Layer], time: EngineTime, weighted: set[str]) -> dict[str, float]:
    """Milliseconds of the kernels that hold each of `weighted`, in equal parts."""
    ms: dict[str, float] = {}
    for kernel in time.layers:
        ms[kernel.name] = ms.get(kernel.name, 0.0) + kernel.us / 1e3
    found: dict[str, float] = {}
    for layer in layers:
        held = [node for node in layer.nodes if node in weighted]
        found.update({node: ms[layer.name] / len(held) for node in held if layer.name in ms})
    return found


def _label(device: Device) -> str:
    return f"{device.name} (a guess)" if device.guess else device.name
