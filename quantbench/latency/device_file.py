"""Devices as YAML: what was learnt on the device itself. What other GPUs lend is added when it is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from quantbench.atomic import write_text
from quantbench.errors import QuantbenchError
from quantbench.json_types import JsonObject
from quantbench.latency.classes import MovedClass, Point, ProductClass
from quantbench.latency.device import Device, Evidence, Offset
from quantbench.latency.gpus import Specs
from quantbench.latency.layout import Format
from quantbench.latency.learn import borrow_products
from quantbench.latency.moved import borrow_moved
from quantbench.latency.prior import Prior
from quantbench.latency.prior_file import params_from_plain, params_to_plain, shipped_prior, short
from quantbench.latency.stream import Stream
from quantbench.latency.work import Work
from quantbench.latency.yaml_file import Block, BlockDumper, load
from quantbench.shipped import shipped_names

_FORMAT = "quantbench-device/2"
_OLDER = ("quantbench-device/1",)
_PRODUCT = ("m", "n", "k", "groups", "window", "stride", "channels", "residual", "read", "written", "weights",
            "elements")  # fmt: skip
_MOVED = ("channels", "read", "written", "elements")


def device_names() -> dict[str, Path]:
    """Devices that ship with quantbench, by name."""
    return shipped_names("devices", ".yaml")


def find_device(name: str) -> Device:
    """The device `name`: a file, or one that ships. Raises QuantbenchError where there is none."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_device(path)
    known = device_names()
    if name.lower() not in known:
        raise QuantbenchError(
            f"no device {name}; there are {', '.join(known)} (quantbench device list), or a file that 'quantbench "
            f"device learn' wrote"
        )
    return read_device(known[name.lower()])


def write_device(device: Device, path: Path) -> None:
    """Write `device` without what it borrowed."""
    write_text(path, yaml.dump(to_plain(device), Dumper=BlockDumper, sort_keys=False, width=120, allow_unicode=True,
                               default_flow_style=None))  # fmt: skip


def read_device(path: Path, prior: Prior | None = None) -> Device:
    """The device at `path`, completed by what other GPUs lend (`prior`, by default the shipped one). A file that a
    process read is not read again while it stays as it is: a run asks for its device three times."""
    if prior is not None or not path.is_file():
        return _read(path, prior)
    found = path.stat()
    return _remembered(path, path.absolute(), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _remembered(path: Path, place: Path, time: int, size: int) -> Device:
    return _read(path, None)  # errors name `path` as it was given


def _read(path: Path, prior: Prior | None) -> Device:
    data = load(path)
    if data.get("format") in _OLDER:
        raise QuantbenchError(
            f"{path} is of an older quantbench; learn it again with 'quantbench device learn LOG -o {path}'"
        )
    if data.get("format") != _FORMAT:
        raise QuantbenchError(f"{path} is no device ({_FORMAT}); make one with 'quantbench device learn LOG -o {path}'")
    try:
        device = from_plain(data)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise QuantbenchError(f"{path} is damaged ({type(error).__name__}: {error}); learn it again") from error
    return completed(device, shipped_prior() if prior is None else prior)


def completed(device: Device, prior: Prior) -> Device:
    """`device` with classes that other GPUs lend where it timed none."""
    from dataclasses import replace

    others = prior.without(device.specs.gpu)
    return replace(
        device,
        products=device.products + borrow_products(device.products, device.specs, others),
        moved=device.moved + borrow_moved(device.moved, device.specs, others, device.floor),
    )


def to_plain(device: Device) -> JsonObject:
    """Plain data for YAML."""
    return {
        "format": _FORMAT, "name": device.name, "guess": device.guess,
        "specs": asdict(device.specs),
        "offsets": {"profile": asdict(device.profile), "compute": asdict(device.compute)},
        "common": device.common, "floor": short(device.floor),
        "evidence": {
            "tensorrt": list(device.evidence.tensorrt), "rows": device.evidence.rows,
            "shapes": device.evidence.shapes, "files": [dict(f) for f in device.evidence.files],
            "error": dict(device.evidence.error), "notes": list(device.evidence.notes),
        },
        "products": [_product(c) for c in device.products if not c.borrowed],
        "moved": [_moved(c) for c in device.moved if not c.borrowed],
    }  # fmt: skip


def from_plain(data: Mapping[str, Any]) -> Device:
    """The inverse of `to_plain`."""
    specs = Specs(**data["specs"])
    evidence = data["evidence"]
    return Device(
        name=str(data["name"]), specs=specs, guess=str(data.get("guess", "")),
        products=tuple(_product_class(c, specs) for c in data["products"]),
        moved=tuple(_moved_class(c, specs) for c in data["moved"]),
        profile=Offset(**data["offsets"]["profile"]), compute=Offset(**data["offsets"]["compute"]),
        common=float(data["common"]), floor=float(data["floor"]),
        evidence=Evidence(
            tuple(evidence["files"]), int(evidence["rows"]), int(evidence["shapes"]), tuple(evidence["tensorrt"]),
            dict(evidence["error"]), tuple(evidence["notes"]),
        ),
    )  # fmt: skip


def _product(chosen: ProductClass) -> JsonObject:
    return {
        "class": [chosen.kind, str(chosen.source), str(chosen.target)],
        "process": [short(v) for v in (chosen.amplitude, chosen.reach, chosen.spread, chosen.error)],
        "params": {name: params_to_plain(p) for name, p in chosen.params.items()},
        "points": _table(chosen.points, _PRODUCT),
    }


def _product_class(data: Mapping[str, Any], specs: Specs) -> ProductClass:
    kind, source, target = data["class"]
    formats = Format.parse(source), Format.parse(target)
    amplitude, reach, spread, error = (float(v) for v in data["process"])
    params = {name: params_from_plain(row) for name, row in data["params"].items()}
    points = _points(data["points"], _PRODUCT, kind, formats)
    return ProductClass(kind, *formats, params, specs.sms, points, amplitude, reach, spread, error)


def _moved(chosen: MovedClass) -> JsonObject:
    # Points of a kind in any formats are those of its formats: only its numbers are kept.
    own = chosen.points if chosen.source is not None else ()
    return {
        "class": [chosen.kind, str(chosen.source or ""), str(chosen.target or ""), int(chosen.thin)],
        "stream": [short(v) for v in (chosen.stream.launch, chosen.stream.bandwidth, chosen.stream.pace)],
        "process": [short(v) for v in (chosen.amplitude, chosen.reach, chosen.spread, chosen.error)],
        "points": _table(own, _MOVED),
    }


def _moved_class(data: Mapping[str, Any], specs: Specs) -> MovedClass:
    kind, source, target, thin = data["class"]
    first = Format.parse(source) if source else None
    last = Format.parse(target) if target else None
    stream = Stream(*(float(v) for v in data["stream"]))
    amplitude, reach, spread, error = (float(v) for v in data["process"])
    points = _points(data["points"], _MOVED, kind, (first, last)) if first and last else ()
    return MovedClass(kind, first, last, bool(thin), stream, specs.cache_bytes, points, amplitude, reach, spread,
                      error)  # fmt: skip


def _table(points: Sequence[Point], columns: Sequence[str]) -> str:
    lines = [
        " ".join([*(f"{float(getattr(p.work, c)):.10g}" for c in columns), f"{p.us:.5g}"]) for p in points
    ]  # fmt: skip
    return Block("\n".join(lines))


def _points(text: str, columns: Sequence[str], kind: str, formats: tuple[Format, Format]) -> tuple[Point, ...]:
    found: list[Point] = []
    for line in str(text or "").splitlines():
        values = [float(v) for v in line.split()]
        fields: dict[str, Any] = {
            c: v if c in ("read", "written", "weights", "elements") else int(v)
            for c, v in zip(columns, values, strict=False)
        }
        if "residual" in fields:
            fields["residual"] = bool(fields["residual"])
        found.append(Point(Work(kind, *formats, **fields), values[len(columns)]))
    return tuple(found)
