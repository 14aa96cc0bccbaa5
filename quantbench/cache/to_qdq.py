"""A calibration cache and a float model to an explicitly quantized model: what `calib` was to TensorRT 10, for 11."""

import dataclasses
import glob
import math
from dataclasses import dataclass

import onnx

from quantbench.cache import tensorrt
from quantbench.cache.carry import Carried, attach
from quantbench.cache.check import CheckResult, check
from quantbench.cache.model import CalibrationCache
from quantbench.calibration.ranges import Ranges
from quantbench.errors import QuantbenchError
from quantbench.graph.onnx_view import view_of
from quantbench.graph.view import GraphView
from quantbench.qdq.carry_out import Correction, WeightWork, carry_out
from quantbench.qdq.insert import activation_scales
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan


@dataclass(frozen=True, slots=True)
class ToQdq:
    """The Q/DQ model, the plan that it carries out, and how the cache matched."""

    model: onnx.ModelProto
    plan: Plan
    check: CheckResult


def to_qdq(
    model: onnx.ModelProto,
    cache: CalibrationCache,
    options: PlacementOptions | None = None,
    *,
    int8_weights: bool = False,
    correction: Correction | None = None,
) -> ToQdq:
    """Place Q/DQ in `model` (a copy) by the rules of quantbench.qdq with the ranges of `cache`; with `correction`
    biases are corrected on its data, which no cache carries.

    A layer whose input has no range, neither its own nor one that follows (see `implicit`), stays float. Raises
    QuantbenchError for a model that is quantized already and for a cache that fits no layer of it.
    """
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise QuantbenchError("the model holds Q/DQ nodes already; give the float model that the cache was made for")
    view = view_of(model)
    result = check(cache, view)
    plan = plan_with(view, result.meaning.ranges, options or PlacementOptions())
    if not plan.weights:
        raise QuantbenchError(
            f"no range of the cache reaches a layer: {len(result.matching.matches)} of {len(cache.by_name)} entries "
            f"match a tensor of the model; is it the model that the cache was made for? (`quantbench cache check`)"
        )
    quantized = carry_out(model, plan, result.meaning.ranges, correction, weights=WeightWork(stored=int8_weights)).model
    attach(quantized, _carried(cache, result, plan))
    return ToQdq(quantized, plan, result)


def plan_with(view: GraphView, ranges: Ranges, options: PlacementOptions) -> Plan:
    """The plan of the rules, without the layers and sites whose input has no range in `ranges`."""
    plan = place(view, options)
    weighted = {site.node for site in plan.weights}
    unknown = {site.node: site.tensor for site in plan.activations if site.tensor not in ranges}
    reasons = {node: f"no range for {tensor} in the cache" for node, tensor in unknown.items() if node in weighted}
    if reasons:
        # Placed anew, so that rules which look at quantized neighbours see these layers as float; what was the head
        # stays the head.
        names = tuple(glob.escape(node) for node in (*plan.kept_float, *reasons))
        kept = {**plan.kept_float, **reasons}
        plan = place(view, dataclasses.replace(options, head_float=False, keep_float=names))
    else:
        kept = dict(plan.kept_float)
    sites = tuple(site for site in plan.activations if site.tensor in ranges)
    return Plan(sites, plan.weights, kept, folded=plan.folded)


def _carried(cache: CalibrationCache, result: CheckResult, plan: Plan) -> Carried:
    """Every entry under the name of the model's tensor (of several entries the widest), and what the Qs got."""
    names = {match.entry: match.tensor for match in result.matching.matches}
    scales: dict[str, float] = {}
    for name, entry in cache.by_name.items():
        if math.isfinite(entry.scale) and entry.scale >= 0:
            tensor = names.get(name, name)
            scales[tensor] = max(entry.scale, scales.get(tensor, 0.0))
    applied = {name: float(scale) for name, scale in activation_scales(plan, result.meaning.ranges).items()}
    native = cache.dialect == tensorrt.DIALECT
    return Carried(
        cache.version if native else tensorrt.DEFAULT_VERSION,
        cache.algorithm if native else tensorrt.DEFAULT_ALGORITHM,
        scales,
        applied,
    )
