"""Import TensorRT, or say in one line why that fails."""

import importlib
from typing import Any

from quantbench.errors import QuantbenchError

RUNTIMES = ("full", "lean", "dispatch")


def load(runtime: str = "full") -> Any:
    """The `tensorrt` module, whatever its version, or that of its lean or dispatch runtime.

    Raises QuantbenchError where it or a library of it is missing.
    """
    if runtime not in RUNTIMES:
        raise QuantbenchError(f"--runtime {runtime} is none of {', '.join(RUNTIMES)}")
    name = "tensorrt" if runtime == "full" else f"tensorrt_{runtime}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise QuantbenchError(f"{name} cannot be loaded ({error}); see quantbench doctor") from error
        how = "'quantbench[tensorrt]'" if runtime == "full" else f"tensorrt-{runtime} of the version of the engine"
        raise QuantbenchError(f"{name} is not installed: pip install {how}") from error
    except (ImportError, OSError) as error:
        raise QuantbenchError(f"{name} cannot be loaded ({error}); see quantbench doctor") from error
