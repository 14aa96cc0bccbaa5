"""What the placement rules chose, written into the Q/DQ model itself: so that lint, which sees only the file, does not
advise against a choice that was made on purpose."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from quantbench.qdq.plan import Plan

PROPERTY = "quantbench.placement"


@dataclass(frozen=True, slots=True)
class Recorded:
    """`floats`: node that stays float to the rule and the reason. `tensors`: activations that got Q/DQ. `integer`: they
    stand where onnxruntime wants them."""

    floats: Mapping[str, str] = field(default_factory=dict)
    tensors: frozenset[str] = frozenset()
    integer: bool = False


def record(model: onnx.ModelProto, plan: Plan) -> None:
    """Write into the metadata of `model`, in place, what `plan` decided."""
    forget(model)
    refused = {refusal.node: f"{refusal.rule}: {refusal.reason}" for refusal in plan.refusals}
    data: dict[str, object] = {"float": {**refused, **plan.kept_float}, "tensors": list(plan.tensors)}
    if plan.for_onnxruntime:
        data["onnxruntime"] = True
    model.metadata_props.add(key=PROPERTY, value=json.dumps(data, separators=(",", ":")))


def recorded(model: onnx.ModelProto) -> Recorded:
    """What `record` wrote; nothing where another tool made the model, or broke what stands there."""
    text = next((prop.value for prop in model.metadata_props if prop.key == PROPERTY), None)
    try:
        data = json.loads(text) if text is not None else {}
        floats = {str(k): str(v) for k, v in data["float"].items()}
        return Recorded(floats, frozenset(map(str, data["tensors"])), data.get("onnxruntime") is True)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Recorded()


def forget(model: onnx.ModelProto) -> None:
    """Remove the record from `model`, in place: for one whose Q/DQ are others now."""
    for index in reversed([i for i, prop in enumerate(model.metadata_props) if prop.key == PROPERTY]):
        del model.metadata_props[index]
