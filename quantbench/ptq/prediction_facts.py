"""What the predictor says of the Q/DQ model, as plain data for run.json and the report."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from quantbench.graph.onnx_view import view_of
from quantbench.predict.simulate import predict
from quantbench.qdq.ops import WEIGHTED

_VERSION = "10"


def prediction_facts(path: Path) -> dict[str, Any]:
    """Summary of the engine that TensorRT 10 is predicted to build from the Q/DQ model at `path`."""
    view = view_of(onnx.load(str(path)))
    found = predict(view, version=_VERSION)
    return {
        "for": f"TensorRT {_VERSION}",
        "layers": len(found.layers),
        "int8_layers": found.int8_layers,
        "weighted": sum(node.op in WEIGHTED for node in view.nodes),
        "fates": dict(Counter(fate.status for fate in found.fates)),
        "left_over": [fate.to_json() for fate in found.leftover],
        "reformats": len(found.reformats),
        "float_bytes": found.float_bytes,
        "float_weighted": [item.to_json() for item in found.float_weighted],
        "float_outputs": [item.to_json() for item in found.float_outputs],
        "guesses": len(found.guesses),
    }
