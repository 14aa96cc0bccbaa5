"""`quantbench cache`: read, judge, compare and convert calibration files."""

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from quantbench.cli.cache_tables import line, section, table
from quantbench.cli.options import CalibData, InputData, JsonToo, Preprocess
from quantbench.terminal import echo

app = typer.Typer(no_args_is_help=True, help="Calibration caches: show, compare, check, convert, to and from Q/DQ.")


class Values(str, enum.Enum):
    """What decimals in a table without units mean."""

    amax = "amax"
    scale = "scale"
    inverse = "inverse"


class Precision(str, enum.Enum):
    """Types of what is not quantized; TensorRT 11 takes them from the model."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


_File = Annotated[Path, typer.Argument(help="Calibration file of any dialect.")]
_Out = Annotated[Path, typer.Option("--out", "-o", help="File to write.")]
_Values = Annotated[Values | None, typer.Option(help="What decimals mean: amax, scale (amax/127), inverse (127/amax).")]
_Limit = Annotated[int, typer.Option(min=0, help="Rows to print; 0 for all.")]
_Version = Annotated[str, typer.Option("--trt-version", help="Version in the header, as 8601 or 100300.")]


def _known_algorithm(name: str) -> str:
    from quantbench.cache.tensorrt import ALGORITHMS
    from quantbench.errors import QuantbenchError

    if name and name not in ALGORITHMS:
        raise QuantbenchError(f"--algorithm {name} is none of {', '.join(ALGORITHMS)}, which TensorRT knows")
    return name


_Algorithm = Annotated[str, typer.Option(help="Algorithm in the header.", callback=_known_algorithm)]


def register(root: typer.Typer) -> None:
    """Add the command group."""
    root.add_typer(app, name="cache")


@app.command()
def show(
    files: Annotated[list[Path], typer.Argument(help="Calibration files of any dialect.")],
    values: _Values = None,
    limit: _Limit = 0,
    as_json: JsonToo = False,
) -> None:
    """Show header, scales and ranges, and flag what is suspicious."""
    from quantbench.cache.flags import flags
    from quantbench.cache.read import read_cache
    from quantbench.cache.tensorrt import human_version
    from quantbench.cli.cache_report import show_json

    caches = [(path, read_cache(path, values=values.value if values else None)) for path in files]
    if as_json:
        data = [show_json(str(path), cache, flags(cache)) for path, cache in caches]
        echo(json.dumps(data, indent=2, ensure_ascii=True))
        return
    for path, cache in caches:
        found = flags(cache)
        of_tensor: dict[str, list[str]] = {}
        for flag in found:
            of_tensor.setdefault(flag.tensor, []).append(flag.kind)
        version = f", version {human_version(cache.version)}" if cache.version else ""
        algorithm = f", {cache.algorithm}" if cache.algorithm else ""
        line(f"{path}: {cache.dialect}{version}{algorithm}, {len(cache.entries)} tensors")
        if cache.header:
            line(f"header: {cache.header.strip()}")
        for key, value in cache.details.items():
            line(f"{key}: {value}")
        rows = [(e.name, f"{e.scale:.7g}", f"{e.amax:.6g}", ", ".join(dict.fromkeys(of_tensor.get(e.name, ()))))
                for e in cache.entries]  # fmt: skip
        table(("tensor", "scale", "amax", "flags"), rows, limit)
        for note in cache.notes:
            line(f"note: {note}")
        section("Flags", [f"{f.kind}: {f.tensor + ': ' if f.tensor else ''}{f.message}" for f in found], limit)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="Calibration file.")],
    second: Annotated[Path, typer.Argument(help="Calibration file to compare with it.")],
    values: _Values = None,
    limit: _Limit = 20,
    as_json: JsonToo = False,
) -> None:
    """Compare two files: tensors ranked by the ratio of their ranges."""
    from quantbench.cache.diff import diff as compare
    from quantbench.cache.read import read_cache
    from quantbench.cli.cache_report import diff_json

    meaning = values.value if values else None
    result = compare(read_cache(first, values=meaning), read_cache(second, values=meaning))
    if as_json:
        echo(json.dumps(diff_json(result), indent=2, ensure_ascii=True))
        return
    equal = sum(d.ratio == 1 for d in result.common)
    line(f"{len(result.common)} tensors in both, {equal} of them equal")
    rows = [(d.name, f"{d.first:.6g}", f"{d.second:.6g}", f"{d.ratio:.4g}") for d in result.common if d.ratio != 1]
    if rows:
        a, b = _told_apart(first, second)
        table(("tensor", f"amax in {a}", f"amax in {b}", "ratio"), rows, limit)
    section(f"Only in {first}", list(result.only_first), limit)
    section(f"Only in {second}", list(result.only_second), limit)


@app.command()
def check(
    file: _File,
    model: Annotated[Path, typer.Argument(help="Float ONNX model.")],
    values: _Values = None,
    limit: _Limit = 0,
    as_json: JsonToo = False,
    strict: Annotated[bool, typer.Option(help="Exit with 1 when a tensor has no range.")] = False,
) -> None:
    """Hold a file against a model: missing ranges, foreign entries, and what would run in float."""
    from quantbench.cache.check import check as hold
    from quantbench.cache.read import read_cache
    from quantbench.cli.cache_report import check_json, check_sections
    from quantbench.graph.load import load_model
    from quantbench.graph.onnx_view import view_of

    cache = read_cache(file, values=values.value if values else None)
    result = hold(cache, view_of(load_model(model)))
    if as_json:
        echo(json.dumps(check_json(result), indent=2, ensure_ascii=True))
    else:
        line(f"{len(result.matching.matches)} of {len(cache.by_name)} entries match a tensor of {model}")
        line(f"{len(result.meaning.ranges)} of {result.tensors} float tensors have a range")
        for title, rows in check_sections(result):
            section(title, rows, limit)
    if strict and (result.meaning.missing or result.broken):
        raise typer.Exit(1)


def _told_apart(first: Path, second: Path) -> tuple[Path, Path]:
    """The ends of two paths, as long as it takes to tell them apart."""
    for depth in range(1, max(len(first.parts), len(second.parts)) + 1):
        a, b = Path(*first.parts[-depth:]), Path(*second.parts[-depth:])
        if a != b:
            return a, b
    return first, second


@app.command("to-qdq")
def to_qdq(
    file: _File,
    model: Annotated[Path, typer.Argument(help="Float ONNX model that the cache was made for.")],
    out: _Out,
    values: _Values = None,
    keep_float: Annotated[list[str] | None, typer.Option(help="Pattern of node names to keep in float.")] = None,
    head_float: Annotated[bool, typer.Option(help="Keep the last layers in float.")] = True,
    int8_weights: Annotated[bool, typer.Option(help="Store weights as INT8.")] = False,
    precision: Annotated[Precision, typer.Option(help="Of what stays float.")] = Precision.fp32,
    calib_dir: CalibData = None,
    inputs: InputData = None,
    preprocess: Preprocess = None,
    limit: _Limit = 20,
) -> None:
    """Turn a cache and its float model into a Q/DQ model for TensorRT 11.

    With --calib-data or --input biases are corrected on these data, which gains accuracy that no cache carries.
    """
    from quantbench.cache.read import read_cache
    from quantbench.cache.to_qdq import to_qdq as convert
    from quantbench.cli.cache_report import check_sections
    from quantbench.cli.requests import data_choice
    from quantbench.graph.load import load_model
    from quantbench.graph.save import save_model
    from quantbench.graph.to_fp16 import to_bf16, to_fp16
    from quantbench.ptq.data_sources import correction_on
    from quantbench.qdq.options import PlacementOptions

    cache = read_cache(file, values=values.value if values else None)
    options = PlacementOptions(head_float=head_float, keep_float=tuple(keep_float or ()))
    proto = load_model(model)
    correction = correction_on(proto, str(model), data_choice(calib_dir, inputs, preprocess))
    result = convert(proto, cache, options, int8_weights=int8_weights, correction=correction)
    casts = {"fp16": to_fp16, "bf16": to_bf16}
    save_model(casts[precision.value](result.model) if precision.value in casts else result.model, out)
    line(f"{len(result.plan.weights)} layers quantized, {len(result.plan.tensors)} activations with Q/DQ; wrote {out}")
    if correction is not None:
        line(f"biases corrected on {correction.images} samples")
    for title, rows in check_sections(result.check)[:5]:
        section(title, rows, limit)
    section("Kept in float", [f"{name}: {why}" for name, why in result.plan.kept_float.items()], limit)


@app.command("from-qdq")
def from_qdq(
    model: Annotated[Path, typer.Argument(help="Q/DQ ONNX model.")],
    out: _Out,
    onnx_out: Annotated[Path | None, typer.Option("--onnx", help="Float model; default beside OUT.")] = None,
    precisions: Annotated[Path | None, typer.Option(help="Layer precisions; default beside OUT.")] = None,
    trt_version: _Version = "",
    algorithm: _Algorithm = "",
    dla: Annotated[bool, typer.Option("--dla", help="Add unit scales between Conv and Add, for DLA.")] = False,
    limit: _Limit = 20,
) -> None:
    """Turn a Q/DQ model into a cache, a float model and layer precisions, for DLA and TensorRT up to 10."""
    from quantbench.atomic import write_bytes, write_text
    from quantbench.cache.from_qdq import from_qdq as take_out
    from quantbench.cache.from_qdq import layer_precisions_argument
    from quantbench.cache.read import encode
    from quantbench.graph.load import load_model
    from quantbench.graph.save import save_model

    result = take_out(load_model(model), version=trt_version, algorithm=algorithm, dla=dla)
    onnx_out = onnx_out or out.with_name(f"{out.stem}.float.onnx")
    precisions = precisions or out.with_name(f"{out.stem}.layer_precisions.txt")
    argument, unspelled = layer_precisions_argument(result.precisions)
    write_bytes(out, encode(result.cache_text))
    save_model(result.model, onnx_out)
    write_text(precisions, argument)
    line(f"{len(result.ranges)} ranges in {out}; float model {onnx_out}; layer precisions {precisions}")
    section("Only in the model's metadata", list(result.carried), limit)
    section("Scales changed since to-qdq", list(result.changed), limit)
    section("Ranges that follow from others", [f"{d.tensor}: as {d.source}" for d in result.derived], limit)
    section("Layers that trtexec cannot name (a comma or colon)", list(unspelled), limit)
    for note in result.notes:
        line(f"note: {note}")


@app.command("from-run")
def from_run(
    run: Annotated[Path, typer.Argument(help="Run folder of quantbench ptq.")],
    out: _Out,
    trt_version: _Version = "",
    algorithm: _Algorithm = "",
) -> None:
    """Write the ranges of a run as a TensorRT cache."""
    from quantbench.atomic import write_bytes
    from quantbench.cache.convert import convert as convert_cache
    from quantbench.cache.from_run import from_run as read_run

    result = convert_cache(read_run(run), "tensorrt", version=trt_version, algorithm=algorithm)
    write_bytes(out, result.data)
    line(f"{result.written} ranges in {out}")


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Calibration files of one network.")],
    out: _Out,
    policy: Annotated[str, typer.Option(help="Where files differ: max, min, mean, first or last.")] = "max",
    trt_version: _Version = "",
    algorithm: _Algorithm = "",
    limit: _Limit = 20,
) -> None:
    """Merge several files into one TensorRT cache."""
    from quantbench.atomic import write_bytes
    from quantbench.cache import tensorrt
    from quantbench.cache.merge import merge as combine
    from quantbench.cache.read import encode, read_cache

    caches = [read_cache(path) for path in files]
    result = combine(caches, policy)
    native = next((cache for cache in caches if cache.dialect == tensorrt.DIALECT), None)
    text = tensorrt.render(
        result.ranges,
        version=trt_version or (native.version if native else tensorrt.DEFAULT_VERSION),
        algorithm=algorithm or (native.algorithm if native else tensorrt.DEFAULT_ALGORITHM),
    )
    write_bytes(out, encode(text))
    line(f"{len(result.ranges)} tensors in {out}; {len(result.conflicts)} of them differed, {policy} taken")
    rows = [(name, " ".join(f"{v:.6g}" for v in values)) for name, values in result.conflicts.items()]
    if rows:
        table(("tensor", "amax in each file"), rows, limit)


@app.command()
def convert(
    file: _File,
    out: _Out,
    to: Annotated[str, typer.Option(help="Dialect, as tensorrt, onnxruntime-json, aimet, modelopt.")] = "tensorrt",
    model: Annotated[Path | None, typer.Option(help="ONNX model: use the names of its tensors.")] = None,
    values: _Values = None,
    trt_version: _Version = "",
    algorithm: _Algorithm = "",
    drop_bad: Annotated[bool, typer.Option("--drop-bad", help="Leave out NaN, infinite and negative ranges.")] = False,
    invert: Annotated[bool, typer.Option("--invert", help="The file holds 127/amax; turn it round.")] = False,
    limit: _Limit = 20,
) -> None:
    """Write a calibration file in another dialect."""
    from quantbench.atomic import write_bytes
    from quantbench.cache.convert import convert as convert_cache
    from quantbench.cache.read import read_cache
    from quantbench.graph.load import load_model
    from quantbench.graph.onnx_view import view_of

    view = view_of(load_model(model)) if model is not None else None
    cache = read_cache(file, values=values.value if values else None)
    result = convert_cache(
        cache, to, view=view, version=trt_version, algorithm=algorithm, drop_bad=drop_bad, invert=invert
    )
    write_bytes(out, result.data)
    line(f"{result.written} ranges in {out} ({to})")
    section("Left out", [f"{name}: {why}" for name, why in result.dropped.items()], limit)
