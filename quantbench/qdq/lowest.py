"""How low the quantized activations of a network get on calibration images, written into its Q/DQ model.

Calibration counts |x|, which is all that symmetric INT8 asks. onnxruntime's kernels take any zero point, so where a
model is placed for them a pass over the images that correct biases finds the least value of each tensor that gets Q.
What operators tell (`bounds.py`) holds for all images, and is taken where it is higher.
"""

import json
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx

from quantbench.calibration.ort_outputs import Feed, InnerTensors
from quantbench.calibration.sweep import BFLOAT16, memory_of
from quantbench.qdq.simulate import simulated

PROPERTY = "quantbench.lowest"


def note_lowest(model: onnx.ModelProto, open_feeds: Callable[[], Iterable[Feed]], *, threads: int = 0) -> None:
    """Write into the metadata of the Q/DQ `model`, in place, the least value on these feeds of each tensor with a Q."""
    stored = {tensor.name for tensor in model.graph.initializer}
    tensors = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    wanted = [name for name in dict.fromkeys(tensors) if name not in stored]
    inner = InnerTensors(simulated(model), wanted, threads=threads, fuse_qdq=False)
    found: dict[str, float] = {}
    for feed in open_feeds():
        for part in inner.cached_parts(feed):
            with inner.bound(part) as blocks:
                for name, block, _ in blocks:
                    if block.size and block.dtype != BFLOAT16:
                        found[name] = min(found.get(name, np.inf), float(memory_of(block).min()))
    write_lowest(model, {name: found[name] for name in wanted if np.isfinite(found.get(name, np.nan))})


def lowest_noted(model: onnx.ModelProto) -> Mapping[str, float]:
    """What `note_lowest` wrote; nothing where nobody did."""
    text = next((prop.value for prop in model.metadata_props if prop.key == PROPERTY), "{}")
    try:
        return {str(name): float(low) for name, low in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def write_lowest(model: onnx.ModelProto, found: Mapping[str, float]) -> None:
    """The same of values that are known, in place."""
    for index in reversed([i for i, prop in enumerate(model.metadata_props) if prop.key == PROPERTY]):
        del model.metadata_props[index]
    model.metadata_props.add(key=PROPERTY, value=json.dumps(found, separators=(",", ":")))
