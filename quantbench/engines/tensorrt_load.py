"""Import TensorRT, or say in one line why that fails."""

from typing import Any

from quantbench.errors import QuantbenchError


def load() -> Any:
    """The `tensorrt` module, whatever its version. Raises QuantbenchError where it or a library of it is missing."""
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise QuantbenchError(f"tensorrt cannot be loaded ({error}); see quantbench doctor") from error
        raise QuantbenchError("tensorrt is not installed: pip install 'quantbench[tensorrt]'") from error
    except (ImportError, OSError) as error:
        raise QuantbenchError(f"tensorrt cannot be loaded ({error}); see quantbench doctor") from error
    return tensorrt
