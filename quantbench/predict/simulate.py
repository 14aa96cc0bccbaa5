"""`predict`: a Q/DQ network in, the predicted engine out."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from quantbench.graph.view import GraphView
from quantbench.predict.build import net_of
from quantbench.predict.fates import fates_of
from quantbench.predict.layers import layers_of
from quantbench.predict.optimizer import optimize
from quantbench.predict.prediction import Prediction
from quantbench.predict.traffic import float_bytes_between, float_outputs, float_weighted
from quantbench.predict.versions import version_of

if TYPE_CHECKING:
    import onnx


def predict(view: GraphView, *, version: str = "10", scales: Mapping[str, Hashable] | None = None) -> Prediction:
    """Predict what TensorRT `version` ("8.4", "8.5", "10") makes of the Q/DQ network `view`.

    `scales` maps Q and DQ nodes to keys of their scales, equal for equal scales (`scales_of` reads them off an ONNX
    model); without it every Q of one tensor counts as having one scale, which hides concats with unequal scales.
    Deterministic: the same view gives the same prediction.
    """
    family = version_of(version)
    net = net_of(view, scales)
    optimize(net, family)
    layers = layers_of(net)
    guesses = {op.name: op.guess for op in net.ops if op.guess}
    return Prediction(
        version=family.name, layers=layers, fates=fates_of(net, view), float_weighted=float_weighted(net),
        float_outputs=float_outputs(net), float_bytes=float_bytes_between(net), steps=tuple(net.steps),
        guesses=guesses,
    )  # fmt: skip


def predict_model(model: "onnx.ModelProto", *, version: str = "10") -> Prediction:
    """`predict` of an ONNX model with the scales that it holds."""
    from quantbench.graph.onnx_view import view_of
    from quantbench.predict.scales import scales_of

    return predict(view_of(model), version=version, scales=scales_of(model))
