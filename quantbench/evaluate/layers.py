"""Per-layer damage: SQNR and cosine of each layer in the INT8 model against the float one, where the next layer reads
it: behind the activation that TensorRT fuses into it. Before a Clip or Relu stand values that nobody ever reads, and
the error of a network's stem there says 9 dB where what goes on has 33. Streaming."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx

from quantbench.calibration.ort_outputs import Feed, InnerTensors, images_of
from quantbench.calibration.sums import Sums
from quantbench.graph.ops import ACTIVATIONS
from quantbench.qdq.simulate import simulated
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
    """Errors behind each of `nodes` (names in both models) and its activation, the worst first.

    `quantized`: with Q/DQ, in float kernels (`quantbench.qdq.simulate`). Both models run on the same feeds; the error
    includes what earlier layers brought.
    """
    made = {node.name: node for node in model.graph.node}
    places = ends(model)
    kept = {out for node in quantized.graph.node for out in node.output}
    wanted: dict[str, tuple[str, str]] = {}
    for name in nodes:
        if name not in made:
            continue
        tensor, behind = places[name]
        # A Clip or Relu that became one on integers, or went into a Q, leaves no tensor in the INT8 model.
        own = made[name].output[0]
        if tensor in kept or own in kept:
            wanted[name] = (tensor, behind) if tensor in kept else (own, "")
    tensors = list(dict.fromkeys(tensor for tensor, _ in wanted.values()))
    totals = np.zeros((len(tensors), 4))
    # Of a large model only one copy is held beside the sessions: each goes when what comes of it stands.
    plain = simulated(quantized)
    del quantized
    integers = InnerTensors(plain, tensors, threads=threads, fuse_qdq=False, free=tensors)
    floats = InnerTensors(model, tensors, threads=threads, free=integers.blocked)
    if floats.blocked != integers.blocked:  # elements must stand in one order
        integers = InnerTensors(plain, tensors, threads=threads, fuse_qdq=False, free=floats.blocked)
    del plain
    for feed in feeds:
        for part in floats.cached_parts(feed):
            with floats.bound(part) as one, integers.bound(part) as other, Sums(threads) as sums:
                twins = {bound.name: bound.block for bound in other}
                known = {bound.name: row for row, bound in enumerate(one)}
                found = sums.differences([(bound.block, twins[bound.name]) for bound in one])
                totals += found[[known[name] for name in tensors]]
        if on_batch:
            on_batch(images_of(feed))
    row_of = {tensor: row for row, tensor in enumerate(tensors)}
    errors = []
    for name, (tensor, behind) in wanted.items():
        xx, yy, xy, noise = totals[row_of[tensor]]
        if not np.isfinite(totals[row_of[tensor]]).all():
            continue  # calibration told of it by name: what is no number has no error
        sqnr = None if noise == 0 else float(10 * np.log10(max(xx, 1e-300) / noise))
        cosine = float(np.clip(xy / np.sqrt(xx * yy), -1, 1)) if xx > 0 and yy > 0 else float(xx == yy)
        errors.append(LayerError(name, made[name].op_type, tensor, sqnr, cosine, behind))
    return sorted(errors, key=lambda error: np.inf if error.sqnr_db is None else error.sqnr_db)


def ends(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """For each node the tensor behind it and the activation that alone reads it, and that activation's operator:
    (its own output, "") where no activation follows. SiLU and HardSwish as x · f(x) count as one."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    return {node.name: _end(node.output[0], readers, outputs) for node in model.graph.node if node.output}


def _end(tensor: str, readers: dict[str, list[onnx.NodeProto]], outputs: set[str]) -> tuple[str, str]:
    around = readers.get(tensor, [])
    if tensor in outputs or not around:
        return tensor, ""
    if len(around) == 1:
        only = around[0]
        # A BatchNormalization that the exporter left is folded into the conv, and its activation follows.
        if only.op_type == "BatchNormalization" and only.input[0] == tensor:
            return _end(only.output[0], readers, outputs)
        if only.op_type in ACTIVATIONS and only.input[0] == tensor:
            return only.output[0], only.op_type
    if len(around) == 2:
        gates = [node for node in around if node.op_type in ("Sigmoid", "HardSigmoid", "Tanh")]
        products = [node for node in around if node.op_type == "Mul"]
        if len(gates) == len(products) == 1 and gates[0].output[0] in products[0].input:
            return products[0].output[0], "SiLU" if gates[0].op_type == "Sigmoid" else f"x {gates[0].op_type}(x)"
    return tensor, ""
