"""Min-max ranges of a plan's tensors on one batch."""

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.qdq.plan import Plan


def ranges_of(model: onnx.ModelProto, plan: Plan, images: NDArray[np.float32]) -> Ranges:
    """Ranges of `plan` with `images` at the model's input."""
    maxima = maxima_of(collect(model, [{model.graph.input[0].name: images}], plan.tensors))
    return Ranges({name: TensorRange(amax) for name, amax in maxima.items()})
