"""Hold a calibration file against a model: what has no range, what matches nothing, what would run in float."""

from dataclasses import dataclass

from quantbench.cache.implicit import Derived, Meaning, meaning
from quantbench.cache.match import Match, Matching, match
from quantbench.cache.model import CalibrationCache
from quantbench.calibration.ranges import TensorRange
from quantbench.graph.ops import INT8
from quantbench.graph.view import GraphView


@dataclass(frozen=True, slots=True)
class FloatLayer:
    """Layer `node` cannot use an INT8 kernel, or not a pure one, for lack of a range of `tensor`.

    `side` is "input" (runs in float) or "output" (may compute in INT8 but has to write float).
    """

    node: str
    op: str
    tensor: str
    side: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`usable` maps each float tensor with a usable range to it; `broken` are ranges that no engine can use."""

    matching: Matching
    meaning: Meaning
    broken: tuple[str, ...]
    float_layers: tuple[FloatLayer, ...]
    tensors: int

    @property
    def renamed(self) -> tuple[Match, ...]:
        """Entries that match under another name."""
        return self.matching.renamed

    @property
    def derived(self) -> tuple[Derived, ...]:
        """Ranges that follow from others."""
        return self.meaning.derived


def check(cache: CalibrationCache, view: GraphView) -> CheckResult:
    """Match `cache` to `view` and find out what TensorRT's implicit mode would make of it."""
    matching = match(cache, view)
    ranges = matching.ranges(cache)
    broken = tuple(name for name, r in ranges.items() if not _usable(r))
    known = {name: r for name, r in ranges.items() if _usable(r)}
    result = meaning(view, known)
    return CheckResult(matching, result, broken, _float_layers(view, result), len(result.ranges) + len(result.missing))


def _usable(found: TensorRange) -> bool:
    return 0 <= found.amax < float("inf")


def _float_layers(view: GraphView, result: Meaning) -> tuple[FloatLayer, ...]:
    missing = set(result.missing)
    found: dict[str, FloatLayer] = {}
    for node in view.nodes:
        if node.op not in INT8:
            continue
        for name in node.inputs:
            if name in missing:
                found.setdefault(node.name, FloatLayer(node.name, node.op, name, "input"))
        for name in node.outputs:
            written = result.superseded.get(name, name)
            if written in missing:
                found.setdefault(node.name, FloatLayer(node.name, node.op, written, "output"))
    return tuple(found.values())
