"""Per-layer damage: SQNR and cosine of each layer in the INT8 model against the float one, where the next layer reads
it: behind the activation that TensorRT fuses into it. Before a Clip or Relu stand values that nobody ever reads, and
the error of a network's stem there says 9 dB where what goes on has 33. Streaming."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np
import onnx
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed, InnerTensors, images_of, parts_of, static_batch
from quantbench.calibration.sums import Sums
from quantbench.graph.ops import ACTIVATIONS
from quantbench.qdq.simulate import simulated
from quantbench.records.evaluation import LayerError
from quantbench.side_by_side import Sharing, in_order, in_pairs


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
    opened = iter(feeds)
    first = next(opened, None)
    fixed = static_batch(model)
    sharing = in_pairs(threads, images_of(first) if first else 1, fixed)
    # Of a large model only one copy is held beside the sessions: each goes when what comes of it stands.
    plain = simulated(quantized)
    del quantized
    each = sharing.threads
    integers = InnerTensors(plain, tensors, threads=each, fuse_qdq=False, free=tensors)
    floats = InnerTensors(model, tensors, threads=each, free=integers.blocked)
    if floats.blocked != integers.blocked:  # elements must stand in one order
        integers = InnerTensors(plain, tensors, threads=each, fuse_qdq=False, free=floats.blocked)
    del plain

    size = -(-sharing.size // sharing.batches)  # activations of two networks are alive
    all_feeds = chain([first] if first else [], opened)
    parts = (part for feed in all_feeds for part in ([feed] if fixed else parts_of(feed, size)))
    totals = _summed(floats, integers, tensors, parts, sharing, on_batch)
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


def _summed(
    floats: InnerTensors, integers: InnerTensors, tensors: Sequence[str], parts: Iterable[Feed], sharing: Sharing,
    on_batch: Callable[[int], None] | None,
) -> NDArray[np.float64]:  # fmt: skip
    """Sums of x^2, y^2, x y and (x - y)^2 of each tensor over all parts: float64 [tensors, 4]. Parts run side by side
    and are added in order."""

    def differences(part: Feed) -> tuple[int, NDArray[np.float64]]:
        with floats.bound(part) as one, integers.bound(part) as other:
            twins = {bound.name: bound.block for bound in other}
            known = {bound.name: row for row, bound in enumerate(one)}
            found = sums.differences([(bound.block, twins[bound.name]) for bound in one])
            return images_of(part), found[[known[name] for name in tensors]]

    totals = np.zeros((len(tensors), 4))
    with Sums(sharing.threads) as sums:
        for count, found in in_order(parts, differences, sharing.batches):
            totals += found
            if on_batch:
                on_batch(count)
    return totals


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
