"""`quantbench device`: learn how long layers take on a GPU from its build logs; list, show, compare and scale."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantbench.cli.options import JsonToo
from quantbench.terminal import echo

if TYPE_CHECKING:
    from quantbench.latency.device import Device

_Device = Annotated[str, typer.Argument(help="Name, or file.")]
_Out = Annotated[Path, typer.Option("--out", "-o", help="Device file to write (.yaml).")]

app = typer.Typer(no_args_is_help=True, help="Devices: how long layers take on a GPU, learnt from build logs.")


def register(root: typer.Typer) -> None:
    """Add the command group."""
    root.add_typer(app, name="device")


@app.command()
def learn(
    files: Annotated[list[Path], typer.Argument(help="Verbose build logs, layer JSON with its profile, CSV of convs.")],
    out: _Out,
    name: Annotated[str, typer.Option(help="What to call it. (default: the file's name)")] = "",
    gpu: Annotated[str, typer.Option(help="The GPU, where no file tells it: see 'quantbench device gpus'.")] = "",
) -> None:
    """Learn a device from what it timed: logs of trtexec --verbose, layers and profiles, tables of convolutions."""
    from quantbench.errors import QuantbenchError
    from quantbench.latency.assemble import learn_device
    from quantbench.latency.device_file import write_device
    from quantbench.latency.gpus import published
    from quantbench.latency.prior_file import shipped_prior
    from quantbench.latency.sources import read_sources

    if out.suffix not in (".yaml", ".yml"):
        raise QuantbenchError(f"{out} is no .yaml file; name one, as -o orin.yaml")
    specs = published(gpu) if gpu else None
    if gpu and specs is None:
        raise QuantbenchError(f"no GPU {gpu} is known; 'quantbench device gpus' lists those that are")
    sources = read_sources(files)
    device = learn_device(name or out.stem, sources, shipped_prior(), specs=specs)
    write_device(device, out)
    _show(device)
    echo(f"wrote {out}; use it with 'quantbench predict MODEL --device {out}'")


@app.command("list")
def list_(as_json: JsonToo = False) -> None:
    """The devices that ship with quantbench."""
    from quantbench.cli.cache_tables import table
    from quantbench.latency.device_file import device_names
    from quantbench.latency.yaml_file import load

    found = [(name, load(path)) for name, path in device_names().items()]
    if as_json:
        echo(json.dumps([{"name": n, "specs": d["specs"], "evidence": d["evidence"]} for n, d in found], indent=2))
        return
    rows = []
    for name, data in found:
        specs, evidence = data["specs"], data["evidence"]
        dtypes = sorted({c["class"][1].partition(":")[0] for c in data["products"]})
        speeds = f"{specs['clock_ghz']:g} GHz, {specs['bandwidth_gbs']:g} GB/s"
        rows.append((name, specs["gpu"], str(specs["sms"]), speeds,
                     ", ".join(evidence["tensorrt"]) or "not told", str(evidence["rows"]), str(evidence["shapes"]),
                     " ".join(dtypes)))  # fmt: skip
    table(("device", "GPU", "SMs", "clock, memory", "TensorRT", "timings", "shapes", "products timed in"), rows)


@app.command()
def show(device: _Device, as_json: JsonToo = False) -> None:
    """What a device was learnt from, what it knows, and how well."""
    from quantbench.latency.device_file import find_device, to_plain

    found = find_device(device)
    if as_json:
        echo(json.dumps(to_plain(found), indent=2))
        return
    _show(found)


@app.command()
def compare(
    first: _Device,
    second: _Device,
    as_json: JsonToo = False,
) -> None:
    """Two devices side by side on common layers, in each precision that both know."""
    from quantbench.cli.cache_tables import table
    from quantbench.latency.compare import compare_devices
    from quantbench.latency.device_file import find_device

    left, right = find_device(first), find_device(second)
    rows = compare_devices(left, right)
    if as_json:
        plain = [{"layer": r.layer, "precision": r.precision, left.name: r.left.us, right.name: r.right.us,
                  "ratio": r.ratio} for r in rows]  # fmt: skip
        echo(json.dumps(plain, indent=2))
        return
    table(("layer", "precision", f"{left.name}, µs", f"{right.name}, µs", "ratio", "how sure"),
          [(r.layer, r.precision, f"{r.left.us:.1f}", f"{r.right.us:.1f}", f"{r.ratio:.2f}",
            f"{r.left.sure}, {r.right.sure}") for r in rows])  # fmt: skip
    for device in (left, right):
        if device.guess:
            echo(f"{device.name} is a guess: {device.guess}")


@app.command()
def scale(
    device: Annotated[str, typer.Argument(help="Learnt device to start from: name, or file.")],
    gpu: Annotated[str, typer.Argument(help="GPU to scale to, of the same architecture: see 'device gpus'.")],
    out: _Out,
    sms: Annotated[int, typer.Option(min=0, help="Multiprocessors, where not as published.")] = 0,
    clock: Annotated[float, typer.Option(min=0, help="Clock in GHz, where not as published (Jetson power modes).")] = 0,
    bandwidth: Annotated[float, typer.Option(min=0, help="Memory bandwidth in GB/s, where not as published.")] = 0,
) -> None:
    """Guess another GPU from a learnt one by published multiprocessors, clocks and bandwidth. A guess is called one."""
    from quantbench.latency.device_file import find_device, write_device
    from quantbench.latency.scale import scaled, target_specs

    learnt = find_device(device)
    guess = scaled(learnt, target_specs(gpu, sms, clock, bandwidth), out.stem)
    write_device(guess, out)
    _show(guess)
    echo(f"wrote {out}; use it with 'quantbench predict MODEL --device {out}'")


@app.command()
def gpus() -> None:
    """GPUs whose published specifications are known."""
    from quantbench.cli.cache_tables import table
    from quantbench.latency.gpus import KNOWN

    table(("GPU", "SMs", "GHz", "GB/s", "L2, MB", "compute capability"),
          [(s.gpu, str(s.sms), f"{s.clock_ghz:g}", f"{s.bandwidth_gbs:g}", f"{s.cache_mb:g}", s.capability)
           for s in KNOWN])  # fmt: skip


def _show(device: "Device") -> None:
    from quantbench.cli.cache_tables import table

    specs, evidence = device.specs, device.evidence
    echo(f"{device.name}: {specs.gpu}, {specs.sms} SMs at {specs.clock_ghz:g} GHz, {specs.bandwidth_gbs:g} GB/s, "
               f"{specs.cache_mb:g} MB of L2, compute capability {specs.capability}")  # fmt: skip
    if device.guess:
        echo(f"A guess: {device.guess}")
    echo(f"TensorRT {', '.join(evidence.tensorrt) or 'version not told'}; {evidence.rows} timings of "
               f"{evidence.shapes} shapes from")  # fmt: skip
    for file in evidence.files:
        details = ", ".join(f"{k} {v}" for k, v in file.items() if k != "name")
        echo(f"  {file.get('name', '')} ({details})")
    for note in evidence.notes:
        echo(f"  {note}")
    own = [c for c in device.products if not c.borrowed]
    rows = [
        (c.kind, str(c.source), str(c.target), " ".join(c.params), str(len({p.work.shape for p in c.points})),
         f"{100 * c.error:.1f} %")
        for c in sorted(own, key=lambda c: -len(c.points))
    ]  # fmt: skip
    echo("Products:")
    table(("kind", "in", "out", "arithmetic", "shapes", "median error, shape left out"), rows)
    moved = [c for c in device.moved if not c.borrowed and c.source is not None]
    echo(f"{len(moved)} ways of moving bytes (reformats, pooling, pointwise), median error, shape left out, "
               f"{100 * evidence.error.get('moved', 0):.1f} %")  # fmt: skip
    for label, offset in (("a profile", device.profile), ("the whole engine", device.compute)):
        echo(f"A layer takes {offset.mean:+.1f} ± {offset.spread:.1f} µs more in {label} than its kernel alone "
                   f"({offset.source})")  # fmt: skip
