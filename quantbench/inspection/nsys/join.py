"""Which kernel belongs to which layer: by the NVTX ranges that TensorRT puts around layers, else by the kernel's name
and, where launches are in order, by their order."""

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from quantbench.inspection.nsys.trace import Kernel, Trace
from quantbench.inspection.profile import Profile, Row
from quantbench.layers.layer import Layer
from quantbench.layers.names import strip_profile

_ENDS = re.compile(r"(?:_execute)?(?:_split_k)?_kernel(?:_trt)?$|_kernel_trt$|_execute$")


def layer_times(layers: Sequence[Layer], trace: Trace) -> tuple[Profile, tuple[str, ...]]:
    """Times a call of the layers whose kernels were found, and sentences on how and on what was not.

    A layer's time is the sum of its kernels'; the calls are counted by what most layers ran.
    """
    names = {strip_profile(layer.name): index for index, layer in enumerate(layers)}
    by_range = [_layer_of_range(kernel.range, names) for kernel in trace.kernels]
    if sum(index is not None for index in by_range) * 2 >= len(trace.kernels) > 0:
        found, how = by_range, "by NVTX ranges"
    elif trace.in_order:
        found, how = _by_order(layers, trace.kernels), "by name and order"
    else:
        return _by_name(layers, trace)
    total: dict[int, float] = defaultdict(float)
    counts: dict[tuple[int, str], int] = defaultdict(int)
    for kernel, index in zip(trace.kernels, found, strict=True):
        if index is not None:
            total[index] += kernel.total_ms
            counts[index, kernel.name] += kernel.count
    calls = max(1, round(statistics.median(counts.values()))) if counts else 0
    rows = tuple(Row(layers[index].name, total[index] / calls) for index in sorted(total))
    lost = sum(kernel.total_ms for kernel, index in zip(trace.kernels, found, strict=True) if index is None)
    return Profile(calls, rows), _notes(len(rows), len(layers), how, calls, lost, trace.total_ms)


def _by_name(layers: Sequence[Layer], trace: Trace) -> tuple[Profile, tuple[str, ...]]:
    """Sums a kernel: layers of one kernel get its mean each."""
    rows: dict[int, Row] = {}
    calls, lost = [], 0.0
    for kernel in trace.kernels:
        owners = [index for index, layer in enumerate(layers) if _fits(layer.tactic, kernel.name)]
        if not owners or not kernel.count:
            lost += kernel.total_ms
            continue
        calls.append(kernel.count / len(owners))
        for index in owners:
            rows[index] = Row(layers[index].name, kernel.total_ms / kernel.count)
    count = max(1, round(statistics.median(calls))) if calls else 0
    notes = _notes(len(rows), len(layers), "by name; layers of one kernel share its mean", count, lost, trace.total_ms)
    return Profile(count, tuple(rows[index] for index in sorted(rows))), notes


def _by_order(layers: Sequence[Layer], kernels: Sequence[Kernel]) -> list[int | None]:
    """For each launch the next layer, in the engine's order and round and round, that has this kernel."""
    owners: dict[str, list[int]] = {}
    found: list[int | None] = []
    last = -1
    for kernel in kernels:
        if kernel.name not in owners:
            owners[kernel.name] = [i for i, layer in enumerate(layers) if _fits(layer.tactic, kernel.name)]
        candidates = owners[kernel.name]
        index = next((i for i in candidates if i > last), candidates[0] if candidates else None)
        found.append(index)
        last = last if index is None else index
    return found


def _fits(tactic: str, kernel: str) -> bool:
    """Tactics are called as their kernels, without the ends that the compiled functions have."""
    if len(tactic) < 8 or tactic.startswith("0x"):
        return False
    plain = _ENDS.sub("", tactic)
    return plain in kernel or _ENDS.sub("", kernel.removeprefix("void ").partition("<")[0].partition("(")[0]) == plain


def _layer_of_range(text: str, names: Mapping[str, int]) -> int | None:
    plain = strip_profile(text.rpartition("TensorRT:")[2].strip())
    return names.get(plain)


def _notes(found: int, layers: int, how: str, calls: int, lost: float, total: float) -> tuple[str, ...]:
    share = f"{100 * lost / total:.1f} %" if total else "none"
    return (
        f"nsys: kernels of {found} of {layers} layers were found {how}, over {calls} calls; {share} of the kernels' "
        f"time belongs to no layer",
    )
