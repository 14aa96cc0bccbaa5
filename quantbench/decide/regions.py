"""Regions of a network: what TensorRT is predicted to run as one kernel; and parts of a plan."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from quantbench.calibration.ranges import INT8_MAX, Ranges, TensorRange
from quantbench.predict.simulate import predict_model
from quantbench.qdq.insert import activation_scales
from quantbench.qdq.plan import ActivationSite, Plan, WeightSite


@dataclass(frozen=True, slots=True)
class Region:
    """What TensorRT is predicted to run as one kernel: `weighted` ONNX nodes with Q/DQ, and all `nodes` of it."""

    name: str
    weighted: tuple[str, ...]
    nodes: tuple[str, ...]


def regions_of(quantized: onnx.ModelProto, plan: Plan) -> tuple[Region, ...]:
    """Regions of the Q/DQ model, in order of execution: each predicted layer that holds a node of the plan; a node of
    the plan that is in no layer stands alone. A region may have no weighted node (an Add, a pooling)."""
    sites = {site.node for site in _sites(plan)}
    weighted = {site.node for site in plan.weights}
    taken: set[str] = set()
    found = []
    for layer in predict_model(quantized).layers:
        own = [node for node in layer.nodes if node in sites and node not in taken]
        if not own:
            continue
        taken.update(own)
        heavy = tuple(node for node in own if node in weighted)
        found.append(Region((heavy or tuple(own))[0], heavy, tuple(layer.nodes)))
    left = [node.name for node in quantized.graph.node if node.name in sites and node.name not in taken]
    return (*found, *(Region(name, (name,) if name in weighted else (), (name,)) for name in left))


def part_of(plan: Plan, wanted: Callable[[str], bool]) -> Plan:
    """The sites of `plan` at nodes whose name is `wanted`."""
    return Plan(
        tuple(site for site in plan.activations if wanted(site.node)),
        tuple(site for site in plan.weights if wanted(site.node)),
        folded=plan.folded,
    )


def grouped(plan: Plan, ranges: Ranges) -> Ranges:
    """`ranges` with each tensor of `plan` at the range of its group, so that a part of the plan has the whole one's
    scales. Raises QuantbenchError as `activation_scales` does."""
    scales = activation_scales(plan, ranges)
    return Ranges({tensor: TensorRange(float(scale) * INT8_MAX) for tensor, scale in scales.items()})


def _sites(plan: Plan) -> list[ActivationSite | WeightSite]:
    return [*plan.activations, *plan.weights]
