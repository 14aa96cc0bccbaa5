"""What is put where: every command, every place of it that takes a file, and the bad files that go there.

`lines.tsv` says for each pair what comes of it: the exit code and a part of the line that the user gets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cli.bad_inputs.gallery import KINDS
from tests.cli.bad_inputs.models import MODELS
from tests.images.tars import HOSTILE

LINES = Path(__file__).with_name("lines.tsv")

# Command lines by what {x} is read as; `ending` is put behind the name, for readers that look at it.
PLACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnx": (".onnx", (
        "lint {x}", "predict {x}", "explain-node {x} conv1", "build {x} --backend onnxruntime --out {out}/e.onnx",
        "bench {x} --calls 1 --warm-up 0 --seconds 0", "eval {x} --data {data}", "eval {good} {x} --data {data}",
        "sensitivity {x} --data {data} --out {out}/s.json", "tune {x} --data {data} --min-sqnr 1 --out {out}/t",
        "ptq {x} --calib-data {data} --out {out}/run --no-compile", "inspect {x}",
        "cache from-qdq {x} --out {out}/c.cache", "cache check {cache} {x}",
        "cache to-qdq {cache} {x} --out {out}/q.onnx", "cache convert {cache} --to modelopt --model {x} --out {out}/q",
        "refit {engine} {x} --check --out {out}/r.engine",
    )),
    "cache": ("", (
        "cache show {x}", "cache diff {x} {cache}", "cache diff {cache} {x}", "cache check {x} {good}",
        "cache to-qdq {x} {good} --out {out}/q.onnx", "cache merge {cache} {x} --out {out}/m.cache",
        "cache convert {x} --to modelopt --out {out}/c",
        "build {good} --ranges {x} --backend onnxruntime --out {out}/b.onnx",
    )),
    "log": (".log", ("tactics {x}", "device learn {x} --out {out}/d.yaml --name d", "predict {qdq} --against {x}")),
    "json": (".json", (
        "cache show {x}", "tune {good} --data {data} --min-sqnr 1 --sensitivity {x} --out {out}/t",
        "build {good} --ranges {x} --backend onnxruntime --out {out}/b.onnx",
    )),
    "recipe": (".yaml", (
        "ptq --recipe {x} --out {out}/run", "sweep {x} --out {out}/s",
        "build {good} --recipe {x} --backend onnxruntime --out {out}/b", "tune --recipe {x} --min-sqnr 1 --out {out}/t",
        "sensitivity --recipe {x} --out {out}/s.json", "eval {good} --data {data} --recipe {x}", "device show {x}",
        "device compare {x} a100", "device compare a100 {x}", "predict {qdq} --device {x}",
        "qat-export {checkpoint} --recipe {x} --calib-dir {pictures} --out {out}/q --no-compile",
        "device scale {x} L4 --out {out}/d.yaml",
    )),
    "data": ("", (
        "ptq {good} --calib-data {x} --out {out}/run --no-compile",
        "ptq {good} --calib-data {data} --eval-data {x} --out {out}/run --no-compile",
        "ptq {good} --input x={x} --out {out}/run --no-compile", "eval {good} --data {x}",
        "sensitivity {good} --data {x} --out {out}/s.json",
        "sensitivity {good} --data {data} --eval-dir {x} --out {out}/s.json",
        "tune {good} --data {x} --min-sqnr 1 --out {out}/t",
        "tune {good} --data {data} --eval-dir {x} --min-sqnr 1 --out {out}/t",
        "bench {good} {qdq} --data {x} --calls 1 --warm-up 0 --seconds 0",
        "cache to-qdq {cache} {good} --calib-dir {x} --out {out}/q.onnx",
        "cache to-qdq {cache} {good} --input x={x} --out {out}/q.onnx",
        "qat-export --recipe {net} --trust --calib-dir {x} --out {out}/q --no-compile",
        "qat-export --recipe {net} --trust --calib-dir {pictures} --data {x} --epochs 1 --out {out}/q "
        "--no-compile",
    )),
    "array": (".npy", (
        "ptq {good} --calib-data {x} --out {out}/run --no-compile",
        "ptq {good} --input x={x} --out {out}/run --no-compile", "eval {good} --data {x}",
        "bench {good} --input x={x} --calls 1",
    )),
    "arrays": (".npz", ("ptq {good} --calib-data {x} --out {out}/run --no-compile", "eval {good} --data {x}")),
    "shards": (".tar", ("ptq {good} --calib-data {x} --out {out}/run --no-compile", "eval {good} --data {x}")),
    "run": ("", (
        "verify {x}",
        "report {x} --out {out}/r", "report {run} {x} --out {out}/r", "cache from-run {x} --out {out}/c.cache",
    )),
    "engine": (".engine", (
        "bench {x} --calls 1 --warm-up 0 --seconds 0", "refit {x} {good} --out {out}/r.engine", "inspect {x}",
    )),
    "labels": ("", (
        "eval {good} --data {pictures} --recipe {recipe} --labels csv={x}",
        "eval {good} --data {pictures} --recipe {recipe} --labels coco={x}",
        "eval {good} --data {pictures} --recipe {recipe} --classes {x} --labels folder",
        "ptq {good} --recipe {recipe} --calib-dir {pictures} --eval-dir {pictures} --labels csv={x} --out {out}/run "
        "--no-compile",
        "ptq {good} --recipe {recipe} --calib-dir {pictures} --eval-dir {pictures} --labels folder --classes {x} "
        "--out {out}/run --no-compile",
        "tune {good} --recipe {recipe} --data {pictures} --eval-dir {pictures} --labels csv={x} --min-sqnr 1 "
        "--out {out}/t",
        "tune {good} --recipe {recipe} --data {pictures} --eval-dir {pictures} --labels folder --classes {x} "
        "--min-sqnr 1 --out {out}/t",
    )),
    "checkpoint": (".pt", (
        "qat-export {x} --recipe {net} --trust --calib-dir {pictures} --out {out}/q --no-compile",
        "qat-export --recipe {net} --trust --weights {x} --calib-dir {pictures} --out {out}/q --no-compile",
        "ptq {x} --recipe {net} --trust --calib-dir {pictures} --out {out}/run --no-compile",
    )),
    "plugin": (".so", (
        "build {good} --plugin {x} --backend tensorrt-rtx --out {out}/e.engine",
        "ptq {good} --calib-data {data} --plugin {x} --backend tensorrt-rtx --out {out}/run",
    )),
    "program": (".py", (
        "record {x} --out {out}/r", "ptq {good} --calib-data {x}:items --out {out}/run --no-compile",
        "ptq {good} --calib-data {data} --calibrator {x}:C --out {out}/run --no-compile",
        "eval {good} --data {data} --metric {x}:f",
        "build {good} --calibrator {x}:C --out {out}/e.engine",
        "build {x}:make --backend tensorrt-rtx --out {out}/e.engine",
    )),
}  # fmt: skip
# What is wrong is the command line, or what stands in it: the command, and a part of the line.
LINES_OF_COMMANDS: tuple[tuple[str, str], ...] = (
    ("frobnicate", "No such command 'frobnicate'"),
    ("ptq --frobnicate", "No such option: --frobnicate"),
    ("lint", "Missing argument 'model'"),
    ("cache show", "Missing argument 'files'"),
    ("ptq {good} --calib-data {data} --threads 99999999", "threads = 99999999"),
    ("ptq {good} --calib-data {data} --threads -1", "threads = -1"),
    ("ptq {good} --calib-data {data} --threads many", "--threads"),
    ("ptq {good} --calib-data {data} --batch-size 0", "batch_size = 0"),
    ("ptq {good} --calib-data {data} --max-images 0", "max_images = 0"),
    ("ptq {good} --calib-data {data} --max-bad -1", "max_bad = -1"),
    ("ptq {good} --calib-data {data} --workers -1", "--workers"),
    ("ptq {good} --calib-data {data} --processes 9999", "--processes"),
    ("ptq {good} --calib-data {data} --processes 2 --ray auto", "contradict"),
    ("ptq {good} --calib-data {data} --pieces 3", "--pieces is for --processes, --ray or torchrun"),
    ("ptq {good} --calib-data {data} --calibrator entrophy", "did you mean entropy?"),
    ("ptq {good} --calib-data {data} --calibrator percentile:101", "percentile"),
    ("ptq {good} --calib-data {data} --calibrator percentile:", "percentile"),
    ("ptq {good} --calib-data {data} --calibrator percentile:nan", "percentile"),
    ("ptq {good} --calib-data {data} --calibrator no_such_module:C", "no_such_module"),
    ("ptq {good} --calib-data {data} --calibrator os:path", "subclass"),
    ("ptq {good} --calib-data {data} --calibrator :", "names no attribute"),
    ("ptq {good} --calib-data {pictures} --preprocess frob", "frob"),
    ("ptq {good} --calib-data {data} --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("ptq {good} --input x={data} --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("eval {good} --data {data} --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("sensitivity {good} --data {data} --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("tune {good} --data {data} --min-sqnr 1 --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("bench {good} --input x={array} --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("build {good} --backend onnxruntime --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("cache to-qdq {cache} {good} --calib-dir {data} --preprocess imagnet --out {out}/q", "preset 'imagnet'"),
    ("qat-export --recipe {net} --trust --preprocess imagnet", "no preprocessing preset 'imagnet'"),
    ("ptq {good} --calib-data {data} --recipe {typo}", "no preprocessing preset 'imagnet'"),
    ("ptq {good} --calib-data {data} --placement frob", "placement.method"),
    ("ptq {good} --calib-data {data} --device frob", "frob"),
    ("ptq {good} --calib-data {data} --backend frob", "backend"),
    ("ptq {good} --calib-data {data} --target frob", "frob"),
    ("ptq {good} --calib-data {data} --precision frob", "frob"),
    ("ptq {good} --calib-data {data} --shapes x:frob", "frob"),
    ("ptq {good} --calib-data {data} --shapes x:1x-3x8x8", "shapes"),
    ("ptq {good} --calib-data {data} --pool workspace:frob", "frob"),
    ("ptq {good} --calib-data {data} --optimization-level 9", "optimization_level"),
    ("ptq {good} --calib-data {data} --reuse-cache --refresh", "contradict"),
    ("ptq {good} --calib-data {data} --input x={data}", "contradict"),
    ("ptq {good} --input x", "NAME=PATH"),
    ("ptq {good} --input x={data} --input x={data}", "twice"),
    ("ptq {good} --input nothing={data}", "nothing"),
    ("ptq {good}", "no calibration data"),
    ("ptq {good} --calib-data {data} --labels frob --eval-data {data}", "frob"),
    ("ptq {good} --calib-data {data} --labels coco --eval-data {data}", "coco"),
    ("ptq {good} --calib-data {data} --labels folder", "--eval-dir"),
    ("eval {good} --data {pictures} --labels cls", "tar shards"),
    ("ptq {good} --calib-data {data}/x-{{0..2}}.tar", "x-0.tar does not exist, one of 3 tars"),
    ("ptq {good} --calib-data {data} --recipe frob", "frob"),
    ("ptq demo:frob --calib-data {data}", "frob"),
    ("ptq {good} --calib-data {narrow}", "float32[4, 3, 8, 7]"),
    ("ptq {good} --calib-data {grey}", "float32[4, 1, 8, 8]"),
    ("ptq {good} --calib-data {whole}", "int64"),
    ("ptq {good} --calib-data {words}", "pickled"),
    ("ptq {good} --calib-data {nothing}", "expected"),
    ("ptq {good} --calib-data {nan}", "NaN"),
    ("eval {good} --data {narrow}", "8, 7"),
    ("eval {good} --data {data} --task frob", "frob"),
    ("eval {good} --data {data} --metric frob", "frob"),
    ("eval {good} --data {data} --metric os:getcwd", "--metric"),
    ("eval {good} {good} --data {data}", "twice"),
    ("eval {good} --data frob", "frob"),
    ("eval {good} --data photos?frob=1", "frob"),
    ("eval {good} --data {data} --batch-size 0", "--batch-size"),
    ("sensitivity {good} --data {data} --images 0", "--images"),
    ("sensitivity {good} --data {data} --calibrator frob", "frob"),
    ("tune {good} --data {data}", "goal"),
    ("tune {good} --data {data} --min-sqnr 1 --effort frob", "frob"),
    ("tune {good} --data {data} --max-latency frob", "frob"),
    ("tune {good} --data {data} --min-speedup 2", "--device"),
    ("tune {good} --data {data} --min-sqnr 1 --device frob", "frob"),
    ("sweep {recipe} --grid frob", "key=value"),
    ("sweep {recipe} --grid frob=1", "frob"),
    ("sweep {recipe} --grid calibration.frob=1", "frob"),
    ("sweep {recipe} --grid data.frob.x=1", "data.frob"),
    ("sweep {recipe} --grid seed=[", "seed"),
    ("sweep {recipe} --grid a=1 --grid a=2", "twice"),
    ("sweep {recipe} {recipe} --grid seed=1", "two trials"),
    ("sweep {recipe} --jobs 0", "--jobs"),
    ("report {run} --device frob", "frob"),
    ("build", "no model given"),
    ("build {good} --backend none", "none"),
    ("build {good} --backend frob", "backend"),
    ("build {good} --as-trtexec 7", "7"),
    ("build {good} --from-trtexec x", "stands alone"),
    ("build --from-trtexec frob", "frob"),
    ("build {good} --backend onnxruntime --calib-batch 0 --calib-dir {data}", "batch"),
    ("build {good} --shapes x:9", "shapes"),
    ("bench {good} --calls 0", "--calls"),
    ("bench {good} --seconds -1", "--seconds"),
    ("bench {good} --input frob={array}", "frob"),
    ("bench {good} --input {array}", "NAME=FILE"),
    ("bench {good} --input x={narrow}/0.npy", "4x3x8x7"),
    ("bench {good} --batch 99999999", "--no-limits"),
    ("bench {good} --backend tensorrt", "engine"),
    ("bench {good} --batch frob", "frob"),
    ("inspect", "Missing argument"),
    ("inspect {cache} {cache} {cache}", "two"),
    ("tactics {cache}", "calibration.cache"),
    ("trtexec --frob", "frob"),
    ("predict {qdq} --for 5.0", "5.0"),
    ("predict {qdq} --gpu frob", "frob"),
    ("predict {qdq} --device frob", "frob"),
    ("predict {good}", "holds no Q/DQ"),
    ("lint {good}", "holds no Q/DQ"),
    ("lint {qdq} --for frob", "frob"),
    ("explain frob-frob-frob", "frob-frob-frob"),
    ("explain-node {good} frob", "frob"),
    ("cache convert {cache} --to frob --out {out}/c", "frob"),
    ("cache convert {cache} --to modelopt --out {out}/c --values frob", "frob"),
    ("cache merge {cache} {cache} --policy frob --out {out}/c", "frob"),
    ("cache from-qdq {good} --out {out}/c", "Q"),
    ("cache from-qdq {qdq} --algorithm frob --out {out}/c", "frob"),
    ("cache show {cache} --limit -1", "--limit"),
    ("recipes show frob", "frob"),
    ("schema frob", "frob"),
    ("device show frob", "frob"),
    ("device scale orin frob --out {out}/d.yaml", "frob"),
    ("device compare orin frob", "frob"),
    ("device learn {cache} --out {out}/d.yaml", "calibration.cache"),
    ("record {good} --out {out}/r", "m.onnx"),
    ("demo-images {good}", "m.onnx"),
    ("demo-images {out}/d --count -1", "--count"),
    ("qat-export frob", "frob"),
    ("qat-export resnet18", "--weights"),
    ("qat-export {checkpoint}", "architecture"),
    ("qat-export resnet18 --weights {checkpoint}", "does not fit"),
    ("qat-export {checkpoint} --epochs 1", "--data"),
    ("qat-export {checkpoint} --opset frob", "--opset"),
    ("qat-export {checkpoint} --exporter frob", "exporter"),
    ("ptq {checkpoint} --calib-data {data}", "architecture"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """`command` with `file` (a kind of the gallery, or a model) at {x}, what follows being its ending; `code` and a
    part of the line expected."""

    command: str
    file: str
    code: int = 2
    line: str = ""


def pairs() -> Iterator[tuple[str, str]]:
    """Every command line with every bad file."""
    for name, (ending, commands) in PLACES.items():
        for command in commands:
            files = (*KINDS, *(f"models/{model}" for model in MODELS if name == "onnx"))
            files += tuple(f"tars/{tar}" for tar in HOSTILE if name == "shards")
            yield from ((command.replace("{x}", "{x}" + ending), file) for file in files)


def cases() -> list[Case]:
    """The table of `lines.tsv`."""
    rows = (line.split("\t") for line in LINES.read_text(encoding="utf-8").splitlines())
    return [Case(command, file, int(code), part) for command, file, code, part in rows]
