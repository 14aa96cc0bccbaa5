"""What the predictor says of the Q/DQ model, as plain data for run.json and the report."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from quantbench.graph.ops import WEIGHTED
from quantbench.predict.simulate import predict_model
from quantbench.predict.words import guesses

_VERSION = "10"


def prediction_facts(path: Path) -> dict[str, Any]:
    """Summary of the engine that TensorRT 10 is predicted to build from the Q/DQ model at `path`."""
    model = onnx.load(str(path))
    found = predict_model(model, version=_VERSION)
    return {
        "for": f"TensorRT {_VERSION}",
        "layers": len(found.layers),
        "int8_layers": found.int8_layers,
        "weighted": sum(node.op_type in WEIGHTED for node in model.graph.node),
        "fates": dict(Counter(fate.status for fate in found.fates)),
        "left_over": [fate.to_json() for fate in found.leftover],
        "reformats": len(found.reformats),
        "float_bytes": found.float_bytes,
        "float_weighted": [item.to_json() for item in found.float_weighted],
        "float_outputs": [item.to_json() for item in found.float_outputs],
        "guesses": [{"why": why, "what": what} for why, what in guesses(found)],
    }
