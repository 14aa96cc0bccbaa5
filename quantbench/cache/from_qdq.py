"""A Q/DQ model back to a cache, a float model and a list of layer precisions: for DLA and TensorRT up to 10."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantbench.cache import tensorrt
from quantbench.cache.activations import activations, superseded
from quantbench.cache.carry import Carried, detach
from quantbench.cache.implicit import Derived, meaning
from quantbench.cache.strip import Stripped, strip_qdq
from quantbench.calibration.ranges import INT8_MAX, Ranges, TensorRange
from quantbench.graph.onnx_view import view_of
from quantbench.graph.ops import AVERAGES, WEIGHTED
from quantbench.graph.surgery import copied
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.ops import weight_index

INT8, FLOAT = "int8", "fp16"
_SCALE_TYPES = tuple(
    np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    for kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
)
# Scale 1.0: the DLA compiler reads it as "no scale of its own" and fuses the conv with the Add behind it (NVIDIA,
# Deep-Learning-Accelerator-SW, qdq_translator, --add_unary_ew_scales_for_dla).
_DLA_UNIT_AMAX = float(INT8_MAX)


@dataclass(frozen=True, slots=True)
class FromQdq:
    """`cache_text` is TensorRT's dialect; `precisions` maps layer names to int8 or fp16 (trtexec --layerPrecisions).

    `derived` are ranges that follow from others, `carried` names that only the model's metadata held, `changed`
    tensors whose scale is no longer the one that `to-qdq` had put there (after training, say).
    """

    model: onnx.ModelProto
    cache_text: str
    ranges: Ranges
    precisions: Mapping[str, str]
    derived: tuple[Derived, ...]
    carried: tuple[str, ...]
    changed: tuple[str, ...]
    notes: tuple[str, ...]


def from_qdq(model: onnx.ModelProto, *, version: str = "", algorithm: str = "", dla: bool = False) -> FromQdq:
    """Take the Q/DQ out of `model` (a copy) and write down the ranges.

    `version` and `algorithm` of the header: as given, else those of the cache that `to-qdq` had read, else defaults.
    `dla` adds unit scales between a conv and the Add behind it. Raises QuantbenchError as `strip_qdq` does.
    """
    copy = copied(model)
    carried = detach(copy)
    stripped = strip_qdq(copy)
    view = view_of(stripped.model)
    known, changed, only_carried = _merge(stripped.scales, carried)
    derived: tuple[Derived, ...] = ()
    if carried is None:
        whole = meaning(view, known)
        known |= {item.tensor: whole.ranges[item.tensor] for item in whole.derived}
        derived = whole.derived
    notes = list(stripped.notes)
    if dla:
        added = _unit_scales(view, known)
        known |= added
        notes.append(f"{len(added)} unit scales added for DLA: {', '.join(added) or 'none needed'}")
    ranges = Ranges(known)
    text = tensorrt.render(
        ranges,
        version=version or (carried.version if carried else tensorrt.DEFAULT_VERSION),
        algorithm=algorithm or (carried.algorithm if carried else tensorrt.DEFAULT_ALGORITHM),
    )
    precisions = _precisions(view, stripped, ranges)
    return FromQdq(stripped.model, text, ranges, precisions, derived, only_carried, changed, tuple(notes))


def _merge(
    scales: Mapping[str, float], carried: Carried | None
) -> tuple[dict[str, TensorRange], tuple[str, ...], tuple[str, ...]]:
    """Ranges of the graph and of the metadata; the graph's scale wins where it is not the one that was applied."""
    if carried is None:
        return {name: TensorRange(scale * INT8_MAX, "qdq") for name, scale in scales.items()}, (), ()
    changed = [name for name, scale in scales.items() if not _is_applied(scale, carried.applied.get(name))]
    merged = {name: scale for name, scale in carried.scales.items() if name not in changed}
    known: dict[str, TensorRange] = {}
    for name in dict.fromkeys([*carried.scales, *changed]):
        scale = scales[name] if name in changed else merged[name]
        known[name] = TensorRange(scale * INT8_MAX, "qdq")
    return known, tuple(changed), tuple(name for name in known if name not in scales)


def _is_applied(scale: float, applied: float | None) -> bool:
    """Whether `scale` of the graph is what `to-qdq` wrote, in float32 or rounded to the type of a cast model."""
    return applied is not None and any(scale == float(np.asarray(applied, kind)) for kind in _SCALE_TYPES)


def _unit_scales(view: GraphView, known: Mapping[str, TensorRange]) -> dict[str, TensorRange]:
    found = {}
    for node in view.nodes:
        if node.op != "Add":
            continue
        for name in node.inputs:
            producer = view.producers.get(name)
            if name not in known and producer is not None and producer.op in WEIGHTED:
                found[name] = TensorRange(_DLA_UNIT_AMAX, "unit scale for DLA")
    return found


def _precisions(view: GraphView, stripped: Stripped, ranges: Ranges) -> dict[str, str]:
    """int8 for layers with a quantized activation and weight; fp16 for the others that have INT8 kernels."""
    swallowed = superseded(view)
    floats = set(activations(view))
    found: dict[str, str] = {}
    for node in view.nodes:
        if not floats.intersection(node.outputs):
            continue  # shape arithmetic
        if node.op in WEIGHTED:
            quantized = stripped.quantized_inputs.get(node.name, set())
            index = weight_index(view, node)
            needed = {0, 1} if index is None else {index, 1 - index}
            found[node.name] = INT8 if needed <= quantized else FLOAT
        elif (node.op in AVERAGES or node.op in ("Add", "Mul")) and _lacks(view, node, ranges, swallowed):
            found[node.name] = FLOAT
    return found


def _lacks(view: GraphView, node: NodeView, ranges: Ranges, swallowed: Mapping[str, str]) -> bool:
    """Whether an input that is read from memory, not from within the fused layer, has no range."""
    return any(
        name and not view.is_constant(name) and name not in ranges and name not in swallowed for name in node.inputs
    )


def layer_precisions_argument(precisions: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The value of trtexec's --layerPrecisions, and the layers whose names it cannot spell (a comma or colon)."""
    good = {name: value for name, value in precisions.items() if not set(name) & set(",:")}
    return ",".join(f"{name}:{value}" for name, value in good.items()), tuple(n for n in precisions if n not in good)
