"""What a real build log says against a prediction, by kind and without names, in a form to be sent.

Statements are grouped by what they are about: each name of a node becomes its operator, names of constants `const`, so
that nothing of a private network but its operators leaves the house. docs/contributing-logs.md tells the rest.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set

from quantbench.inspection.logs.build_log import Build, BuildLog
from quantbench.layers.layer import Layer
from quantbench.layers.names import split_parts, strip_clone
from quantbench.predict.evidence import LEVELS
from quantbench.predict.prediction import Prediction
from quantbench.predict.score import Score, in_myelin, layer_key, layer_statements

_SHORT = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ", "BatchNormalization": "BN"}
_MOST = 8  # groups a kind
# What a statement holds beside names: precisions, types of layers, which side of a layer.
_PLAIN = re.compile(r"INT8|INT32|INT64|BOOL|float|reformat|Myelin|Reformat|Shuffle|Slice|PointWiseV2|Scale|"
                    r"(?:Input|Output) Tensor \d+")  # fmt: skip


def by_confidence(prediction: Prediction, layers: Sequence[Layer], known: Set[str]) -> dict[str, tuple[int, int]]:
    """Confidence to how many of the predicted layers that claim it are in `layers`, and how many claim it."""
    true, _ = layer_statements(layers, known)
    kernels = any(in_myelin(layer) for layer in layers)
    found: dict[str, tuple[int, int]] = {}
    for level in LEVELS:
        keys = [
            layer_key(layer, known)
            for layer in prediction.layers
            if layer.attributes.get("confidence") == level and not (kernels and layer.type == "Myelin")
        ]
        claimed = [key for key in keys if key is not None]
        if claimed:
            found[level] = sum(key in true for key in claimed), len(claimed)
    return found


def feedback(prediction: Prediction, scores: Sequence[Score], log: BuildLog) -> Iterator[str]:
    """Lines to be sent: what was built, the scores, and what was wrong or missed by kind and form."""
    from quantbench import __version__

    device = log.options.get("Selected Device", "")
    flags = log.options.get("Precision", "")
    yield "--- to be sent with docs/contributing-logs.md; holds operators, no names"
    yield f"quantbench {__version__}, TensorRT {log.version or '?'}{f', {device}' if device else ''}, {flags or '?'}"
    yield f"predicted as TensorRT {prediction.version} ({prediction.headline})"
    for level, (hits, total) in by_confidence(prediction, log.build.layers, frozenset(log.build.nodes)).items():
        yield f"layers {level}: {hits} of {total} right"
    for score in scores:
        total = score.hits + len(score.wrong) + len(score.missed)
        yield f"{score.kind}: {score.hits} right, {len(score.wrong)} wrong, {len(score.missed)} missed of {total}"
        for what, statements in (("wrong", score.wrong), ("missed", score.missed)):
            yield from _groups(what, statements, log.build)
    yield "---"


def _groups(what: str, statements: Iterable[Hashable], build: Build) -> Iterator[str]:
    groups = Counter(form_of(statement, build) for statement in statements).most_common()
    for form, count in groups[:_MOST]:
        yield f"  {what} {count} x {form}"
    if len(groups) > _MOST:
        yield f"  {what}: {sum(count for _, count in groups[_MOST:])} more in {len(groups) - _MOST} forms"


def form_of(statement: Hashable, build: Build) -> str:
    """`statement` with operators for names: `("Conv_3 + Relu_4", "QuantizeLinear_7")` to `Conv + Relu, Q`."""
    if isinstance(statement, frozenset):
        counts = Counter(form_of(part, build) for part in statement)
        return " + ".join(f"{count} {form}" if count > 1 else form for form, count in sorted(counts.items()))
    if isinstance(statement, tuple):
        return ", ".join(form for part in statement if (form := form_of(part, build)))
    return " + ".join(_operator(part, build) for part in split_parts(str(statement)))


def _operator(name: str, build: Build) -> str:
    """A clone of a Q or DQ is marked: Q'."""
    own = strip_clone(name)
    node = build.nodes.get(own)
    if node is not None:
        return _SHORT.get(node.op, node.op) + ("'" if own != name else "")
    if _PLAIN.fullmatch(name):
        return name
    return "const" if name in build.initializers else "tensor"
