"""`predict`: a Q/DQ network in, the predicted engine out."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from quantbench.graph.view import GraphView
from quantbench.predict.build import net_of
from quantbench.predict.fates import fates_of
from quantbench.predict.layers import layers_of
from quantbench.predict.optimizer import optimize
from quantbench.predict.passes import format_reformats, merge_q
from quantbench.predict.prediction import Prediction
from quantbench.predict.traffic import float_bytes_between, float_outputs, float_weighted
from quantbench.predict.versions import version_of

if TYPE_CHECKING:
    import onnx


def predict(
    view: GraphView, *, version: str = "10", scales: Mapping[str, Hashable] | None = None, fp16: bool = True
) -> Prediction:
    """Predict what TensorRT `version` ("8.4", "8.5", "10") makes of the Q/DQ network `view`.

    `scales` maps Q and DQ nodes to keys of their scales, equal for equal scales (`scales_of` reads them off an ONNX
    model); without it every Q of one tensor counts as having one scale, which hides concats with unequal scales.
    `fp16`: whether the build may use FP16 kernels for what stays float; formats, and so reformats, hang on it.
    Deterministic: the same view gives the same prediction.
    """
    family = version_of(version)
    net = net_of(view, scales)
    optimize(net, family)
    in_float, writing_float, float_bytes = float_weighted(net), float_outputs(net), float_bytes_between(net)
    if fp16:
        # Behind the bytes, which are to tell placements apart: a reformat depends on kernels too.
        format_reformats.run(net, family)
    layers = layers_of(net)
    if family.guesses:
        for step in net.steps:
            if step.name == merge_q.NAME:
                for name in (step.target, *step.others):
                    net.guess(name, f"which of two twin Qs stays in TensorRT {family.name}")
    guesses = {op.name: op.guess for op in net.ops if op.guess}
    return Prediction(
        version=family.name, layers=layers, fates=fates_of(net, view), float_weighted=in_float,
        float_outputs=writing_float, float_bytes=float_bytes, steps=tuple(net.steps), guesses=guesses,
        fate_guesses=net.guesses, version_guesses=family.guesses, fp16=fp16,
    )  # fmt: skip


def predict_model(model: "onnx.ModelProto", *, version: str = "10", fp16: bool = True) -> Prediction:
    """`predict` of an ONNX model with the scales that it holds."""
    from quantbench.graph.onnx_view import view_of
    from quantbench.predict.captures import with_captures
    from quantbench.predict.scales import scales_of

    return predict(with_captures(view_of(model), model), version=version, scales=scales_of(model), fp16=fp16)
