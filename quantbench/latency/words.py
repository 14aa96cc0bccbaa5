"""A network's time in words and as plain data."""

from collections.abc import Iterator

from quantbench.json_types import JsonObject
from quantbench.latency.device import Device
from quantbench.latency.engine_time import EngineTime, Total
from quantbench.latency.network import Network, NetworkTime
from quantbench.latency.verdict import Verdict, slowest, verdict

_SHOWN = 12


def timed(network: Network, device: Device, batch: int) -> tuple[NetworkTime, Verdict]:
    """The network at `batch` and the verdict on it."""
    asked = network.on(device, batch)
    return asked, verdict(network, device, asked)


def lines(device: Device, asked: NetworkTime, judged: Verdict) -> Iterator[str]:
    """Verdict, totals by precision, shares, mends, slowest layers."""
    yield f"Latency on {device.name}, batch {asked.batch}: {judged.sentence}"
    for caveat in judged.caveats:
        yield f"  note: {caveat}"
    yield "precision\tGPU compute of the engine\tsum of a per-layer profile\tsum of kernels alone\tkernels"
    for precision, time in asked.times.items():
        run = sum(1 for layer in time.layers if layer.estimate.sure != "free")
        yield "\t".join((precision, str(time.compute), str(time.profile), str(time.tactics), str(run)))
    for precision, time in asked.times.items():
        shares = ", ".join(f"{part} {_share(ms, time)}" for part, ms in time.shares.items())
        yield f"{precision}, kernels by part: {shares}"
    if judged.mends:
        yield "What INT8 loses time on:"
        for mend in judged.mends:
            yield f"  {mend.ms * 1e3:.1f} µs: {mend.what}"
    yield "Slowest kernels in INT8 (µs, 90 % interval, how sure):"
    for name, part, us, low, high, sure in slowest(asked.times["INT8"], _SHOWN):
        yield f"  {us:.1f} ({low:.1f} to {high:.1f}), {sure}, {part}: {_cut(name)}"
    for label, offset in (("a profile", device.profile), ("the engine", device.compute)):
        yield f"Each layer counts {offset.mean:+.1f} ± {offset.spread:.1f} µs in {label}: {_cut(offset.source, 60)}"


def to_json(device: Device, asked: NetworkTime, judged: Verdict) -> JsonObject:
    """Plain data for `predict --json` and reports."""
    return {
        "device": device.name, "guess": device.guess, "batch": asked.batch,
        "verdict": {"kind": judged.kind, "gain": judged.gain, "sentence": judged.sentence,
                    "mends": [{"what": m.what, "ms": m.ms} for m in judged.mends],
                    "caveats": list(judged.caveats)},
        "times": {
            precision: {
                "compute": _total(time.compute), "profile": _total(time.profile), "tactics": _total(time.tactics),
                "shares_ms": time.shares, "unsized": time.unsized,
                "layers": [{"name": layer.name, "part": layer.part, "ms": layer.us / 1e3,
                            "low_ms": layer.estimate.low / 1e3, "high_ms": layer.estimate.high / 1e3,
                            "sure": layer.estimate.sure, "why": layer.estimate.why} for layer in time.layers],
            }
            for precision, time in asked.times.items()
        },
    }  # fmt: skip


def _total(total: Total) -> dict[str, float]:
    return {"ms": total.ms, "low_ms": total.low, "high_ms": total.high}


def _share(ms: float, time: EngineTime) -> str:
    return f"{ms:.3f} ms ({ms / max(time.tactics.ms, 1e-9):.0%})"


def _cut(text: str, most: int = 90) -> str:
    return text if len(text) <= most else f"{text[: most - 2]} …"
