"""What the predictor and a device say of the Q/DQ model, as the record that run.json and the report hold."""

from collections.abc import Callable
from pathlib import Path

from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.latency.device_file import find_device
from quantbench.latency.network import Network, network_of
from quantbench.latency.words import timed
from quantbench.predict.facts import prediction_facts
from quantbench.predict.prediction import Prediction as Predicted
from quantbench.predict.simulate import predict_model
from quantbench.predict.versions import DEFAULT, PredictedFor
from quantbench.records.prediction import DeviceLatency, LatencyMend, PrecisionLatency, Prediction


def timed_prediction(path: Path, wanted: PredictedFor) -> Prediction:
    """`prediction_facts` of the Q/DQ model at `path`, and its time where `wanted` names a device."""
    facts = prediction_facts(path, wanted.tensorrt, wanted.gpu)
    if not wanted.device:
        return facts
    model = load_model(path)
    view = view_of(model)
    found = predict_model(model, view=view, version=wanted.tensorrt or DEFAULT, gpu=wanted.gpu)
    return facts.model_copy(update={"latency": latency_facts(network_of(view, found), wanted.device)})


def latency_facts(network: Network, name: str, batch: int = 1) -> DeviceLatency:
    """Times of `network` on the device `name`, and the verdict."""
    device = find_device(name)
    asked, judged = timed(network, device, batch)
    return DeviceLatency(
        device=device.name,
        batch=batch,
        verdict=judged.kind,
        sentence=judged.sentence,
        gain=judged.gain,
        caveats=judged.caveats,
        times=tuple(
            PrecisionLatency(precision=p, ms=t.compute.ms, low_ms=t.compute.low, high_ms=t.compute.high,
                             profile_ms=t.profile.ms, kernels_ms=t.tactics.ms, shares_ms=t.shares)
            for p, t in asked.times.items()
        ),
        mends=tuple(LatencyMend(what=m.what, ms=m.ms) for m in judged.mends),
    )  # fmt: skip


def device_cost(name: str) -> Callable[[Predicted], float]:
    """What `--placement best` makes least on the device `name`: ms of the engine at batch 1."""
    device = find_device(name)

    def cost(prediction: Predicted) -> float:
        return Network(prediction, ()).on(device, 1, ("INT8",)).times["INT8"].compute.ms

    return cost
