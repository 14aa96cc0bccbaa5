"""Myelin: stretches of index arithmetic and what touches them become one `{ForeignNode[a...b]}` (a guess)."""

from quantbench.graph.ops import MYELIN_SEEDS, NATIVE
from quantbench.predict.net import Net, Op

# What keeps TensorRT's own kernels, whatever stands around it.
_NATIVE = NATIVE | {"UnfoldedBN"}
# MYELIN_SEEDS pull their surroundings into Myelin: the head of the trt852 log goes there, that of the yolov8 log
# (Slice, Softmax, Add, Div only) does not.


def run(net: Net) -> None:
    """Replace each connected stretch of non-native ops that holds a seed by one Myelin op."""
    ops = net.ops
    if not any(op.kind in MYELIN_SEEDS for op in ops):
        return
    foreign = [op for op in ops if op.kind not in _NATIVE]
    levels = _levels(net, ops)
    for group in _groups(net, foreign, levels):
        if any(op.kind in MYELIN_SEEDS for op in group) and len(group) > 1:
            _replace(net, group)


def _levels(net: Net, ops: list[Op]) -> dict[Op, int]:
    """How often the way to an op leaves foreign ground: a stretch may not wrap around a native op that it feeds."""
    levels: dict[Op, int] = {}
    for op in ops:
        level = 0
        for maker in (net.producer(t) for t in op.inputs):
            if maker is not None:
                left = maker.kind not in _NATIVE and op.kind in _NATIVE
                level = max(level, levels.get(maker, 0) + left)
        levels[op] = level
    # What only later stretches read belongs to them.
    for op in reversed(ops):
        readers = [r for o in op.outputs for r in net.readers(o)]
        if op.kind in _NATIVE or not readers or any(o in net.outputs for o in op.outputs):
            continue
        if all(r.kind not in _NATIVE for r in readers):
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
    inputs = [t for op in group for t in op.inputs if t not in made and t not in net.constants]
    outputs = [o for op in group for o in op.outputs
               if o in net.outputs or any(r not in inside for r in net.readers(o))]  # fmt: skip
    name = f"{{ForeignNode[{group[0].name}...{group[-1].name}]}}"
    for op in group:
        net.remove(op)
    net.step("Myelin", "fuse", name, *(op.name for op in group))
    nodes = [node for op in group for node in op.nodes]
    net.add(Op("Myelin", name, list(dict.fromkeys(inputs)), outputs, group[-1].order, nodes,
               guess="which layers go to Myelin"))  # fmt: skip
