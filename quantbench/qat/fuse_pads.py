"""Zero padding in front of a conv becomes the conv's own: engines fuse it there, and Q/DQ has one place less to be."""

import numpy as np
import onnx_graphsurgeon as gs


def fuse_pads(graph: gs.Graph) -> None:
    """Move every constant, zero, spatial Pad into the `pads` of the Conv that reads it (in place)."""
    for conv in graph.nodes:
        if conv.op != "Conv" or conv.attrs.get("auto_pad", "NOTSET") != "NOTSET" or not conv.inputs[0].inputs:
            continue
        pad = conv.inputs[0].inputs[0]
        added = _spatial_zeros(pad) if pad.op == "Pad" else None
        if added is None:
            continue
        own = conv.attrs.get("pads") or [0] * len(added)
        conv.attrs["pads"] = [int(a) + int(b) for a, b in zip(own, added, strict=True)]
        conv.inputs[0] = pad.inputs[0]


def _spatial_zeros(pad: gs.Node) -> list[int] | None:
    """Begins and ends of the spatial axes, None where `pad` does anything else than add zeros there."""
    if pad.attrs.get("mode", "constant") != "constant" or len(pad.inputs) < 2:
        return None
    amounts = pad.inputs[1]
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    if not isinstance(amounts, gs.Constant) or (len(pad.inputs) > 3 and not pad.inputs[3].is_empty()):
        return None
    if value is not None and not value.is_empty() and not (isinstance(value, gs.Constant) and not np.any(value.values)):
        return None
    sides = np.asarray(amounts.values).reshape(2, -1)
    if np.any(sides < 0) or np.any(sides[:, :2]):
        return None
    return [int(v) for v in sides[:, 2:].reshape(-1)]
