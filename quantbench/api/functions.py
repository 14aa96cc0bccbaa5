"""The other public functions, each as thin as its command."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from quantbench.api.html import shown
from quantbench.api.words import in_words_of_python
from quantbench.cache.model import CalibrationCache
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.errors import QuantbenchError
from quantbench.evaluate.evaluator import Evaluation
from quantbench.graph.load import load_model, prepared_model
from quantbench.graph.surgery import copied
from quantbench.inspection.inspection import Inspection
from quantbench.lint.finding import Finding
from quantbench.predict.prediction import Prediction

if TYPE_CHECKING:
    from quantbench.api.report import Report

Model = str | Path | onnx.ModelProto


class Findings(tuple[Finding, ...]):
    """Findings of lint, with a table for notebooks."""

    def _repr_html_(self) -> str:
        rows = [(f.node, f.rule, f.message, f.mend) for f in self]
        return shown(f"{len(self)} findings", ("node", "rule", "what", "mend"), rows)


class Predicted(Prediction):
    """A Prediction with a table for notebooks."""

    def _repr_html_(self) -> str:
        from quantbench.predict.words import COLUMNS, lines, rows

        return shown(f"Predicted engine, TensorRT {self.version}", COLUMNS, rows(self), lines(self))


class Evaluated(Evaluation):
    """An Evaluation with a table for notebooks."""

    def _repr_html_(self) -> str:
        from quantbench.evaluate.words import difference, figures

        first = [("", "the others are held against it")]
        rows = [(model.name, *row) for model in self.models for row in figures(model) or first]
        title = f"{len(self.models)} models on {self.images} images"
        return shown(title, ("model", "measure", "value"), rows, map(difference, self.pairs))


@in_words_of_python
def predict(model: Model, *, tensorrt: str = "10", gpu: str = "", fp16: bool = True) -> Prediction:
    """What TensorRT `tensorrt` is predicted to make of the Q/DQ `model`: its layers, the fate of each Q and DQ, what
    stays float. Raises QuantbenchError for a model without Q/DQ."""
    from quantbench.core.qdq_or_not import require_qdq
    from quantbench.predict.simulate import predict_model

    proto = _loaded(model)
    require_qdq(proto, "model", "to predict", "quantbench.quantize")
    found = predict_model(proto, version=tensorrt, gpu=gpu, fp16=fp16)
    return Predicted(**{name: getattr(found, name) for name in Prediction.__dataclass_fields__})


@in_words_of_python
def lint(model: Model) -> Findings:
    """What will cost time in TensorRT, dearest first: node, rule, message, mend. Raises as `predict`."""
    from quantbench.core.qdq_or_not import require_qdq
    from quantbench.lint import run

    proto = _loaded(model)
    require_qdq(proto, "model", "to advise on", "quantbench.quantize")
    return Findings(run.lint(proto))


@in_words_of_python
def inspect(*files: str | Path, siblings: bool = True) -> list[Inspection]:
    """What logs, layer and profile JSON, Q/DQ models or run folders tell, one Inspection an engine."""
    from quantbench.inspection.gather import gather

    return gather([Path(file) for file in files], siblings=siblings)


@in_words_of_python
def read_cache(file: str | Path, *, values: str | None = None) -> CalibrationCache:
    """A calibration cache of any dialect. `values`: what its numbers are, where the file leaves that open (amax, scale,
    minmax). Raises QuantbenchError for a file that is none."""
    from quantbench.cache.read import read_cache as read

    return read(Path(file), values=values)


@in_words_of_python
def build(
    model: str | Path,
    out: str | Path | None = None,
    *,
    backend: str = "auto",
    precision: str = "",
    target: str = "",
    batch: int = 8,
    shapes: Sequence[str] = (),
) -> BuildResult:
    """Build an engine of the ONNX file `model`; with `out` it is written there too. `backend`: auto, tensorrt,
    tensorrt-rtx, onnxruntime. `precision`: of float parts, as fp16. `target`: an architecture, as sm86.

    Raises QuantbenchError where the backend is missing or cannot build it.
    """
    from quantbench.atomic import write_bytes
    from quantbench.engines.build import build_engine
    from quantbench.engines.build_arguments import precisions, words
    from quantbench.engines.shapes import parse_profile

    options = BuildOptions(
        precisions=precisions(precision),
        profiles=tuple(parse_profile(text) for text in shapes),
        default_batch=batch,
        targets=tuple(name.lower() for name in words(target)),
    )
    result = build_engine(Path(model), options, backend)
    if out is not None:
        write_bytes(Path(out), result.engine)
    return result


@in_words_of_python
def evaluate(
    *models: str | Path,
    data: str | Path,
    labels: str = "none",
    preprocess: str | Mapping[str, Any] | None = None,
    max_images: int = 1024,
    task: str = "auto",
    threads: int = 0,
) -> Evaluation:
    """ONNX files on the same images, the others held against the first: same answers, SQNR, accuracy with `labels`
    (folder, file-name, yolo, csv=FILE, coco=FILE, masks, cls), with intervals. Raises QuantbenchError for what does not
    fit."""
    from quantbench.decide.eval_models import DataRequest, EvalRequest, eval_models
    from quantbench.progress import Progress

    if not models:
        raise QuantbenchError("models: name one ONNX file or more")
    declared = dict(preprocess) if isinstance(preprocess, Mapping) else preprocess
    wanted = DataRequest(str(data), labels, None, declared, max_images=max_images)
    found = eval_models(EvalRequest(tuple(map(Path, models)), wanted, task, "", threads), Progress("none"))
    return Evaluated(**{field.name: getattr(found, field.name) for field in fields(Evaluation)})


@in_words_of_python
def report(run: str | Path) -> "Report":
    """What the run folder `run` came to: `.verdict`, `.leads`, the record `.run`, and `.page`, its report.html.

    Raises QuantbenchError for a folder that holds no finished run of this version.
    """
    from quantbench.api.report import read_report

    return read_report(Path(run))


def _loaded(model: Model) -> onnx.ModelProto:
    return prepared_model(copied(model), "model") if isinstance(model, onnx.ModelProto) else load_model(Path(model))
