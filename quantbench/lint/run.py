"""Run the rules over a model, and mend what needs no new ranges."""

import onnx

from quantbench.graph.surgery import check, copied
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index
from quantbench.lint.rules import (
    attention_envelope,
    concat_scales,
    duplicate_q,
    int32_bias,
    list_inputs,
    norm_overflow,
    predicted,
    q_before_activation,
    quantized_stream,
    residual_float,
    softmax_range,
    zero_point,
)
from quantbench.predict.versions import version_of

# What one fix leaves may open another: Q moved behind a Relu may be the twin of one that is there. Streams before
# duplicates: of two Qs of one tensor that of the stream has the larger scale, and goes.
_FIXERS = (int32_bias, q_before_activation, quantized_stream, duplicate_q, residual_float, concat_scales, softmax_range)
_FINDERS = (zero_point, list_inputs, *_FIXERS, norm_overflow, attention_envelope, predicted)


def lint(model: onnx.ModelProto, *, version: str = "", gpu: str = "") -> tuple[Finding, ...]:
    """Findings of all rules for TensorRT `version` on `gpu`, dearest first within a rule. Node names must be unique
    (`graph.normalise`). What the placement rules chose, and recorded in the model, is no finding (`chosen`). Raises
    QuantbenchError for an unknown version or GPU."""
    return tuple(found for found in _all(model, version, gpu) if not found.chosen)


def chosen(model: onnx.ModelProto, *, version: str = "", gpu: str = "") -> tuple[Finding, ...]:
    """What would be findings, had the placement rules not chosen it on purpose. Raises as `lint` does."""
    return tuple(found for found in _all(model, version, gpu) if found.chosen)


def _all(model: onnx.ModelProto, version: str, gpu: str) -> tuple[Finding, ...]:
    index = Index(model, version_of(version, gpu))
    return tuple(f for rule in _FINDERS for f in sorted(rule.find(index), key=lambda found: -found.cost))


def fix(model: onnx.ModelProto, *, version: str = "", gpu: str = "") -> tuple[onnx.ModelProto, dict[str, int]]:
    """A copy of `model` with everything mended that needs no new ranges, and how often each rule mended."""
    copy = copied(model)
    index = Index(copy, version_of(version, gpu))
    counts = {rule.RULE: rule.fix(index) for rule in _FIXERS}
    check(copy)
    return copy, counts
