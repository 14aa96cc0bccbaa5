"""What is fuzzed: each reader with the good files that mutations begin from, kept small."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.fuzz_mutations import Mutate, mutated, mutated_model
from scripts.fuzz_networks import networks, small

_DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
_MOST = 1 << 15
Work = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """`work` makes the function that reads a file (imports happen there, before the fork), `corpus` the good files;
    `share` of the time; `at_once`: executions a worker, 0 for the usual number; `mutate` makes one bad file."""

    name: str
    ending: str
    work: Callable[[], Work]
    corpus: Callable[[], list[bytes]]
    share: float = 1.0
    at_once: int = 0
    mutate: Mutate = mutated


def _files(*patterns: str) -> list[bytes]:
    found = [path.read_bytes() for pattern in patterns for path in sorted(_DATA.glob(pattern)) if path.is_file()]
    return [data if len(data) <= _MOST else data[:_MOST] for data in found]


def _caches() -> list[bytes]:
    return _files("artefacts/calib/*", "cache/aimet/*", "cache/modelopt/*", "cache/onnxruntime/*")


def _read_caches() -> Work:
    from quantbench.cache.flags import flags
    from quantbench.cache.read import read_cache

    return lambda path: flags(read_cache(path))


def _logs() -> list[bytes]:
    return _files("artefacts/logs/*.log", "artefacts/logs/*.md", "artefacts/logs/*.txt")


def _read_logs() -> Work:
    from quantbench.inspection.gather import gather

    return lambda path: gather([path])


def _layers() -> list[bytes]:
    return _files("artefacts/json/*.json")


def _recipes() -> list[bytes]:
    root = _DATA.parents[1]
    return [path.read_bytes() for path in sorted((root / "recipes").glob("*.yaml"))]


def _read_recipes() -> Work:
    from quantbench.cli.requests import ptq_request
    from quantbench.recipe import load_recipe

    return lambda path: ptq_request(load_recipe(path))


def _pictures() -> list[bytes]:
    import numpy as np
    from PIL import Image

    found = []
    for mode in ("L", "RGB", "RGBA", "P", "I;16", "CMYK", "1"):
        pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8))
        picture = Image.new("I;16", (20, 24), 300) if mode == "I;16" else pixels.convert(mode)
        for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP"):
            stream = io.BytesIO()
            try:
                picture.save(stream, kind)
            except (OSError, ValueError):
                continue
            found.append(stream.getvalue())
    return found


def _read_pictures() -> Work:
    from quantbench.images.decode import decode_file

    return decode_file


def _arrays(*, packed: bool) -> list[bytes]:
    import numpy as np

    found = []
    for dtype in (np.float32, np.float64, np.int64, np.uint8, np.float16):
        stream = io.BytesIO()
        array = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).astype(dtype)
        if packed:
            np.savez_compressed(stream, data=array, labels=np.array([0, 1]))
        else:
            np.save(stream, array)
        found.append(stream.getvalue())
    return found


def _read_arrays() -> Work:
    from quantbench.images.arrays import ArrayFiles

    def read(path: Path) -> object:
        files = ArrayFiles(path)
        return files.load(0), files.label(0), len(files)

    return read


def _tars() -> list[bytes]:
    import tarfile

    from tests.images.tars import HOSTILE, picture, tar

    members = {"a.png": picture(0), "a.cls": b"1", "d/b.png": picture(1), "d/b.json": b'{"label": 2}', "c.npy": b"x"}
    kinds = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    good = [tar({f"{'n' * long}{name}": data for name, data in members.items()}, kind)
            for kind in kinds for long in (0, 120) if not (long and kind == tarfile.USTAR_FORMAT)]  # fmt: skip
    return [*good, *(data for data, _ in HOSTILE.values() if len(data) <= _MOST)]


def _read_tars() -> Work:
    from quantbench.data.sources import folder_source
    from quantbench.images.preprocess import Preprocess

    def read(path: Path) -> object:
        source = folder_source(path, Preprocess(exact=(8, 8)), "cls")
        return source.sha256(), [(source.load(index), source.label(index)) for index in range(len(source))]

    return read


def _checkpoints() -> list[bytes]:
    import torch

    found = _files("cache/modelopt/*")
    for value in ({"w": torch.zeros(2, 2)}, torch.nn.Linear(2, 2), {"state_dict": {"a": torch.ones(1)}, "epoch": 3}):
        for old in (False, True):
            stream = io.BytesIO()
            torch.save(value, stream, _use_new_zipfile_serialization=not old)
            found.append(stream.getvalue())
    return found


def _read_checkpoints() -> Work:
    from quantbench.qat.safe_load import load_checkpoint

    return load_checkpoint


def _states() -> list[bytes]:
    """Records of a run, from one made of a tiny model."""
    return [json.dumps(part).encode() for part in _run_records()]


@cache
def _run_records() -> tuple[object, ...]:
    import tempfile

    from tests.ptq.small_run import run, write_data, write_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "m.onnx")
        write_data(folder / "data")
        run(folder, folder / "run")
        names = ("run.json", ".quantbench/stages.json", ".quantbench/identity.json", "ranges.json", "evaluation.json")
        return tuple(json.loads((folder / "run" / name).read_text()) for name in names)


def _read_states() -> Work:
    from quantbench.records.run import load_run
    from quantbench.run_folder import RunFolder

    def read(path: Path) -> object:
        state = path.parent / "run" / ".quantbench"
        state.mkdir(parents=True, exist_ok=True)
        for name in ("identity.json", "stages.json"):
            (state / name).write_bytes(path.read_bytes())
        RunFolder(path.parent / "run").records()
        return load_run(path)

    return read


def _lines() -> list[bytes]:
    return [
        b"trtexec --onnx=m.onnx --int8 --fp16 --shapes=x:1x3x224x224 --saveEngine=m.engine --verbose",
        b"trtexec --loadEngine=m.engine --iterations=10 --duration=0 --useCudaGraph --streams=2 --exportTimes=t.json",
        b"/usr/bin/trtexec --deploy=a.prototxt --output=prob --batch=8 --calib=c.cache --workspace=1024 # comment",
    ]


def _read_lines() -> Work:
    from quantbench.trtexec.read import printed, translate

    return lambda path: printed(translate(path.read_bytes().decode("utf-8", "replace")))


def _small() -> list[bytes]:
    return [*small(), *_files("cache/tiny.onnx")]


def _read_models() -> Work:
    from quantbench.graph.load import load_model
    from quantbench.graph.onnx_view import view_of
    from quantbench.lint.run import lint
    from quantbench.qdq.place import place

    def read(path: Path) -> object:
        model = load_model(path)
        return lint(model), place(view_of(model))

    return read


_COMMANDS = (
    "lint {x}", "predict {x}", "inspect {x}", "explain-node {x} conv", "cache from-qdq {x} --out {out}/c.cache",
    "bench {x} --calls 1 --warm-up 0 --seconds 0", "build {x} --backend onnxruntime --out {out}/b.onnx",
    "ptq {x} --calib-data {data} --out {out}/run --no-compile --threads 1", "eval {x} --data {data} --threads 1",
    "eval {good} {x} --data {data} --threads 1", "sensitivity {x} --data {data} --out {out}/s.json --threads 1",
    "tune {x} --data {data} --min-sqnr 1 --out {out}/t --threads 1", "cache check {cache} {x}",
    "cache to-qdq {cache} {x} --out {out}/q.onnx", "cache convert {cache} --to modelopt --model {x} --out {out}/q",
    "predict {x} --device orin", "lint {x} --for 8.5",
)  # fmt: skip


def _run_commands() -> Work:
    """Models through every command that takes one, in turn; an error of ours has exit code 2, no other passes."""
    import atexit
    import random
    import shutil
    import tempfile

    import numpy as np

    from quantbench.cli.main import main
    from quantbench.errors import QuantbenchError

    folder = Path(tempfile.mkdtemp(prefix="fuzz-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data, good, cache = folder / "data", folder / "good.onnx", folder / "calibration.cache"
    data.mkdir()
    np.save(data / "x.npy", np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32))
    good.write_bytes(small()[1])
    cache.write_text("TRT-8601-EntropyCalibration2\nx: 3c010a14\nc: 3c010a14\ny: 3c010a14\n")
    rng = random.Random(1)

    def read(path: Path) -> object:
        out = path.parent / "out"
        shutil.rmtree(out, ignore_errors=True)
        words = rng.choice(_COMMANDS).split(" ")
        sys.argv = ["quantbench", *(word.format(x=path, out=out, data=data, good=good, cache=cache) for word in words)]
        try:
            main()
        except SystemExit as stop:
            if stop.code == 2:
                raise QuantbenchError("refused") from stop
            if stop.code not in (0, 1, 3, None):
                raise (stop.__context__ or stop) from None
        return None

    return read


def _build_apart() -> Work:
    """NVIDIA's compiler itself, every other time without the checks before it: its death is a refusal of ours, in one
    line, like any other."""
    import tensorrt_rtx  # noqa: F401 - absent on other systems

    from quantbench.engines.base import BuildOptions
    from quantbench.engines.build import build_engine

    turn = iter(range(1 << 60))
    return lambda path: build_engine(path, BuildOptions(), "tensorrt-rtx", checked=next(turn) % 2 == 1)


TARGETS = {
    target.name: target
    for target in (
        Target("caches", ".cache", _read_caches, _caches),
        Target("logs", ".log", _read_logs, _logs, at_once=400),
        Target("layer JSON", ".json", _read_logs, _layers, at_once=400),
        Target("recipes", ".yaml", _read_recipes, _recipes, at_once=500),
        Target("pictures", ".png", _read_pictures, _pictures),
        Target("npy", ".npy", _read_arrays, lambda: _arrays(packed=False)),
        Target("npz", ".npz", _read_arrays, lambda: _arrays(packed=True)),
        Target("tars", ".tar", _read_tars, _tars),
        Target("checkpoints", ".pt", _read_checkpoints, _checkpoints, at_once=1000),
        Target("run state", ".json", _read_states, _states),
        Target("trtexec lines", ".txt", _read_lines, _lines),
        Target("models", ".onnx", _read_models, _small, at_once=2000),
        Target("models by command", ".onnx", _run_commands, _small, share=2.0, at_once=300),
        Target("models by field", ".onnx", _read_models, networks, at_once=1000, mutate=mutated_model),
        Target("models by field and command", ".onnx", _run_commands, networks, 4.0, 100, mutated_model),
        Target("models by field and compiler", ".onnx", _build_apart, networks, 1.0, 50, mutated_model),
    )
}
