"""How far onnxruntime's INT8 is from our own reading of the same model, in steps of each quantized tensor."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.evaluate.int8_reference import Int8Reference
from quantbench.ort import create_session, run


@dataclass(frozen=True, slots=True)
class Int8Agreement:
    """Over `values` integers of `tensors` tensors: how many differ, by how many steps at most, and in which tensor.

    Each tensor is computed of what onnxruntime had before it, so that a step at one is not a fault of the next.
    """

    tensors: int
    values: int
    differing: int
    worst: int
    where: str


def int8_agreement(
    model: onnx.ModelProto, feeds: Iterable[Mapping[str, NDArray[np.generic]]], *, optimize: bool = True,
    threads: int = 0,
) -> Int8Agreement:  # fmt: skip
    """Compare on `feeds`. `optimize`: with onnxruntime's graph optimizations, so that its integer kernels run; without
    them it computes Q, DQ and float kernels as they stand.

    Raises QuantbenchError for a model without Q, and for what the reference or onnxruntime does not run.
    """
    reference = Int8Reference(model)
    names = reference.quantized
    if not names:
        raise QuantbenchError("the model quantizes no activation: there is no INT8 arithmetic to compare")
    session = create_session(model, threads=threads, optimize=optimize, outputs=names)
    values = differing = worst = 0
    where = ""
    for feed in feeds:
        theirs = dict(zip(names, run(session, names, feed), strict=True))
        ours, _ = reference.run(feed, theirs)
        for name, integers in ours.items():
            off = np.abs(integers.astype(np.int64) - theirs[name].astype(np.int64))
            values += off.size
            differing += int(np.count_nonzero(off))
            if off.size and off.max() > worst:
                worst, where = int(off.max()), name
    return Int8Agreement(len(names), values, differing, worst, where)
