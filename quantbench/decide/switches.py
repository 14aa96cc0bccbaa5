"""A Q/DQ model in which each region can be INT8 or float by an input, so that one session measures all of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from quantbench.calibration.ranges import Ranges
from quantbench.predict.simulate import predict_model
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.plan import ActivationSite, Plan, WeightSite

_PREFIX = "quantbench_switch_"


@dataclass(frozen=True, slots=True)
class Region:
    """What TensorRT is predicted to run as one kernel: `weighted` ONNX nodes with Q/DQ, and all `nodes` of it."""

    name: str
    weighted: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Switchable:
    """`model` has a boolean input for each of `regions`, called `switches[i]`: true makes it INT8."""

    model: onnx.ModelProto
    regions: tuple[Region, ...]

    @property
    def switches(self) -> tuple[str, ...]:
        """Names of the inputs, one a region."""
        return tuple(f"{_PREFIX}{index}" for index in range(len(self.regions)))


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


def switchable(model: onnx.ModelProto, plan: Plan, ranges: Ranges) -> Switchable:
    """The Q/DQ model of `plan`, without bias correction, with a switch for each region.

    Behind each DQ stands a Where between what it gives and what went into its Q: the same numbers as a model with, or
    without, that pair.
    """
    quantized = insert_qdq(model, plan, ranges)
    regions = regions_of(quantized, plan)
    switch = {node: f"{_PREFIX}{index}" for index, region in enumerate(regions) for node in region.nodes}
    before: Mapping[str, list[onnx.NodeProto]] = defaultdict(list)
    nodes = {node.name: node for node in quantized.graph.node}
    made: dict[tuple[str, str], str] = {}
    for site in _sites(plan):
        node, flag = nodes[site.node], switch[site.node]
        dequantized = node.input[site.index]
        key = (dequantized, flag)
        if key not in made:
            made[key] = f"{dequantized}__{flag}"
            before[site.node].append(helper.make_node("Where", [flag, dequantized, site.tensor], [made[key]]))
        node.input[site.index] = made[key]
    ordered: list[onnx.NodeProto] = []
    for node in quantized.graph.node:
        ordered.extend([*before[node.name], node])
    del quantized.graph.node[:]
    quantized.graph.node.extend(ordered)
    for index in range(len(regions)):
        quantized.graph.input.append(helper.make_tensor_value_info(f"{_PREFIX}{index}", TensorProto.BOOL, []))
    return Switchable(quantized, regions)


def _sites(plan: Plan) -> list[ActivationSite | WeightSite]:
    return [*plan.activations, *plan.weights]
