"""Is INT8 worth it: pays, pays at larger batches only, pays once some things are mended, or stay with FP16."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantbench.latency.device import Device
from quantbench.latency.engine_time import EngineTime
from quantbench.latency.join import works_of_prediction
from quantbench.latency.layout import Format
from quantbench.latency.network import Network, NetworkTime
from quantbench.latency.work import Work

# Under this gain INT8 is not worth its loss of accuracy.
PAYS = 1.05
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_MOST_MENDS = 8


@dataclass(frozen=True, slots=True)
class Mend:
    """A thing that costs time and can be mended: `ms` at the batch asked for."""

    what: str
    ms: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` pays, batch, mend or stay; `gain` of INT8 over FP16 at the batch asked for; `sentence` for users."""

    kind: str
    gain: float
    sentence: str
    mends: tuple[Mend, ...] = ()
    batch: int = 0
    caveats: tuple[str, ...] = ()


def verdict(network: Network, device: Device, asked: NetworkTime) -> Verdict:
    """The verdict at the batch of `asked`."""
    gain = asked.gain()
    mends = _mends(network, device, asked)
    caveats = _caveats(device, asked)
    int8, fp16 = asked.times["INT8"].compute, asked.times["FP16"].compute
    figures = f"{fp16.ms:.3f} ms in FP16, {int8.ms:.3f} ms in INT8, {gain:.2f} x, batch {asked.batch}"
    if gain >= PAYS:
        return Verdict("pays", gain, f"INT8 pays: {figures}", mends, asked.batch, caveats)
    for batch in _BATCHES:
        if batch > asked.batch:
            later = network.on(device, batch, ("INT8", "FP16")).gain()
            if later >= PAYS:
                said = f"INT8 pays only at batch {batch} and more ({later:.2f} x there; {figures})"
                return Verdict("batch", gain, said, mends, batch, caveats)
    left = int8.ms
    for count, mend in enumerate(mends, 1):
        left -= mend.ms
        if left > 0 and fp16.ms / left >= PAYS:
            what = "this is mended" if count == 1 else f"these {count} things are mended"
            return Verdict("mend", gain, f"INT8 pays if {what} ({fp16.ms / left:.2f} x then; {figures})",
                           mends[:count], asked.batch, caveats)  # fmt: skip
    return Verdict("stay", gain, f"Stay with FP16: INT8 gains less than {PAYS:.2f} x ({figures})", mends, asked.batch,
                   caveats)  # fmt: skip


def _mends(network: Network, device: Device, asked: NetworkTime) -> tuple[Mend, ...]:
    """Q/DQ left over, layers kept in float, reformats: each with what it costs, largest first."""
    found: list[Mend] = []
    time = asked.times["INT8"]
    extra = max(device.compute.mean, 0.0)
    for layer in time.layers:
        if layer.part == "Q/DQ left over":
            found.append(Mend(f"left-over {layer.name}", (layer.us + extra) / 1e3))
    found.extend(_float_layers(network, device, asked))
    reformats = [layer for layer in time.layers if layer.part == "reformats"]
    if reformats:
        cost = sum(layer.us + extra for layer in reformats) / 1e3
        found.append(Mend(f"{len(reformats)} reformat{'s' if len(reformats) > 1 else ''} between formats", cost))
    return tuple(sorted(found, key=lambda m: -m.ms)[:_MOST_MENDS])


def _float_layers(network: Network, device: Device, asked: NetworkTime) -> list[Mend]:
    """Weighted layers in float, with what INT8 would save on each."""
    wanted = {f.node: f.mend for f in network.int8.float_weighted}
    names = {layer.name: next((n for n in layer.nodes if n in wanted), "") for layer in network.int8.layers}
    works, _ = works_of_prediction(network.int8.layers, device.specs, fp16=network.int8.fp16, batch=asked.batch)
    found: list[Mend] = []
    for name, _, work in works:
        node = names.get(name, "")
        if node and work.weighted and work.source.dtype != "INT8":
            saved = device.estimate(work).us - device.estimate(_in_int8(work)).us
            if saved > 0:
                found.append(Mend(f"{node} in float ({wanted[node]})", saved / 1e3))
    return found


def _in_int8(work: Work) -> Work:
    form = Format("INT8", "chw32")
    return work.in_formats(form, form)


def _caveats(device: Device, asked: NetworkTime) -> tuple[str, ...]:
    """What makes the verdict less sure than its figures look."""
    found: list[str] = []
    if device.guess:
        found.append(f"a guess: {device.guess}")
    if not {"INT8", "FP16"} <= device.dtypes:
        missing = " and ".join(sorted({"INT8", "FP16"} - device.dtypes))
        found.append(
            f"no {missing} was timed on {device.name}: that layer by layer is by published rates, so only the whole is "
            f"judged"
        )
    for precision, time in asked.times.items():
        share = time.guessed_ms / max(time.tactics.ms, 1e-9)
        if share > 0.1:
            found.append(f"{share:.0%} of the {precision} time is of layers without a model (Myelin, plugins)")
        if time.unsized:
            found.append(f"{time.unsized} layers of unknown shape are in no total ({precision})")
    return tuple(found)


def slowest(time: EngineTime, count: int) -> Sequence[tuple[str, str, float, float, float, str]]:
    """(layer, part, µs, low, high, how sure) of the slowest layers."""
    ordered = sorted(time.layers, key=lambda layer: -layer.us)[:count]
    return [(x.name, x.part, x.us, x.estimate.low, x.estimate.high, x.estimate.sure) for x in ordered]
