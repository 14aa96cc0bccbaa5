"""The measuring stage: FP32 against INT8 in onnxruntime, on images: outputs, layers, latency, size."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.calibration.ort_outputs import padded, runner, static_batch
from quantbench.data.sources import Images, at_most, feeds, labelled
from quantbench.evaluate.latency import interleaved
from quantbench.evaluate.layers import layer_errors
from quantbench.evaluate.outputs import box_facts, compare_outputs, measures_of
from quantbench.evaluate.task import facts_of
from quantbench.graph.load import load_model
from quantbench.graph.surgery import bytes_of
from quantbench.ort import create_session
from quantbench.ort import run as ort_run
from quantbench.progress import Progress
from quantbench.ptq.prepare import FloatModel
from quantbench.records.evaluation import Evaluation, LatencyPair, LayerError, Outputs, Sizes
from quantbench.runnable import runnable_part
from quantbench.stage import UNKEYED, FileRef

if TYPE_CHECKING:
    import onnxruntime

_LAYER_IMAGES = 32


@dataclass(frozen=True, slots=True)
class Measuring:
    """FP32 against INT8: the model, the one that was quantized (`scaled`: its inner tensors are others where channels
    were), names of the quantized layers, both files of the INT8 model, `images` to compare on (with the hash of their
    labels), and those that layers are compared on."""

    model: FloatModel
    scaled: FloatModel
    nodes: tuple[str, ...]
    qdq: FileRef
    onnxruntime: FileRef
    images: Images
    labels_sha256: str
    calibration: Images
    batch: int
    threads: int
    latency: bool
    max_bad: int = field(metadata=UNKEYED)
    progress: Progress = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class Pair:
    """Sessions of both models, made once for all that runs them."""

    plain: "onnxruntime.InferenceSession"
    int8: "onnxruntime.InferenceSession"


def sessions(inputs: Measuring) -> Pair:
    """Of the float model and of the INT8 one."""
    return Pair(
        create_session(runnable_part(inputs.model.proto), threads=inputs.threads),
        create_session(inputs.onnxruntime.path, threads=inputs.threads),
    )


def layers_of(inputs: Measuring) -> list[LayerError]:
    """Error of each layer. Before `sessions`, so that no more than two networks are held at a time."""
    few = at_most(inputs.calibration.source, _LAYER_IMAGES)
    with inputs.progress.task("Error of each layer", len(few)) as advance:
        return layer_errors(
            runnable_part(inputs.scaled.proto),
            # Not the onnxruntime model: there activations run on integers, and what stands behind them has no tensor.
            load_model(inputs.qdq.path),
            inputs.nodes,
            feeds(few, inputs.model.input_name, inputs.batch, max_bad=inputs.max_bad),
            threads=inputs.threads,
            on_batch=advance,
        )


def measure(inputs: Measuring, pair: Pair, layers: Sequence[LayerError]) -> Evaluation:
    """What evaluation.json holds."""
    model, input_name = runnable_part(inputs.model.proto), inputs.model.input_name
    source, progress = inputs.images.source, inputs.progress
    batch, max_bad, threads = inputs.batch, inputs.max_bad, inputs.threads
    reference, quantized = pair.plain, pair.int8
    fixed = static_batch(model)
    names = [value.name for value in reference.get_outputs()]
    with progress.task("FP32 against INT8", len(source)) as advance:
        evaluation = compare_outputs(
            runner(reference, fixed),
            runner(quantized, fixed),
            labelled(source, input_name, batch, max_bad=max_bad),
            facts=facts_of(inputs.model.proto),
            outputs=names,
            on_batch=advance,
        )
    times = None
    if inputs.latency:
        size = fixed or 1
        few = at_most(inputs.calibration.source, size + max_bad)  # so many may be of no use
        one = padded(next(iter(feeds(few, input_name, size, max_bad=max_bad))), fixed)
        calls = {"plain": lambda: ort_run(reference, None, one), "int8": lambda: ort_run(quantized, None, one)}
        times = LatencyPair(**interleaved(calls, batch=size, threads=threads))
    return Evaluation(
        outputs=Outputs(**measures_of(evaluation)),
        task=evaluation.task.kind,
        task_why=evaluation.task.why,
        parts=evaluation.models[1].errors,
        differing=evaluation.models[1].differing,
        layers=tuple(layers),
        sizes=Sizes(
            plain=bytes_of(inputs.model.proto), qdq=_size(inputs.qdq.path), onnxruntime=_size(inputs.onnxruntime.path)
        ),
        boxes=box_facts(evaluation.task, names),
        latency=times,
    )


def _size(path: Path) -> int:
    return path.stat().st_size
