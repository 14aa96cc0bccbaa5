"""The compiler stage: what a backend makes of the INT8 model, layer by layer, and of the float model beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from quantbench.atomic import write_bytes, write_json, write_text
from quantbench.calibration.ort_outputs import static_batch
from quantbench.calibration.ranges import Ranges
from quantbench.compilation.builds import Begun, Side, ended, started, written
from quantbench.compilation.engine_layers import at_batch, real_layers
from quantbench.compilation.request import CompileRequest
from quantbench.compilation.traffic import compile_summary
from quantbench.core.quantize import for_onnxruntime
from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.bench_model import BenchRequest, bench_model
from quantbench.engines.build import Chosen
from quantbench.engines.facts import FACTS, ONNXRUNTIME, TENSORRT_RTX
from quantbench.engines.shapes import Profile
from quantbench.engines.tensorrt_rtx import DEFAULT_TARGETS
from quantbench.layers.layer import Layer
from quantbench.progress import Progress
from quantbench.records.compiled import BareEngine, Compiled, Engine, EngineLatencies, EngineLatency
from quantbench.statistics import summarize
from quantbench.text_file import read_object

LAYERS = "layers.json"
LOG = "build.log"
ENGINE = "model.engine"
FLOAT = "float"


InputShapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compiled: the model with Q/DQ and the same without (None: no comparison), names of its quantized and of
    all its weighted nodes, its inputs with their shapes (-1 for the batch), and the ranges, for a compiler that takes
    them as such."""

    quantized: onnx.ModelProto
    plain: onnx.ModelProto | None
    quantized_nodes: tuple[str, ...]
    weighted_nodes: tuple[str, ...]
    inputs: InputShapes
    ranges: Ranges | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built with `chosen`: the INT8 model, and the float one to hold it against, what of them stays float
    in `halves`, at `batch`; `title` for progress, `notes` for the user."""

    chosen: Chosen
    backend: str
    int8: Side
    plain: Side | None
    halves: frozenset[str]
    batch: int
    title: str
    notes: tuple[str, ...]

    @property
    def sides(self) -> tuple[Side, ...]:
        """Both, or the one."""
        return (self.int8, self.plain) if self.plain else (self.int8,)


def order_of(subject: Subject, wanted: CompileRequest, chosen: Chosen) -> Order:
    """What `wanted` comes to for `subject`: what stays float is built in the precision that `wanted` names."""
    options, batch = _options(subject.quantized, subject.inputs, wanted, chosen)
    model, int8_options, notes = _int8_request(subject, options, wanted, chosen)
    return Order(
        chosen, wanted.backend, Side("INT8", model, int8_options),
        Side(FLOAT, subject.plain, options) if subject.plain else None, options.precisions, batch,
        f"{chosen.title}{_for(options)}", notes,
    )  # fmt: skip


def float_side(plain: onnx.ModelProto, inputs: InputShapes, wanted: CompileRequest, chosen: Chosen) -> Side:
    """What `order_of` will have built of the float model, whatever the INT8 model is."""
    return Side(FLOAT, plain, _options(plain, inputs, wanted, chosen)[0])


def _options(
    model: onnx.ModelProto, inputs: InputShapes, wanted: CompileRequest, chosen: Chosen
) -> tuple[BuildOptions, int]:
    """Options of the float build, and the batch; `model` tells whether that is fixed."""
    given = wanted.options
    halves = given.precisions - {"int8"} or frozenset(() if chosen.family == ONNXRUNTIME else ("fp16",))
    fixed = static_batch(model)
    batch = fixed or _opt_batch(given, [name for name, _ in inputs]) or given.default_batch
    targets = given.targets or (DEFAULT_TARGETS if chosen.family == TENSORRT_RTX else ())
    profiles = given.profiles
    if not (profiles or fixed or chosen.family == ONNXRUNTIME):  # one of the batch for a model with a dynamic one
        shapes = {name: tuple(batch if d == -1 else d for d in shape) for name, shape in inputs}
        profiles = (Profile({name: (shape, shape, shape) for name, shape in shapes.items()}),)
    return replace(given, precisions=halves, targets=targets, profiles=profiles), batch


def compile_check(
    subject: Subject, folder: Path, wanted: CompileRequest, order: Order, progress: Progress, begun: Begun | None = None
) -> Compiled:
    """Build the INT8 model and, for comparison, the float one, or wait for those that are `begun`; write engine,
    layers.json and build.log into `folder`.

    Where the backend builds for a GPU of this machine, the engines are timed on it. Raises QuantbenchError where the
    compiler refuses the model.
    """
    chosen, batch = order.chosen, order.batch
    scratch = folder / ".float" / "float.engine"
    if begun is not None:
        begun.settle(order.title, progress)
        built = begun.result(order.int8)
        write_bytes(folder / ENGINE, built.engine)
        plain = begun.result(order.plain) if order.plain else None
    else:
        with progress.task(order.title, len(order.sides), "builds") as advance:
            built = _build(order.int8, order.backend, folder / ENGINE)
            advance(1)
            plain = _build(order.plain, order.backend, scratch) if order.plain else None
            advance(1 if order.plain else 0)
    layers = at_batch(real_layers(built), batch)
    log = "\n".join(built.log_lines())
    for path in filter(None, (folder / LOG, wanted.log)):
        write_text(path, log)
    facts = Compiled(
        backend=built.backend,
        version=built.version,
        target=",".join(built.targets),
        precision="+".join(sorted(order.halves)) or "fp32",
        quantization="explicit" if order.int8.options.ranges is None else "implicit",
        shape=_opt_shape(wanted.options, *subject.inputs[0], batch),
        seconds=round(built.seconds, 1),
        notes=(*order.notes, *built.notes),
        int8=_summary(layers, built, subject.quantized_nodes, subject.weighted_nodes),
        plain=_summary(at_batch(real_layers(plain), batch), plain, (), subject.weighted_nodes) if plain else None,
        latency=None
        if FACTS[chosen.family].builds_without_gpu
        else EngineLatencies(int8=_timed(folder / ENGINE), plain=_timed(scratch) if plain else None),
    )
    scratch.unlink(missing_ok=True)
    write_json(folder / LAYERS, {**facts.model_dump(mode="json"), "layers": [layer.to_json() for layer in layers]})
    return facts


def read_compiled(folder: Path) -> Compiled:
    """What `compile_check` left in `folder`. Raises QuantbenchError where its layers.json cannot be read."""
    path = folder / LAYERS
    data = read_object(path)
    data.pop("layers", None)
    return Compiled.from_json(json.dumps(data), str(path))


def _timed(engine: Path) -> EngineLatency:
    latency = bench_model(engine, BenchRequest({})).timings.latency
    found = summarize(latency)
    return EngineLatency(median_ms=found.median, p90_ms=found.p90, p99_ms=found.p99, calls=len(latency))


def _int8_request(
    subject: Subject, options: BuildOptions, wanted: CompileRequest, chosen: Chosen
) -> tuple[onnx.ModelProto, BuildOptions, tuple[str, ...]]:
    """Model and options that make the INT8 engine, and what the user should know of it."""
    int8 = replace(options, precisions=options.precisions | {"int8"})
    if chosen.family == ONNXRUNTIME:
        return for_onnxruntime(subject.quantized), int8, ()
    if not wanted.implicit or subject.plain is None or subject.ranges is None:
        return subject.quantized, int8, ()
    if not FACTS[chosen.family].has_calibrators:
        return (
            subject.quantized, int8, (f"{chosen.title} has no implicit quantization: the same ranges went in as Q/DQ",)
        )  # fmt: skip
    return subject.plain, replace(int8, ranges=subject.ranges), ()


def _build(side: Side, backend: str, engine: Path) -> BuildResult:
    source = written(side, engine.parent, backend)
    try:
        with started(side, source, backend) as building:
            built = ended(side, source, building)
    finally:
        source.unlink()
    write_bytes(engine, built.engine)
    return built


def _opt_shape(given: BuildOptions, name: str, shape: Sequence[int], batch: int) -> tuple[int, ...]:
    """What the engine is optimized for: as the first profile has it, else `shape` at `batch`."""
    triple = given.profiles[0].shapes.get(name) if given.profiles else None
    return tuple(batch if d == -1 else d for d in (triple[1] if triple else shape))


def _opt_batch(given: BuildOptions, names: Sequence[str]) -> int:
    triples = [given.profiles[0].shapes.get(name) for name in names] if given.profiles else []
    return next((triple[1][0] for triple in triples if triple and triple[1]), 0)


def _for(options: BuildOptions) -> str:
    return f" for {', '.join(options.targets)}" if options.targets else ""


def _summary(
    layers: Sequence[Layer], built: BuildResult, quantized: Sequence[str], weighted: Sequence[str]
) -> Engine | BareEngine:
    size = len(built.engine)
    if not layers:
        return BareEngine(engine_bytes=size)
    totals = compile_summary(layers, quantized, weighted)
    return Engine(engine_bytes=size, **dict(totals))
