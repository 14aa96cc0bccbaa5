"""What GPUs have in common, as the file `devices/_prior.yaml`: one line of text an entry, as YAML's own lists take ten
times as long to read."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from quantbench.atomic import write_text
from quantbench.latency.formula import Params
from quantbench.latency.layout import Format
from quantbench.latency.prior import MovedEntry, Prior, ProductEntry
from quantbench.latency.yaml_file import Block, BlockDumper, load

_FORMAT = "quantbench-prior/3"
_FIELDS = ("launch", "rate", "bandwidth", "extra", "depth", "step", "factor", "small", "stem")
_ANY = "-"


def write_prior(prior: Prior, path: Path) -> None:
    """Write `prior`, one line an entry; columns are parted by `|`."""
    data = {
        "format": _FORMAT,
        "products": Block("\n".join(
            _line(e.device, e.capability, e.kind, e.math, e.source, e.target, e.shapes, *params_to_plain(e.params))
            for e in prior.products
        )),
        "moved": Block("\n".join(
            _line(e.device, e.capability, e.kind or _ANY, e.source or _ANY, e.target or _ANY, int(e.thin), e.shapes,
                  e.telling, short(e.launch), short(e.bandwidth), short(e.pace))
            for e in prior.moved
        )),
    }  # fmt: skip
    write_text(path, yaml.dump(data, Dumper=BlockDumper, sort_keys=False, width=200, allow_unicode=True))


def read_prior(path: Path) -> Prior:
    """The prior at `path`; an empty one where there is no such file."""
    if not path.is_file():
        return Prior()
    data = load(path)
    return Prior(
        tuple(_product(line.split("|")) for line in str(data["products"]).splitlines()),
        tuple(_moved(line.split("|")) for line in str(data["moved"]).splitlines()),
    )


def shipped_prior() -> Prior:
    """The prior that ships with quantbench."""
    from quantbench.shipped import shipped_folder

    return read_prior(shipped_folder("devices") / "_prior.yaml")


def params_to_plain(params: Params) -> list[float | str]:
    """[launch, rate, bandwidth, extra, depth, step, factor, small, stem, "64x64x1.02 128x64x0.97 …"]."""
    numbers: list[float | str] = [short(getattr(params, name)) for name in _FIELDS]
    return [*numbers, " ".join(f"{m}x{n}x{f:.3g}" for m, n, f in params.tiles)]


def params_from_plain(row: Sequence[object]) -> Params:
    """The inverse of `params_to_plain`."""
    tiles = tuple((int(m), int(n), float(f)) for m, n, f in (t.split("x") for t in str(row[9]).split()))
    launch, rate, bandwidth, extra, depth, step, factor, small, stem = (float(str(v)) for v in row[:9])
    return Params(launch, rate, bandwidth, extra, depth, step, factor, small, stem, tiles)


def short(value: float) -> float:
    """`value` to four digits."""
    return float(f"{value:.4g}")


def _line(*values: object) -> str:
    return "|".join(str(v) for v in values)


def _product(row: list[str]) -> ProductEntry:
    device, capability, kind, math, source, target, shapes = row[:7]
    return ProductEntry(device, capability, kind, math, Format.parse(source), Format.parse(target), int(shapes),
                        params_from_plain(row[7:]))  # fmt: skip


def _moved(row: list[str]) -> MovedEntry:
    device, capability, kind, source, target, thin, shapes, telling, launch, bandwidth, pace = row
    return MovedEntry(device, capability, "" if kind == _ANY else kind, _format(source), _format(target), thin == "1",
                      int(shapes), int(telling), float(launch), float(bandwidth), float(pace))  # fmt: skip


def _format(text: str) -> Format | None:
    return None if text == _ANY else Format.parse(text)
