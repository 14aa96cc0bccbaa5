"""A device out of its sources: classes, what a profile and a whole engine add to a layer, and the evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from quantbench.errors import QuantbenchError
from quantbench.json_types import JsonValue
from quantbench.latency.device import ASSUMED, Device, Evidence, Offset
from quantbench.latency.from_engine import EngineLayer, timings_of_engine
from quantbench.latency.gpus import Specs
from quantbench.latency.learn import borrow_products, learn_products
from quantbench.latency.log_timings import Timed
from quantbench.latency.moved import borrow_moved, floor_us, learn_moved
from quantbench.latency.prior import Prior
from quantbench.latency.sources import Source
from quantbench.latency.work import FREE, OPAQUE

_TRUSTED = ("seen", "model")
# An engine that takes longer than its layers by this much ran at another clock.
_SLOWER_CLOCK = 1.05
# A first layer that takes less than this many µs besides takes nothing besides.
_FIRST_LEAST = 10.0


def learn_device(
    name: str,
    sources: Sequence[Source],
    prior: Prior,
    *,
    specs: Specs | None = None,
    profiles: bool = True,
    files: Sequence[Mapping[str, JsonValue]] = (),
) -> Device:
    """The device that `sources` timed. `specs` where they do not tell the GPU; `prior` of other GPUs; `profiles`: learn
    layers that only a profile has timed, too; `files` what to say of the sources in the evidence.

    Raises QuantbenchError where the GPU is not told, or several are.
    """
    specs = specs or _one_gpu(sources)
    rows = [row for source in sources for row in source.rows]
    others = prior.without(specs.gpu)
    from_logs = bool(rows)
    if not from_logs:
        rows = [row for source in sources for row in timings_of_engine(source.layers)]
    device = _device(name, specs, rows, others)
    profile, compute = _offsets(device, sources, from_logs)
    device = replace(device, profile=profile, compute=compute)
    if from_logs and profiles and any(source.layers for source in sources):
        rows = rows + _kernel_times(sources, rows, device.profile.mean)
        device = replace(_device(name, specs, rows, others), profile=device.profile, compute=device.compute)
    return replace(device, evidence=_evidence(device, sources, rows, files))


def _one_gpu(sources: Sequence[Source]) -> Specs:
    found = {s.specs.gpu: s.specs for s in sources if s.specs is not None}
    if not found:
        raise QuantbenchError(
            "nothing here tells the GPU: give --gpu with its name (quantbench device gpus lists those that are known), "
            "or a log with its Device Information (trtexec prints it)"
        )
    plain = {(s.sms, s.capability) for s in found.values()}
    if len(plain) > 1:
        raise QuantbenchError(f"these are timings of several GPUs ({', '.join(sorted(found))}); learn one at a time")
    return next(iter(found.values()))


def _device(name: str, specs: Specs, rows: Sequence[Timed], others: Prior) -> Device:
    products = learn_products(rows, specs, others)
    moved = learn_moved(rows, specs, others)
    floor = floor_us(rows)
    return Device(name, specs, products + borrow_products(products, specs, others),
                  moved + borrow_moved(moved, specs, others, floor), floor=floor)  # fmt: skip


def _offsets(device: Device, sources: Sequence[Source], from_logs: bool) -> tuple[Offset, Offset]:
    """What a profile and the whole engine add to a layer, as far as the sources' profiles tell them."""
    profiled = [s for s in sources if any(layer.ms and layer.kind not in FREE for layer in s.layers)]
    extras = [extra for source in profiled for extra in _extras(device, source.layers)] if from_logs else []
    if not profiled or (from_logs and not extras):
        return ASSUMED, ASSUMED
    said = f"profile of {', '.join(source.names[0] for source in profiled)}"
    mean = float(np.median(extras)) if from_logs else 0.0
    spread = float(np.quantile(np.abs(np.array(extras) - mean), 0.5)) if from_logs else 0.5
    first = _first(device, profiled, mean) if from_logs else 0.0
    profile = Offset(round(mean, 2), round(max(spread, 0.5), 2), said if from_logs else f"learnt from the {said}",
                     round(first, 2))  # fmt: skip
    apart = [a for source in profiled if (a := _apart(source, first)) is not None]
    if not apart:
        return profile, replace(ASSUMED, mean=round(mean - 3.0, 2))
    less = float(np.median(apart))
    wide = max(float(np.ptp(apart)) / 2, 1.0)
    return profile, Offset(round(mean - less, 2), round(wide, 2), f"{said}, GPU compute time")


def _first(device: Device, sources: Sequence[Source], mean: float) -> float:
    """What the first layer of a profile takes besides, in µs; 0 where that is within what the model misses.

    By layers that move bytes: of a network's first convolution the model knows too little.
    """
    found: list[float] = []
    for source in sources:
        layer = next((x for x in source.layers if x.first), None)
        if layer is not None and layer.work is not None and not layer.work.weighted and layer.ms:
            found.append(layer.ms * 1e3 - device.estimate(layer.work).us - mean)
    extra = float(np.median(found)) if found else 0.0
    return extra if extra > _FIRST_LEAST else 0.0


def _apart(source: Source, first: float) -> float | None:
    """µs a layer between the profile of `source` and its GPU compute time; None where the one or the other is not
    told, or the clock was down: an engine is hardly slower than its layers one by one."""
    timed = [layer.ms for layer in source.layers if layer.ms and layer.kind not in FREE]
    profile_us = sum(timed) * 1e3
    if source.compute_ms is None or source.compute_ms * 1e3 > _SLOWER_CLOCK * profile_us:
        return None
    return (profile_us - first - source.compute_ms * 1e3) / len(timed)


def _extras(device: Device, layers: Sequence[EngineLayer]) -> list[float]:
    found: list[float] = []
    for layer in layers:
        if layer.work is None or layer.work.kind in OPAQUE or not layer.ms:
            continue
        estimate = device.estimate(layer.work)
        # Of long layers the model's error is larger than what is looked for.
        if estimate.sure in _TRUSTED and layer.ms * 1e3 < 150:
            found.append(layer.ms * 1e3 - estimate.us)
    return found


def _kernel_times(sources: Sequence[Source], rows: Sequence[Timed], offset: float) -> list[Timed]:
    """Profiled layers that no log has timed, less what a profile adds."""
    known = {row.work.key for row in rows}
    found: list[Timed] = []
    for source in sources:
        for row in timings_of_engine(source.layers):
            if row.work.key not in known:
                found.append(replace(row, ms=max(row.ms - offset / 1e3, 0.4 * row.ms)))
    return found


def _evidence(
    device: Device, sources: Sequence[Source], rows: Sequence[Timed], files: Sequence[Mapping[str, JsonValue]]
) -> Evidence:
    errors: dict[str, float] = {}
    own = [c for c in device.products if not c.borrowed]
    for dtype in sorted({c.source.dtype for c in own}):
        classes = [c for c in own if c.source.dtype == dtype]
        weights = [len(c.points) for c in classes]
        errors[f"products {dtype}"] = round(float(np.average([c.error for c in classes], weights=weights)), 3)
    moved = [c for c in device.moved if not c.borrowed and c.source is not None]
    if moved:
        errors["moved"] = round(float(np.average([c.error for c in moved], weights=[len(c.points) for c in moved])), 3)
    if not files:
        files = [{"name": ", ".join(s.names), "rows": len(s.rows), "layers": len(s.layers)} for s in sources]
    return Evidence(
        files=tuple(files), rows=len(rows), shapes=len({r.work.shape for r in rows}),
        tensorrt=tuple(sorted({s.version for s in sources if s.version})), error=errors,
        notes=tuple(s.note for s in sources if s.note),
    )  # fmt: skip
