"""A prediction held against a build log or an engine: precision and recall of each kind of statement."""

import re
from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass

from quantbench.inspection.logs.build_log import Build
from quantbench.layers.layer import Layer
from quantbench.layers.names import reformat_target, split_parts, strip_clone
from quantbench.predict.passes import epilogue, fusions, motions, quantize
from quantbench.predict.prediction import Prediction

TOOK_DQS, TOOK_Q, MERGED, MOVED, LEFT_OVER, SPLIT, SPLIT_DQ, POOLED, SUMMED, ACTIVATED, CANCELLED = (
    "conv took its two DQs", "conv took the trailing Q", "Q merged with a twin", "Q or DQ moved past a layer",
    "Q left over as a copy", "Q split over a Concat", "DQ split over its readers", "pooling took its DQ and Q",
    "conv took an Add", "conv took an activation", "DQ met a Q of its scale",
)  # fmt: skip
KINDS = (TOOK_DQS, TOOK_Q, MERGED, MOVED, LEFT_OVER, SPLIT, SPLIT_DQ, POOLED, SUMMED, ACTIVATED, CANCELLED)
REGIONS = "ForeignNode regions (nodes in Myelin)"
LAYERS, LAYERS_AND_DTYPES = "final layers (nodes fused)", "final layers with INT8 or float outputs"
LAYERS_AND_REFORMATS = "final layers and reformats between formats"

# Layers of the engine that compute nothing of the network, or that TensorRT adds once formats are timed.
_MYELIN_KERNEL = re.compile(r"_myl\d+_\d+$")
_RUNS = {motions.SPLIT: SPLIT, motions.FAN_OUT: SPLIT_DQ, quantize.SINGLE: POOLED, motions.MEET: CANCELLED}
_FUSES = {quantize.SUM: SUMMED, fusions.CONV_ACT: ACTIVATED}
_PLUMBING = frozenset({"TrainStation", "Constant", "DeviceToShapeHost", "NoOp", "ShapeHostToDevice", "Signal", "Wait"})


@dataclass(frozen=True, slots=True)
class Score:
    """Statements of one kind: predicted and true, predicted only, true only."""

    kind: str
    hits: int
    wrong: tuple[Hashable, ...]
    missed: tuple[Hashable, ...]

    @property
    def precision(self) -> float:
        """Share of the predicted that is true; 1 where nothing was predicted."""
        total = self.hits + len(self.wrong)
        return self.hits / total if total else 1.0

    @property
    def recall(self) -> float:
        """Share of the true that was predicted; 1 where nothing is true."""
        total = self.hits + len(self.missed)
        return self.hits / total if total else 1.0


def compare(kind: str, predicted: Iterable[Hashable], true: Iterable[Hashable]) -> Score:
    """Score of two sets of statements."""
    left, right = set(predicted), set(true)
    return Score(kind, len(left & right), tuple(sorted(left - right, key=repr)), tuple(sorted(right - left, key=repr)))


def statements_of_log(build: Build) -> dict[str, set[Hashable]]:
    """What the optimizer's lines of a log say, by kind."""
    found: dict[str, set[Hashable]] = {k: set() for k in KINDS}
    running: tuple[str, str] = ("", "")
    for event in build.passes:
        fields = event.fields
        if event.kind == "pass-run":
            running = str(fields.get("pass", "")), str(fields.get("layer", ""))
            if running[0] in _RUNS:
                found[_RUNS[running[0]]].add(running[1])
        elif event.kind == "quantize-fuse" and "nodes" in fields:
            nodes = fields["nodes"]
            assert isinstance(nodes, tuple)
            kind = TOOK_Q if len(nodes) == 1 else TOOK_DQS
            if running[0] != quantize.SINGLE:
                found[kind].add((str(fields["layer"]), *sorted(nodes)))
        elif event.kind == "fuse" and fields.get("pass") in _FUSES and "with" in fields:
            found[_FUSES[str(fields["pass"])]].add((str(fields["layer"]), str(fields["with"])))
        elif event.kind == "duplicate" and fields.get("sort") == "Q":
            found[MERGED].add((str(fields["layer"]), str(fields["twin"])))
        elif event.kind == "swap" and "with" in fields:
            found[MOVED].add(tuple(sorted((str(fields["layer"]), str(fields["with"])))))
        elif event.kind == "retype" and fields.get("to") == "kQDQ":
            found[LEFT_OVER].add(str(fields["layer"]))
    return found


def statements_of(prediction: Prediction) -> dict[str, set[Hashable]]:
    """The same kinds of statement, as predicted."""
    found: dict[str, set[Hashable]] = {k: set() for k in KINDS}
    for step in prediction.steps:
        if step.name == quantize.SINGLE:
            found[POOLED].add(step.target)
        elif step.what == "take-q":
            found[TOOK_Q].add((step.target, *step.others))
        elif step.what == "take-dq":
            found[TOOK_DQS].add((step.target, *sorted(step.others)))
        elif step.name == motions.MERGE:
            found[MERGED].update((twin, step.target) for twin in step.others)
        elif step.what == "swap":
            found[MOVED].add(tuple(sorted((step.target, *step.others))))
        elif step.name == epilogue.COPY:
            found[LEFT_OVER].add(step.target)
        elif step.name in _RUNS:
            found[_RUNS[step.name]].add(step.target)
        elif step.name in _FUSES:
            found[_FUSES[step.name]].add((step.target, *step.others))
    return found


def layer_key(layer: Layer, known: Set[str]) -> Hashable | None:
    """What makes two layers the same: the network's nodes in them (from their names, so that both sides are read in
    one way), for layers that name none their type and first input. None for plumbing, for kernels inside Myelin, which
    are not predicted, and for format changes, which TensorRT chooses by timing."""
    if layer.type in _PLUMBING or reformat_target(layer.name) is not None or layer.name.startswith("copied_squeeze"):
        return None
    if in_myelin(layer):
        return None
    if layer.type == "Myelin":
        return _region(layer.name, known)
    parts = {name for part in split_parts(layer.name) if (name := _known(part, known))}
    if parts:
        return frozenset(parts)
    return (layer.type, layer.inputs[0].name if layer.inputs else "")


def in_myelin(layer: Layer) -> bool:
    """Whether `layer` is a kernel inside a ForeignNode, as TensorRT 10 and later list them."""
    return _MYELIN_KERNEL.search(layer.name) is not None


def _region(name: str, known: Set[str]) -> Hashable:
    """A ForeignNode by its last node: its first is often a constant."""
    last = [part for end in split_parts(name)[-1:] for part in end.split(" + ")]
    return ("Myelin", next((found for part in reversed(last) if (found := _known(part, known))), last[-1]))


def _known(part: str, known: Set[str]) -> str:
    if strip_clone(part) in known:
        return part
    short = re.sub(r"_\d+$", "", part)  # TensorRT numbers some layers: /NonMaxSuppression_246
    return short if short in known else ""


def layer_statements(layers: Sequence[Layer], known: Set[str]) -> tuple[set[Hashable], set[Hashable]]:
    """Layers as keys, and as keys with the precision (INT8 or float) of inputs and outputs."""
    keys: set[Hashable] = set()
    precise: set[Hashable] = set()
    for layer in layers:
        key = layer_key(layer, known)
        if key is not None:
            keys.add(key)
            outputs = tuple(sorted({_class(t.dtype) for t in layer.outputs}))
            first = _class(layer.inputs[0].dtype) if layer.inputs else ""
            rest = tuple(_class(t.dtype) for t in layer.inputs[1:]) if layer.type.startswith("Cask") else ()
            precise.add((key, (first, *rest) if layer.type != "Myelin" else (), outputs))
    return keys, precise


def _class(dtype: str) -> str:
    return "INT8" if dtype == "INT8" else ("float" if dtype in ("FP32", "FP16", "BF16") else dtype)


def format_reformats(layers: Sequence[Layer], known: Set[str]) -> set[Hashable]:
    """Reformats between formats: which side of which layer (its nodes) they serve. Those that cost nothing (NoOp) are
    none."""
    found: set[Hashable] = set()
    for layer in layers:
        if reformat_target(layer.name) is not None and layer.type not in _PLUMBING:
            side = " ".join(re.findall(r"(?:Input|Output) Tensor \d+", layer.name)[:1])
            target = reformat_target(layer.name) or ""
            parts: Hashable = frozenset(name for part in split_parts(layer.name) if (name := _known(part, known)))
            found.add(("reformat", side, _region(target, known) if target.startswith("{ForeignNode[") else parts))
    return found


def score_layers(prediction: Prediction, layers: Sequence[Layer], known: Set[str]) -> tuple[Score, Score, Score]:
    """Scores of the predicted layers against `layers`: as they are, with precisions, with all reformats counted too.

    `known`: nodes of the network. Where `layers` lists the kernels inside Myelin, ForeignNodes are no layers.
    """
    own = prediction.layers
    if any(in_myelin(layer) for layer in layers):
        own = tuple(layer for layer in own if layer.type != "Myelin")
    mine, mine_precise = layer_statements(own, known)
    true, true_precise = layer_statements(layers, known)
    return (
        compare(LAYERS, mine, true),
        compare(LAYERS_AND_DTYPES, mine_precise, true_precise),
        compare(LAYERS_AND_REFORMATS, mine | format_reformats(own, known), true | format_reformats(layers, known)),
    )


def score_regions(prediction: Prediction, build: Build) -> Score:
    """ForeignNodes by their nodes, as far as the log tells them; nodes without a layer of their name do not count."""
    named = build.registered or set(build.nodes)
    true = {frozenset(n for n in nodes if n in named) for nodes in build.foreign.values()}
    mine = {frozenset(n for n in layer.nodes if n in named) for layer in prediction.layers if layer.type == "Myelin"}
    return compare(REGIONS, mine, true)


def score_log(prediction: Prediction, build: Build) -> tuple[Score, ...]:
    """All scores of `prediction` against the log of the build of the same network. Kinds that neither side speaks of
    are left out."""
    mine, true = statements_of(prediction), statements_of_log(build)
    scores = [compare(kind, mine[kind], true[kind]) for kind in true if mine[kind] or true[kind]]
    if build.foreign:
        scores.append(score_regions(prediction, build))
    if build.layers:
        scores.extend(score_layers(prediction, build.layers, frozenset(build.nodes)))
    return tuple(scores)
