"""A device guessed from a learnt one by published specifications. It is called a guess wherever it speaks.

How far such guesses are off, learnt devices against each other: docs/latency.md.
"""

from dataclasses import replace

from quantbench.errors import QuantbenchError
from quantbench.latency.classes import MovedClass, ProductClass
from quantbench.latency.device import Device
from quantbench.latency.gpus import Specs, published
from quantbench.latency.prior import absolute, shares
from quantbench.latency.stream import Stream


def target_specs(gpu: str, sms: int = 0, clock_ghz: float = 0.0, bandwidth_gbs: float = 0.0) -> Specs:
    """Published specifications of `gpu`, with what is given instead. Raises QuantbenchError for unknown GPUs."""
    found = published(gpu)
    if found is None:
        raise QuantbenchError(f"no GPU {gpu} is known; 'quantbench device gpus' lists those that are")
    return replace(found, sms=sms or found.sms, clock_ghz=clock_ghz or found.clock_ghz,
                   bandwidth_gbs=bandwidth_gbs or found.bandwidth_gbs)  # fmt: skip


def scaled(device: Device, specs: Specs, name: str) -> Device:
    """`device` with the specifications `specs`: rates and bandwidths keep their shares of the published ones; what was
    timed is not carried over. Raises QuantbenchError where the architectures differ in arithmetic."""
    old = device.specs
    lost = sorted({m for c in device.products for m in c.params if not specs.has(m)})
    if lost:
        raise QuantbenchError(
            f"{specs.gpu} has no {', '.join(lost)}, in which {device.name} was timed; scale from a device of compute "
            f"capability {specs.capability} or a nearer one (quantbench device list)"
        )
    why = (
        f"scaled from {device.name} ({old.gpu}: {old.sms} SMs, {old.clock_ghz:g} GHz, {old.bandwidth_gbs:g} GB/s) by "
        f"published specifications ({specs.sms} SMs, {specs.clock_ghz:g} GHz, {specs.bandwidth_gbs:g} GB/s)"
    )
    # What a layer takes besides its kernel is the processor's and the driver's doing as much as the clock's.
    slower = max(old.clock_ghz / specs.clock_ghz, 1.0)
    return replace(
        device, name=name, specs=specs, guess=why, floor=device.floor * slower,
        products=tuple(_product(c, old, specs, slower) for c in device.products),
        moved=tuple(_moved(c, old, specs, slower) for c in device.moved),
        evidence=replace(device.evidence, notes=(*device.evidence.notes, why)),
    )  # fmt: skip


def _product(chosen: ProductClass, old: Specs, new: Specs, slower: float) -> ProductClass:
    params = {}
    for math, each in chosen.params.items():
        moved = absolute(shares(each, old, math), new, math)
        params[math] = replace(moved, launch=moved.launch * slower)
    return replace(chosen, params=params, sms=new.sms, points=(), reach=0.0, amplitude=max(chosen.error, 0.1))


def _moved(chosen: MovedClass, old: Specs, new: Specs, slower: float) -> MovedClass:
    old_stream = chosen.stream
    stream = Stream(old_stream.launch * slower, old_stream.bandwidth * new.bandwidth_gbs / old.bandwidth_gbs,
                    old_stream.pace * new.cycles / old.cycles)  # fmt: skip
    return replace(chosen, stream=stream, cache=new.cache_bytes, points=(), reach=0.0,
                   amplitude=max(chosen.error, 0.2))  # fmt: skip
