"""Weighted layers in INT8 or FP16 whose kernel uses no tensor cores."""

import re

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.table import rows
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short
from quantbench.layers.categories import category, is_weighted, precision

# Words in kernel names: imma and hmma are tensor-core instructions, tensorMxNxK their shape, dp4a and ffma are not.
_USES = re.compile(r"imma|hmma|i8816|i16832|i88|884|1688|16816|tensor\d|gmma|qmma|(?<!ff)xmma(?!.*ffma)")
# … and what the names of kernels without them hold: a name with neither tells nothing.
_LACKS = re.compile(r"simt|ffma|dp4a|(?:^|_)[ish]cudnn|int8x4|sgemm|fp32_nn|conv1x1_i8f32_f32")


def judge(inspection: Inspection) -> list[Verdict]:
    """Only kernels with a telling name are judged; FP32 and depthwise layers are left out."""
    items = [
        Item(short(row.layer), f"{precision(row.layer)} kernel {row.kernel}", row.time_ms)
        for row in rows(inspection)
        if is_weighted(row.layer)
        and category(row.layer) == "convolution"
        and precision(row.layer) in ("INT8", "FP16", "BF16")
        and "epthwise" not in row.layer.type
        and _LACKS.search(row.kernel)
        and "STUB" not in row.kernel
        and not uses_tensor_cores(row.kernel)
    ]
    if not items:
        return []
    return [
        Verdict(
            "tensor_cores", "cost", f"{count(len(items), 'conv')} without tensor cores",
            "Their kernels compute with dp4a or plain FMA instructions, at a fraction of the rate of tensor cores. "
            "Few channels or a missing layout are the usual causes.",
            "More workspace, or channel counts that are multiples of 16, let tensor-core kernels take part.",
            tuple(items),
        )
    ]  # fmt: skip


def uses_tensor_cores(kernel: str) -> bool:
    """Whether a kernel's name tells of tensor-core instructions."""
    return _USES.search(kernel) is not None and "ffma" not in kernel and "simt" not in kernel
