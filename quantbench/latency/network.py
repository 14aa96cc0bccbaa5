"""A network's time on a device in INT8 as placed, in FP16 and in FP32, at several batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantbench.errors import QuantbenchError
from quantbench.graph.view import GraphView
from quantbench.latency.device import Device
from quantbench.latency.engine_time import EngineTime, time_of_works
from quantbench.latency.join import works_of_prediction
from quantbench.layers.layer import Layer

if TYPE_CHECKING:
    from quantbench.predict.prediction import Prediction

PRECISIONS = ("INT8", "FP16", "FP32")


@dataclass(frozen=True)
class NetworkTime:
    """Times by precision at one batch."""

    batch: int
    times: Mapping[str, EngineTime]

    def gain(self, over: str = "FP16") -> float:
        """How many times faster INT8 is than `over`, by GPU compute time.

        Raises QuantbenchError where no layer's shape is known, so that there is no time.
        """
        if not self.times["INT8"].compute.ms:
            raise QuantbenchError(
                "no layer of the model has a known shape and work, so there is no time to tell; export it with shapes"
            )
        return self.times[over].compute.ms / self.times["INT8"].compute.ms


@dataclass(frozen=True)
class Network:
    """Predicted layers of a network: INT8 as placed, and without any Q/DQ."""

    int8: "Prediction"
    plain: tuple[Layer, ...]

    def on(self, device: Device, batch: int, precisions: Sequence[str] = PRECISIONS) -> NetworkTime:
        """The network's times on `device`."""
        times: dict[str, EngineTime] = {}
        for precision in precisions:
            layers = self.int8.layers if precision == "INT8" else self.plain
            fp16 = precision == "FP16" or (precision == "INT8" and self.int8.fp16)
            works, unsized = works_of_prediction(layers, device.specs, fp16=fp16, batch=batch)
            times[precision] = time_of_works(device, works, unsized)
        return NetworkTime(batch, times)


def network_of(view: GraphView, prediction: "Prediction") -> Network:
    """The model of `view` as `prediction` has it, and the same model without its Q/DQ."""
    from quantbench.predict.simulate import predict
    from quantbench.predict.with_qdq import without_qdq

    plain = predict(without_qdq(view), version=prediction.version, gpu=prediction.gpu, fp16=False)
    return Network(prediction, plain.layers)
