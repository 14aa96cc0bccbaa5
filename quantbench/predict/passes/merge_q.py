"""HorizontalMergeQNodes: Qs that read one tensor with one scale become one Q."""

from collections.abc import Callable, Hashable

from quantbench.graph.ops import QUANTIZE
from quantbench.predict.net import Net, Op

NAME = "HorizontalMergeQNodes"


def run(net: Net, last_stays: bool) -> bool:
    """Merge twins; `last_stays` tells which one survives (`versions`). True if any were merged."""
    merged = False
    groups: dict[tuple[str, Hashable], list[Op]] = {}
    for op in net.of_kind(QUANTIZE):
        groups.setdefault((op.inputs[0], op.scale), []).append(op)
    for twins in groups.values():
        if len(twins) < 2:
            continue
        stays = _survivor(twins, last_stays)
        # The survivor serves the readers of all, so it must stand before the first of them.
        stays.order = min(twin.order for twin in twins)
        for twin in twins:
            if twin is stays or twin.out in net.outputs:
                continue
            net.step(NAME, "merge", stays.name, twin.name)
            net.remove(twin)
            net.redirect(twin.out, stays.out)
            merged = True
    return merged


def _survivor(twins: list[Op], last_stays: bool) -> Op:
    """The log of 8.4 keeps the first, that of 8.5 the last; both drop clones before the network's own Qs."""
    pick: Callable[..., Op] = max if last_stays else min
    own = [twin for twin in twins if not twin.clone_of]
    return pick(own or twins, key=lambda op: op.order)
