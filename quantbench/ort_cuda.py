"""onnxruntime on an NVIDIA GPU: its CUDA provider, and in one line why it cannot be used.

onnxruntime takes the CPU without an error where the provider's library cannot be loaded (CUDA, cuDNN or the driver is
missing), so that this is looked for here.
"""

import contextlib
import ctypes
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from quantbench.errors import QuantbenchError
from quantbench.ort import ProviderNotLoaded, Where, create_session

if TYPE_CHECKING:
    import onnxruntime

CUDA = "CUDAExecutionProvider"
# Both packages write into one folder, so that whichever comes last is the one that is imported.
_INSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'"
_QUIET, _USUAL = 4, 2  # onnxruntime's levels of logging: fatal, warning


def require_provider() -> None:
    """Raise QuantbenchError where onnxruntime was built without CUDA, or is absent."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise QuantbenchError(f"onnxruntime is not installed; {_INSTALL}") from error
    if CUDA not in ort.get_available_providers():
        raise QuantbenchError(
            f"onnxruntime {ort.__version__} has no {CUDA}; {_INSTALL}, or calibrate on the CPU (--device cpu)"
        )


def cuda_session(
    model: onnx.ModelProto, device: int, stream: int, *, outputs: Sequence[str] = ()
) -> "onnxruntime.InferenceSession":
    """Session of `model` on card `device`, whose kernels go into CUDA stream `stream`, a handle; it returns `outputs`
    in place of the model's own where there are some.

    The handle must not be 0, torch's default stream: onnxruntime takes it for none and makes a stream of its own, which
    waits for nothing (onnxruntime, core/providers/cuda/cuda_execution_provider_info.cc). Convolutions are chosen by
    heuristics and not by their time, and without TF32, so that a run gives what the last one gave, to within what
    kernels round. Raises QuantbenchError, in one line, where the provider cannot be loaded or the model is refused.
    """
    require_provider()
    options = {
        "device_id": str(device), "user_compute_stream": str(stream), "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }  # fmt: skip
    try:
        with quiet():
            _find_libraries()
            return create_session(model, outputs=outputs, where=Where(CUDA, options))
    except ProviderNotLoaded as error:
        raise QuantbenchError(
            f"onnxruntime cannot load its {CUDA} ({_reason()}): its libraries come with {_INSTALL}, the driver with "
            f"the card; or calibrate on the CPU (--device cpu)"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """onnxruntime's log silent: its CUDA provider writes an error wherever cuDNN has no plan for a convolution in its
    newer interface, and goes on (cudnn_fe_call.cc; 1,210 lines in a benchmark of three networks on an H100). What
    ends a run is an exception besides."""
    import onnxruntime as ort

    ort.set_default_logger_severity(_QUIET)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_USUAL)


def _find_libraries() -> None:
    """Load CUDA's libraries out of NVIDIA's packages, where onnxruntime (1.21 and newer) looks for them; what it writes
    to stdout on the way is told in one line instead."""
    import onnxruntime as ort

    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _reason() -> str:
    """What the system says when the provider's library is loaded."""
    import onnxruntime as ort

    name = "onnxruntime_providers_cuda.dll" if sys.platform == "win32" else "libonnxruntime_providers_cuda.so"
    try:
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / name))
    except OSError as error:
        return str(error)
    return "no card, or a driver older than its CUDA"
