"""`predict`: a Q/DQ network in, the predicted engine out."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from quantbench.graph.view import GraphView
from quantbench.predict.build import net_of
from quantbench.predict.evidence import GUESS, confidence
from quantbench.predict.explain import headline
from quantbench.predict.fates import fates_of
from quantbench.predict.layers import layers_of
from quantbench.predict.optimizer import optimize
from quantbench.predict.passes import memory
from quantbench.predict.prediction import Prediction
from quantbench.predict.traffic import float_bytes_between, float_outputs, float_weighted
from quantbench.predict.versions import DEFAULT, version_of

if TYPE_CHECKING:
    import onnx


def predict(
    view: GraphView,
    *,
    version: str = DEFAULT,
    gpu: str = "",
    scales: Mapping[str, Hashable] | None = None,
    fp16: bool = True,
) -> Prediction:
    """Predict what TensorRT `version` ("8.4", "8.5.2", "10.9", "11") makes of the Q/DQ network `view` on `gpu`
    ("sm87", "" for any before Blackwell).

    `scales` maps Q and DQ nodes to keys of their scales, equal for equal scales (`scales_of` reads them off an ONNX
    model); without it every Q of one tensor counts as having one scale, which hides concats with unequal scales.
    `fp16`: whether the build may use FP16 kernels for what stays float; formats, and so reformats, hang on it.
    Deterministic: the same view gives the same prediction. Raises QuantbenchError for an unknown version or GPU.
    """
    facts = version_of(version, gpu)
    net = net_of(view, scales)
    optimize(net, facts)
    in_float, writing_float, float_bytes = float_weighted(net), float_outputs(net), float_bytes_between(net)
    # Behind the bytes, which are to tell placements apart: a reformat depends on kernels too.
    memory.reformats(net, facts, fp16)
    fates = fates_of(net, view)
    sure = {fate.name: confidence(facts, net.notes.get(fate.name, ())) for fate in fates}
    return Prediction(
        version=facts.name, gpu=facts.gpu, layers=layers_of(net, facts), fates=fates, float_weighted=in_float,
        float_outputs=writing_float, float_bytes=float_bytes, steps=tuple(net.steps),
        fate_confidence={name: level for name, (level, _) in sure.items()},
        fate_guesses={name: why for name, (level, why) in sure.items() if level == GUESS},
        version_guesses=facts.caveats, fp16=fp16, headline=headline(facts),
    )  # fmt: skip


def predict_model(
    model: "onnx.ModelProto",
    *,
    view: GraphView | None = None,
    version: str = DEFAULT,
    gpu: str = "",
    fp16: bool = True,
) -> Prediction:
    """`predict` of an ONNX model with the scales that it holds; `view` is the model's, where it is there already."""
    from quantbench.graph.onnx_view import view_of
    from quantbench.predict.captures import with_captures
    from quantbench.predict.scales import scales_of

    return predict(
        with_captures(view or view_of(model), model), version=version, gpu=gpu, scales=scales_of(model), fp16=fp16
    )
