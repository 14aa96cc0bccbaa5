"""Which tensor of a network each cache entry means, also where tensors were renamed since the cache was made.

In this order, each step on what the earlier ones left over: the same name; the weight that a torch module reads
(ModelOpt's entries); names that differ in decoration only (`:0`, `_output`, separators) and have one candidate; the
position in the file between entries that match, where both sides count the same and nothing speaks against it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quantbench.cache import modelopt
from quantbench.cache.activations import activations, superseded
from quantbench.cache.flags import UNNAMED
from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import TensorRange
from quantbench.graph.view import GraphView
from quantbench.qdq.ops import is_mover, weight_index


@dataclass(frozen=True, slots=True)
class Match:
    """Entry `entry` of the cache is tensor `tensor` of the network; `how` is same, module, spelling or position."""

    entry: str
    tensor: str
    how: str


@dataclass(frozen=True, slots=True)
class Matching:
    """`unmatched` maps the entries that mean no tensor of the network to the reason."""

    matches: tuple[Match, ...]
    unmatched: Mapping[str, str]

    @property
    def renamed(self) -> tuple[Match, ...]:
        """Matches between different names, each of which the user should see."""
        return tuple(m for m in self.matches if m.how != "same")

    def ranges(self, cache: CalibrationCache) -> dict[str, TensorRange]:
        """Ranges by tensor of the network; where two entries mean one tensor, the wider."""
        entries = cache.by_name
        method = cache.algorithm or cache.dialect
        found: dict[str, TensorRange] = {}
        for match in self.matches:
            amax = entries[match.entry].amax
            if match.tensor not in found or amax > found[match.tensor].amax:
                found[match.tensor] = TensorRange(amax, method)
        return found


def match(cache: CalibrationCache, view: GraphView) -> Matching:
    """Match every entry of `cache` that can be matched to a tensor of `view`."""
    entries = list(cache.by_name)
    tensors = activations(view)
    known = {*view.tensors, *view.inputs, *(out for node in view.nodes for out in node.outputs)}
    found: dict[str, Match] = {name: Match(name, name, "same") for name in entries if name in set(tensors)}
    _by_module(entries, view, found)
    _by_spelling([name for name in entries if name not in known], view, tensors, found)
    _by_position(cache, [name for name in entries if name not in known and UNNAMED not in name], view, tensors, found)
    unmatched = {name: _reason(name, view, known) for name in entries if name not in found}
    return Matching(tuple(found[name] for name in entries if name in found), unmatched)


def _reason(name: str, view: GraphView, known: set[str]) -> str:
    if view.is_constant(name):
        return "a constant of the model; TensorRT finds its range itself"
    if name in known:
        return "not a float tensor"
    if UNNAMED in name:
        return "an unnamed layer inside TensorRT's network; no ONNX tensor has that name"
    if modelopt.module_of(name) is not None:
        return "no layer of the model reads the weight of this module"
    return "no tensor of the model has this name"


def _by_module(entries: Iterable[str], view: GraphView, found: dict[str, Match]) -> None:
    """`<module>.input_quantizer` is the activation of the node that reads `<module>.weight`."""
    inputs = module_inputs(view)
    for name in entries:
        module = modelopt.module_of(name)
        if name not in found and module is not None and module in inputs:
            found[name] = Match(name, inputs[module], "module")


def module_inputs(view: GraphView) -> dict[str, str]:
    """Torch module to the tensor that its layer reads, for weights that kept the name `<module>.weight`, and for
    nodes that the exporter named after the module (`/layer1/conv1/Conv` for `layer1.conv1`)."""
    found: dict[str, str] = {}
    for node in view.nodes:
        index = weight_index(view, node)
        if index is None:
            continue
        weight = node.inputs[index]
        scope = node.name.strip("/").rpartition("/")[0].replace("/", ".")
        module = weight.removesuffix(".weight") if weight.endswith(".weight") else scope
        if module:
            found.setdefault(module, node.inputs[1 - index])
    return found


def _by_spelling(names: list[str], view: GraphView, tensors: tuple[str, ...], found: dict[str, Match]) -> None:
    """Accept a tensor whose plain spelling is that of one entry only, and the other way round."""
    taken = {m.tensor for m in found.values()}
    free = [tensor for tensor in tensors if tensor not in taken]
    spellings: dict[str, set[str]] = {}
    for tensor in free:
        producer = view.producers.get(tensor)
        names_of = {tensor} | ({producer.name} if producer is not None and len(producer.outputs) == 1 else set())
        for name in names_of:
            spellings.setdefault(_plain(name), set()).add(tensor)
    wanted: dict[str, list[str]] = {}
    for name in names:
        candidates = spellings.get(_plain(name), set())
        if name not in found and len(candidates) == 1:
            wanted.setdefault(next(iter(candidates)), []).append(name)
    for tensor, claims in wanted.items():
        if len(claims) == 1:
            found[claims[0]] = Match(claims[0], tensor, "spelling")


def _plain(name: str) -> str:
    """`name` without decoration: case, separators, a trailing `:0`, `_0`, `_output`, `_output_0`, `__output`."""
    bare = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")
    return re.sub(r"(_output)?(_0)?$", "", bare) or bare


def _by_position(
    cache: CalibrationCache, names: list[str], view: GraphView, tensors: tuple[str, ...], found: dict[str, Match]
) -> None:
    """Between two entries that match, as many unmatched entries as unmatched tensors are the same ones in order.

    Tried with all tensors (as TensorRT 5 to 8 list them) and without those that fusion swallows. Refused where the
    file is not in the network's order, where an entry's name speaks of another operator, and where two sides of a
    data mover would get different values.
    """
    left = [name for name in names if name not in found]
    order = [name for name in cache.by_name if name in found or name in set(left)]
    swallowed = superseded(view)
    for candidates in (tensors, tuple(t for t in tensors if t not in swallowed)):
        place = {tensor: i for i, tensor in enumerate(candidates)}
        anchors = [place[found[name].tensor] for name in order if name in found and found[name].tensor in place]
        if anchors != sorted(anchors):
            continue
        new = _align(order, candidates, place, found)
        if new and _plausible(new, found, cache.by_name, view):
            found.update({m.entry: m for m in new})
            return


def _align(
    order: list[str], candidates: tuple[str, ...], place: Mapping[str, int], found: Mapping[str, Match]
) -> list[Match]:
    """Pairs of the stretches between anchors in which both sides count the same."""
    taken = {m.tensor for m in found.values()}
    new: list[Match] = []
    stretch: list[str] = []
    start = 0
    for name in [*order, None]:
        if name is not None and name not in found:
            stretch.append(name)
            continue
        if name is not None and found[name].tensor not in place:
            continue
        end = len(candidates) if name is None else place[found[name].tensor]
        free = [tensor for tensor in candidates[start:end] if tensor not in taken]
        if len(free) == len(stretch):
            new += [Match(entry, tensor, "position") for entry, tensor in zip(stretch, free, strict=True)]
        stretch, start = [], end + 1
    return new


def _plausible(new: list[Match], found: Mapping[str, Match], entries: Mapping[str, Entry], view: GraphView) -> bool:
    """Whether neither the operators in the names nor the values around data movers contradict the pairs."""
    ops = {node.op.lower() for node in view.nodes}
    for pair in new:
        spoken = {word for word in re.split(r"[^a-z]+", pair.entry.lower()) if word in ops}
        producer = view.producers.get(pair.tensor)
        if spoken and (producer is None or producer.op.lower() not in spoken):
            return False
    scale = {m.tensor: entries[m.entry].scale for m in (*found.values(), *new)}
    touched = {m.tensor for m in new}
    for node in view.nodes:
        if is_mover(node) and node.op == "MaxPool":
            ends = (node.inputs[0], node.outputs[0])
            if touched.intersection(ends) and all(end in scale for end in ends) and scale[ends[0]] != scale[ends[1]]:
                return False
    return True
