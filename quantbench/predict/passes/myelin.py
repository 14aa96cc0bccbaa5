"""Myelin: stretches of the network that TensorRT hands to another compiler, one `{ForeignNode[first...last]}` each.

1. Convolutions, poolings, Resize, NonMaxSuppression, loops and whatever has kernels of its own stay outside; so do a Q
   and a DQ between such a layer and the next.
2. What is left falls into connected stretches. Those with a seed go to Myelin: index arithmetic (Gather, Cast ...) and
   LayerNormalization in every version, attention (a MatMul of two activations) in 8.6 (`Version.myelin_attention`),
   where matrix products in INT8 stay outside, every MatMul and Gemm from 10 (`Version.myelin_matmul`).
   A BatchNormalization, activation or Add beside a seed goes along; without a seed they stay.
3. A stretch may not wrap around a layer outside that it feeds: it is cut there.
4. Versions with `myelin_matmul`: Q and DQ of what is inside go in. A DQ goes with its readers; a Q with its DQs, unless
   an INT8 conv can take it. A Q that a stretch feeds and a conv reads stays outside, a Reformat of its own.
5. Inside, no kernel is claimed: how many there are is estimated, from `KERNELS_A_GEMM`.

    Conv -> BN -> Reshape -> MatMul ... -> Reshape -> Q -> DQ -> Conv       Conv, {BN ... Reshape}, Q, Conv
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from quantbench.graph.ops import AVERAGES, DEQUANTIZE, MATRIX, MYELIN_SEEDS, NATIVE, QUANTIZE, SHUFFLES
from quantbench.predict.net import Net, Op
from quantbench.predict.versions import Version

_IMAGE = 4  # dimensions
# Kinds of the simulation's own, and recurrent layers.
_OWN = frozenset({"UnfoldedBN", "LSTM", "GRU", "RNN", "GlobalMaxPool"})
_PASSED = SHUFFLES | {"Relu", "BatchNormalization"}
# Index arithmetic, which the operator table marks as seeds: the head of the trt852 log goes to Myelin, that of the
# yolov8 log (Slice, Softmax, Add, Div only) does not; nor do the Slices, Softmax and Transpose of the 8.6.0 backbone.
# 10.9 RT-DETRv2: 11 kernels for 6 matrix products and attentions, 95 for 51.
KERNELS_A_GEMM = 1.85


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product by weights inside a ForeignNode; `input_dq`, `weight_dq`: which of its inputs a DQ makes."""

    node: str
    source: str
    weights: str
    input_dq: bool
    weight_dq: bool

    @property
    def int8(self) -> bool:
        """Whether it computes in INT8 (10.9 log: gemms with Int8 in and out)."""
        return self.input_dq and self.weight_dq


class Sizes(NamedTuple):
    """A matrix product of m x n x k, `groups` times; `int8`: both of its sides are DQs'."""

    m: int
    n: int
    k: int
    groups: int
    int8: bool


def sizes(op: Op) -> tuple[Sizes, ...]:
    """Matrix products inside `op`, attention's too, () where it is no ForeignNode."""
    found = op.attributes.get("matrix", ())
    return found if isinstance(found, tuple) else ()


def products(op: Op) -> tuple[Product, ...]:
    """Products inside `op`, () where it is no ForeignNode."""
    found = op.attributes.get("inside", ())
    return found if isinstance(found, tuple) else ()


def run(net: Net, version: Version) -> None:
    """Replace each such stretch by one Myelin op."""
    ops = net.ops
    outside = {op for op in ops if _native(net, op, version)}
    seeds = {op for op in ops if op not in outside and _seed(net, op, version)}
    if not seeds:
        return
    if version.myelin_matmul or version.myelin_attention:
        _qdq_sides(net, ops, outside)
    levels = _levels(net, ops, outside)
    for group in _groups(net, [op for op in ops if op not in outside], levels):
        alone = len(group) == 1 and group[0].kind not in MATRIX
        if not alone and any(op in seeds for op in group):
            _replace(net, group)


def _native(net: Net, op: Op, version: Version) -> bool:
    """Rule 1. A ReduceMean over anything but an image (a LayerNorm's) is not native where attention is not."""
    if not (version.myelin_matmul or version.myelin_attention):
        return op.kind in NATIVE or op.kind in _OWN
    if op.kind == "ReduceMean":
        shape = net.shape(op.inputs[0])
        return shape is not None and len(shape) == _IMAGE
    if op.kind in MATRIX:
        int8 = bool(_weight(net, op)) and all(_dequantized(net, t) for t in op.inputs[:2])
        return int8 and not version.myelin_matmul
    if op.kind in (QUANTIZE, DEQUANTIZE):
        return False
    if op.kind == "BatchNormalization":
        return not version.myelin_matmul
    return op.kind in NATIVE or op.kind in _OWN


def _seed(net: Net, op: Op, version: Version) -> bool:
    """Rule 2."""
    if op.kind in MATRIX:
        return version.myelin_matmul or (version.myelin_attention and not _weight(net, op))
    return op.kind in MYELIN_SEEDS


def _qdq_sides(net: Net, ops: list[Op], outside: set[Op]) -> None:
    """Rule 4: add to `outside` each Q and DQ that stays there."""
    for op in reversed(ops):
        if op.is_dq:
            readers = net.readers(op.out)
            if any(_leads_outside(net, r, outside) for r in readers) or (
                not readers and not _returned(net, op, outside)
            ):
                outside.add(op)
        elif op.is_q:
            readers = net.readers(op.out)
            if not readers or any(r in outside for r in readers) or _conv_takes(net, op):
                outside.add(op)


def _leads_outside(net: Net, op: Op, outside: set[Op]) -> bool:
    """Whether `op`, or what reads it past the shuffles that a DQ moves behind, stays outside."""
    while op.kind in SHUFFLES and (follower := net.only_reader(op.out)) is not None:
        op = follower
    return op in outside


def _returned(net: Net, dq: Op, outside: set[Op]) -> bool:
    """Whether `dq` is what the network returns of a stretch: it goes in (i-vit engine: a kernel inside Myelin)."""
    q = net.producer(dq.inputs[0])
    maker = net.producer(q.inputs[0]) if q is not None and q.is_q else None
    return maker is not None and maker not in outside


def _conv_takes(net: Net, q: Op) -> bool:
    """Whether an INT8 conv can take `q`, past what goes into the conv, or an average pooling, past a Flatten."""
    maker = net.producer(q.inputs[0])
    shuffled = False
    while maker is not None and maker.kind in _PASSED and net.only_reader(maker.out) is not None:
        shuffled = shuffled or maker.kind in SHUFFLES
        maker = net.producer(maker.inputs[0])
    if maker is None or maker.kind not in (AVERAGES if shuffled else AVERAGES | {"Conv"}):
        return False
    first = net.producer(maker.inputs[0])
    return first is not None and first.is_dq


def _levels(net: Net, ops: list[Op], outside: set[Op]) -> dict[Op, int]:
    """Rule 3: how often the way to an op leaves foreign ground."""
    levels: dict[Op, int] = {}
    for op in ops:
        level = 0
        for maker in (net.producer(t) for t in op.inputs):
            if maker is not None:
                left = maker not in outside and op in outside
                level = max(level, levels.get(maker, 0) + left)
        levels[op] = level
    # What only later stretches read belongs to them.
    for op in reversed(ops):
        readers = [r for o in op.outputs for r in net.readers(o)]
        if op in outside or not readers or any(o in net.outputs for o in op.outputs):
            continue
        if all(r not in outside for r in readers):
            levels[op] = max(levels[op], min(levels[r] for r in readers))
    return levels


def _groups(net: Net, foreign: list[Op], levels: dict[Op, int]) -> list[list[Op]]:
    members = set(foreign)
    seen: set[Op] = set()
    groups = []
    for start in foreign:
        if start in seen:
            continue
        group, waiting = [], [start]
        seen.add(start)
        while waiting:
            op = waiting.pop()
            group.append(op)
            near = [p for p in map(net.producer, op.inputs) if p is not None]
            near += [r for o in op.outputs for r in net.readers(o)]
            for other in near:
                if other in members and other not in seen and levels[other] == levels[start]:
                    seen.add(other)
                    waiting.append(other)
        groups.append(sorted(group, key=lambda op: op.order))
    return groups


def _replace(net: Net, group: list[Op]) -> None:
    inside = set(group)
    made = {o for op in group for o in op.outputs}
    # TensorRT sorts depth first from the network's inputs, the last one first; weights do not stand for a stretch.
    weights = _behind_weights(net, group)
    group = sorted(group, key=lambda op: (not any(t in net.inputs for t in op.inputs), op in weights, op.order))
    inputs = [t for op in group for t in op.inputs if t not in made and t not in net.constants]
    outputs = [o for op in group for o in op.outputs
               if o in net.outputs or any(r not in inside for r in net.readers(o))]  # fmt: skip
    outputs.sort(key=lambda o: net.outputs.index(o) if o in net.outputs else -1)
    last = max(group, key=lambda op: op.order)
    name = f"{{ForeignNode[{group[0].name}...{last.name}]}}"
    facts = _inside(net, group)
    for op in group:
        net.remove(op)
        if op.is_q or op.is_dq:
            net.step("Myelin", "inside", name, op.name)
            net.note(op.name, "myelin")
    net.step("Myelin", "fuse", name, *(op.name for op in group))
    nodes = [node for op in sorted(group, key=lambda op: op.order) for node in op.nodes]
    trait = "myelin-matmul" if any(op.kind in MATRIX for op in group) else "myelin"
    net.add(Op("Myelin", name, list(dict.fromkeys(inputs)), outputs, last.order, nodes, facts, traits=[trait]))


def _behind_weights(net: Net, group: list[Op]) -> set[Op]:
    """Q, DQ and shuffles of constants."""
    found: set[Op] = set()
    for op in group:
        makers = [net.producer(t) for t in op.inputs[:1]]
        if op.inputs and (op.inputs[0] in net.constants or any(m in found for m in makers)) and not op.weighted:
            found.add(op)
    return found


def _inside(net: Net, group: list[Op]) -> dict[str, object]:
    """Rule 5: matrix products by weights, those in INT8, and the kernels to expect. Products of two activations with a
    Softmax between are one attention; products of one tensor by several weights are one."""
    roots = {op: root for op in group if op.kind in MATRIX and (root := _weight(net, op))}
    weighted = list(roots)
    others = sum(op.kind in MATRIX for op in group) - len(weighted)
    sources = {_source(net, op.inputs[0]) for op in weighted}
    kernels = max(1, round(KERNELS_A_GEMM * (len(sources) + (others + 1) // 2)))
    return {
        "inside": tuple(
            Product(op.nodes[0], op.inputs[0], roots[op], *(_dequantized(net, t) for t in op.inputs[:2]))
            for op in weighted
        ),
        "kernels_estimated": kernels,
        "matrix": tuple(_matrix(net, group, roots)),
    }


def _matrix(net: Net, group: list[Op], roots: dict[Op, str]) -> Iterator[Sizes]:
    """Sizes of the products, those of one tensor by several weights as one; those of unknown shapes left out."""
    joined: dict[tuple[str, int, int, bool], int] = {}
    for op in group:
        if op.kind not in MATRIX:
            continue
        out, first = (_one_sample(net.shape(t)) for t in (op.out, op.inputs[0]))
        if not out or not first:
            continue
        n, k = out[-1], first[-1]
        if op in roots:
            key = (_source(net, op.inputs[0]), math.prod(out) // n, k, all(_dequantized(net, t) for t in op.inputs[:2]))
            joined[key] = joined.get(key, 0) + n
        else:
            yield Sizes(out[-2] if len(out) > 1 else 1, n, k, math.prod(out[:-2]), False)
    for (_, m, k, int8), n in joined.items():
        yield Sizes(m, n, k, 1, int8)


def _one_sample(shape: tuple[int | str | None, ...] | None) -> tuple[int, ...]:
    """`shape` with an open batch as 1; () where it is unknown or another size is open."""
    known = [d if isinstance(d, int) and d > 0 else 0 for d in shape or ()]
    if known and not known[0]:
        known[0] = 1
    return tuple(known) if all(known) else ()


def _dequantized(net: Net, tensor: str) -> bool:
    """Whether a DQ makes `tensor`, or a shuffle that it moves past."""
    maker = net.producer(tensor)
    while maker is not None and maker.kind in SHUFFLES:
        maker = net.producer(maker.inputs[0])
    return maker is not None and maker.is_dq


def _source(net: Net, tensor: str) -> str:
    """What a product reads, before its own Q and DQ."""
    maker = net.producer(tensor)
    while maker is not None and (maker.is_q or maker.is_dq):
        tensor = maker.inputs[0]
        maker = net.producer(tensor)
    return tensor


def _weight(net: Net, op: Op) -> str:
    """The constant that input 1 comes from, by way of Q, DQ and shuffles; "" for none."""
    tensor = op.inputs[1] if len(op.inputs) > 1 else ""
    while tensor and tensor not in net.constants:
        maker = net.producer(tensor)
        if maker is None or not (maker.is_q or maker.is_dq or maker.kind in ("Transpose", "Reshape")):
            return ""
        tensor = maker.inputs[0]
    return tensor
