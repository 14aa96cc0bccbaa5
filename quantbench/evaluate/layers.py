"""Per-layer damage: SQNR and cosine of each layer's output in the INT8 model against the float one. Streaming."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx

from quantbench.calibration.ort_outputs import Feed, InnerTensors
from quantbench.records.evaluation import LayerError


def layer_errors(
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    nodes: Sequence[str],
    feeds: Iterable[Feed],
    *,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> list[LayerError]:
    """Errors at the first output of each of `nodes` (names in both models), the worst first.

    Both models run on the same feeds; the error includes what earlier layers brought.
    """
    outputs = {node.name: (node.op_type, node.output[0]) for node in model.graph.node}
    kept = {out for node in quantized.graph.node for out in node.output}
    wanted = [name for name in nodes if name in outputs and outputs[name][1] in kept]
    tensors = [outputs[name][1] for name in wanted]
    floats = InnerTensors(model, tensors, threads=threads)
    integers = InnerTensors(quantized, tensors, threads=threads)
    sums = {tensor: np.zeros(4) for tensor in tensors}
    for feed in feeds:
        for (tensor, a), (_, b) in zip(floats.run(feed), integers.run(feed), strict=True):
            x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
            sums[tensor] += (x @ x, y @ y, x @ y, ((x - y) ** 2).sum())
        if on_batch:
            on_batch(next(iter(feed.values())).shape[0])
    errors = []
    for name, tensor in zip(wanted, tensors, strict=True):
        xx, yy, xy, noise = sums[tensor]
        sqnr = 300.0 if noise == 0 else float(10 * np.log10(max(xx, 1e-300) / noise))
        cosine = float(xy / np.sqrt(xx * yy)) if xx > 0 and yy > 0 else float(xx == yy)
        errors.append(LayerError(name, outputs[name][0], tensor, sqnr, cosine))
    return sorted(errors, key=lambda error: error.sqnr_db)
