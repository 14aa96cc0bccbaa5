"""Load an engine file with the runtime that made it, on the GPU of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.engines.discover import gpu_present
from quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    from quantbench.engines.tensorrt_session import LoadedEngine

# First four bytes of a plan: TensorRT writes "ftrt", TensorRT-RTX "vtrt".
_MAGIC_RTX = b"vtrt"


def load_engine(path: Path) -> "LoadedEngine":
    """Raises QuantbenchError where there is no GPU, no runtime, or the engine is of another version or GPU."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise QuantbenchError(f"cannot read engine {path}: {error.strerror or error}") from error
    if not gpu_present():
        raise QuantbenchError(f"{path} needs an NVIDIA GPU to run, and this machine shows none (quantbench doctor)")
    from quantbench.engines import tensorrt_load, tensorrt_rtx
    from quantbench.engines.device import open_device
    from quantbench.engines.tensorrt_session import LoadedEngine

    trt = tensorrt_rtx.load() if data[:4] == _MAGIC_RTX else tensorrt_load.load()
    return LoadedEngine(trt, data, open_device())
