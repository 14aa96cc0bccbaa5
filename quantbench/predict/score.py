"""A prediction held against a build log or an engine: precision and recall of each kind of statement."""

import re
from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass

from quantbench.inspection.logs.build_log import Build
from quantbench.layers.layer import Layer
from quantbench.layers.names import reformat_target, split_parts, strip_clone
from quantbench.predict.prediction import Prediction

TOOK_DQS, TOOK_Q, MERGED, MOVED, LEFT_OVER = (
    "conv took its two DQs", "conv took the trailing Q", "Q merged with a twin", "Q or DQ moved past a layer",
    "Q left over as a copy",
)  # fmt: skip
LAYERS, LAYERS_AND_DTYPES = "final layers (nodes fused)", "final layers with INT8 or float outputs"
LAYERS_AND_REFORMATS = "final layers and reformats between formats"

# Layers of the engine that compute nothing of the network, or that TensorRT adds once formats are timed.
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
    found: dict[str, set[Hashable]] = {k: set() for k in (TOOK_DQS, TOOK_Q, MERGED, MOVED, LEFT_OVER)}
    for event in build.passes:
        fields = event.fields
        if event.kind == "quantize-fuse" and "nodes" in fields:
            nodes = fields["nodes"]
            assert isinstance(nodes, tuple)
            kind = TOOK_Q if len(nodes) == 1 else TOOK_DQS
            found[kind].add((str(fields["layer"]), *sorted(nodes)))
        elif event.kind == "duplicate" and fields.get("sort") == "Q":
            found[MERGED].add((str(fields["layer"]), str(fields["twin"])))
        elif event.kind == "swap" and "with" in fields:
            found[MOVED].add(tuple(sorted((str(fields["layer"]), str(fields["with"])))))
        elif event.kind == "retype" and fields.get("to") == "kQDQ":
            found[LEFT_OVER].add(str(fields["layer"]))
    return found


def statements_of(prediction: Prediction) -> dict[str, set[Hashable]]:
    """The same kinds of statement, as predicted."""
    found: dict[str, set[Hashable]] = {k: set() for k in (TOOK_DQS, TOOK_Q, MERGED, MOVED, LEFT_OVER)}
    for step in prediction.steps:
        if step.what == "take-q":
            found[TOOK_Q].add((step.target, *step.others))
        elif step.what == "take-dq":
            found[TOOK_DQS].add((step.target, *sorted(step.others)))
        elif step.name == "HorizontalMergeQNodes":
            found[MERGED].update((twin, step.target) for twin in step.others)
        elif step.what == "swap":
            found[MOVED].add(tuple(sorted((step.target, *step.others))))
        elif step.name == "QDQToCopy":
            found[LEFT_OVER].add(step.target)
    return found


def layer_key(layer: Layer, known: Set[str]) -> Hashable | None:
    """What makes two layers the same: the network's nodes in them (from their names, so that both sides are read in
    one way), for layers that name none their type and first input. None for plumbing and for format changes, which
    TensorRT chooses by timing."""
    if layer.type in _PLUMBING or reformat_target(layer.name) is not None or layer.name.startswith("copied_squeeze"):
        return None
    if layer.type == "Myelin":
        return ("Myelin", split_parts(layer.name)[-1])
    parts = {name for part in split_parts(layer.name) if (name := _known(part, known))}
    if parts:
        return frozenset(parts)
    return (layer.type, layer.inputs[0].name if layer.inputs else "")


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
            parts = frozenset(name for part in split_parts(layer.name) if (name := _known(part, known)))
            found.add(("reformat", side, parts))
    return found


def score_layers(prediction: Prediction, layers: Sequence[Layer], known: Set[str]) -> tuple[Score, Score, Score]:
    """Scores of the predicted layers against `layers`: as they are, with precisions, with all reformats counted as
    layers. `known`: nodes of the network."""
    mine, mine_precise = layer_statements(prediction.layers, known)
    true, true_precise = layer_statements(layers, known)
    return (
        compare(LAYERS, mine, true),
        compare(LAYERS_AND_DTYPES, mine_precise, true_precise),
        compare(
            LAYERS_AND_REFORMATS,
            mine | format_reformats(prediction.layers, known),
            true | format_reformats(layers, known),
        ),
    )


def score_log(prediction: Prediction, build: Build) -> tuple[Score, ...]:
    """All scores of `prediction` against the log of the build of the same network."""
    mine, true = statements_of(prediction), statements_of_log(build)
    return (
        *(compare(kind, mine[kind], true[kind]) for kind in true),
        *score_layers(prediction, build.layers, frozenset(build.nodes)),
    )
