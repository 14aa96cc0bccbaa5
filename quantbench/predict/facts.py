"""What the predictor says of the Q/DQ model, as the record that run.json and the report hold."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from quantbench.graph.load import load_model
from quantbench.graph.ops import WEIGHTED
from quantbench.predict.prediction import FloatWeighted
from quantbench.predict.simulate import predict_model
from quantbench.predict.versions import DEFAULT
from quantbench.predict.words import guesses
from quantbench.records.prediction import Guess, LeftOver, Mend, Prediction


def prediction_facts(path: Path, version: str = "", gpu: str = "") -> Prediction:
    """Summary of the engine that TensorRT `version` (by default the best known) is predicted to build on `gpu` from the
    Q/DQ model at `path`."""
    model = load_model(path)
    found = predict_model(model, version=version or DEFAULT, gpu=gpu)
    return Prediction(
        version=f"TensorRT {found.version}",
        headline=found.headline,
        confidence=found.confidence,
        layers=len(found.layers),
        int8_layers=found.int8_layers,
        weighted=sum(node.op_type in WEIGHTED for node in model.graph.node),
        fates=dict(Counter(fate.status for fate in found.fates)),
        left_over=tuple(LeftOver(name=fate.name, op=fate.op, node=fate.node) for fate in found.leftover),
        reformats=len(found.reformats),
        float_bytes=found.float_bytes,
        float_weighted=_mends(found.float_weighted),
        float_outputs=_mends(found.float_outputs),
        guesses=tuple(Guess(why=why, what=what) for why, what in guesses(found)),
    )


def _mends(found: Sequence[FloatWeighted]) -> tuple[Mend, ...]:
    return tuple(Mend(node=item.node, reason=item.reason, mend=item.mend) for item in found)
