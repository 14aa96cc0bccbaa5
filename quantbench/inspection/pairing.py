"""Which layers of two engines do the same work: paired by weights, by ONNX node, or by shape and order."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.graph.ops import WEIGHTED
from quantbench.inspection.fate import op_of_name
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import Build
from quantbench.layers.categories import is_weighted
from quantbench.layers.layer import Layer
from quantbench.layers.names import split_parts


@dataclass(frozen=True, slots=True)
class Section:
    """A weighted layer (None for what follows the last one) with the layers before it back to the one before."""

    anchor: Layer | None
    attached: tuple[Layer, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers of the section in execution order."""
        return (*self.attached, self.anchor) if self.anchor is not None else self.attached

    @property
    def time_ms(self) -> float | None:
        """Sum of mean times in ms, None without a profile."""
        times = [layer.time_ms for layer in self.layers if layer.time_ms is not None]
        return sum(times) if times else None


def sections(inspection: Inspection) -> list[Section]:
    """The engine cut behind each weighted layer. An engine whose layers have no types is cut behind each layer."""
    found: list[Section] = []
    waiting: list[Layer] = []
    cut_all = not any(is_weighted(layer) for layer in inspection.layers)
    for layer in inspection.layers:
        if is_weighted(layer) or cut_all:
            found.append(Section(layer, tuple(waiting)))
            waiting = []
        else:
            waiting.append(layer)
    if waiting:
        found.append(Section(None, tuple(waiting)))
    return found


def pair(first: Inspection, second: Inspection) -> tuple[list[tuple[Section | None, Section | None]], str]:
    """Sections side by side, in the order of the first, and how they were paired: "weights", "nodes" or "order".

    Node names only count where the same name means the same work: exporters number nodes, so a network with a few
    nodes more has other numbers everywhere, while its weights keep their names.
    """
    left, right = sections(first), sections(second)
    for how, keys in (("weights", _weight_key), ("nodes", _node_key)):
        a = [keys(s, first.build) for s in left]
        b = [keys(s, second.build) for s in right]
        common = (set(a) & set(b)) - {""}
        if 2 * len(common) >= max(1, min(_named(left), _named(right))):
            return _by_key(left, right, a, b), how
    return _by_order(left, right), "order"


def _named(found: Sequence[Section]) -> int:
    return sum(1 for s in found if s.anchor is not None)


def _weight_key(section: Section, build: Build | None) -> str:
    """Names of the weights: before the Q in `W + Q + Conv`, or as the parser's log states a node's second input."""
    if section.anchor is None:
        return ""
    parts = split_parts(section.anchor.name)
    found = [
        part for part, following in itertools.pairwise(parts) if op_of_name(following) == "Q" and not op_of_name(part)
    ]
    if not found and build is not None:
        for node in section.anchor.nodes:
            logged = build.nodes.get(node)
            if logged is not None and logged.op in WEIGHTED and len(logged.inputs) > 1:
                found.append(_origin(logged.inputs[1][0], build))
    return " || ".join(found)


def _origin(tensor: str, build: Build) -> str:
    """The initializer behind the Q/DQ of a weight, as the parser logged them."""
    makers = {n.outputs[0][0]: n for n in build.nodes.values() if n.outputs}
    while (maker := makers.get(tensor)) is not None and "uantizeLinear" in maker.op and maker.inputs:
        tensor = maker.inputs[0][0]
    return tensor.removesuffix("_quantized")


def _node_key(section: Section, build: Build | None) -> str:
    """The first node that is no Q or DQ, with the output's shape, so that a shifted numbering pairs nothing."""
    if section.anchor is None:
        return ""
    nodes = [n for n in section.anchor.nodes if not op_of_name(n)]
    dims = section.anchor.outputs[0].dims[1:] if section.anchor.outputs else ()
    return f"{nodes[0]} {dims}" if nodes else ""


def _by_key(
    left: list[Section], right: list[Section], a: list[str], b: list[str]
) -> list[tuple[Section | None, Section | None]]:
    place: dict[str, list[int]] = {}
    for position, key in enumerate(b):
        place.setdefault(key, []).append(position)
    pairs: list[tuple[Section | None, Section | None]] = []
    taken: set[int] = set()
    ends = bool(right) and right[-1].anchor is None
    for section, key in zip(left, a, strict=True):
        queue = place.get(key, []) if key else []
        index: int | None = None
        if queue:
            index = queue.pop(0)
        elif section.anchor is None and ends:
            index = len(right) - 1
        pairs.append((section, right[index] if index is not None else None))
        if index is not None:
            taken.add(index)
    pairs.extend((None, section) for other, section in enumerate(right) if other not in taken)
    return pairs


def _by_order(left: list[Section], right: list[Section]) -> list[tuple[Section | None, Section | None]]:
    """The n-th layer of a shape with the n-th of that shape: builders reorder branches, not layers of one shape.

    What then is left alone on both sides in equal number (a conv that took its pooling in, say) is paired in order.
    """
    pairs = _by_key(left, right, _numbered(left), _named_like(left, right))
    lone_left = [a for a, b in pairs if b is None and a is not None and a.anchor is not None]
    lone_right = [b for a, b in pairs if a is None and b is not None and b.anchor is not None]
    if len(lone_left) != len(lone_right):
        return pairs
    partner = {id(a): b for a, b in zip(lone_left, lone_right, strict=True)}
    gone = {id(b) for b in lone_right}
    joined = [(a, partner.get(id(a), b) if b is None else b) for a, b in pairs]
    return [(a, b) for a, b in joined if a is not None or id(b) not in gone]


def _numbered(found: Sequence[Section]) -> list[str]:
    """Shape and how many of that shape came before."""
    seen: Counter[str] = Counter()
    keys: list[str] = []
    for section in found:
        shape = str(_shape(section)) if section.anchor is not None else ""
        keys.append(f"{shape} #{seen[shape]}" if shape else "")
        seen[shape] += 1
    return keys


def _named_like(left: list[Section], right: list[Section]) -> list[str]:
    """Keys of `right`: in each group of one shape, layers with names that tell (`conv2_block1_3_conv`, not `Conv_12`)
    take the number of the layer of `left` whose name is most like theirs; else they are counted in order.

    A branch's two convs of one shape (the last of a residual block and its shortcut) stand in either order, by which
    of them took the Add in.
    """
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for side, found in enumerate((left, right)):
        for index, section in enumerate(found):
            if section.anchor is not None:
                groups.setdefault(str(_shape(section)), ([], []))[side].append(index)
    keys = ["" for _ in right]
    for shape, (lefts, rights) in groups.items():
        order = dict(zip(rights, range(len(rights)), strict=True))
        if (
            len(lefts) == len(rights) > 1
            and all(_tells(left[i]) for i in lefts)
            and all(_tells(right[j]) for j in rights)
        ):
            order = _most_alike([_words(left[i]) for i in lefts], {j: _words(right[j]) for j in rights})
        for index, number in order.items():
            keys[index] = f"{shape} #{number}"
    return keys


def _most_alike(lefts: list[Counter[str]], rights: dict[int, Counter[str]]) -> dict[int, int]:
    """Index of the right to the position of its left, the most alike first, of equals the nearest in order."""
    positions = {j: n for n, j in enumerate(rights)}
    ranked = sorted(
        (-_alike(words, other), abs(n - positions[j]), n, j)
        for n, words in enumerate(lefts)
        for j, other in rights.items()
    )
    found: dict[int, int] = {}
    for _, _, n, j in ranked:
        if j not in found and n not in found.values():
            found[j] = n
    return found


def _alike(first: Counter[str], second: Counter[str]) -> float:
    return sum((first & second).values()) / max(1, sum((first | second).values()))


def _first_node(section: Section) -> str:
    nodes = [n for n in section.anchor.nodes if not op_of_name(n)] if section.anchor is not None else []
    return nodes[0] if nodes else ""


def _tells(section: Section) -> bool:
    """Whether the name is more than an operator and a number."""
    return re.fullmatch(r"[A-Za-z]*_*\d*", _first_node(section)) is None


def _words(section: Section) -> Counter[str]:
    return Counter(re.findall(r"\d+|[A-Za-z]+", _first_node(section)))


def _shape(section: Section) -> tuple[object, ...]:
    layer = section.anchor
    if layer is None:
        return ("end",)
    dims = layer.outputs[0].dims[1:] if layer.outputs else ()
    ins = layer.inputs[0].dims[1:2] if layer.inputs else ()
    kernel = layer.attributes.get("Kernel", layer.attributes.get("ConvKernel", ()))
    stride = layer.attributes.get("Stride", layer.attributes.get("ConvStride", ()))
    return (dims, ins, str(kernel), str(stride))
