"""Load an engine file with the runtime that made it, on the GPU of this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench import limits
from quantbench.engines.discover import gpu_present
from quantbench.errors import QuantbenchError
from quantbench.text_file import parse_json

if TYPE_CHECKING:
    from quantbench.engines.tensorrt_session import LoadedEngine

_SUFFIXES = (".engine", ".plan", ".trt")
# First four bytes of a plan: TensorRT 8 and newer write "ftrt", TensorRT-RTX "vtrt".
_MAGIC, _MAGIC_RTX = b"ftrt", b"vtrt"


def load_engine(
    path: Path, *, host_code: bool = False, plugins: Sequence[Path] = (), runtime: str = "full"
) -> "LoadedEngine":
    """The engine at `path`; `host_code` lets one that was built version-compatible execute the runtime in it, `plugins`
    are libraries that it needs, `runtime` full, lean or dispatch. In this process, whose buffers and streams it works
    on: unlike a compiler (`apart.py`), a runtime that crashes over a file ends the command.

    Raises QuantbenchError where the file is no engine, there is no GPU or no runtime, or the engine is of another
    version or GPU.
    """
    try:
        limits.regular_file(path, limits.ENGINE_BYTES)
        data = plan_of(path.read_bytes())
    except OSError as error:
        raise QuantbenchError(f"cannot read engine {path}: {error.strerror or error}") from error
    if data[:4] not in (_MAGIC, _MAGIC_RTX) and path.suffix not in _SUFFIXES:
        raise QuantbenchError(f"{path} is neither an engine of TensorRT or TensorRT-RTX nor an .onnx file")
    if not gpu_present():
        raise QuantbenchError(f"{path} needs an NVIDIA GPU to run, and this machine shows none (quantbench doctor)")
    from quantbench.engines import tensorrt_load, tensorrt_rtx
    from quantbench.engines.device import open_device
    from quantbench.engines.tensorrt_session import LoadedEngine

    if data[:4] == _MAGIC_RTX and runtime != "full":
        raise QuantbenchError(f"--runtime {runtime} is for TensorRT; TensorRT-RTX has one runtime")
    trt = tensorrt_rtx.load() if data[:4] == _MAGIC_RTX else tensorrt_load.load(runtime)
    return LoadedEngine(trt, data, open_device(), host_code=host_code, plugins=plugins)


def plan_of(data: bytes) -> bytes:
    """The plan inside an engine file: all of it, or what follows the JSON that ultralytics writes before it
    (4 bytes of length, little-endian, then an object).
    """
    length = int.from_bytes(data[:4], "little", signed=True)
    header = data[4 : 4 + length] if length > 0 else b""
    if not header.startswith(b"{") or len(header) != length:
        return data
    try:
        parse_json(header, "header")
    except QuantbenchError:
        return data
    return data[4 + length :]
