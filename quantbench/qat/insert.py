"""Carry out a Plan on a torch model: fake quantizers at its sites, in the eager modules, state dict keys unchanged."""

from collections import Counter
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantbench.errors import QuantbenchError
from quantbench.latency.facts import device_cost
from quantbench.predict.best import best_placement
from quantbench.predict.versions import DEFAULT, PredictedFor
from quantbench.qat.quantizer import SharedRange, TensorQuantizer, WeightQuantizer, weight_quantizers
from quantbench.qat.router import SiteRouter
from quantbench.qat.silu_ahead import SiluAhead
from quantbench.qat.trace import Slot, Trace
from quantbench.qat.weight_batch import WeightBatch
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan

INPUT = "_input_quantizer"
WEIGHT = "_weight_quantizer"
# Axis of the output channels in torch's weight layout.
_CHANNEL_AXIS = {"conv": 0, "linear": 0, "deconv": 1, "matmul": -1}


class _QuantConv(nn.modules.conv._ConvNd):
    """Quantizers on input and weight, before whichever convolution stands behind it in the class order."""

    _input_quantizer: TensorQuantizer
    _weight_quantizer: WeightQuantizer

    def forward(self, input: Tensor) -> Tensor:
        x, weight = self._input_quantizer(input), self._weight_quantizer(self.weight)
        result: Tensor = self._conv_forward(x, weight, self.bias)
        return result


class QuantConv1d(_QuantConv, nn.Conv1d):
    """nn.Conv1d with quantizers on input and weight."""


class QuantConv2d(_QuantConv, nn.Conv2d):
    """nn.Conv2d with quantizers on input and weight."""


class QuantConv3d(_QuantConv, nn.Conv3d):
    """nn.Conv3d with quantizers on input and weight."""


class QuantLinear(nn.Linear):
    """nn.Linear with quantizers on input and weight."""

    _input_quantizer: TensorQuantizer
    _weight_quantizer: WeightQuantizer

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(self._input_quantizer(input), self._weight_quantizer(self.weight), self.bias)


_REPLACED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: QuantConv1d, nn.Conv2d: QuantConv2d, nn.Conv3d: QuantConv3d, nn.Linear: QuantLinear,
    nn.modules.linear.NonDynamicallyQuantizableLinear: QuantLinear,
}  # fmt: skip


def insert(model: nn.Module, traced: Trace, plan: Plan, *, learned: bool = False) -> None:
    """Put the quantizers of `plan` into `model` in place; they are off until `set_mode`.

    Convs and linears change class and gain `_input_quantizer` and `_weight_quantizer`; the other sites go through a
    router on their module. Tensors of a group share one range; readers of one tensor share one quantizer.
    With `learned` the activation scales are parameters (LSQ).

    Raises QuantbenchError where the model is quantized already, or a site of the plan is not in `traced`.
    """
    if any(isinstance(m, TensorQuantizer) for m in model.modules()):
        raise QuantbenchError("the model has quantizers already; load the float checkpoint")
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    tensor_of = {site.tensor: site.tensor for site in plan.activations}
    by_slot: dict[Slot, str] = {}
    group_of = {site.tensor: site.group for site in plan.activations}
    for site in plan.activations:
        slot = _slot(traced, site.node, site.index)
        # A module called several times has one quantizer for all its calls: their tensors become one.
        first = by_slot.setdefault(slot, tensor_of[site.tensor])
        if first != tensor_of[site.tensor]:
            _merge(tensor_of, tensor_of[site.tensor], first)
            _merge(group_of, group_of[site.tensor], group_of[first])
    readers = Counter(tensor_of[tensor] for tensor in by_slot.values())
    device = next(iter(parameters.values())).device if parameters else torch.device("cpu")
    ranges: dict[str, SharedRange] = {}
    quantizers: dict[str, TensorQuantizer] = {}
    for slot, tensor in by_slot.items():
        tensor = tensor_of[tensor]
        if tensor not in quantizers:
            shared = ranges.setdefault(group_of[tensor], SharedRange(learned).to(device))
            quantizers[tensor] = TensorQuantizer(tensor, shared, readers[tensor])
        _attach(modules, slot, quantizers[tensor])
    for weight in plan.weights:
        slot = _slot(traced, weight.node, weight.index)
        owner = modules[slot.module]
        parameter, rows = traced.parameters.get(weight.tensor.removesuffix("^T"), ("", None))
        within = f"{slot.module}." if slot.module else ""
        if not parameter or not parameter.startswith(within):
            raise QuantbenchError(
                f"{weight.node}: its weight is no parameter of module {slot.module or 'the model itself'}; keep it "
                f"float: --keep-float '{weight.node}'"
            )
        axis = None if weight.axis is None else _CHANNEL_AXIS[slot.kind]
        if not hasattr(owner, _name(owner, slot, is_weight=True)):
            value = parameters[parameter] if rows is None else parameters[parameter][slice(*rows)]
            path = parameter.removeprefix(within)
            _attach(modules, slot, WeightQuantizer(weight.tensor, value, axis, path, rows))
    batch = WeightBatch()
    for _, _, quantizer in weight_quantizers(model):
        quantizer.batch = batch
    batch.attach(model)
    # In training an in-place SiLU copies its input first: it costs more than it saves.
    for module in modules.values():
        if isinstance(module, nn.SiLU):
            module.inplace = False
    SiluAhead().attach(model)


def _slot(traced: Trace, node: str, index: int) -> Slot:
    slot = traced.slots.get((node, index))
    if slot is None:
        raise QuantbenchError(f"input {index} of {node} cannot carry a quantizer; name it under keep_float")
    return slot


def _merge(names: dict[str, str], old: str, new: str) -> None:
    for key, value in names.items():
        if value == old:
            names[key] = new


def _attach(modules: dict[str, nn.Module], slot: Slot, quantizer: TensorQuantizer | WeightQuantizer) -> None:
    owner = modules[slot.module]
    is_weight = isinstance(quantizer, WeightQuantizer)
    if type(owner) in _REPLACED or type(owner) in _REPLACED.values():
        if not is_weight or type(owner) in _REPLACED:
            owner.__class__ = _REPLACED.get(type(owner), type(owner))
        setattr(owner, WEIGHT if is_weight else INPUT, quantizer)
        return
    name = _name(owner, slot, is_weight)
    setattr(owner, name, quantizer)
    _router(owner).table.setdefault((slot.kind, slot.ordinal), {})[slot.argument] = name


def _name(owner: nn.Module, slot: Slot, is_weight: bool) -> str:
    """Attribute of `owner` that a quantizer at `slot` gets."""
    if type(owner) in _REPLACED or type(owner) in _REPLACED.values():
        return WEIGHT if is_weight else INPUT
    if is_weight and slot.ordinal == 0:
        return WEIGHT
    leaf = next((m for m in owner.children() if not isinstance(m, (TensorQuantizer, WeightQuantizer))), None) is None
    if not is_weight and slot.ordinal == slot.argument == 0 and (leaf or slot.kind in ("conv", "deconv", "linear")):
        return INPUT
    return f"{slot.kind}_{slot.ordinal}_{slot.argument}{WEIGHT if is_weight else INPUT}"


def _router(owner: nn.Module) -> SiteRouter:
    router = owner.__dict__.get("_site_router")
    if not isinstance(router, SiteRouter):
        router = SiteRouter()
        router.attach(owner)
        owner.__dict__["_site_router"] = router
    return router


def plan_for(
    traced: Trace, options: PlacementOptions, float_modules: tuple[str, ...] = (), *, best: PredictedFor | None = None
) -> Plan:
    """The Plan of the one rule set for a traced model; every node of `float_modules` (and below) stays float.

    Where such a head is named, the rule that guesses the head from the graph is off: it would look through the named
    one and keep the convs before it. With `best`: the variant of least cost by the predictor for it, instead of the
    rules as they are (`quantbench.predict.best`).
    """
    patterns = [
        f"{module}{tail}"
        for module in float_modules
        for tail in ("/*", ".*")
        if any(node.name.startswith(module + tail[0]) for node in traced.view.nodes)
    ]
    kept = (*options.keep_float, *patterns)
    head = options.head_float and not float_modules
    # What is placed for onnxruntime has sites that are no input of a torch module; QAT trains for TensorRT.
    options = replace(options, keep_float=kept, head_float=head, for_onnxruntime=False)
    if best is None:
        return place(traced.view, options)
    cost = device_cost(best.device) if best.device else None
    plan = best_placement(traced.view, options, version=best.tensorrt or DEFAULT, gpu=best.gpu, cost=cost).plan
    # It puts Q/DQ before ops that only move data, which in torch are no calls that a quantizer could stand at.
    carried = tuple(site for site in plan.activations if (site.node, site.index) in traced.slots)
    return replace(plan, activations=carried)
