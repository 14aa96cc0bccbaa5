"""The real Python bindings of TensorRT on a machine without it: wheels from the registry, stubs for native libraries.

The bindings wheels of TensorRT 8.6, 10.16 and 11.4 hold the classes, enums and signatures, and import once three
shared libraries stand in for NVIDIA's (nine C symbols, see `nm -D --undefined-only`). Nothing behind them runs. The
wheels (about 2 MB each) are kept in ~/.cache/quantbench-tests, or in $QUANTBENCH_TEST_CACHE; the first run needs pip
and a registry, every run a C compiler once.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WHEELS = {
    8: "tensorrt-bindings==8.6.1",
    10: "tensorrt-cu12-bindings==10.16.1.11",
    11: "tensorrt-cu13-bindings==11.4.0.106",
}
# The runtimes that load version-compatible engines, without a builder and without plugins.
RUNTIMES = {
    ("lean", 10): "tensorrt-lean-cu12-bindings==10.16.1.11",
    ("dispatch", 10): "tensorrt-dispatch-cu12-bindings==10.16.1.11",
    ("lean", 11): "tensorrt-lean-cu13-bindings==11.4.0.106",
}
REPOSITORY = Path(__file__).parents[1]

_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")  # the last: 8 alone
_SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
    # Caffe and UFF parsers of TensorRT 8, mangled C++ names.
    "_ZN11nvuffparser15createUffParserEv", "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv", "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)  # fmt: skip


def run_with_bindings(major: int, script: str, *arguments: str) -> Any:
    """Run Python `script` in a process of its own where `import tensorrt` gives the bindings of `major`.

    Returns what it prints as JSON on its last line. Two versions cannot live in one process.
    """
    return _run_in(bindings(major), script, *arguments)


def run_with_runtime(kind: str, major: int, script: str, *arguments: str) -> Any:
    """As `run_with_bindings`, where `import tensorrt_lean` (or `tensorrt_dispatch`) gives that runtime's bindings."""
    package = f"tensorrt_{kind}"

    def add_stubs(made: Path) -> None:
        (made / f"{package}.py").write_text(
            f"from {package}_bindings import *\nfrom {package}_bindings import __version__\n"
        )
        _compile_stubs(made / "stubs", major, (f"nvinfer_{kind}",))

    return _run_in(wheels(RUNTIMES[kind, major], also=add_stubs), script, *arguments)


def _run_in(folder: Path, script: str, *arguments: str) -> Any:
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(folder / "stubs"),
        "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def bindings(major: int) -> Path:
    """Folder with `tensorrt_bindings`, a `tensorrt` that is the same, and the stub libraries."""

    def add_stubs(made: Path) -> None:
        (made / "tensorrt.py").write_text(
            "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
        )
        _compile_stubs(made / "stubs", major, _LIBRARIES)

    return wheels(WHEELS[major], also=add_stubs)


def wheels(*packages: str, also: Callable[[Path], None] | None = None) -> Path:
    """Folder with `packages` (pinned, without dependencies) from the cache, installed into it the first time.

    `also` completes the folder. It is made beside and renamed: parallel test processes see a whole one or none.
    """
    folder = _cache() / packages[0].replace("==", "-")
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(made), *packages], check=True)
        if also is not None:
            also(made)
        if not folder.is_dir():
            made.rename(folder)
    return folder


def _compile_stubs(folder: Path, major: int, libraries: Sequence[str]) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("the TensorRT contract tests need a C compiler for stub libraries: apt-get install gcc")
    folder.mkdir()
    source = folder / "stub.c"
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in _SYMBOLS))
    for library in libraries:
        name = f"lib{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
        subprocess.run(command, check=True)


def _cache() -> Path:
    given = os.environ.get("QUANTBENCH_TEST_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "quantbench-tests"
