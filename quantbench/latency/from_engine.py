"""Works and profiled times of an engine's layers, from whatever files describe it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import Build, BuildLog
from quantbench.inspection.profile import join, profile_of_table
from quantbench.latency.kernel import kernel_of
from quantbench.latency.layout import Strided, format_of
from quantbench.latency.log_timings import Timed, batch_of, product_nodes, product_work, work_of_choice
from quantbench.latency.work import FREE, OPAQUE, WEIGHTED, Work, kind_of, work_of
from quantbench.layers.layer import Layer
from quantbench.layers.names import strip_profile


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """A layer of an engine: its work (None where its shapes are unknown) and its mean time in a profile, in ms.
    `first`: no kernel runs before it."""

    name: str
    kind: str
    work: Work | None
    ms: float | None
    tactic: str = ""
    first: bool = False


def engine_layers(layers: Sequence[Layer], log: BuildLog | None = None) -> tuple[EngineLayer, ...]:
    """`layers` with their works. Classic dumps in logs tell no windows and few formats: the log's autotuning does."""
    build = log.build if log is not None else None
    batch = batch_of(log, build) if log is not None and build is not None else 1
    found: list[EngineLayer] = []
    for layer in layers:
        work = None
        if build is not None and not layer.attributes.get("ParameterType"):
            work = _from_log(layer, build, batch)
        kind = kind_of(layer)
        first = bool(layer.time_ms) and kind not in FREE and not any(x.first for x in found)
        found.append(EngineLayer(layer.name, kind, work or work_of(layer), layer.time_ms, layer.tactic, first))
    return tuple(found)


def _from_log(layer: Layer, build: Build, batch: int) -> Work | None:
    name = strip_profile(layer.name)
    choices = [c for c in (*build.tactics.choices, *build.tactics.edges) if c.layer == name]
    kind = kind_of(layer)
    if kind in WEIGHTED and not any(c.best and c.best.tactic == layer.tactic for c in choices):
        # Layers of one shape are timed once, under the name of the first of them.
        sides = [tuple(Strided(format_of(t), t.dims[1:]) for t in ts) for ts in (layer.inputs, layer.outputs)]
        return product_work(name, kind, product_nodes(name, build), (sides[0], sides[1]), batch) if all(sides) else None
    if not choices or kind not in WEIGHTED:
        return None
    fitting = [c for c in choices if c.best is not None and c.best.tactic == layer.tactic] or choices
    works = [w for c in fitting if (w := work_of_choice(c, build, batch)) is not None]
    return max(works, key=lambda w: _agreement(w, layer), default=None)


def _agreement(work: Work, layer: Layer) -> int:
    """How many of the dump's data types and vector widths `work` shares."""
    pairs = [(work.source, layer.inputs), (work.target, layer.outputs)]
    return sum(
        (f.dtype == t[0].dtype) + (f.vector == t[0].vector or (f.vector == 1 and t[0].vector == 1))
        for f, t in pairs
        if t
    )


def layers_of_inspection(inspection: Inspection) -> tuple[EngineLayer, ...]:
    """Layers of one gathered engine; a log's own profile table counts where no other profile does."""
    layers = inspection.layers
    log = inspection.log
    if log is not None and all(layer.time_ms is None for layer in layers):
        profile = profile_of_table(log.build.profile)
        if profile is not None:
            layers = join(layers, profile)[0]
    return engine_layers(layers, log)


def timings_of_engine(layers: Sequence[EngineLayer]) -> list[Timed]:
    """Profiled layers as timings. These hold what a profile adds to each layer."""
    rows: list[Timed] = []
    for index, layer in enumerate(layers):
        if layer.work is None or not layer.ms or layer.kind in FREE or layer.work.kind in OPAQUE:
            continue
        kernel = kernel_of(layer.tactic)
        rows.append(Timed(layer.work, layer.ms, kernel.tile, kernel.math, True, index, kernel.winograd))
    return rows


def read_engine(paths: Sequence[Path]) -> list[Inspection]:
    """Inspections of the files that describe engines: layers, profiles, logs."""
    from quantbench.inspection.gather import gather

    return gather(paths)
