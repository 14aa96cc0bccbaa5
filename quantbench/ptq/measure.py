"""The measuring stage: FP32 against INT8 in onnxruntime, on images: outputs, layers, latency, size."""

from collections.abc import Callable, Sequence
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
from quantbench.side_by_side import Sharing, shared_out
from quantbench.stage import UNKEYED, FileRef

if TYPE_CHECKING:
    import onnxruntime

_LAYER_IMAGES = 32


@dataclass(frozen=True, slots=True)
class Measuring:
    """FP32 against INT8: the model, the one that was quantized (`scaled`: its inner tensors are others where channels
    were), names of the quantized layers, both files of the INT8 model, `images` to compare on (with the hash of their
    labels), and those that layers are compared on. `quiet` waits until nothing else runs."""

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
    quiet: Callable[[], None] = field(default=lambda: None, metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class Pair:
    """Sessions of both models, made once for all that runs them."""

    plain: "onnxruntime.InferenceSession"
    int8: "onnxruntime.InferenceSession"


def sessions(inputs: Measuring, threads: int) -> Pair:
    """Of the float model and of the INT8 one."""
    return Pair(
        create_session(runnable_part(inputs.model.proto), threads=threads),
        create_session(inputs.onnxruntime.path, threads=threads),
    )


def sharing_of(inputs: Measuring) -> Sharing:
    """How the images go through the pair."""
    return shared_out(inputs.threads, inputs.batch, static_batch(inputs.model.proto))


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


def measure(inputs: Measuring, pair: Pair, layers: Sequence[LayerError], sharing: Sharing) -> Evaluation:
    """What evaluation.json holds, but for the latency; sessions of `pair` have the threads of `sharing`."""
    model, input_name = runnable_part(inputs.model.proto), inputs.model.input_name
    source = inputs.images.source
    reference, quantized = pair.plain, pair.int8
    fixed = static_batch(model)
    names = [value.name for value in reference.get_outputs()]
    with inputs.progress.task("FP32 against INT8", len(source)) as advance:
        evaluation = compare_outputs(
            runner(reference, fixed),
            runner(quantized, fixed),
            labelled(source, input_name, sharing.size, max_bad=inputs.max_bad),
            facts=facts_of(inputs.model.proto),
            outputs=names,
            at_a_time=sharing.batches,
            on_batch=advance,
        )
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
        latency=None,
    )


def latency_of(inputs: Measuring, pair: Pair) -> LatencyPair:
    """Milliseconds for one sample (or the batch that the model takes) in sessions of all threads that may be used."""
    inputs.quiet()
    fixed = static_batch(inputs.model.proto)
    size = fixed or 1
    few = at_most(inputs.calibration.source, size + inputs.max_bad)  # so many may be of no use
    one = padded(next(iter(feeds(few, inputs.model.input_name, size, max_bad=inputs.max_bad))), fixed)
    calls = {"plain": lambda: ort_run(pair.plain, None, one), "int8": lambda: ort_run(pair.int8, None, one)}
    return LatencyPair(**interleaved(calls, batch=size, threads=inputs.threads))


def _size(path: Path) -> int:
    return path.stat().st_size
