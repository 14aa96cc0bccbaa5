"""The per-layer table: one row a layer, with all that the sources tell of it."""

from dataclasses import dataclass

from quantbench.inspection.fate import op_of_name
from quantbench.inspection.flow import Flow
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.tactics import Choice, choices_for
from quantbench.inspection.profile import shares
from quantbench.inspection.verdicts.verdict import label
from quantbench.json_types import JsonObject
from quantbench.layers.categories import category, is_weighted, output_dtype, weight_dtype
from quantbench.layers.layer import Layer, LayerTensor
from quantbench.layers.names import strip_profile


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer as the table shows it. Times in ms, `share` a fraction, `nbytes` of inputs, outputs and
    weights, None where a shape or type is unknown.

    `label` are the ONNX nodes computed in the layer, `runner_up_ms` is the next fastest kernel for the same formats,
    `margin` how much slower it is (0.03 = 3 %).
    """

    index: int
    layer: Layer
    label: str
    category: str
    dtype_in: str
    dtype_out: str
    dtype_weights: str
    format_in: str
    format_out: str
    dims_out: tuple[int, ...]
    nbytes: int | None
    time_ms: float | None
    share: float | None
    kernel: str
    kernel_ms: float | None
    runner_up: str
    runner_up_ms: float | None
    margin: float | None
    device: str

    def to_json(self) -> JsonObject:
        """Plain data for `inspect.json`: the layer and what was joined to it."""
        data = self.layer.to_json()
        data |= {
            "index": self.index, "label": self.label, "category": self.category, "precision": self.dtype_in,
            "share": self.share, "bytes": self.nbytes,
            "kernel": self.kernel, "kernel_ms": self.kernel_ms, "runner_up": self.runner_up,
            "runner_up_ms": self.runner_up_ms, "margin": self.margin, "device": self.device,
        }  # fmt: skip
        return data


def rows(inspection: Inspection) -> tuple[LayerRow, ...]:
    """Rows in execution order."""
    timed = shares(inspection.layers)
    devices = _devices(inspection)
    elsewhere = frozenset(n for layer in inspection.layers if is_weighted(layer) for n in layer.nodes)
    by_layer: dict[str, list[Choice]] = {}
    if inspection.build is not None:
        for choice in inspection.build.tactics.choices:
            by_layer.setdefault(choice.layer, []).append(choice)
    return tuple(
        _row(
            index,
            layer,
            _label(layer, elsewhere, inspection.flow),
            timed[index],
            by_layer.get(strip_profile(layer.name), []),
            devices,
        )
        for index, layer in enumerate(inspection.layers)
    )


def _devices(inspection: Inspection) -> dict[str, str]:
    if inspection.build is None:
        return {}
    return {name: device for device, _, name in inspection.build.placements}


def _label(layer: Layer, elsewhere: frozenset[str], flow: Flow) -> str:
    """Myelin lists the convs before and behind a pointwise kernel among its nodes: they are not computed there."""
    if layer.type != "kgen":
        return label(layer)
    own = [node for node in layer.nodes if node not in elsewhere and not op_of_name(node)]
    if own:
        return " + ".join(own)
    before = [x for x in flow.before(layer) if is_weighted(x)]
    after = [x for x in flow.after(layer) if is_weighted(x)]
    if before:
        return f"epilogue of {label(before[0])}"
    return f"input of {label(after[0])}" if after else label(layer)


def _row(
    index: int, layer: Layer, name: str, share: float | None, choices: list[Choice], devices: dict[str, str]
) -> LayerRow:
    tactic = str(layer.attributes.get("TacticValue", layer.tactic))
    choice = next(choices_for(choices, strip_profile(layer.name), tactic), None)
    best, next_best = (choice.best, choice.runner_up) if choice is not None else (None, None)
    named = layer.tactic if not layer.tactic.startswith(("0x", "-")) and not layer.tactic.isdigit() else ""
    return LayerRow(
        index=index,
        layer=layer,
        label=name,
        category=category(layer),
        dtype_in="+".join(dict.fromkeys(t.dtype for t in layer.inputs)),
        dtype_out=output_dtype(layer),
        dtype_weights=weight_dtype(layer),
        format_in=_formats(layer.inputs),
        format_out=_formats(layer.outputs),
        dims_out=layer.outputs[0].dims if layer.outputs else (),
        nbytes=None if any(t.nbytes is None for t in (*layer.inputs, *layer.outputs)) else layer.traffic_bytes,
        time_ms=layer.time_ms,
        share=share,
        kernel=named or (best.kernel if best is not None else "") or layer.tactic,
        kernel_ms=best.time_ms if best is not None and best.time_ms > 0 else None,
        runner_up=(next_best.kernel or next_best.tactic) if next_best is not None else "",
        runner_up_ms=next_best.time_ms if next_best is not None else None,
        margin=choice.margin if choice is not None else None,
        device=devices.get(strip_profile(layer.name), ""),
    )


def _formats(tensors: tuple[LayerTensor, ...]) -> str:
    return "+".join(dict.fromkeys(t.format for t in tensors if t.format))
